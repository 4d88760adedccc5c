"""The comparison of two datasets as a page: the sections of `k710 diff --html`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k710.diff.manifests import CHANGES, Difference, GroupChange
from k710.report import charts
from k710.report.page import render_page
from k710.report.parts import Block, Cell, Row, Section, Table, Tiles
from k710.report.tables import youtube
from k710.sources.video_ids import split_clip_id
from k710.text import counted

SHOWN_CLIPS = 1000
_COUNTS = ("A", "B", "gained", "lost", "came", "went")


def diff_page(found: Difference, sides: Sequence[str], settings: dict[str, tuple[Any, Any]]) -> str:
    """The page as HTML. `sides`: descriptions of A and B; `settings`: from `settings_that_differ`."""
    sections = [_overview(found, sides, settings), _moves(found), _classes(found), _media(found), _clips(found)]
    return render_page("Two datasets", sections, subtitle=f"View {found.view}, clip by clip")


def _overview(found: Difference, sides: Sequence[str], settings: dict[str, tuple[Any, Any]]) -> Section:
    tiles = [(f"{found.listed:,}", "clips in A or B"), (f"{found.unchanged:,}", "the same")]
    tiles += [(f"{count:,}", change) for change, count in found.changes.items() if count]
    differing = [(key, _text(one), _text(other)) for key, (one, other) in settings.items()]
    blocks: list[Block] = [*(f"{name}: {side}" for name, side in zip("AB", sides, strict=True)), Tiles(tiles)]
    if differing:
        blocks.append(Table(("", "A", "B"), differing, "Differences between the recipes and lists of the two builds"))
    blocks.append(Table((found.view, *_COUNTS), [(group.split, *_numbers(group)) for group in found.splits], "Splits"))
    return Section("overview", "Overview", blocks)


def _moves(found: Difference) -> Section:
    rows: list[Row] = [(move.change, move.a, move.b, move.clips, move.same_video or None) for move in found.moves]
    title = "What became of clips"
    if not rows:
        return Section("moves", title, ["Every clip is in the same place."])
    table = Table(("change", "in A", "in B", "clips", "same video"), rows, title)
    chart = charts.between_chart([(move.a, move.b, move.clips) for move in found.moves], "From A to B", table)
    return Section("moves", title, [chart])


def _classes(found: Difference) -> Section:
    title = "Classes"
    if not found.classes:
        return Section("classes", title, ["No class gained or lost a clip."])
    rows: list[Row] = [(group.label or "(no label)", group.split, *_numbers(group)) for group in found.classes]
    note = "Came and went: clips of another split or label on the other side. A + gained + came - lost - went = B."
    table = Table(("class", "split", *_COUNTS), rows, "The most changed first", note, searchable=True)
    return Section("classes", title, [table])


def _media(found: Difference) -> Section:
    title = "Media of the clips in a split"
    if not found.media:
        return Section("media", title, ["No store was compared."])
    rows: list[Row] = [
        (change.split, change.a or "-", change.b or "-", change.clips, change.other_bytes or None)
        for change in sorted(found.media, key=lambda change: -change.clips)
    ]
    table = Table(("split", "in A", "in B", "clips", "other bytes"), rows, title)
    changed: dict[tuple[str, str], int] = {}
    for change in found.media:
        if change.a is not None and change.b is not None and change.a != change.b:
            changed[change.a, change.b] = changed.get((change.a, change.b), 0) + change.clips
    if not changed:
        return Section("media", title, [table])
    flows = [(a, b, clips) for (a, b), clips in changed.items()]
    return Section("media", title, [charts.between_chart(flows, "What became of the files that changed", table)])


def _clips(found: Difference) -> Section:
    title = "Clips"
    if not found.clips.num_rows:
        return Section("clips", title, [f"No clip differs; both list the same {counted(found.listed, 'clip')}."])
    columns = ["change", "a", "b", "label_a", "label_b", *(["media_a", "media_b"] if found.media else [])]
    rows_of = {change: found.clips.filter(pc.equal(found.clips["change"].cast("string"), change)) for change in CHANGES}
    shown, left = [], SHOWN_CLIPS
    for some in sorted(rows_of.values(), key=len):  # the rarest changes are shown completely
        shown.append(some.slice(0, left))
        left -= len(shown[-1])
    rows: list[Row] = []
    for row in pa.concat_tables(shown).sort_by("clip_id").to_pylist():
        rows.append((_link(row["clip_id"]), *(row[name] for name in columns)))
    more = found.clips.num_rows - len(rows)
    note = "`k710 diff --clips FILE` writes all." if more else ""
    return Section(
        "clips", title, [Table(("clip", *columns), rows, "Clips that differ", note, searchable=True, more=more)]
    )


def _link(clip_id: str) -> Cell:
    """A link to the clip on YouTube; the plain ID if it is none, as in a damaged manifest."""
    found = split_clip_id(clip_id)
    return youtube(found[0], found[1][0], clip_id) if found and found[1] else clip_id


def _numbers(group: GroupChange) -> tuple[int, ...]:
    return (group.a, group.b, group.gained, group.lost, group.came, group.went)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
