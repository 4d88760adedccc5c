"""Opening a manifest for a command that reads tables and computes little: without pandas."""

from __future__ import annotations

import os
import sys

import pyarrow as pa

from k710.storage.remote import RemotePath


class _NoPandas:
    """A finder of modules that finds no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _leave_pandas_out() -> None:
    """Let Arrow find no pandas, which it looks for when it makes its first array.

    To load pandas takes 0.2 s, most of some commands. What needs a DataFrame (`Table.to_pandas`) still loads it. This
    is for the process of a command alone: in a user's own, Arrow must know pandas to convert a Series.
    """
    sys.meta_path.insert(0, _NoPandas)  # type: ignore[arg-type]
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(_NoPandas)  # type: ignore[arg-type]


_leave_pandas_out()

from k710.manifest.read import Manifest  # noqa: E402
from k710.manifest.read import open_manifest as _open_manifest  # noqa: E402


def open_manifest(path: str | os.PathLike[str] | RemotePath) -> Manifest:
    """As k710.manifest.read.open_manifest."""
    return _open_manifest(path)
