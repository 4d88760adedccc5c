"""Lists of the tensors of released models: `uniformerv2_names.txt`, `videomaev2_names.txt`."""

from __future__ import annotations

import re
from pathlib import Path

Named = list[tuple[str, tuple[int, ...]]]


def read_shapes(path: Path) -> dict[str, Named]:
    """Name and shape of every tensor of each model in the file, in order, by the model's name."""
    sections: dict[str, Named] = {}
    repeated: Named = []
    numbers = ""

    def flush() -> None:
        first, last = map(int, numbers.split("..")) if numbers else (0, -1)
        for number in range(first, last + 1):
            current.extend((name.replace(f"{{{numbers}}}", str(number)), shape) for name, shape in repeated)
        repeated.clear()

    current: Named = []
    part = ""
    for line in path.read_text().splitlines():
        if line.startswith("#") or not line:
            continue
        head = re.match(r"\[(\w+)\]", line)
        name, _, size = line.partition(" ")
        found = re.match(r"([\w.]+)\.\{(\d+\.\.\d+)\}", name)
        if (found[1] if found else "") != part:
            flush()
            part, numbers = (found[1], found[2]) if found else ("", "")
        if head:
            current = sections.setdefault(head[1], [])
            continue
        shape = tuple(int(n) for n in size.split("x")) if size != "scalar" else ()
        (repeated if found else current).append((name, shape))
    flush()
    return sections
