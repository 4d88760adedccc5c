"""The parts of a page: sections of text, tables, charts and filmstrips. Plain values, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Link(NamedTuple):
    """Text with a link; a terminal shows only the text."""

    text: str
    href: str


Cell = Link | str | int | None
Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells. `heat`: the shade of each cell except the first of a row, 0 to 1; `more`: the number of omitted
    rows."""

    columns: tuple[str, ...]
    rows: Sequence[Row]
    title: str = ""
    note: str = ""
    heat: Sequence[Sequence[float]] = ()
    heat_note: str = ""  # explains the shades, where they are visible
    searchable: bool = False
    more: int = 0


@dataclass(frozen=True)
class Chart:
    """A plotly figure (its JSON), and a table with the same content."""

    title: str
    figure: dict[str, Any]
    table: Table
    note: str = ""
    height_px: int = 340
    half: bool = False  # whether half the width of the page is enough
    min_width_px: int = 0  # a narrower screen scrolls the chart, not the page


@dataclass(frozen=True)
class Filmstrip:
    """Some frames of a clip side by side: a JPEG, or None with the reason in `failure`."""

    jpeg: bytes | None
    width_px: int
    height_px: int
    title: str
    link: Link
    lines: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class Gallery:
    """Filmstrips under one heading. `groups`, if given, has the name of each strip's group."""

    title: str
    strips: Sequence[Filmstrip]
    note: str = ""
    groups: Sequence[str] = ()
    searchable: bool = False


@dataclass(frozen=True)
class Tiles:
    """The most important numbers: (number, description)."""

    tiles: Sequence[tuple[str, str]]


Block = str | Table | Chart | Gallery | Tiles  # a string is a paragraph


@dataclass(frozen=True)
class Section:
    """A heading and its blocks. `anchor` is its name in links: lower-case letters and dashes."""

    anchor: str
    title: str
    blocks: Sequence[Block]

    def tables(self) -> list[Table]:
        """The tables in order, including those of charts."""
        charts_too = (block.table if isinstance(block, Chart) else block for block in self.blocks)
        return [block for block in charts_too if isinstance(block, Table)]


def percent(part: float, whole: float = 1.0) -> str:
    """`part` of `whole` in percent; empty if `whole` is 0."""
    return f"{part / whole:.1%}" if whole else ""
