"""Conversion from and to the `tokenizer.json` of a SentencePiece BPE tokenizer with byte fallback.

Two forms exist: older files normalize with ``Prepend`` and ``Replace``, newer ones pre-tokenize with ``Metaspace``.
They add the space before a text under different conditions. An unsupported part is refused by its name.
"""

from axone.tokenizer.bpe.huggingface import read_added_tokens, read_merges, write_added_tokens
from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.files import Section, brief
from axone.tokenizer.sentencepiece.model import SPACE, Prefix, SentencePieceModel, byte_name
from axone.tokenizer.special_roles import read_post_processor, read_roles

WHERE = "tokenizer.json"
_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ],
}
_REPLACE_ONLY = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_DECODERS = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def is_sentencepiece(document: object) -> bool:
    """Return whether a parsed `tokenizer.json` is a BPE model with byte fallback."""
    model = document.get("model") if isinstance(document, dict) else None
    return isinstance(model, dict) and model.get("type") == "BPE" and model.get("byte_fallback") is True


def from_document(document: object, config: object = None) -> SentencePieceModel:
    """Convert the parsed JSON of a `tokenizer.json` to a model.

    Raises
    ------
    TokenizerError
        If it is damaged or has an unsupported part.
    """
    top = Section(document, WHERE)
    top.expect("version", "1.0")
    top.expect("truncation", None)
    top.expect("padding", None)
    prefix = _read_prefix(top.take("normalizer"), top.take("pre_tokenizer"))
    strip_prefix = _read_decoder(top.take("decoder"))
    post_processor = top.take("post_processor")
    template = read_post_processor(post_processor, f"{WHERE}.post_processor")
    special_tokens, added_tokens, _ = read_added_tokens(top.take_list("added_tokens"), normalized=False)
    model = top.take_section("model")
    top.finish()
    model.expect("type", "BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        model.expect(key, None)
    model.take_flag("fuse_unk", default=False)  # with byte fallback no text is unknown
    model.expect("byte_fallback", True)
    model.expect("ignore_merges", False)
    unknown = model.take("unk_token")
    extra = special_tokens | added_tokens
    vocabulary = model.take_vocabulary("vocab")
    for token in vocabulary.keys() & extra.keys():
        if extra[token] != vocabulary[token]:
            raise TokenizerError(f"{WHERE} has two ids for {brief(token)}, {vocabulary[token]} and {extra[token]}")
    merges = read_merges(model.take_list("merges"), vocabulary, f"{WHERE}.model.merges")
    model.finish()
    if not (unknown is None or isinstance(unknown, str)):
        raise TokenizerError(f"{WHERE}.model.unk_token ({brief(unknown)}) must be a token or null")
    missing = [name for name in map(byte_name, range(256)) if name not in vocabulary]
    if missing:
        raise TokenizerError(f"{WHERE}.model.vocab lacks the byte token {missing[0]}, which byte_fallback needs")
    byte_ids = [vocabulary[byte_name(byte)] for byte in range(256)]
    ids = {*vocabulary.values(), *extra.values()}
    if ids != set(range(len(ids))):
        gap = next(id for id in range(len(ids)) if id not in ids)
        raise TokenizerError(f"{WHERE} has no token with id {gap}: ids must not have gaps")
    without = extra.keys() | set(map(byte_name, range(256)))
    return SentencePieceModel(
        vocabulary={token: id for token, id in vocabulary.items() if token not in without},
        byte_ids=byte_ids,
        merges=merges,
        prefix=prefix,
        strip_prefix=strip_prefix,
        special_tokens=special_tokens,
        added_tokens=added_tokens,
        roles=read_roles(config, vocabulary | extra, template, unknown),
        post_processor=post_processor,
    )


def to_document(model: SentencePieceModel) -> dict[str, object]:
    """Convert a model to the content of its `tokenizer.json`.

    Raises
    ------
    TokenizerError
        If the format cannot express the model: ids with gaps.
    """
    names = model.names
    if sorted(names) != list(range(len(names))):
        gap = next(id for id in range(len(names)) if id not in names)
        raise TokenizerError(f"id {gap} has no token, and a {WHERE} cannot have gaps: add a special token with this id")
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": model.prefix, "split": False}
    unknown = model.roles.unk_token_id
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": write_added_tokens(model.special_tokens, model.added_tokens, ()),
        "normalizer": _NORMALIZER if model.prefix == "prepend" else None,
        "pre_tokenizer": None if model.prefix == "prepend" else metaspace,
        "post_processor": model.post_processor,
        "decoder": {"type": "Sequence", "decoders": [*_DECODERS, _STRIP] if model.strip_prefix else _DECODERS},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if unknown is None else names[unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {names[id]: id for id in range(len(names))},
            "merges": [[names[left], names[right]] for left, right in model.merges],
        },
    }


def _read_prefix(normalizer: object, pre_tokenizer: object) -> Prefix:
    """Return the condition under which a space is added before a text."""
    if normalizer == _NORMALIZER and pre_tokenizer is None:
        return "prepend"
    if normalizer == _REPLACE_ONLY and pre_tokenizer is None:
        return "never"
    if normalizer is not None:
        raise TokenizerError(
            f"{WHERE}.normalizer is not supported with byte_fallback: it must be null, or Prepend and Replace of spaces"
        )
    section = Section(pre_tokenizer, f"{WHERE}.pre_tokenizer")
    section.expect("type", "Metaspace")
    section.expect("replacement", SPACE)
    section.expect("split", False)
    scheme = section.take("prepend_scheme", "always")
    section.take("str_rep", SPACE)  # of older files
    section.take_flag("add_prefix_space", default=True)  # of older files: repeats prepend_scheme
    section.finish()
    schemes: dict[object, Prefix] = {"always": "always", "first": "first", "never": "never"}
    if not isinstance(scheme, str) or scheme not in schemes:
        raise TokenizerError(f'{section.where}.prepend_scheme ({brief(scheme)}) must be "always", "first" or "never"')
    return schemes[scheme]


def _read_decoder(value: object) -> bool:
    """Return whether a decoder removes one space at the begin of a text."""
    section = Section(value, f"{WHERE}.decoder")
    section.expect("type", "Sequence")
    decoders = section.take_list("decoders")
    section.finish()
    if decoders == _DECODERS:
        return False
    if decoders == [*_DECODERS, _STRIP]:
        return True
    raise TokenizerError(
        f"{section.where} is not supported: it must be Replace, ByteFallback, Fuse and at most one Strip"
    )
