"""What a page is made of: sections of text, tables, charts and filmstrips. Plain values, shown in more than one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Link(NamedTuple):
    """Text that leads elsewhere; a terminal shows the text alone."""

    text: str
    href: str


Cell = Link | str | int | None
Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells. `heat`: how strongly each cell but a row's first is shaded, 0 to 1; `more`: rows left out."""

    columns: tuple[str, ...]
    rows: Sequence[Row]
    title: str = ""
    note: str = ""
    heat: Sequence[Sequence[float]] = ()
    heat_note: str = ""  # what the shades say, for where they are seen
    searchable: bool = False
    more: int = 0


@dataclass(frozen=True)
class Chart:
    """A plotly figure (its JSON), and the table that says the same to whoever cannot see it."""

    title: str
    figure: dict[str, Any]
    table: Table
    note: str = ""
    height_px: int = 340
    half: bool = False  # of the page's width is enough for it
    min_width_px: int = 0  # narrower screens scroll the chart, not the page


@dataclass(frozen=True)
class Filmstrip:
    """Some frames of a clip side by side: a JPEG, or None for a clip that could not be shown (`failure` says why)."""

    jpeg: bytes | None
    width_px: int
    height_px: int
    title: str
    link: Link
    lines: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class Gallery:
    """Filmstrips under one heading, in groups where `groups` names one for each."""

    title: str
    strips: Sequence[Filmstrip]
    note: str = ""
    groups: Sequence[str] = ()
    searchable: bool = False


@dataclass(frozen=True)
class Tiles:
    """The few numbers that stand out: (number, what it is)."""

    tiles: Sequence[tuple[str, str]]


Block = str | Table | Chart | Gallery | Tiles  # a string is a paragraph


@dataclass(frozen=True)
class Section:
    """A heading, and what stands under it. `anchor` names it in links: small letters and dashes."""

    anchor: str
    title: str
    blocks: Sequence[Block]

    def tables(self) -> list[Table]:
        """The tables, those of charts included, in their order."""
        charts_too = (block.table if isinstance(block, Chart) else block for block in self.blocks)
        return [block for block in charts_too if isinstance(block, Table)]


def percent(part: float, whole: float = 1.0) -> str:
    """`part` of `whole` in percent; a part of nothing is no number."""
    return f"{part / whole:.1%}" if whole else ""
