"""Which clips a page shows as filmstrips: some of each class, those that were flagged, those that look alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.curate import codes
from k710.manifest.listings import lists_of, split_names
from k710.manifest.read import Manifest
from k710.report.figures.gather import Figures
from k710.report.filmstrips import Strip, read_strips
from k710.report.parts import Filmstrip, Gallery
from k710.report.tables import span, youtube
from k710.sources.video_ids import video_of
from k710.store.store import Store
from k710.text import counted

PICTURE_BYTES = 9_000_000  # of JPEG on one page; base64 makes a third more of it
SHOWN_FLAGGED = 24
_SHOWN_CLIPS, _MOST_OF_A_CLASS = 720, 6  # by default
_SEED = 710


@dataclass(frozen=True)
class Shown:
    """A clip to be shown: in which gallery, under which heading of it."""

    gallery: str
    clip_id: str
    group: str = ""
    note: str = ""


def make_galleries(
    manifest: Manifest,
    store: Store,
    figures: Figures,
    *,
    per_class: int | None = None,
    max_bytes: int = PICTURE_BYTES,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Gallery]:
    """The galleries of a report by the anchor of their section. `per_class`: clips of each class (default: as many as
    keep the page small, at most six). Pictures stop at `max_bytes`, and the gallery that is cut says so."""
    shown = choose_clips(manifest, store, figures, per_class=per_class)
    rows = _rows(manifest, {one.clip_id for one in shown})
    strips = read_strips(store, (one.clip_id for one in shown), on_progress=lambda done: on_progress(done, len(shown)))
    kept: list[tuple[Shown, Strip]] = []
    left_bytes = max_bytes
    for one, strip in zip(shown, strips, strict=True):
        left_bytes -= len(strip.jpeg or b"")
        if left_bytes < 0:
            break
        kept.append((one, strip))
    return {
        name: _gallery(name, title, shown, kept, rows, max_bytes, manifest.catalogue.union.short_title)
        for name, title in (
            ("near-duplicates", "Groups"),
            ("doubts", "Clips with doubtful labels"),
            ("flagged", "Flagged clips"),
            ("gallery", "Clips of each class"),
        )
        if any(one.gallery == name for one in shown)
    }


def choose_clips(manifest: Manifest, store: Store, figures: Figures, *, per_class: int | None = None) -> list[Shown]:
    """The clips to be shown, gallery by gallery, in the order in which pictures are spent on them."""
    media = store.best_rows(("clip_id", "failure", "flags"))
    media = media.filter(pc.is_null(media["failure"]))
    return [
        *_near_duplicates(figures),
        *_doubts(figures, media),
        *_flagged(manifest, media),
        *_of_classes(manifest, media, per_class),
    ]


def _near_duplicates(figures: Figures) -> Iterator[Shown]:
    for group in (figures.near_duplicates or {}).get("shown", ()):
        mirrored = ", mirrored" if group["mirrored"] else ""
        nearest = f"nearest {group['distance']:g} bits{mirrored}"
        part = f" ({len(group['clips']):,} of them shown)" if len(group["clips"]) < group["num_clips"] else ""
        heading = f"Group {group['group']}: {counted(group['num_clips'], 'clip')}{part}, {nearest}"
        for clip_id in group["clips"]:
            note = "to be dropped" if clip_id in group["dropped"] else ""
            note = "dropped" if clip_id in group["out"] else note
            yield Shown("near-duplicates", clip_id, heading, note)


def _doubts(figures: Figures, media: pa.Table) -> Iterator[Shown]:
    there = set(media["clip_id"].to_pylist())
    for doubt in (figures.doubts or {}).get("shown", ()):
        if doubt["clip_id"] in there:
            yield Shown("doubts", doubt["clip_id"], note=f"contradicted by {', '.join(doubt['suggested'])}")


def _flagged(manifest: Manifest, media: pa.Table) -> Iterator[Shown]:
    flagged = media.filter(pc.greater(pc.list_value_length(media["flags"]), 0))
    flagged = flagged.filter(pc.is_in(flagged["clip_id"], manifest.clips["clip_id"].combine_chunks()))
    chosen = np.sort(np.random.default_rng(_SEED).permutation(len(flagged))[:SHOWN_FLAGGED])
    for row in flagged.take(pa.array(chosen)).to_pylist():
        yield Shown("flagged", row["clip_id"], note=", ".join(row["flags"]))


def _of_classes(manifest: Manifest, media: pa.Table, per_class: int | None) -> Iterator[Shown]:
    """Some clips of each class, at random and always the same: the first of every class before the second of any."""
    clips = manifest.clips
    there = pc.is_in(clips["clip_id"], media["clip_id"].combine_chunks()).to_numpy()
    class_id = clips["class_id"].fill_null(-1).to_numpy()
    rows = np.flatnonzero(there & (codes(clips["split"]) >= 0) & (class_id >= 0))
    rows = np.random.default_rng(_SEED).permutation(rows)
    rows = rows[np.argsort(class_id[rows], kind="stable")]
    if not len(rows):
        return
    starts = np.flatnonzero(np.diff(class_id[rows], prepend=-1))
    if per_class is None:
        per_class = min(_MOST_OF_A_CLASS, max(1, _SHOWN_CLIPS // len(starts)))
    sizes = np.diff(starts, append=len(rows))
    for number in range(per_class):
        for row in rows[starts[sizes > number] + number]:
            yield Shown("gallery", clips["clip_id"][int(row)].as_py())


def _rows(manifest: Manifest, clip_ids: set[str]) -> dict[str, dict[str, Any]]:
    columns = ["clip_id", "youtube_id", "time_start_s", "time_end_s", "label", "class_id", "split"]
    clips = manifest.clips.select([*columns, *split_names(manifest.catalogue.names)])
    chosen = clips.filter(pc.is_in(clips["clip_id"], pa.array(sorted(clip_ids), pa.string())))
    return {row["clip_id"]: row for row in chosen.to_pylist()}


def _gallery(
    name: str,
    title: str,
    shown: list[Shown],
    kept: list[tuple[Shown, Strip]],
    rows: dict[str, dict[str, Any]],
    max_bytes: int,
    union: str,
) -> Gallery:
    mine = [(one, strip) for one, strip in kept if one.gallery == name]
    if name == "gallery":
        mine.sort(key=lambda pair: rows[pair[0].clip_id]["class_id"])
    wanted = sum(one.gallery == name for one in shown)
    unreadable = sum(strip.jpeg is None for _, strip in mine)
    notes = []
    if len(mine) < wanted:
        notes.append(f"{len(mine):,} of {wanted:,} clips: the page holds at most {max_bytes / 1e6:g} MB of pictures.")
    if unreadable:
        notes.append(f"{unreadable:,} could not be shown.")
    strips = [_filmstrip(one, strip, rows.get(one.clip_id), union) for one, strip in mine]
    groups = [one.group for one, _ in mine] if name == "near-duplicates" else []
    return Gallery(title, strips, " ".join(notes), groups, searchable=name == "gallery")


def _filmstrip(one: Shown, strip: Strip, row: dict[str, Any] | None, union: str) -> Filmstrip:
    if row is None:  # a near-duplicate of another manifest's
        return Filmstrip(
            None,
            strip.width_px,
            strip.height_px,
            "",
            youtube(video_of(one.clip_id), 0, one.clip_id),
            (),
            "not in this manifest",
        )
    lists = ", ".join(f"{source} {split}" for source, split in lists_of(row))
    place = f"{union} {row['split']}" if row["split"] else f"not in {union}"
    lines = (f"{span(row)} · {place}", lists, *([one.note] if one.note else []))
    link = youtube(row["youtube_id"], row["time_start_s"], row["clip_id"])
    label = row["label"] or "no label"
    return Filmstrip(strip.jpeg, strip.width_px, strip.height_px, label, link, lines, strip.failure)
