import json
from pathlib import Path

import numpy as np
import pytest

from axone.llm import (
    ChatTemplateError,
    CheckpointError,
    LanguageModel,
    LanguageModelConfig,
    ModelBundle,
    load,
    open_bundle,
    save_gguf,
    save_pretrained,
)
from axone.llm.pretrained.gguf.reader import GGUFFile
from axone.tokenizer import BPETokenizer, CharTokenizer, TokenizerError

TEXT = "the quick brown fox jumps over the lazy dog. " * 20
TEMPLATE = "{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}"
SAMPLES = [TEXT[:90], "naïve café, 東京 🐌", "a  b\n\n c\td 12345", ""]


@pytest.fixture
def bundle() -> ModelBundle:
    tokenizer = BPETokenizer.train(TEXT, 300, special_tokens=("<|endoftext|>",))
    config = LanguageModelConfig(
        vocab_size=320, context_length=32, num_layers=2, num_heads=4, num_kv_heads=2, embed_dim=32, hidden_dim=64,
        norm="rms", position="rotary", mlp="swiglu", bias=False,
    )  # fmt: skip
    model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    return ModelBundle(model, tokenizer, TEMPLATE)


def assert_same(one: ModelBundle, other: ModelBundle) -> None:
    ids = np.arange(12)[None]
    np.testing.assert_array_equal(one.model(ids).data, other.model(ids).data)
    for text in SAMPLES:
        assert one.tokenizer.encode(text) == other.tokenizer.encode(text)
    assert one.tokenizer.eos_token_id == other.tokenizer.eos_token_id
    assert one.chat_template_text == other.chat_template_text


