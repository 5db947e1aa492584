"""Conversion from and to the `tokenizer.json` of a byte-level BPE tokenizer, the format of Hugging Face.

The forms of GPT-2, Llama-3, Qwen and SmolLM are read; an unsupported part is refused by its name. The vocabulary is
written in 256 visible characters, one for each byte, as GPT-2 represents bytes in JSON.

The post-processor is checked and kept for saving; a template in it defines whether the model expects tokens around a
text.

References
----------
.. [1] Hugging Face tokenizers, https://huggingface.co/docs/tokenizers
.. [2] GPT-2's encoder, for the characters that represent bytes,
   https://github.com/openai/gpt-2/blob/master/src/encoder.py
"""

from collections.abc import Collection, Mapping, Sequence

from axone.tokenizer.bpe.byte_alphabet import CHARACTERS, to_bytes, to_characters
from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.bpe.patterns import GPT2, SMOLLM, portable_pattern
from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.files import Section, brief, is_text
from axone.tokenizer.special_roles import finish_byte_level, read_post_processor, read_roles

WHERE = "tokenizer.json"


def from_document(document: object, config: object = None) -> BPEModel:
    """Convert the parsed JSON of a `tokenizer.json` to a model.

    Parameters
    ----------
    document : object
        The parsed `tokenizer.json`.
    config : object
        The parsed `tokenizer_config.json`, which names the special tokens; None if there is no such file.

    Raises
    ------
    TokenizerError
        If it is damaged or has an unsupported part.
    """
    top = Section(document, WHERE)
    top.expect("version", "1.0")
    top.expect("truncation", None)
    top.expect("padding", None)
    normalization = _normalization(top.take("normalizer"))
    pattern = _pattern(top.take("pre_tokenizer"))
    decoder = top.take_section("decoder")
    decoder.expect("type", "ByteLevel")
    finish_byte_level(decoder)
    post_processor = top.take("post_processor")
    template = read_post_processor(post_processor, f"{WHERE}.post_processor")
    special_tokens, added_tokens, normalized_tokens = read_added_tokens(
        top.take_list("added_tokens"), normalized=normalization is None
    )
    model = top.take_section("model")
    top.finish()
    model.expect("type", "BPE")
    model.expect("dropout", None)
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        model.expect(key, None, "")
    model.take_flag("fuse_unk", default=False)
    unknown = model.take("unk_token") or None
    model.expect("byte_fallback", False)
    ignore_merges = model.take_flag("ignore_merges", default=False)
    spelled, vocabulary = ordinary_tokens(model.take_vocabulary("vocab"), special_tokens | added_tokens)
    merges = read_merges(model.take_list("merges"), spelled, f"{WHERE}.model.merges")
    model.finish()
    ids = {*spelled.values(), *special_tokens.values(), *added_tokens.values()}
    if ids != set(range(len(ids))):
        missing = next(id for id in range(len(ids)) if id not in ids)
        raise TokenizerError(f"{WHERE} has no token with id {missing}: ids must not have gaps")
    if unknown is not None and not spelled.keys() >= set(CHARACTERS):  # otherwise no text is unknown
        raise TokenizerError(
            f"{WHERE}.model.unk_token ({brief(unknown)}) is only supported if all 256 bytes are tokens"
        )
    if unknown is not None and not is_text(unknown):
        raise TokenizerError(f"{WHERE}.model.unk_token ({brief(unknown)}) must be a token or null")
    roles = read_roles(config, spelled | special_tokens | added_tokens, template, unknown)
    return BPEModel(
        vocabulary=vocabulary,
        merges=merges,
        pattern=pattern,
        special_tokens=special_tokens,
        added_tokens=added_tokens,
        ignore_merges=ignore_merges,
        normalization=normalization,
        normalized_tokens=normalized_tokens,
        post_processor=post_processor,
        roles=roles,
    )


def to_document(model: BPEModel) -> dict[str, object]:
    """Convert a model to the content of its `tokenizer.json`.

    Raises
    ------
    TokenizerError
        If the format cannot express the model: ids with gaps, or a special token spelled like an ordinary one.
    """
    spelled = {to_characters(token): id for token, id in model.vocabulary.items()}
    extra = {**model.special_tokens, **model.added_tokens}
    both = spelled.keys() & extra.keys()
    if both:
        raise TokenizerError(
            f"{min(both)!r} is both a special token and an ordinary one, which a {WHERE} cannot express: rename it"
        )
    vocabulary = dict(sorted((spelled | extra).items(), key=lambda item: item[1]))
    gaps = set(range(len(vocabulary))) - set(vocabulary.values())
    if gaps:
        raise TokenizerError(
            f"id {min(gaps)} has no token, and a {WHERE} cannot have gaps: add a special token with this id"
        )
    ordinary = {id: token for token, id in spelled.items()}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": model.pattern == GPT2,
    }
    split = {"type": "Split", "pattern": {"Regex": model.pattern}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": write_added_tokens(model.special_tokens, model.added_tokens, model.normalized_tokens),
        "normalizer": model.normalization and {"type": model.normalization},
        "pre_tokenizer": byte_level
        if model.pattern in {None, GPT2}
        else {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": model.post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": model.ignore_merges,
            "vocab": vocabulary,
            "merges": [[ordinary[left], ordinary[right]] for left, right in model.merges],
        },
    }


def _normalization(value: object) -> str | None:
    if value is None:
        return None
    section = Section(value, f"{WHERE}.normalizer")
    section.expect("type", "NFC")
    section.finish()
    return "NFC"


