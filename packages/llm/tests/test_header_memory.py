"""Tests of the memory that absurd headers of safetensors and GGUF files take."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from axone.llm import CheckpointError
from axone.llm.pretrained.gguf.reader import GGUFFile
from axone.llm.storage.safetensors import ArrayFile

LENGTHS = [1 << 20, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
ROOM = 1 << 16  # bytes of the objects that a reader makes in any case
BUFFER = 1 << 22  # bytes of the reader of GGUF


def text(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def gguf(metadata: list[bytes], tensors: list[bytes], *, num_metadata: int | None = None) -> bytes:
    count = len(metadata) if num_metadata is None else num_metadata
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), count) + b"".join([*metadata, *tensors])


def strings(count: int, raw: Callable[[int], bytes], declared: int | None = None) -> bytes:
    head = struct.pack("<IIQ", 9, 8, count if declared is None else declared)
    return text(b"tokenizer.ggml.tokens") + head + b"".join(text(raw(number)) for number in range(count))


def header(raw: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def peak_of_refusal(tmp_path: Path, content: bytes, name: str = "model.gguf") -> int:
    path = tmp_path / name
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            (GGUFFile if name.endswith(".gguf") else ArrayFile)(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_declared_length_allocates_nothing_beyond_the_file(length: int, tmp_path: Path) -> None:
    declared = struct.pack("<Q", length)
    for content in (
        gguf([], [], num_metadata=length),
        b"GGUF" + struct.pack("<IQQ", 3, length, 0),
        gguf([declared + b"key"], []),  # the length of a key
        gguf([text(b"key") + struct.pack("<I", 8) + declared], []),  # of a string
        gguf([text(b"key") + struct.pack("<II", 9, 0) + declared], []),  # of an array of numbers
        gguf([text(b"key") + struct.pack("<II", 9, 9) + declared], []),  # of an array of arrays
        gguf([strings(3, lambda _: b"a", declared=length)], []),
        gguf([], [text(b"name") + struct.pack("<I", 2) + declared * 2 + struct.pack("<IQ", 0, 0)]),
    ):
        assert peak_of_refusal(tmp_path, content) < BUFFER + ROOM
    for content in (
        header(b"{}", length),
        header(b'{"a":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (length // 4, length)),
        header(b'{"a":{"dtype":"F32","shape":[%d,0],"data_offsets":[0,4]}}' % length),
    ):
        assert peak_of_refusal(tmp_path, content, "model.safetensors") < ROOM


def test_three_million_short_strings_are_refused_unread(tmp_path: Path) -> None:
    content = gguf([strings(3_000_000, lambda _: b"a")], [])
    assert peak_of_refusal(tmp_path, content) < BUFFER + ROOM


def test_strings_in_several_arrays_are_counted_together(tmp_path: Path) -> None:
    array = struct.pack("<IQ", 8, 30_000) + text(b"a") * 30_000
    content = gguf([text(b"a") + struct.pack("<IIQ", 9, 9, 70) + array * 70 + b"rest"], [])
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="more than 2097152 strings"):
        GGUFFile(path)


def test_a_vocabulary_takes_a_small_multiple_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf([strings(100_000, lambda number: b"%05d" % number)], []))
    tracemalloc.start()
    with GGUFFile(path) as file:
        peak = tracemalloc.get_traced_memory()[1]
        assert len(file.metadata["tokenizer.ggml.tokens"]) == 100_000  # type: ignore[arg-type]  # a list
    tracemalloc.stop()
    assert peak < BUFFER + 6 * path.stat().st_size


@pytest.mark.parametrize(
    "content",
    [
        gguf([text(b"a") + struct.pack("<IIQ", 9, 9, 100_000) + struct.pack("<IQ", 0, 0) * 100_000], []),
        gguf([text(b"%d" % number) + struct.pack("<I?", 7, True) for number in range(70_000)], []),
        gguf([], [text(b"%d" % n) + struct.pack("<IQIQ", 1, 8, 0, 32 * n) for n in range(70_000)]),
    ],
    ids=["arrays in an array", "metadata", "tensors"],
)
def test_more_entries_than_models_have_are_refused_unread(content: bytes, tmp_path: Path) -> None:
    assert peak_of_refusal(tmp_path, content) < BUFFER + ROOM


@pytest.mark.parametrize("raw", [b'{"a":[%s[]]}' % (b"[]," * 300_000), b'{"a":[%s{}]}' % (b"{}," * 300_000)])
def test_a_header_of_empty_lists_is_refused_before_it_is_parsed(raw: bytes, tmp_path: Path) -> None:
    assert peak_of_refusal(tmp_path, header(raw), "model.safetensors") < 2 * len(raw)


def test_a_header_beyond_sixteen_megabytes_is_refused_unread(tmp_path: Path) -> None:
    raw = b'{"__metadata__":{"a":"%s"}}' % (b" " * (1 << 24))
    assert peak_of_refusal(tmp_path, header(raw), "model.safetensors") < ROOM
