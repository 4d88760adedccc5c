"""Figures as tables, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from k710.curation.own_labels import OWN_CONFLICTS
from k710.report.figures.gather import Figures
from k710.report.parts import Cell, Link, Row, Table, percent
from k710.sources.known import UNION
from k710.text import data_size, seconds

FATE_WORDS = {
    "kept": "kept",
    "same_clip": "same clip",
    "duplicate_id": "other clip kept",
    "leaked": "leaked",
    "unlabelled": "unlabelled",
    "near_duplicate": "near-duplicate",
    "malformed": "malformed",
    "other_classes": "other classes",
    "doubtful_label": "doubtful label",
}
SHOWN_HIT = 20


def youtube(youtube_id: str, time_start_s: float | None, text: str = "") -> Link:
    """A link to the beginning of a clip on YouTube; without an address where the ID is not YouTube's."""
    if "~" in youtube_id:
        return Link(text or youtube_id, "")
    return Link(
        text or youtube_id, f"https://www.youtube.com/watch?v={quote(youtube_id, safe='')}&t={int(time_start_s or 0)}"
    )


def span(clip: dict[str, Any]) -> str:
    """The span of a clip in words."""
    start_s, end_s = clip["time_start_s"], clip["time_end_s"]
    return "whole file" if start_s is None else f"{seconds(start_s)} to {seconds(end_s)} s"


def clip_link(clip: dict[str, Any]) -> Link:
    return youtube(clip["youtube_id"], clip["time_start_s"], clip["clip_id"])


def signed(number: int | None) -> str | None:
    return None if number is None else f"{number:+,}"


def sources_table(figures: Figures) -> Table:
    rows = [
        (f"{entry['source']} {entry['split'] or ''}", entry["file"], entry["rows"], (entry["sha256"] or "")[:16])
        for entry in figures.manifest["sources"]
    ]
    return Table(("list", "file", "rows", "SHA-256"), rows, "The lists that were read")


def fates_table(attrition: dict[str, Any]) -> Table:
    seldom = ("near_duplicate", "malformed", "other_classes", "doubtful_label")
    shown = [fate for fate in FATE_WORDS if fate not in seldom or attrition["fates"].get(fate)]
    rows: list[Row] = [
        (f"{entry['source']} {entry['split']}", entry["rows"], *(entry[fate] for fate in shown))
        for entry in attrition["lists"]
    ]
    rows.append(("all lists", attrition["rows"], *(attrition["fates"][fate] for fate in shown)))
    columns = ("list", "rows", *(FATE_WORDS[fate] for fate in shown))
    return Table(columns, rows, f"What became of every list row ({attrition['policy']})")


def printed_table(attrition: dict[str, Any]) -> Table:
    rows = [
        (one["what"], one["here"], one["published"], one["paper"], signed(one["difference"]))
        for one in attrition["beside_the_printed"]
    ]
    title = "Compared with the releases' first lists and with UniFormerV2, Table 10"
    return Table(("", "here", "first published", "paper", "here - paper"), rows, title, attrition["why_it_differs"])


def malformed_table(attrition: dict[str, Any]) -> Table | None:
    rows = [(bad["list"], bad["line"], bad["reason"]) for bad in attrition["malformed"]]
    more = attrition["num_malformed"] - len(rows)
    return Table(("list", "line", "why it was left out"), rows, "Malformed rows", more=more) if rows else None


def overlap_table(overlap: dict[str, Any], key: str) -> Table:
    """The matrix, shaded by the share of the row's list that is also in the column's list."""
    names, matrix = overlap["lists"], overlap[key]
    sizes = [matrix[number][number] for number in range(len(names))]
    heat = [[shared / max(1, sizes[number]) for shared in row] for number, row in enumerate(matrix)]
    title = {
        "by_id": "Videos (YouTube IDs) that two lists share",
        "by_clip": "Clips (ID and span) that two lists share",
    }[key]
    note, shades = "The diagonal is the size of the list.", "A darker cell is a larger share of the list in its row."
    rows = [(name, *row) for name, row in zip(names, matrix, strict=True)]
    return Table(("", *names), rows, title, note, heat=heat, heat_note=shades)


def policy_table(overlap: dict[str, Any]) -> Table | None:
    policies = overlap["policies"]
    if not policies:
        return None
    lists = list(next(iter(policies.values()))["leaks"])
    rows: list[Row] = []
    heat = []
    for name, found in policies.items():
        side = "val" if name.startswith("val-purge") else "train"
        leaks = [found["leaks"][one] for one in lists]
        rows.append((name, side, found["leaked_rows"], found["leaked_videos"], found["train"], found["val"], *leaks))
        heat.append([0.0] * 5 + [min(1.0, 0.25 + leak / max(1, found["train"])) if leak else 0.0 for leak in leaks])
    columns = ("policy", "removes from", "rows", "videos", "train", "val", *(f"in {one}" for one in lists))
    note = (
        "“in …” counts the videos in the policy's train that are also in an evaluation list. A model trained on "
        "that train has seen them."
    )
    if not any("test" in name for name in policies):
        note += " The effect of holding out test lists is unknown without the test lists."
    return Table(columns, rows, "What each policy would remove, and what would still leak", note, heat=heat)


