"""Counting on all cores: the same counts as alone, and no process is left whatever happens."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from axone.tokenizer import BPETokenizer, TokenizerError
from axone.tokenizer.bpe import corpus as module
from axone.tokenizer.bpe import processes


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[processes.Process]:
    """Share work out from the first block on, and tell which processes were started."""
    found: list[processes.Process] = []
    start = processes._start

    def recording_start(number: int) -> list[processes.Process]:
        found.extend(start(number))
        return found

    monkeypatch.setattr(processes, "_start", recording_start)
    monkeypatch.setattr(processes, "_cores", lambda: 2)
    monkeypatch.setattr(module, "_ALONE", -1.0)
    monkeypatch.setattr(module, "_TOGETHER", 100)
    return found


def all_ended(started: list[processes.Process]) -> bool:
    feeders = [thread for thread in threading.enumerate() if "_feed" in thread.name]
    return len(started) == 2 and None not in [process.returncode for process in started] and not feeders


@pytest.mark.parametrize("pattern", ["gpt2", r"\w+", None])
def test_merges_are_those_of_one_process(
    pattern: str | None, corpus: str, monkeypatch: pytest.MonkeyPatch, started: list[processes.Process]
) -> None:
    texts = [*corpus.splitlines(keepends=True)[:200], "", "aé文😀\x00<|end|>"]
    merges = BPETokenizer.train(texts, 400, pattern=pattern, special_tokens=["<|end|>"]).merges
    assert all_ended(started)
    assert [process.returncode for process in started] == [0, 0]
    monkeypatch.setattr(module, "_ALONE", 1e9)
    assert BPETokenizer.train(texts, 400, pattern=pattern, special_tokens=["<|end|>"]).merges == merges


def test_some_work_may_be_done_before_it_is_shared_out(
    corpus: str, monkeypatch: pytest.MonkeyPatch, started: list[processes.Process]
) -> None:
    ticks = iter(range(10**9))
    monkeypatch.setattr(module, "_ALONE", 5.0)
    monkeypatch.setattr("axone.tokenizer.bpe.corpus.time.thread_time", lambda: next(ticks))
    lines = corpus.splitlines(keepends=True)
    merges = BPETokenizer.train(lines, 400).merges
    assert all_ended(started)
    monkeypatch.setattr(module, "_ALONE", 1e12)
    assert BPETokenizer.train(lines, 400).merges == merges


def test_where_no_process_can_be_started_one_counts_alone(
    corpus: str, monkeypatch: pytest.MonkeyPatch, started: list[processes.Process]
) -> None:
    merges = BPETokenizer.train(corpus, 400).merges

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    started.clear()
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert BPETokenizer.train(corpus, 400).merges == merges
    assert started == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_process_is_left_when_training_ends_early(
    error: type[BaseException], started: list[processes.Process]
) -> None:
    def texts() -> Iterator[str]:
        for _ in range(50):
            yield "some words " * 100
        raise error

    with pytest.raises(error):
        BPETokenizer.train(texts(), 300)
    assert all_ended(started)


def test_a_pattern_that_is_too_slow_is_named(monkeypatch: pytest.MonkeyPatch, started: list[processes.Process]) -> None:
    hurry = "from axone.tokenizer.bpe import patterns; patterns._SECONDS = 0.05; "
    monkeypatch.setattr(processes, "_PROGRAM", hurry + processes._PROGRAM)
    texts = ("a" * 80 + "!" for _ in range(50))
    with pytest.raises(TokenizerError, match="must cut a text of 81 characters"):
        BPETokenizer.train(texts, 300, pattern=r"(\w|\w\w)+$")
    assert all_ended(started)


def test_a_process_that_dies_is_an_error(started: list[processes.Process]) -> None:
    def texts() -> Iterator[str]:
        for i in range(10_000):
            yield f"some words {i} " * 100
            if i == 20:
                started[1].kill()

    with pytest.raises(ChildProcessError, match="must live until it has answered, but it ended with status"):
        BPETokenizer.train(texts(), 300)
    assert all_ended(started)


def test_a_process_without_a_parent_ends_in_silence() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", processes._PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    processes._write(process.stdin, b"null")
    assert process.communicate(b"half a length"[:4]) == (b"", b"")
    assert process.returncode == processes._ORPHANED


def test_a_script_without_a_main_guard_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from axone.tokenizer import BPETokenizer\n"
        "from axone.tokenizer.bpe import corpus, processes\n"
        "corpus._ALONE, processes._cores = -1.0, lambda: 2\n"
        "print(BPETokenizer.train(('word%d ' % i for i in range(20_000)), 300).vocab_size)\n",
        encoding="utf-8",
    )
    finished = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    assert finished.stdout.split() == ["once", "300"]
    assert finished.stderr == ""
