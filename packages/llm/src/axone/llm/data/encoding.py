"""Records of chat data as sequences of token ids, cut to a length, with the mask of the tokens that are learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from axone.llm.chat.template import ChatTemplate
from axone.llm.chat.turns import Turns, encode_turns
from axone.llm.data.records import Dialogue, PromptCompletion, Record
from axone.llm.errors import ChatTemplateError
from axone.tokenizer import SubwordTokenizer, Tokenizer


class Encoded(NamedTuple):
    """A record as sequences that fit.

    Attributes
    ----------
    sequences : list of Turns
        None of them if no answer fits.
    is_cut : bool
        Whether an answer was left out because it does not fit.
    """

    sequences: list[Turns]
    is_cut: bool


def encode_record(record: Record, tokenizer: Tokenizer, template: ChatTemplate | None, longest: int | None) -> Encoded:
    """Return a record as sequences of at most `longest` tokens: a conversation is cut after an answer, a text anywhere.

    Raises
    ------
    ChatTemplateError, ValueError
        If the template or the tokenizer refuses the record.
    """
    whole = _encode(record, tokenizer, template)
    if not isinstance(record, Dialogue | PromptCompletion):
        return Encoded(list(_chunks(whole[0], longest)), is_cut=False)
    kept = [cut for turns in whole if (cut := _cut(turns, longest)) is not None]
    return Encoded(kept, sum(len(turns.spans) for turns in kept) < sum(len(turns.spans) for turns in whole))


def learned_mask(turns: Turns) -> list[bool]:
    """Return whether each token is learned."""
    mask = [False] * len(turns.ids)
    for start, stop in turns.spans:
        mask[start:stop] = [True] * (stop - start)
    return mask


def _encode(record: Record, tokenizer: Tokenizer, template: ChatTemplate | None) -> list[Turns]:
    """Return the ids of a record, and where they are learned."""
    encode = tokenizer.encode_ordinary if isinstance(tokenizer, SubwordTokenizer) else tokenizer.encode
    if isinstance(record, PromptCompletion) and template is not None:
        record = Dialogue(
            [{"role": "user", "content": record.prompt}, {"role": "assistant", "content": record.completion}]
        )
    if isinstance(record, Dialogue):
        if template is None or not isinstance(tokenizer, SubwordTokenizer):
            raise ChatTemplateError("the model has no chat template: train on prompt and completion, or on text")
        return encode_turns(template, record.messages, tokenizer)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    ids = [bos] if bos is not None and tokenizer.add_bos_token else []
    if isinstance(record, PromptCompletion):
        ids += encode(record.prompt)
    start = len(ids)
    ids += encode(record.completion if isinstance(record, PromptCompletion) else record.text)
    ids += [] if eos is None else [eos]
    return [Turns(ids, [(start, len(ids))])]


def _cut(turns: Turns, longest: int | None) -> Turns | None:
    """Return the turns up to the last answer that fits whole; None if none does, or there is nothing to predict."""
    spans = [span for span in turns.spans if longest is None or span[1] <= longest]
    if not spans or len(turns.ids) < 2 or max(stop - max(start, 1) for start, stop in spans) < 1:
        return None
    return Turns(turns.ids[: spans[-1][1]], spans)


def _chunks(turns: Turns, longest: int | None) -> Iterator[Turns]:
    """Yield a text in sequences that overlap by a token, so that each token but the first is predicted once."""
    ids = turns.ids
    step = len(ids) if longest is None else longest - 1
    for first in range(0, len(ids) - 1, max(step, 1)):
        part = ids[first : first + step + 1]
        yield Turns(part, [(0, len(part))])
