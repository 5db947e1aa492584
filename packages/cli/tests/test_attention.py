"""apps/attention.py: pictures and wrong options."""

from collections.abc import Callable
from pathlib import Path

import pytest

from axone.cli import attention
from axone.llm import LanguageModel, LanguageModelConfig, save_gguf
from axone.tokenizer import BPETokenizer, CharTokenizer

App = Callable[[Callable[[], int], str], int]
PNG = b"\x89PNG\r\n\x1a\n"


def test_the_default_text_is_generated(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app(attention.main, f"attention.py {trained}") == 0
    out, err = capfd.readouterr()
    assert out == f"{trained / 'attention.png'}\n"
    assert err == ""
    assert (trained / "attention.png").read_bytes().startswith(PNG)


def test_the_default_text_has_words_instead_of_spaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "\n" + " " * 40 + "def load(path, *, name=None):\n" + " " * 50
    tokenizer = CharTokenizer.train(text)
    config = LanguageModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=64, num_layers=1, num_heads=1, embed_dim=4
    )
    ids = tokenizer.encode(text.removeprefix("\n"))
    monkeypatch.setattr(attention, "generate", lambda *_, **__: iter(ids))
    drawn = attention.generated(LanguageModel(config), tokenizer, tmp_path)
    assert tokenizer.decode(drawn) == "load(path, *, name=None)"
    monkeypatch.setattr(attention, "generate", lambda *_, **__: iter(tokenizer.encode(" " * 50)))
    assert tokenizer.decode(attention.generated(LanguageModel(config), tokenizer, tmp_path)) == "\n" + " " * 23


def test_text_layers_heads_and_file_can_be_chosen(app: App, trained: Path) -> None:
    line = f"attention.py {trained} --text to-be --layers 2 --heads 1 --out part.svg"
    assert app(lambda: attention.main([*line.replace("to-be", "to,be").split()[1:]]), line) == 0
    picture = Path("part.svg").read_text(encoding="utf-8")
    assert "layer 2" in picture
    assert "layer 1" not in picture


def test_the_picture_of_a_gguf_file_is_written_into_the_current_folder(app: App, tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train("to be to be", 258)
    config = LanguageModelConfig.llama(
        vocab_size=258, context_length=16, num_layers=1, num_heads=2, num_kv_heads=1, embed_dim=32, hidden_dim=32
    )
    save_gguf(tmp_path / "model.gguf", LanguageModel(config), tokenizer)
    assert app(attention.main, "attention.py model.gguf --text to") == 0
    assert (tmp_path / "attention.png").read_bytes().startswith(PNG)


def test_labels_of_the_axes_are_visible() -> None:
    tokenizer = BPETokenizer.train("to be to be", 258)
    ids = tokenizer.encode(" to\n\té")
    assert "".join(attention.label(tokenizer, id) for id in ids) == "·to⏎→<c3><a9>"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("", "the following arguments are required: FOLDER"),
        ("nothing", "is not a folder"),
        (".", "is not a model"),
        (
            "run --text Ω",
            "train on a text that holds it, or with uv run apps/train.py --tokenizer bpe",
        ),
        ("run --text=", "the number of tokens (0) must be from 1 to 64 for this model"),
        ("run --layers 0", "--layers (0) must be from 1 to 2 for this model"),
        ("run --heads 1 3", "--heads (1 3) must be from 1 to 2 for this model"),
        ("run --heads one", "invalid int value: 'one'"),
        ("run --out picture.jpeg", "--out (picture.jpeg) must end in .png, .svg or .pdf"),
        ("run --out missing/picture.png", "create missing first"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_a_wrong_option_is_refused_in_one_sentence(
    app: App, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: str, reason: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert app(attention.main, f"attention.py {arguments}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("attention.py: error: ")
    assert reason in last
    assert sorted(tmp_path.rglob("*")) == before
