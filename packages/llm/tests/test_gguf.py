import os
import struct
from pathlib import Path

import numpy as np
import pytest

from axone.llm import CheckpointError
from axone.llm.pretrained.gguf import reader
from axone.llm.pretrained.gguf.quantization import F16, F32, Q8_0, TYPES, dequantize, quantize_q8_0
from axone.llm.pretrained.gguf.reader import GGUFFile, Value
from axone.llm.pretrained.gguf.writer import write_gguf

FROZEN = Path(__file__).parent / "frozen/gguf_blocks.npz"
KINDS = {kind.name: kind for kind in TYPES.values()}
METADATA: dict[str, Value] = {
    "general.architecture": "llama",
    "llama.block_count": 3,
    "llama.rope.freq_base": 1e5,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.tokens": ["a", "Ġthe", "", "語"],
    "tokenizer.ggml.token_type": np.array([1, 1, 3, 4], np.int32),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a small file with a tensor of every type that is written."""
    rng = np.random.default_rng(0)
    tensors = {
        "norm": (F32, rng.standard_normal(32, dtype=np.float32)),
        "half": (F16, rng.standard_normal((3, 64), dtype=np.float32)),
        "quantized": (Q8_0, rng.standard_normal((4, 64), dtype=np.float32)),
    }
    write_gguf(tmp_path / "m.gguf", METADATA, tensors)
    return tmp_path / "m.gguf"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        GGUFFile(path).close()
    return caught.value.reason


def patched(path: Path, at: int, raw: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[at : at + len(raw)] = raw
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_dequantized_values_equal_those_of_the_gguf_package_bit_for_bit(name: str) -> None:
    frozen = np.load(FROZEN)
    kind, values = KINDS[name], frozen[f"{name}_values"]
    for rows in (1, 2):
        out = np.empty((rows, 512 // rows), np.float32)
        dequantize(kind, frozen[name].reshape(rows, -1), out)
        np.testing.assert_array_equal(out.reshape(-1).view(np.uint32), values.view(np.uint32))
    strided = np.empty((512, 2))
    dequantize(kind, frozen[name].reshape(1, -1), strided[:, 1][None])
    np.testing.assert_array_equal(strided[:, 1], values)


def test_q8_0_bytes_equal_those_of_the_gguf_package() -> None:
    frozen = np.load(FROZEN)
    np.testing.assert_array_equal(quantize_q8_0(frozen["weights"]), frozen["weights_q8_0"])
    assert not quantize_q8_0(np.zeros((1, 32), np.float32)).any()


def test_a_written_file_is_read_back(path: Path) -> None:
    with GGUFFile(path) as file:
        assert list(file.metadata) == list(METADATA)
        for key, value in METADATA.items():
            assert np.array_equal(file.metadata[key], value)  # type: ignore[arg-type]  # lists of strings too
        assert {name: info.shape for name, info in file.tensors.items()} == {
            "norm": (32,),
            "half": (3, 64),
            "quantized": (4, 64),
        }
        norm = np.empty(32)
        file.read("norm", norm)
        half, flipped = np.empty((2, 3, 64), np.float32)
        file.read("half", half)
        file.read("half", flipped, np.array([2, 1, 0]))
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(norm, rng.standard_normal(32, dtype=np.float32))
    np.testing.assert_array_equal(half, rng.standard_normal((3, 64), dtype=np.float32).astype(np.float16))
    np.testing.assert_array_equal(flipped, half[::-1])


def test_other_files_are_refused_by_kind(path: Path, tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "missing.gguf")
    assert "not a regular file" in refusal(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo.gguf")
        assert "not a regular file" in refusal(tmp_path / "fifo.gguf")
    (tmp_path / "empty.gguf").touch()
    assert "cut off" in refusal(tmp_path / "empty.gguf")
    assert "version 1" in refusal(patched(path, 4, struct.pack("<I", 1)))
    assert "big-endian" in refusal(patched(path, 4, struct.pack(">I", 3)))
    assert "is not a GGUF file" in refusal(patched(path, 0, b"GGML"))


def test_absurd_counts_are_refused_before_anything_is_allocated(path: Path) -> None:
    assert "tensors, more than" in refusal(patched(path, 8, struct.pack("<Q", 1 << 60)))
    assert "metadata entries, more than" in refusal(patched(patched(path, 8, struct.pack("<Q", 3)), 16, b"\xff" * 8))
    content = patched(path, 16, struct.pack("<Q", 6)).read_bytes()
    tokens = content.index(b"ggml.tokens") + len(b"ggml.tokens") + 8
    assert "an array of" in refusal(patched(path, tokens, struct.pack("<Q", 1 << 50)))
    patched(path, tokens, content[tokens : tokens + 8])
    shape = content.index(b"quantized") + len(b"quantized") + 4
    assert "is cut off" in refusal(patched(path, shape + 8, struct.pack("<Q", 1 << 62)))


def test_types_alignment_and_overlap_are_checked_by_name(path: Path) -> None:
    content = path.read_bytes()
    entry = content.index(b"quantized") + len(b"quantized")  # axes, two dimensions, type, offset
    assert "type IQ2_XXS" in refusal(patched(path, entry + 20, struct.pack("<I", 16)))
    path.write_bytes(content)
    assert "multiples of 32" in refusal(patched(path, entry + 4, struct.pack("<Q", 65)))
    path.write_bytes(content)
    assert "multiple of the alignment" in refusal(patched(path, entry + 24, struct.pack("<Q", 33)))
    path.write_bytes(content)
    assert "overlaps half" in refusal(patched(path, entry + 24, struct.pack("<Q", 160)))
    path.write_bytes(content)
    assert "5 dimensions" in refusal(patched(path, entry, struct.pack("<I", 5)))
    path.write_bytes(content)
    assert "twice" in refusal(patched(path, content.index(b"half"), b"norm"))
    path.write_bytes(content)
    assert "not UTF-8" in refusal(patched(path, content.index(b"half"), b"\xff"))


def test_a_file_that_is_cut_short_while_it_is_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_BUFFER", 16)
    with GGUFFile(path) as file:
        os.truncate(path, file.tensors["quantized"].start + 1)
        with pytest.raises(CheckpointError, match="cut short"):
            file.read("quantized", np.empty((4, 64), np.float32))


def test_two_thousand_damaged_files_give_a_refusal_or_the_shapes_that_they_declare(path: Path) -> None:
    content = path.read_bytes()
    with GGUFFile(path) as file:
        header = min(info.start for info in file.tensors.values())
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(content)
        for at in rng.integers(0, header, rng.integers(1, 4)):
            damaged[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))])
        if rng.random() < 0.3:
            damaged = damaged[: rng.integers(len(damaged))]
        path.write_bytes(damaged)
        try:
            with GGUFFile(path) as file, np.errstate(all="ignore"):
                for name, info in file.tensors.items():
                    assert info.start + info.nbytes <= len(damaged)
                    file.read(name, np.empty(info.shape, np.float32))
        except CheckpointError:
            refused += 1
    assert refused > 1000


def test_lists_of_numbers_are_written_as_numbers(tmp_path: Path) -> None:
    tensors = {"norm": (F32, np.zeros(32, np.float32))}
    write_gguf(tmp_path / "m.gguf", {"scores": [0.5, -3.0], "kinds": [1, 5], "none": []}, tensors)
    with GGUFFile(tmp_path / "m.gguf") as file:
        np.testing.assert_array_equal(file.metadata["scores"], np.array([0.5, -3], np.float32), strict=True)
        np.testing.assert_array_equal(file.metadata["kinds"], np.array([1, 5], np.int32), strict=True)
        assert file.metadata["none"] == []
    with pytest.raises(TypeError, match="only strings or only numbers"):
        write_gguf(tmp_path / "m.gguf", {"mixed": ["a", 1]}, tensors)