def _pattern(value: object) -> str | None:
    """Return the pattern that is equivalent to a pre-tokenizer."""
    section = Section(value, f"{WHERE}.pre_tokenizer")
    kind = section.take("type")
    if kind == "ByteLevel":
        return GPT2 if _uses_regex(section) else None
    if kind != "Sequence":
        raise TokenizerError(
            f'{section.where}.type ({brief(kind)}) is not supported: it must be "ByteLevel" or "Sequence"'
        )
    steps = section.take_list("pretokenizers")
    section.finish()
    if len(steps) != 2:
        raise TokenizerError(
            f"{section.where} has {len(steps)} steps: only Split or Digits, then ByteLevel, is supported"
        )
    first, last = (Section(step, f"{section.where}.pretokenizers.{i}") for i, step in enumerate(steps))
    last.expect("type", "ByteLevel")
    uses_regex = _uses_regex(last)
    kind = first.take("type")
    if kind == "Split" and not uses_regex:
        pattern = first.take_section("pattern")
        first.expect("behavior", "Isolated")
        first.expect("invert", False)
        first.finish()
        source = pattern.take_text("Regex")
        pattern.finish()
        return portable_pattern(source, "oniguruma")
    if kind == "Digits" and uses_regex:
        first.expect("individual_digits", True)
        first.finish()
        return SMOLLM
    raise TokenizerError(
        f"{section.where} begins with {brief(kind)}: only Split without, or Digits with, the pattern of ByteLevel "
        "is supported"
    )


def _uses_regex(byte_level: Section) -> bool:
    if byte_level.take_flag("add_prefix_space", default=True):
        raise TokenizerError(f"{byte_level.where}.add_prefix_space (true) is not supported: it must be false")
    byte_level.take_flag("trim_offsets", default=True)
    uses_regex = byte_level.take_flag("use_regex", default=True)
    byte_level.finish()
    return uses_regex


def read_added_tokens(
    items: list[object], *, normalized: bool
) -> tuple[dict[str, int], dict[str, int], frozenset[str]]:
    """Return the special tokens, the other added ones, and those of both that are searched after all others.

    The flag of the latter, ``normalized``, is only supported if there is no normalizer.
    """
    special: dict[str, int] = {}
    added: dict[str, int] = {}
    last: set[str] = set()
    for i, item in enumerate(items):
        section = Section(item, f"{WHERE}.added_tokens.{i}")
        content, id = section.take_text("content"), section.take_id("id")
        for key in ("single_word", "lstrip", "rstrip"):
            section.expect(key, False)
        if section.take_flag("normalized", default=False):
            if not normalized:
                raise TokenizerError(f"{section.where}.normalized (true) is not supported together with a normalizer")
            last.add(content)
        is_special = section.take_flag("special", default=False)
        section.finish()
        if content in special or content in added:
            raise TokenizerError(f"{WHERE}.added_tokens holds {brief(content)} twice: each token must appear once")
        (special if is_special else added)[content] = id
    if len(last) == len(items):  # the order of the two searches does not matter if one finds nothing
        last.clear()
    return special, added, frozenset(last)


def write_added_tokens(
    special: Mapping[str, int], added: Mapping[str, int], last: Collection[str]
) -> list[dict[str, object]]:
    """Return the content of ``added_tokens``."""
    return [
        {
            "id": id,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": token in last,
            "special": token in special,
        }
        for token, id in sorted({**special, **added}.items(), key=lambda item: item[1])
    ]


def ordinary_tokens(vocabulary: Mapping[str, int], extra: Mapping[str, int]) -> tuple[dict[str, int], dict[bytes, int]]:
    """Return the tokens that are not added ones, in the alphabet of bytes and as bytes."""
    for token in vocabulary.keys() & extra.keys():
        if extra[token] != vocabulary[token]:
            raise TokenizerError(f"{WHERE} has two ids for {brief(token)}, {vocabulary[token]} and {extra[token]}")
    spelled = {token: id for token, id in vocabulary.items() if token not in extra} if extra else dict(vocabulary)
    try:
        return spelled, dict(zip(to_bytes([*spelled]), spelled.values()))
    except UnicodeEncodeError:
        wrong = next(token for token in spelled if not set(token) <= set(CHARACTERS))
        raise TokenizerError(
            f"{WHERE}.model.vocab holds {brief(wrong)}, which is not written in the 256 characters that represent bytes"
        ) from None


def read_merges(items: Sequence[object], vocabulary: Mapping[str, int], where: str) -> list[tuple[int, int]]:
    """Return the merges as pairs of ids. Both spellings are read: ``["h", "el"]`` and the older ``"h el"``."""
    try:
        return [(vocabulary[left], vocabulary[right]) for left, right in map(_parts, items)]
    except (KeyError, TypeError, ValueError):
        pass
    for i, item in enumerate(items):
        parts = _parts(item)
        if len(parts) != 2 or not all(map(is_text, parts)):
            raise TokenizerError(f"{where}.{i} ({brief(item)}) must be two tokens")
        for token in parts:
            if token not in vocabulary:
                raise TokenizerError(f"{where}.{i} uses the token {brief(token)}, which is not in the vocabulary")
    raise TokenizerError(f"{where} must be a list of pairs of tokens")


def _parts(item: object) -> list[str]:
    return item.split(" ") if isinstance(item, str) else item if isinstance(item, list) else []
