"""Files of arrays: every layout comes back, the library's bytes are ours, and hostile files are refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from axone.llm import CheckpointError
from axone.llm.weights import ArrayFile, read_arrays, write_arrays

LIBRARY = Path(__file__).parent / "frozen" / "library.safetensors"
ARRAYS: dict[str, NDArray[Any]] = {
    "zeta": np.arange(6, dtype=np.float32).reshape(2, 3),
    "alpha": np.linspace(0, 1, 5),
    "größe": np.array(2.5, np.float16),
    "none": np.zeros((0, 3), np.int64),
    "yes": np.array([True, False]),
    "bytes": np.arange(3, dtype=np.uint8),
    "steps": np.array(7),
    "wide": np.array([[1]], np.uint32),
    "small": np.array([-1, 1], np.int16),
}


def test_the_library_writes_the_same_bytes(tmp_path: Path) -> None:
    write_arrays(tmp_path / "ours", ARRAYS)
    assert (tmp_path / "ours").read_bytes() == LIBRARY.read_bytes()


def test_the_librarys_file_is_read() -> None:
    arrays = read_arrays(LIBRARY)
    assert set(arrays) == set(ARRAYS)
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])


LAYOUTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "as it is": lambda a: a,
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
def test_every_layout_comes_back(tmp_path_factory: pytest.TempPathFactory, array: NDArray[Any], layout: str) -> None:
    path = tmp_path_factory.mktemp("weights") / "a"
    array = LAYOUTS[layout](array)
    write_arrays(path, {"a": array, "b": np.ones(1)})
    again = read_arrays(path)["a"]
    assert again.shape == array.shape
    assert again.dtype == array.dtype.newbyteorder("<")
    np.testing.assert_array_equal(again, array)
    again[...] = 0  # one's own, to be written to


def test_what_the_format_does_not_know_is_refused(tmp_path: Path) -> None:
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
    ("header", "data", "reason"),
    [
        ({"a": GOOD}, b"\0" * 7, "must hold 8 bytes of arrays, and holds 7"),
        ({"a": GOOD}, b"\0" * 9, "must hold 8 bytes of arrays, and holds 9"),
        ({"a": GOOD, "b": entry("F32", [2], 4, 12)}, b"\0" * 12, "b must begin at byte 8, and begins at 4"),
        ({"a": GOOD, "b": entry("F32", [2], 12, 20)}, b"\0" * 20, "b must begin at byte 8, and begins at 12"),
        ({"a": entry("F32", [3], 0, 8)}, b"\0" * 8, r"a of F32 \(3,\) must take 12 bytes"),
        ({"a": entry("F32", [2], 8, 0)}, b"\0" * 8, "must take 8 bytes"),
        ({"a": entry("F32", [-2], 0, 8)}, b"\0" * 8, "lists of whole numbers"),
        ({"a": entry("F32", [True], 0, 4)}, b"\0" * 4, "lists of whole numbers"),
        ({"a": entry("F32", [2.0], 0, 8)}, b"\0" * 8, "lists of whole numbers"),
        ({"a": entry("F32", [1 << 62, 4], 0, 8)}, b"\0" * 8, "must take"),
        ({"a": entry("F32", [1] * 33, 0, 4)}, b"\0" * 4, "lists of whole numbers"),
        ({"a": entry("F8_E4M3", [8], 0, 8)}, b"\0" * 8, "dtype 'F8_E4M3', which is not read here"),
        ({"a": entry([], [8], 0, 8)}, b"\0" * 8, "which is not read here"),  # type: ignore[arg-type]  # the point
        ({"a": {**GOOD, "x": 1}}, b"\0" * 8, "must have dtype, shape and data_offsets"),
        ({"a": 5}, b"", "must have dtype, shape and data_offsets"),
        ({"__metadata__": {"format": 1}}, b"", "must map names to strings"),
        ([], b"", "must hold a JSON object"),
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, header: object, data: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read_arrays(hostile(tmp_path, header, data))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no safetensors file"),
        (b"\x08\0\0", "is no safetensors file"),
        ((1 << 62).to_bytes(8, "little") + b"{}", f"a header of {1 << 62} bytes in a file of 10"),
        ((3).to_bytes(8, "little") + b"{}", "a header of 3 bytes in a file of 10"),
        ((0).to_bytes(8, "little"), "is no safetensors file"),
        (b"\x80\x04\x95" + b"\0" * 40, "is no safetensors file"),
        (b"PK\x03\x04" + b"\0" * 40, "is no safetensors file|is not JSON"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(reason) if "|" not in reason else reason):
        read_arrays(tmp_path / "a")


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    one = json.dumps(GOOD)
    path = hostile(tmp_path, None, b"\0" * 8, text=f'{{"a": {one}, "a": {one}}}'.encode())
    with pytest.raises(CheckpointError, match="a name appears twice"):
        read_arrays(path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", {"a": np.ones(1000)})
    with ArrayFile(tmp_path / "a") as file:
        (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-10])
        with pytest.raises(CheckpointError, match="ends within a"):
            file.read("a")
