"""Stand-ins for what training code leaves beside its tensors: they are filled like the originals and call nothing.

`torch.load(weights_only=True)` takes what a pickle names from a list alone. To torch's own list the names below are
added, each with something harmless in its place: numbers and arrays of numpy, the bag of attributes that VideoMAE keeps
as `args`, and MMEngine's curves. No function that a file names is looked up or run.
"""

from __future__ import annotations

import argparse
import copy
import re
from typing import Any

import numpy as np

from k710.errors import CheckpointError

NUMPY_VALUE = "a value of numpy"

_PLAIN_NUMBER = re.compile("[fiu][1248]|b1")


class _NumpyDtype:
    """Stands in for `numpy.dtype` while a file is read: numpy's own `__setstate__` would believe forged flags."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def __reduce__(self) -> Any:
        # Left alone in a file, it cannot be written as what it was, and as this class nobody could read it.
        raise CheckpointError(f"it holds a dtype of numpy ({self.code!r}), which cannot be written anew; remove it")

    def plain(self) -> np.dtype[Any]:
        """The dtype itself, where it is one of plain numbers. Raises ValueError for any other."""
        if not _PLAIN_NUMBER.fullmatch(self.code) or self.order not in ("<", "|", "="):
            raise ValueError(f"{NUMPY_VALUE} of dtype {self.code!r}")
        return np.dtype(self.code)


def _numpy_scalar(dtype: _NumpyDtype, data: bytes) -> Any:
    """A number of numpy, as training loops leave among their own values; any other kind of dtype is refused."""
    return np.frombuffer(data, dtype.plain(), count=1)[0]


class _NumpyArray:
    """Stands in for an array of numpy, and is written back as one. Arrays of objects are refused."""

    array: np.ndarray[Any, Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, data = state
        plain = dtype.plain() if isinstance(dtype, _NumpyDtype) else None
        if plain is None or not isinstance(data, bytes):
            raise ValueError(f"{NUMPY_VALUE} that is no plain array")
        self.array = np.frombuffer(data, plain).reshape(shape, order="F" if by_columns else "C")

    def __reduce__(self) -> Any:
        return self.array.__reduce__()


def _numpy_array(kind: type, *_: Any) -> _NumpyArray:
    """In place of numpy's `_reconstruct`, which makes an empty array that is filled afterwards."""
    if kind is not _NumpyArray:
        raise ValueError(f"{NUMPY_VALUE} that is no plain array")
    return _NumpyArray()


class HistoryBuffer:
    """Stands in for MMEngine's HistoryBuffer, one curve of a training log. What it holds is not kept, nor written."""

    def __setstate__(self, state: Any) -> None:
        pass

    def __reduce__(self) -> Any:
        raise CheckpointError("it holds a HistoryBuffer of MMEngine where no curve is expected; remove it")


def _method(owner: Any, name: str) -> str:
    """In place of `getattr`: a curve names the methods of its class that summarise it."""
    if owner is not HistoryBuffer or not isinstance(name, str):
        raise ValueError("a call of getattr for something else than MMEngine's HistoryBuffer")
    return name


HARMLESS: list[Any] = [
    argparse.Namespace,
    (_NumpyDtype, "numpy.dtype"),
    (_NumpyArray, "numpy.ndarray"),
    *((_numpy_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_numpy_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    (HistoryBuffer, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_method, "builtins.getattr"),
]


def without_curves(value: Any, depth: int = 0) -> Any:
    """The value with MMEngine's curves taken out of its dicts; the value itself where there are none."""
    if not isinstance(value, dict) or depth > 4:
        return value
    kept = {key: without_curves(inner, depth + 1) for key, inner in value.items()}
    if all(kept[key] is inner and not isinstance(inner, HistoryBuffer) for key, inner in value.items()):
        return value
    new = copy.copy(value)
    for key, inner in kept.items():
        if isinstance(inner, HistoryBuffer):
            del new[key]
        else:
            new[key] = inner
    return new
