"""The `tokenizer.json` of a byte-level BPE tokenizer, as Hugging Face reads and writes it.

Read are the forms of GPT-2, Llama-3, Qwen and SmolLM: what a file asks for and is not done here is refused by its name. The vocabulary is
written in 256 visible characters, one for each byte: GPT-2's way of putting bytes into JSON.

The post-processor, which puts special tokens around a text when asked, is checked and kept for saving; encoding here puts none.

References
----------
.. [1] Hugging Face tokenizers, https://huggingface.co/docs/tokenizers
.. [2] GPT-2's encoder, for the characters that stand for bytes, https://github.com/openai/gpt-2/blob/master/src/encoder.py
"""

from collections.abc import Mapping

from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.bpe.patterns import GPT2, SMOLLM
from axone.tokenizer.files import Section, brief, is_id, is_text
from axone.tokenizer.protocol import TokenizerError

WHERE = "tokenizer.json"


def _visible_bytes() -> list[str]:
    """Return a visible character for each byte: itself where it has one in Latin-1, else one from U+0100 on."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


_CHARACTERS = _visible_bytes()
_BYTES = {character: byte for byte, character in enumerate(_CHARACTERS)}


def from_document(document: object) -> BPEModel:
    """Return the model that the JSON of a `tokenizer.json` describes.

    Raises
    ------
    TokenizerError
        If it is damaged or asks for what is not supported.
    """
    top = Section(document, WHERE)
    top.expect("version", "1.0")
    top.expect("truncation", None)
    top.expect("padding", None)
    normalization = _normalization(top.take("normalizer"))
    pattern = _pattern(top.take("pre_tokenizer"))
    decoder = top.take_section("decoder")
    decoder.expect("type", "ByteLevel")
    _finish_byte_level(decoder)
    post_processor = top.take("post_processor")
    if post_processor is not None:
        _check_post_processor(Section(post_processor, f"{WHERE}.post_processor"))
    special_tokens, added_tokens = _added_tokens(top.take_list("added_tokens"), normalization)
    model = top.take_section("model")
    top.finish()
    model.expect("type", "BPE")
    model.expect("dropout", None)
    for key in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
        model.expect(key, None, "")
    model.expect("fuse_unk", False)
    model.expect("byte_fallback", False)
    whole_words = model.take_flag("ignore_merges", default=False)
    spelled = _ordinary(model.take_vocabulary("vocab"), special_tokens | added_tokens)
    merges = _merges(model.take_list("merges"), spelled)
    model.finish()
    ids = {*spelled.values(), *special_tokens.values(), *added_tokens.values()}
    if ids != set(range(len(ids))):
        missing = next(id for id in range(len(ids)) if id not in ids)
        raise TokenizerError(f"{WHERE} must give every id from 0 up to a token, but {missing} belongs to none.")
    return BPEModel(
        vocabulary={bytes(map(_BYTES.__getitem__, token)): id for token, id in spelled.items()},
        merges=merges,
        pattern=pattern,
        special_tokens=special_tokens,
        added_tokens=added_tokens,
        whole_words=whole_words,
        normalization=normalization,
        post_processor=post_processor,
    )


def to_document(model: BPEModel) -> dict[str, object]:
    """Return the JSON of a model's `tokenizer.json`.

    Raises
    ------
    TokenizerError
        If the file could not say what the model is: ids with gaps, or a special token that is spelled like an ordinary one.
    """
    spelled = {"".join(map(_CHARACTERS.__getitem__, token)): id for token, id in model.vocabulary.items()}
    extra = {**model.special_tokens, **model.added_tokens}
    both = spelled.keys() & extra.keys()
    if both:
        raise TokenizerError(
            f"{min(both)!r} is both a special token and an ordinary one, which a {WHERE} cannot say; rename it."
        )
    vocabulary = dict(sorted((spelled | extra).items(), key=lambda item: item[1]))
    gaps = set(range(len(vocabulary))) - set(vocabulary.values())
    if gaps:
        raise TokenizerError(
            f"A {WHERE} must give every id to a token, but {min(gaps)} belongs to none; give it to a special token first."
        )
    names = list(vocabulary)
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
        "added_tokens": [
            {
                "id": id,
                "content": names[id],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": names[id] in model.special_tokens,
            }
            for id in sorted(extra.values())
        ],
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
            "ignore_merges": model.whole_words,
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
    """Return the one pattern that does what a pre-tokenizer asks."""
    section = Section(value, f"{WHERE}.pre_tokenizer")
    kind = section.take("type")
    if kind == "ByteLevel":
        return GPT2 if _uses_regex(section) else None
    if kind != "Sequence":
        raise TokenizerError(f'{section.where}.type must be "ByteLevel" or "Sequence", not {brief(kind)}.')
    steps = section.take_list("pretokenizers")
    section.finish()
    if len(steps) != 2:
        raise TokenizerError(f"{section.where} must be one step and then ByteLevel, but has {len(steps)} steps.")
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
        return source
    if kind == "Digits" and uses_regex:
        first.expect("individual_digits", True)
        first.finish()
        return SMOLLM
    raise TokenizerError(
        f"{section.where} must be Split without, or Digits with ByteLevel's own pattern, not {brief(kind)}."
    )


def _uses_regex(byte_level: Section) -> bool:
    if byte_level.take_flag("add_prefix_space", default=True):
        raise TokenizerError(f"{byte_level.where}.add_prefix_space must be false: adding a space is not supported.")
    byte_level.take_flag("trim_offsets", default=True)
    uses_regex = byte_level.take_flag("use_regex", default=True)
    byte_level.finish()
    return uses_regex


def _finish_byte_level(section: Section) -> None:
    """Check the options of a decoder or post-processor, which concern no ids."""
    for key in ("add_prefix_space", "trim_offsets", "use_regex"):
        section.take_flag(key, default=True)
    section.finish()


def _check_post_processor(section: Section) -> None:
    kind = section.take("type")
    if kind == "Sequence":
        for i, step in enumerate(section.take_list("processors")):
            _check_post_processor(Section(step, f"{section.where}.processors.{i}"))
        section.finish()
    elif kind == "TemplateProcessing":
        _check_template(section)
    elif kind == "ByteLevel":
        _finish_byte_level(section)
    else:
        raise TokenizerError(
            f"{section.where}.type must be ByteLevel, TemplateProcessing or Sequence, not {brief(kind)}."
        )


def _check_template(section: Section) -> None:
    for key in ("single", "pair"):
        for i, item in enumerate(section.take_list(key)):
            piece = Section(item, f"{section.where}.{key}.{i}")
            name = "SpecialToken" if "SpecialToken" in piece else "Sequence"
            inner = piece.take_section(name)
            piece.finish()
            inner.take_text("id")
            inner.take_id("type_id")
            inner.finish()
    tokens = section.take_mapping("special_tokens")
    section.finish()
    for name, value in tokens.items():
        token = Section(value, f"{section.where}.special_tokens.{name}")
        token.take_text("id")
        ids, texts = token.take_list("ids"), token.take_list("tokens")
        token.finish()
        if not (all(map(is_id, ids)) and all(map(is_text, texts)) and len(ids) == len(texts)):
            raise TokenizerError(f"{token.where} must list as many ids as tokens.")


def _added_tokens(items: list[object], normalization: str | None) -> tuple[dict[str, int], dict[str, int]]:
    """Return the special tokens and the other added ones."""
    special: dict[str, int] = {}
    added: dict[str, int] = {}
    for i, item in enumerate(items):
        section = Section(item, f"{WHERE}.added_tokens.{i}")
        content, id = section.take_text("content"), section.take_id("id")
        for key in ("single_word", "lstrip", "rstrip"):
            section.expect(key, False)
        normalized = section.take_flag("normalized", default=False)
        if normalized and normalization:
            raise TokenizerError(f"{section.where}.normalized must be false where there is a normalizer.")
        is_special = section.take_flag("special", default=False)
        section.finish()
        if content in special or content in added:
            raise TokenizerError(
                f"{WHERE}.added_tokens must hold each token once, but {brief(content)} is there twice."
            )
        (special if is_special else added)[content] = id
    return special, added


def _ordinary(vocabulary: Mapping[str, int], extra: Mapping[str, int]) -> dict[str, int]:
    """Return the tokens that are written in the characters for bytes, checking those that are added ones."""
    ordinary = {}
    for token, id in vocabulary.items():
        if token in extra:
            if extra[token] != id:
                raise TokenizerError(f"{WHERE} gives {brief(token)} the ids {id} and {extra[token]}; it must have one.")
        elif not token or not all(map(_BYTES.__contains__, token)):
            raise TokenizerError(
                f"{WHERE}.model.vocab must be written in the 256 characters that stand for bytes, but has {brief(token)}."
            )
        else:
            ordinary[token] = id
    return ordinary


def _merges(items: list[object], vocabulary: Mapping[str, int]) -> list[tuple[int, int]]:
    """Return the merges as pairs of ids, from either spelling: ``["h", "el"]`` or, older, ``"h el"``."""
    merges: dict[tuple[int, int], int] = {}
    for i, item in enumerate(items):
        parts = item.split(" ") if isinstance(item, str) else item
        if not (isinstance(parts, list) and len(parts) == 2 and all(map(is_text, parts))):
            raise TokenizerError(f"{WHERE}.model.merges.{i} must be two tokens, not {brief(item)}.")
        left, right = parts
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise TokenizerError(
                    f"{WHERE}.model.merges.{i} needs the token {brief(token)}, which is not in the vocabulary."
                )
        pair = vocabulary[left], vocabulary[right]
        if pair in merges:
            raise TokenizerError(
                f"{WHERE}.model.merges.{i} repeats merge {merges[pair]}; each pair must be merged once."
            )
        merges[pair] = i
    return list(merges)
