"""pyarrow as a command wants it: started in half the time."""

from __future__ import annotations

import sys
from typing import Any


class _WithoutPandas:
    """An importer that finds no pandas."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def import_arrow_without_pandas() -> None:
    """Import pyarrow, and let it find no pandas.

    pyarrow imports pandas the first time that it is given any Python value, only to see whether that is a Series. This
    costs 0.2 s and 30 MiB. So it gets its first value while there is no pandas. `to_pandas` looks for pandas again.
    Only for the process of a command: in a user's own, pyarrow must know a Series.
    """
    if "pandas" in sys.modules:  # then it costs nothing more
        return
    finders: list[Any] = sys.meta_path
    finders.insert(0, _WithoutPandas)
    try:
        import pyarrow as pa

        pa.scalar(0)
    finally:
        finders.remove(_WithoutPandas)
