"""Chat with a model that was taught to: SmolLM2-Instruct, for example, or a fine-tuned one.

  axone chat SmolLM2-135M-Instruct.Q4_1.gguf
  axone chat FOLDER --system "Answer in one sentence." --temperature 0.8
  echo "What is the capital of France?" | axone chat FOLDER

Answers are written to standard output, everything else to standard error.
"""

import argparse
import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from axone.cli import console
from axone.cli.adapter_options import add_adapter_options, add_weights_option, open_with_adapter
from axone.cli.console import UserError, in_options
from axone.cli.invocation import CommandParser
from axone.cli.sampling_options import NAMES, add_draft_option, add_sampling_options, check_counts, draft, sampling
from axone.llm import Chat, ChatTemplateError, Message
from axone.tokenizer import BPETokenizer

HELP = """/help               this list
/system TEXT        set the system message and start anew; without a text, remove it
/temperature T      set the sampling temperature, 0 for greedy
/retry              answer the last message again
/reset              start anew
/stats              show or hide tokens and seconds after each answer
/save FILE          append the conversation to a file as a line of JSON, for fine-tuning
/exit, Ctrl-D       exit
Ctrl-C              end an answer"""

EPILOG = f"""In the chat:

{HELP}

A small model answers best at a low temperature; 0 gives the same answer each time, 0.7 and more a varied one. It is not a
source of facts: SmolLM2-135M writes fluently and is often wrong.

Exit status: 0 success, 2 an error to mend, 130 interrupted.
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(
        usage="axone chat PATH [options]",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help="model folder, .gguf file or run")
    add_adapter_options(parser)
    add_weights_option(parser)
    add("--system", metavar="TEXT", help="system message")
    add(
        "--max-new-tokens",
        type=int,
        default=1024,
        metavar="N",
        help="maximum number of tokens of an answer (default: 1024)",
    )
    add_sampling_options(parser, temperature=0.2)
    add_draft_option(parser)
    add("--stats", action="store_true", help="show tokens and seconds after each answer")
    options = parser.parse(arguments)
    check_counts(parser, options, "max_new_tokens")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Open a model and chat; return the exit status."""
    options = parse(arguments)
    try:
        chosen = sampling(options)
    except ValueError as error:
        raise UserError(in_options(str(error), NAMES)) from error
    bundle = open_with_adapter(options)
    if not isinstance(bundle.tokenizer, BPETokenizer):
        raise ChatTemplateError(f"{options.path}: a model of characters has no chat template: sample from it instead")
    chat = Chat(
        bundle.model,
        bundle.tokenizer,
        bundle.chat_template,
        messages=[] if options.system is None else [system(options.system)],
        max_new_tokens=options.max_new_tokens,
        sampling=chosen,
        rng=np.random.default_rng(options.seed),
        draft=draft(options, bundle),
    )
    return Conversation(chat, statistics=options.stats).run()


def system(text: str) -> Message:
    """Return a system message."""
    return {"role": "system", "content": text}


def append(path: Path, line: str) -> None:
    """Append a line to a text file, which is replaced as a whole."""
    with console.writing(path):
        before = path.read_bytes() if path.exists() else b""
    separator = b"\n" if before and not before.endswith(b"\n") else b""
    console.save(path, before + separator + line.encode("utf-8") + b"\n")


class Conversation:
    """A chat in a terminal or a pipe.

    Parameters
    ----------
    chat : Chat
    statistics : bool
        Whether tokens and seconds follow each answer.
    """

    def __init__(self, chat: Chat, *, statistics: bool) -> None:
        self._chat = chat
        self._statistics = statistics
        self._terminal = sys.stdin.isatty()

    def run(self) -> int:
        """Read messages and commands until the input ends; return the exit status."""
        if self._terminal:
            with contextlib.suppress(ImportError):  # line editing and history; Windows has its own
                import readline  # noqa: F401
            console.say("Type a message, or /help. Ctrl-C ends an answer, Ctrl-D exits.")
        while True:
            try:
                line = input("> " if self._terminal else "").strip()
            except KeyboardInterrupt:
                if not self._terminal:
                    raise
                console.say("\n(Ctrl-D exits)")
                continue
            except EOFError:
                if self._terminal:
                    console.say("")
                return console.SUCCESS
            if line in {"/exit", "/quit"}:
                return console.SUCCESS
            if line:
                self._handle(line)

    def _handle(self, line: str) -> None:
        """Answer a message or carry out a command; in a terminal, an error ends neither."""
        try:
            if line.startswith("/"):
                self._command(*line[1:].partition(" ")[::2])
            else:
                self._show(line)
        except (UserError, ChatTemplateError, OSError) as error:
            if not self._terminal:
                raise
            console.say(console.sentence(error) or str(error))

    def _command(self, name: str, argument: str) -> None:
        chat, argument = self._chat, argument.strip()
        if name == "help":
            console.say(HELP)
        elif name == "system":
            chat.messages[:] = [system(argument)] if argument else []
        elif name == "temperature":
            try:
                chat.sampling = replace(chat.sampling, temperature=float(argument))
            except ValueError as error:
                raise UserError(f"/temperature needs a number of at least 0, not {argument!r}") from error
        elif name == "retry":
            if not any(message["role"] == "user" for message in chat.messages):
                raise UserError("there is no message to answer: send one first")
            self._show(None)
        elif name == "reset":
            chat.messages[:] = [message for message in chat.messages if message["role"] == "system"]
        elif name == "stats":
            self._statistics = not self._statistics
        elif name == "save":
            if not argument:
                raise UserError("/save needs the name of a file")
            append(Path(argument), json.dumps({"messages": chat.messages}, ensure_ascii=False))
            console.say(f"appended to {argument}")
        else:
            raise UserError(f"/{name} is not a command: /help lists them, and a message must not begin with /")

    def _show(self, text: str | None) -> None:
        """Write the answer to a message, or another one to the last message, while it is generated."""
        answer = self._chat.retry() if text is None else self._chat.send(text)
        with contextlib.closing(answer):
            try:
                for piece in answer:
                    print(piece, end="", flush=True)
            except KeyboardInterrupt:
                if not self._terminal:
                    raise
        print(flush=True)
        last = self._chat.last
        if self._statistics and last is not None:
            speed = (last.new_tokens - 1) / max(last.seconds - last.first_token_seconds, 1e-9)
            console.say(
                f"[{last.read_tokens} of {last.prompt_tokens} tokens read, first token after {last.first_token_seconds:.2f} s, "
                f"{last.new_tokens} new tokens, {speed:.1f} tokens per second]"
            )