def test_a_folder_gives_model_tokenizer_and_template_back(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.write(tmp_path)
    again = open_bundle(tmp_path)
    assert_same(again, bundle)
    messages = [{"role": "user", "content": "Hi"}]
    assert again.chat_template.render(messages) == bundle.chat_template.render(messages)  # type: ignore[arg-type]
    model, tokenizer = load(tmp_path)
    assert model.config == bundle.model.config
    assert tokenizer.vocab_size == bundle.tokenizer.vocab_size


def test_a_gguf_file_gives_model_tokenizer_and_template_back(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.write_gguf(tmp_path / "m.gguf", dtype="f32")
    assert_same(open_bundle(tmp_path / "m.gguf"), bundle)
    bundle.write_gguf(tmp_path / "h.gguf")
    half = open_bundle(tmp_path / "h.gguf")
    assert np.abs(half.model(np.arange(12)[None]).data - bundle.model(np.arange(12)[None]).data).max() < 1e-2
    assert (tmp_path / "h.gguf").stat().st_size < 0.7 * (tmp_path / "m.gguf").stat().st_size


def test_functions_write_what_the_bundle_writes(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.write(tmp_path / "a", dtype=np.float16)
    bundle.write_gguf(tmp_path / "a.gguf", dtype="q8_0")
    save_pretrained(
        tmp_path / "b", bundle.model, bundle.tokenizer, dtype=np.float16, chat_template_text=bundle.chat_template_text
    )
    save_gguf(
        tmp_path / "b.gguf",
        bundle.model,
        bundle.tokenizer,
        dtype="q8_0",
        chat_template_text=bundle.chat_template_text,
    )
    assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes(), name


def test_a_gguf_file_without_an_end_of_text_names_a_byte_that_no_text_has(bundle: ModelBundle, tmp_path: Path) -> None:
    """llama.cpp would end a text at id 11 otherwise, which is the comma in GPT-2's vocabulary."""
    save_gguf(tmp_path / "m.gguf", bundle.model, bundle.tokenizer)
    with GGUFFile(tmp_path / "m.gguf") as file:
        eos_id = file.metadata["tokenizer.ggml.eos_token_id"]
    assert isinstance(eos_id, int)
    assert bundle.tokenizer.decode_bytes([eos_id]) == b"\xff"  # type: ignore[attr-defined]  # a BPETokenizer
    again = open_bundle(tmp_path / "m.gguf")
    assert again.model.eos_ids == ()
    assert again.tokenizer.eos_token_id is None
    bundle.model.eos_ids = (7,)
    save_gguf(tmp_path / "m.gguf", bundle.model, bundle.tokenizer)
    with GGUFFile(tmp_path / "m.gguf") as file:
        assert file.metadata["tokenizer.ggml.eos_token_id"] == 7
    assert open_bundle(tmp_path / "m.gguf").model.eos_ids == (7,)


def test_a_text_ends_at_the_ids_of_model_and_tokenizer(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.model.eos_ids = (7,)
    bundle.write(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({**config, "eos_token": "<|endoftext|>"}), encoding="utf-8"
    )
    assert open_bundle(tmp_path).model.eos_ids == (7, bundle.tokenizer.special_tokens["<|endoftext|>"])  # type: ignore[attr-defined]  # a BPETokenizer


def test_templates_are_found_where_other_programs_write_them(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.write(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    several = [{"name": "rag", "template": "x"}, {"name": "default", "template": "y"}]
    path.write_text(json.dumps({**config, "chat_template": several}), encoding="utf-8")
    assert open_bundle(tmp_path).chat_template_text == "y"
    (tmp_path / "chat_template.jinja").write_text("é", encoding="utf-8")
    assert open_bundle(tmp_path).chat_template_text == "é"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: cannot be read"):
        open_bundle(tmp_path)


def test_without_a_template_a_sentence_says_so(bundle: ModelBundle) -> None:
    with pytest.raises(ChatTemplateError, match="the model has no chat template"):
        _ = ModelBundle(bundle.model, bundle.tokenizer).chat_template


def test_a_tokenizer_of_characters_is_refused_for_gguf(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="cannot hold a character tokenizer"):
        ModelBundle(bundle.model, CharTokenizer.train("abc")).write_gguf(tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


def test_a_gguf_file_whose_tokenizer_is_not_read_is_refused(tmp_path: Path) -> None:
    frozen = Path(__file__).parent / "frozen/gguf_models/llama.gguf"  # tokens without the 256 bytes
    with pytest.raises(CheckpointError, match="its tokenizer cannot be used"):
        open_bundle(frozen)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="cut off"):
        open_bundle(tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_bundle(tmp_path / "none.gguf")


def test_a_path_without_a_model_is_refused_and_the_error_lists_the_kinds_of_models(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"notes\.txt: is not a folder or GGUF file: name .* a \.gguf file$"):
        open_bundle(tmp_path / "notes.txt")
    with pytest.raises(CheckpointError, match=r"download a model by its name with axone\.llm\.download$"):
        open_bundle("HuggingFaceTB/SmolLM2-135M-Instruct")


def test_files_of_a_model_that_was_here_before_are_not_read_afterwards(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.model.eos_ids = (3,)
    bundle.write(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("old", encoding="utf-8")
    bundle.model.eos_ids = ()
    bundle.write(tmp_path)
    again = open_bundle(tmp_path)
    assert again.chat_template_text == TEMPLATE
    assert again.model.eos_ids == ()


def test_a_template_beyond_the_largest_size_is_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.write(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("x" * ((1 << 20) + 1), encoding="utf-8")
    with pytest.raises(CheckpointError, match="is larger than 1,048,576 bytes"):
        open_bundle(tmp_path)


def test_a_gguf_file_has_a_token_for_each_row_of_the_embedding(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.model.eos_ids = (7, 9)
    bundle.write_gguf(tmp_path / "m.gguf", dtype="f32")
    with GGUFFile(tmp_path / "m.gguf") as file:
        tokens, kinds = (file.metadata[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type"))
    assert isinstance(tokens, list)
    assert isinstance(kinds, np.ndarray)
    assert len(tokens) == len(kinds) == len(set(map(str, tokens))) == bundle.model.config.vocab_size == 320
    assert kinds[300:].tolist() == [5] * 20
    again = open_bundle(tmp_path / "m.gguf")
    assert again.tokenizer.vocab_size == bundle.tokenizer.vocab_size
    assert again.model.eos_ids == (7, 9)
