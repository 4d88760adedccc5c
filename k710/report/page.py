"""Sections as one HTML file that needs no server, no network and no other file.

Text is escaped by the templates, charts travel as JSON that no markup can leave, and a Content-Security-Policy lets the
browser run the two scripts of the page by their hashes and fetch nothing.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2

from k710.report.parts import Chart, Filmstrip, Gallery, Link, Section, Table, Tiles
from k710.version import __version__

_NUMBER = re.compile(r"[+-]?[0-9][0-9,]*(\.[0-9]+)?(e[+-]?[0-9]+)?%?")
_KINDS = {Table: "table", Chart: "chart", Gallery: "gallery", Tiles: "tiles", str: "text"}


def render_page(title: str, sections: Sequence[Section], *, subtitle: str = "") -> str:
    """The page as HTML. plotly is inlined if there is a chart."""
    scripts = [_asset("page.js")]
    if any(isinstance(block, Chart) for section in sections for block in section.blocks):
        from plotly.offline import get_plotlyjs

        scripts.insert(0, get_plotlyjs())
    assert not any("</script" in script or "\r" in script for script in scripts)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("k710.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        kind=_kind, picture=_picture, number_columns=_number_columns, grouped=_grouped, shown=_shown
    )
    environment.tests["link"] = lambda cell: isinstance(cell, Link) and cell.href.startswith("https://")
    environment.tests["a_number"] = _is_number
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        version=__version__,
        css=_asset("page.css"),
        scripts=scripts,
        script_hashes=[_csp_hash(script) for script in scripts],
    )


def _asset(name: str) -> str:
    return files("k710.report").joinpath("templates", name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _kind(block: Any) -> str:
    return _KINDS[type(block)]


def _picture(strip: Filmstrip) -> str:
    assert strip.jpeg is not None
    return f"data:image/jpeg;base64,{base64.b64encode(strip.jpeg).decode()}"


def _grouped(gallery: Gallery) -> list[tuple[str, list[Filmstrip]]]:
    """The strips under the headings of their groups."""
    groups = gallery.groups or [""] * len(gallery.strips)
    pairs = itertools.groupby(zip(groups, gallery.strips, strict=True), key=lambda pair: pair[0])
    return [(group, [strip for _, strip in of_group]) for group, of_group in pairs]


def _shown(cell: Any) -> str:
    """A cell as text, as `cli.common.print_table` writes it."""
    if cell is None:
        return ""
    if isinstance(cell, Link):
        return cell.text
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _number_columns(table: Table) -> set[int]:
    """The right-aligned columns; never the first, which names the row."""
    return {place for row in table.rows for place, cell in enumerate(row) if place and _is_number(cell)}


def _is_number(cell: Any) -> bool:
    """Whether a cell is right-aligned: a number, or a number as text of at most 12 characters, but not a hash."""
    return isinstance(cell, int) or (isinstance(cell, str) and len(cell) <= 12 and bool(_NUMBER.fullmatch(cell)))
