"""Whether the class names of a list are those that the reference gives its clips."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k710.lists.labels import Alignment


@dataclass(frozen=True)
class Names:
    """The names of a list's classes. `names` are distinct, `unknown` of them mean no class of K710, the first of which
    are in `examples`. Of the `compared` rows, whose name and whose clip's class are known, `other` name another class.
    """

    names: int
    unknown: int
    examples: tuple[str, ...]
    compared: int
    other: int


class NameCounts:
    """Counts rows by the name of their class, batch by batch."""

    def __init__(self) -> None:
        self._alignment = Alignment()
        self._class_of: dict[str, int] = {}
        self._numbers: Counter[str] = Counter()

    def add(self, label: pa.Array, class_id: npt.NDArray[np.int16]) -> None:
        """`label`: (rows,) names, empty for none; `class_id`: (rows,) the K710 class of each clip, -1 for none."""
        encoded = label.fill_null("").dictionary_encode()
        for name in encoded.dictionary.to_pylist():
            if name and name not in self._class_of:
                known = self._alignment.find(name)
                self._class_of[name] = -1 if known is None else known
        classes = np.array([self._class_of.get(name, -1) for name in encoded.dictionary.to_pylist()], np.int16)
        named = classes[encoded.indices.to_numpy()] if len(classes) else np.zeros(0, np.int16)
        both = (named >= 0) & (class_id >= 0)
        self._numbers["compared"] += int(np.count_nonzero(both))
        self._numbers["other"] += int(np.count_nonzero(both & (named != class_id)))

    def result(self) -> Names | None:
        """What was counted; None without a name."""
        if not self._class_of:
            return None
        unknown = [name for name, class_id in self._class_of.items() if class_id < 0]
        numbers = self._numbers
        return Names(len(self._class_of), len(unknown), tuple(unknown[:5]), numbers["compared"], numbers["other"])
