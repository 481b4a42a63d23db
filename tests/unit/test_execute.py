"""An array that a hostile run left behind: what is taken, and what is refused."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.execute import ExecutionError, read_array

KINDS = ("?", "b", "B", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (1, 2, 0, 4), (1,) * 16])
def test_every_plain_array_comes_back_as_it_was(tmp_path: Path, kind: str, shape: Any) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(kind)
    np.save(tmp_path / "0.npy", array)
    found = read_array(tmp_path, "0.npy")
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert (found == array).all()


def npy(header: str, body: bytes, version: bytes = b"\1\0") -> bytes:
    head = header.encode()
    return b"\x93NUMPY" + version + len(head).to_bytes(2, "little") + head + body


def header(descr: str = "'<f4'", order: str = "False", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}  \n"


BROKEN = {
    "empty": b"",
    "short": npy(header(), b"1234567"),
    "long": npy(header(), b"123456789"),
    "version": npy(header(), b"12345678", b"\2\0"),
    "fortran": npy(header(order="True"), b"12345678"),
    "object": npy(header("'|O'"), b"12345678"),
    "string": npy(header("'|S4'"), b"12345678"),
    "record": npy(header("[('a', '<f4')]"), b"12345678"),
    "big-endian": npy(header("'>f4'"), b"12345678"),
    "long double": npy(header("'<f16'"), bytes(32)),
    "negative": npy(header(shape="(-2,)"), b"12345678"),
    "huge": npy(header(shape="(999999999999, 999999999999, 0)"), b""),
    "huger": npy(header(shape="(99999999999999999999, 0)"), b""),
    "rank": npy(header(shape="(" + "1, " * 17 + ")"), b"1234"),
    "code": npy("{'descr': __import__('os').getpid(), 'shape': (2,), }\n", b"12345678"),
    "deep": npy("(" * 9000, b""),
    "truth": npy(header("'|b1'"), b"\1\2"),
    "pickle": pickle.dumps(np.zeros(2)),
    "header beyond the end": b"\x93NUMPY\1\0\xff\xff" + b"{",
}


@pytest.mark.parametrize("name", BROKEN)
def test_anything_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "0.npy").write_bytes(BROKEN[name])
    with pytest.raises(ExecutionError):
        read_array(tmp_path, "0.npy")


def test_a_file_may_not_be_larger_than_the_limit(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.zeros(2**17, np.uint8))
    assert read_array(tmp_path, "0.npy").size == 2**17
    with pytest.raises(ExecutionError, match="larger"):
        read_array(tmp_path, "0.npy", limit=2**15)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_an_array(tmp_path_factory: Any, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for content in (data, npy(header(), data), npy(data.decode("latin-1"), b"")):
        (folder / "0.npy").write_bytes(content)
        with contextlib.suppress(ExecutionError):
            assert read_array(folder, "0.npy").size <= len(content)


@given(hnp.arrays(st.sampled_from(["<f4", "<i8", "|u1"]), hnp.array_shapes(min_dims=0)))
def test_what_numpy_writes_is_read_as_numpy_reads_it(tmp_path_factory: Any, array: Any) -> None:
    folder = tmp_path_factory.mktemp("same")
    np.save(folder / "0.npy", np.asarray(array, order="C"))
    assert read_array(folder, "0.npy").tobytes() == np.load(folder / "0.npy").tobytes()