def conflict_tables(conflicts: dict[str, Any]) -> list[Table]:
    """A table for each kind of conflict that occurs."""
    clips = [
        (clip_link(clip), clip["label"], ", ".join(clip["other_labels"]), ", ".join(clip["lists"]), clip["split"])
        for clip in conflicts["labels_of_one_clip"]
    ]
    columns = ("clip", "label that counts", "other labels", "lists", conflicts.get("union", UNION.short_title))
    pairs = [(pair["label"], pair["other"], pair["clips"]) for pair in conflicts["label_pairs"]]
    tables = [Table(("label that counts", "other label", "clips"), pairs, "Which labels contradict each other")]
    tables += [_bounded(columns, clips, "Clips with several labels", conflicts["counts"]["labels_of_one_clip"])]
    for key, title in (
        ("labels_of_one_id", "Videos with several labels"),
        ("spans_of_one_id", "Videos with several spans"),
    ):
        rows = [(_of_video(video), *_spans_and_labels(video)) for video in conflicts[key]]
        tables.append(_bounded(("video", "spans", "labels"), rows, title, conflicts["counts"][key]))
    own = [
        (one["clip_id"], f"{one['source']} {one['split']}", ", ".join(one["labels"]))
        for one in conflicts.get(OWN_CONFLICTS, ())
    ]
    title = "Clips with several labels in one list of their source; the first counts"
    tables.append(_bounded(("clip", "list", "labels"), own, title, conflicts.get("num_in_one_list", 0)))
    return [table for table in tables if table.rows]


def _bounded(columns: tuple[str, ...], rows: Sequence[Row], title: str, count: int) -> Table:
    return Table(columns, rows, f"{title} ({count:,})", more=count - len(rows))


def _of_video(video: dict[str, Any]) -> Link:
    return youtube(video["youtube_id"], video["clips"][0]["time_start_s"])


def _spans_and_labels(video: dict[str, Any]) -> tuple[str, str]:
    spans = ", ".join(span(clip) for clip in video["clips"])
    labels = (label for clip in video["clips"] for label in (clip["label"], *clip["other_labels"]))
    return spans, ", ".join(dict.fromkeys(labels))


def imbalance_table(classes: dict[str, Any]) -> Table:
    rows = [
        (
            row["list"],
            row["classes"],
            row["clips"],
            row["smallest"],
            f"{row['median']:,g}",
            row["largest"],
            f"{row['ratio']:g}",
        )
        for row in classes["imbalance"]
    ]
    columns = ("", "classes", "clips", "smallest", "median", "largest", "largest : smallest")
    return Table(columns, rows, "How even the classes are")


def beside_tables(classes: dict[str, Any]) -> list[Table]:
    """A table of the classes of each source that stands beside the union."""
    union = classes.get("union", UNION.short_title)
    return [
        Table(
            ("class", *one["splits"]),
            [(row["label"], *(row["clips"][split] for split in one["splits"])) for row in one["rows"]],
            f"Classes of {one['title']}, which are none of {union}'s",
            searchable=True,
        )
        for one in classes.get("beside", ())
    ]


def class_table(classes: dict[str, Any]) -> Table:
    """All classes; with the states of their clips in the union if there is a store."""
    splits, rows = classes["splits"], classes["rows"]
    counted = bool(rows) and "fetched" in rows[0]
    table: list[Row] = []
    for row in rows:
        cells: list[Cell] = [row["label"], row["class_id"], *(row["clips"][split] for split in splits)]
        if counted:
            settled = row["fetched"] + row["failed"]
            cells += [row["fetched"], row["failed"], percent(row["failed"], settled) if settled else None]
        table.append(tuple(cells))
    columns = ("class", "id", *splits, *(("fetched", "failed", "part failed") if counted else ()))
    return Table(columns, table, "All classes", searchable=True)


def hardest_hit(classes: dict[str, Any]) -> list[dict[str, Any]]:
    """The classes with failures, ordered by the share of their settled clips that failed, the largest first."""
    hit = [row for row in classes["rows"] if row.get("failed")]
    hit.sort(key=lambda row: (-row["failed"] / (row["failed"] + row["fetched"]), -row["failed"], row["class_id"]))
    return hit


def hit_table(classes: dict[str, Any]) -> Table:
    hit = hardest_hit(classes)
    rows = [
        (
            row["label"],
            row["failed"],
            row["vanished"],
            row["fetched"],
            percent(row["failed"], row["failed"] + row["fetched"]),
        )
        for row in hit[:SHOWN_HIT]
    ]
    columns = ("class", "failed", "of these vanished", "fetched", "part failed")
    return Table(columns, rows, "The classes that lost most", more=max(0, len(hit) - SHOWN_HIT))


