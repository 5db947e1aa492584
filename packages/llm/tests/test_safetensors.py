"""Safetensors files: every memory layout survives, the library reads ours, and hostile files are refused."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from axone.llm import CheckpointError
from axone.llm.storage.safetensors import ArrayFile, read_arrays, write_arrays

LAYOUTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "unchanged": lambda a: a,
    "transposed": lambda a: a.T,
    "Fortran": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2] if a.ndim else a,
    "backwards": lambda a: a[::-1] if a.ndim else a,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
}


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    st.sampled_from(sorted(LAYOUTS)),
)
def test_arrays_of_every_layout_survive_a_file(
    tmp_path_factory: pytest.TempPathFactory, array: NDArray[Any], layout: str
) -> None:
    path = tmp_path_factory.mktemp("weights") / "a"
    array = LAYOUTS[layout](array)
    write_arrays(path, {"a": array, "b": np.ones(1)})
    again = read_arrays(path)["a"]
    assert again.shape == array.shape
    assert again.dtype == array.dtype.newbyteorder("<")
    np.testing.assert_array_equal(again, array)
    again[...] = 0  # a writable array


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["?", "u1", "i1", "<i2", "<u2", "<f2", "<i4", "<u4", "<f4", "<f8", "<i8", "<u8", ">f4"]),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        ),
        max_size=6,
        unique_by=lambda array: array[1],
    )
)
def test_files_are_those_of_the_library(
    tmp_path_factory: pytest.TempPathFactory, arrays: list[tuple[str, str, tuple[int, ...]]]
) -> None:
    state = {name: np.ones(shape, dtype) for dtype, name, shape in arrays if name != "__metadata__"}
    path = tmp_path_factory.mktemp("weights") / "a"
    write_arrays(path, state)
    assert path.read_bytes() == safetensors.numpy.save(state, {"format": "pt"})


def test_arrays_are_read_into_memory_that_the_caller_gives(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(1000, 3000)).astype(np.float32)
    write_arrays(tmp_path / "a", {"a": array, "half": array[:, :2048].astype(np.float16)})
    for out in (np.empty((1000, 3000), np.float32), np.empty((1000, 3000), np.float64), np.empty((3000, 1000)).T):
        ArrayFile(tmp_path / "a").read_into("a", out)
        np.testing.assert_array_equal(out, array)
    half = np.empty((1000, 2048), np.float32)
    ArrayFile(tmp_path / "a").read_into("half", half)
    np.testing.assert_array_equal(half, array[:, :2048].astype(np.float16))


def test_a_dtype_that_the_format_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="letters has dtype <U1"):
        write_arrays(tmp_path / "a", {"letters": np.array(["a"])})
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625, np.inf], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    path = hostile(tmp_path, {"a": entry("BF16", [4], 0, 8)}, upper.tobytes())
    np.testing.assert_array_equal(read_arrays(path)["a"], values)


def entry(dtype: str, shape: list[Any], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def hostile(folder: Path, header: object, data: bytes = b"", *, text: bytes | None = None) -> Path:
    content = json.dumps(header).encode() if text is None else text
    path = folder / "hostile"
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


GOOD = entry("F32", [2], 0, 8)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": GOOD}, b"\0" * 7),  # truncated
        ({"a": GOOD}, b"\0" * 9),  # too long
        ({"a": GOOD, "b": entry("F32", [2], 4, 12)}, b"\0" * 12),  # overlapping
        ({"a": GOOD, "b": entry("F32", [2], 12, 20)}, b"\0" * 20),  # with a hole
        ({"a": entry("F32", [3], 0, 8)}, b"\0" * 8),
        ({"a": entry("F32", [2], 8, 0)}, b"\0" * 8),
        ({"a": entry("F32", [-2], 0, 8)}, b"\0" * 8),
        ({"a": entry("F32", [True], 0, 4)}, b"\0" * 4),
        ({"a": entry("F32", [2.0], 0, 8)}, b"\0" * 8),
        ({"a": entry("F32", [1 << 62, 4], 0, 8)}, b"\0" * 8),
        ({"a": entry("F32", [1 << 64, 0], 0, 0)}, b""),
        ({"a": entry([], [8], 0, 8)}, b"\0" * 8),  # type: ignore[arg-type]  # the point
        ({"a": {"dtype": "F32", "shape": [2]}}, b"\0" * 8),
        ({"a": 5}, b""),
        ({"__metadata__": {"format": 1}}, b""),
        ([], b""),
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, header: object, data: bytes) -> None:
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        read_arrays(hostile(tmp_path, header, data))


@pytest.mark.parametrize(
    ("array", "size"),
    [
        (entry("F32", [1] * 65, 0, 4), 4),  # NumPy has 64 axes at most
        (entry("F32", [1 << 62, 0, 4], 0, 0), 0),
        (entry("BF16", [1 << 62, 0, 4], 0, 0), 0),
        (entry("F8_E4M3", [8], 0, 8), 8),
        (entry("F4", [8], 0, 4), 4),
    ],
)
def test_arrays_that_numpy_cannot_hold_are_refused(tmp_path: Path, array: dict[str, Any], size: int) -> None:
    with pytest.raises(CheckpointError, match="a cannot be read"):
        read_arrays(hostile(tmp_path, {"a": array}, b"\0" * size))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\0\0",
        (1 << 62).to_bytes(8, "little") + b"{}",  # a huge header
        (3).to_bytes(8, "little") + b"{}",
        (0).to_bytes(8, "little"),
        b"\x80\x04\x95" + b"\0" * 40,
        b"PK\x03\x04" + b"\0" * 40,
        (600_000).to_bytes(8, "little") + b'{"a":' * 100_000 + b"1" + b"}" * 99_999,
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match="a: is not a safetensors file"):
        read_arrays(tmp_path / "a")


@pytest.mark.parametrize(("name", "reason"), [("gone", "cannot be read"), ("", "cannot be read")])
def test_missing_files_and_folders_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read_arrays(tmp_path / name)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    one = json.dumps(GOOD)
    path = hostile(tmp_path, None, b"\0" * 8, text=f'{{"a": {one}, "a": {one}}}'.encode())
    with pytest.raises(CheckpointError, match="a name appears twice"):
        read_arrays(path)


def test_a_file_that_is_cut_short_or_replaced_while_it_is_read_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", {"a": np.ones(1000)})
    file = ArrayFile(tmp_path / "a")
    os.truncate(tmp_path / "a", 2000)
    with pytest.raises(CheckpointError, match=r"a cannot be read \(the file has been cut short"):
        file.read("a")
    write_arrays(tmp_path / "a", {"a": np.zeros(1000)})
    with pytest.raises(CheckpointError, match=r"a cannot be read \(the file has been replaced"):
        file.read("a")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits of files")
def test_a_refused_write_leaves_the_old_file(tmp_path: Path) -> None:
    import resource
    import signal

    write_arrays(tmp_path / "a", {"a": np.zeros(4)})
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(OSError, match=r"and 80,[0-9]{3} bytes are needed") as caught:
            write_arrays(tmp_path / "a", {"a": np.ones(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert read_arrays(tmp_path / "a")["a"].tolist() == [0, 0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
