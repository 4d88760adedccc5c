"""Tests of tensors by which published checkpoints are recognised; `layouts.py` is the table of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from k710.text import counted

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Has:
    """A test of tensors: one has this name, so many dimensions, and `sizes` (axis, size).

    With `pattern`, `name` is a regular expression for the whole name.
    """

    name: str
    dimensions: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    pattern: bool = False

    def shapes_in(self, shapes: Mapping[str, Shape]) -> list[Shape]:
        if self.pattern:
            matches = _compiled(self.name).fullmatch
            return [shape for name, shape in shapes.items() if matches(name)]
        return [shapes[self.name]] if self.name in shapes else []

    def failure(self, shapes: Mapping[str, Shape]) -> str | None:
        """Why the test is not true, in words; None where it is."""
        found = self.shapes_in(shapes)
        if not found:
            return f"it has no {self.name}"
        if any(self._fits(shape) for shape in found):
            return None
        size = "".join(f", {size} in dimension {axis}" for axis, size in self.sizes)
        return f"{self.name} is {list(found[0])}, not of {self.dimensions} dimensions{size}"

    def _fits(self, shape: Shape) -> bool:
        if self.dimensions is not None and len(shape) != self.dimensions:
            return False
        return all(shape[axis] == size for axis, size in self.sizes)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@dataclass(frozen=True)
class Stem:
    """Where a layout shows the size of a model: the tensor whose first size is the width, the names of published
    widths, the pattern that numbers the blocks, and whether the last size is that of a patch."""

    title: str
    tensor: str
    sizes: tuple[tuple[int, str], ...] = ()
    block: str = ""
    has_patches: bool = True


@dataclass(frozen=True)
class Layout:
    """A set of tensor names in the wild. `title` names its checkpoints, `evidence` says by which names it is known.

    `heads` are the names of its Kinetics heads; where a file has several of them, they are of the same classes in the
    same order. It is empty for models without a head.
    """

    name: str
    title: str
    evidence: str
    heads: tuple[str, ...]
    all_of: tuple[Has, ...]
    none_of: tuple[Has, ...] = ()
    stem: Stem | None = None

    def failures(self, shapes: Mapping[str, Shape]) -> list[str]:
        """The tests that are not true, in words; empty where the layout fits."""
        found = [failure for test in self.all_of if (failure := test.failure(shapes))]
        return [*found, *(f"it has {test.name}" for test in self.none_of if test.shapes_in(shapes))]


def stem_name(layout: Layout, shapes: Mapping[str, Shape]) -> str | None:
    """The model in words, as far as a layout's stem shows it: `UMT ViT-B/16, 12 blocks`."""
    stem = layout.stem
    shape = shapes.get(stem.tensor, ()) if stem else ()
    if stem is None or not shape:
        return None
    width = shape[-1] if stem.tensor.endswith(("linear.weight", "query_tokens")) else shape[0]
    size = dict(stem.sizes).get(width, f"width {width}")
    name = f"{stem.title}{'-' if len(size) <= 2 else ' '}{size}" if stem.sizes else f"{stem.title} of width {width}"
    patch = f"/{shape[-1]}" if stem.has_patches else ""
    blocks = len({match[1] for key in shapes if stem.block and (match := _compiled(stem.block).match(key))})
    return f"{name}{patch}, {counted(blocks, 'block')}" if blocks else f"{name}{patch}"
