"""Reading a pickle of numpy arrays and plain containers without running anything of it.

A pickle is a program: it names functions and has them called. Here every name that it may use
stands for a function or a class of this file, which makes a number, an array or a container of what
it is given, and nothing else; numpy's own unpickling is not used either. Model-zoo files of
detectron2 and Detectron (``.pkl``) need no more.
"""

from __future__ import annotations

import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ..convert.errors import CheckpointError, UnsafeCheckpointError

__all__ = ["read_plain_pickle"]

_NUMBERS = re.compile(r"[<>=|]?[biufc]\d{1,2}")
_READ_ERRORS = (
    pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError, LookupError, AttributeError,
    ImportError, MemoryError, RecursionError, OverflowError,
)  # fmt: skip


def read_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Reads a pickle, also one of Python 2, of numbers, texts, containers and numeric arrays.

    Raises:
        UnsafeCheckpointError: the file asks for anything else; nothing of it was run.
        CheckpointError: it cannot be read, or is no pickle.
    """
    try:
        with Path(path).open("rb") as file:
            return _finished(_PlainUnpickler(file, path).load())
    except CheckpointError:
        raise
    except _READ_ERRORS as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{path} cannot be read as a pickle of arrays, it may be cut off or damaged "
            f"({type(error).__name__}: {reason})"
        ) from error


class _DType:
    """Stands for a numpy dtype of numbers: its code, and the byte order that follows."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise ValueError(f"an array of {code!r}, which are no numbers")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in "<>|=" or any(part is not None for part in state[2:5]):
            raise ValueError("an array of records")
        if state[1] != "|":
            self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stands for a numpy array, which its state brings: shape, dtype and bytes."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        shape, dtype, is_fortran, raw = state[-4:]
        self.value = _array(raw, dtype, shape, "F" if is_fortran else "C")


def _begin_array(*_: Any) -> _Array:
    """In place of ``numpy.core.multiarray._reconstruct``."""
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """In place of ``numpy.core.numeric._frombuffer``, of arrays in pickles of protocol 5."""
    return _array(raw, dtype, shape, order)


def _scalar(dtype: Any, raw: Any) -> Any:
    """In place of ``numpy.core.multiarray.scalar``."""
    return _array(raw, dtype, (), "C")[()]


def _array(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise ValueError("an array whose dtype, shape or order is none")
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    values = np.frombuffer(data, dtype.value).reshape(shape, order=order)
    return values.astype(dtype.value.newbyteorder("="))  # always a copy, which may be written


def _encode(text: str, encoding: str) -> bytes:
    """In place of ``_codecs.encode``, with which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _begin_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: Any, path: str | os.PathLike[str]) -> None:
        super().__init__(file, encoding="latin1")  # as detectron2 reads those of Python 2
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UnsafeCheckpointError(
                f"{self._path} is refused: it asks for {module}.{name}, and a .pkl may hold only "
                "numeric arrays and plain containers. Nothing of it was run. Do not load it by "
                "other means unless you trust its origin; if you do, save its state dict as a "
                '.pth, torch.save({"model": state_dict}, "weights.pth")'
            )
        return _ALLOWED[module, name]


def _finished(value: Any) -> Any:
    """The same containers with the arrays themselves."""
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without data")
        return value.value
    if isinstance(value, dict):
        return {key: _finished(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_finished(inner) for inner in value)
    return value