def status_table(media: dict[str, Any]) -> Table:
    rows = [
        (
            f"{line['view']} {line['split']}",
            line["clips"],
            line["fetched"],
            sum(line["failed"].values()),
            line["unsettled"],
            percent(line["fetched"], line["clips"]),
        )
        for line in media["status"]
    ]
    return Table(("", "clips", "fetched", "failed", "not settled", "there"), rows, "How much is there")


def failure_table(media: dict[str, Any]) -> Table | None:
    rows = [(one["kind"], one["clips"], one["meaning"], _messages(one["messages"])) for one in media["failures"]]
    columns = ("failure", "clips", "meaning", "most common messages")
    return Table(columns, rows, "Why clips are not there") if rows else None


def _messages(messages: list[dict[str, Any]]) -> str:
    parts = (
        f"and {one['kinds']:,} more" if one["kind"] is None else f"{one['kind']} ({one['clips']:,})" for one in messages
    )
    return "; ".join(parts)


def kinds_table(kinds: list[dict[str, Any]], what: str, title: str) -> Table:
    total = sum(one["clips"] for one in kinds)
    rows = [
        (f"{one['kinds']:,} others" if one["kind"] is None else one["kind"], one["clips"], percent(one["clips"], total))
        for one in kinds
    ]
    return Table((what, "clips", "part"), rows, title)


def histogram_table(histogram: dict[str, Any], what: str, title: str, unit: float = 1.0) -> Table:
    """The bins with clips; edges in units of `unit`."""
    edges = [f"{edge / unit:,.10g}" for edge in histogram["edges"]]
    rows = [
        (f"{low} to {high}", count)
        for low, high, count in zip(edges, edges[1:], histogram["counts"], strict=False)
        if count
    ]
    return Table((what, "clips"), rows, title, f"Median {histogram['median'] / unit:,.4g} {what}.")


def near_duplicate_table(found: dict[str, Any]) -> Table:
    rows = [
        (
            group["group"],
            group["num_clips"],
            f"{group['distance']:g}",
            "yes" if group["mirrored"] else "no",
            ", ".join(group["clips"]),
            ", ".join(clip_id for clip_id in group["dropped"] if clip_id not in group["out"]),
            ", ".join(group["out"]),
        )
        for group in found["shown"]
    ]
    columns = ("group", "clips", "nearest, bits", "mirrored", "clips, at most six", "to be dropped", "dropped")
    return Table(columns, rows, "The nearest groups", more=found["groups"] - len(rows))


def overview_tiles(figures: Figures) -> list[tuple[str, str]]:
    """The numbers at the top; those that the manifest lacks are left out."""
    manifest, media = figures.manifest, figures.media
    union = manifest.get("union", {"name": UNION.name, "title": UNION.short_title})
    words = {
        "rows": "list rows read",
        "clips": "distinct clips",
        "videos": "videos",
        "train": f"{union['title']} train",
        "val": f"{union['title']} val",
    }
    tiles = [(f"{manifest[key]:,}", text) for key, text in words.items() if manifest[key] is not None]
    tiles.append((f"{len(figures.classes['rows']):,}", "classes"))
    if media is not None:
        lines = [line for line in media["status"] if line["view"] == union["name"]]
        clips, fetched = (sum(line[key] for line in lines) for key in ("clips", "fetched"))
        tiles += [(percent(fetched, clips), f"{union['title']} fetched"), (data_size(media["bytes"]), "of media")]
    return tiles


def answers_table(availability: dict[str, Any]) -> Table:
    """The latest answers of each origin of a ledger."""
    origins = availability["origins"]
    answers = list(dict.fromkeys(answer for origin in origins for answer in origin["answers"]))
    rows = [
        (each["origin"], each["clips"], *(each["answers"].get(answer, 0) for answer in answers), each["disputed"])
        for each in origins
    ]
    return Table(
        ("origin", "clips", *answers, "disputed"),
        rows,
        title="The latest answer for each clip",
        note="disputed: several answers on the latest day",
    )


def decay_table(availability: dict[str, Any]) -> Table:
    """How many of the clips that YouTube was asked for in a month it had."""
    rows = [
        (month["month"], month["asked"], month["had"], f"{month['had'] / month['asked']:.1%}")
        for month in availability["months"]
    ]
    return Table(("month", "asked", "had", "there"), rows, title="Clips that YouTube was asked for")


def doubts_table(doubts: dict[str, Any]) -> Table:
    """The clips whose labels are contradicted most."""
    rows = [
        (
            each["clip_id"],
            each["split"] or "-",
            each["label"],
            ", ".join(each["suggested"]),
            ", ".join(each["kinds"]),
            f"{each['margin']:+.2f}" if each["margin"] else "",
        )
        for each in doubts["shown"]
    ]
    columns = ("clip", "split", "label", "contradicted by", "who", "margin")
    return Table(columns, rows, title="The most doubtful labels", more=doubts["clips"] - len(rows))
