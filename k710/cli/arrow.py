"""pyarrow as a short command wants it: started in half the time, and small."""

from __future__ import annotations

import sys
from typing import Any


class _WithoutPandas:
    """An importer that finds no pandas."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def start_arrow() -> None:
    """Import pyarrow without pandas, and let it share one allocator with numpy.

    pyarrow imports pandas the first time that it is given any Python value, only to see whether that is a Series. This
    costs 0.2 s and 30 MiB. So it gets its first value while there is no pandas. `to_pandas` looks for pandas again.
    """
    finders: list[Any] = sys.meta_path
    if "pandas" in sys.modules:  # then it costs nothing more
        import pyarrow as pa
    else:
        finders.insert(0, _WithoutPandas)
        try:
            import pyarrow as pa

            pa.scalar(0)
        finally:
            finders.remove(_WithoutPandas)
    # Arrow and numpy cannot use each other's free memory. With one allocator for both, the peak is a third lower.
    pa.set_memory_pool(pa.system_memory_pool())
