"""Figures as the sections of a report: their tables, charts and texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from k710.report import run_tables, tables
from k710.report.figures.gather import Figures
from k710.report.parts import Block, Chart, Gallery, Section, Table, Tiles
from k710.sources.known import UNION
from k710.text import counted, data_size

_NO_STORE = "No clips have been fetched: the manifest has no store. k710 fetch fetches clips."
_NOT_LOOKED = "Near-duplicates have not been searched. k710 near-duplicates searches them."
_KILO = 1e3


def sections(figures: Figures, galleries: Mapping[str, Gallery] | None = None, *, draw: bool) -> list[Section]:
    """The sections of a report. With `draw`, charts replace the tables that they show. `galleries` by the anchor of
    their section (`near-duplicates`, `flagged`, `gallery`)."""
    found = [
        _overview(figures),
        _attrition(figures, draw),
        _overlap(figures.overlap),
        _conflicts(figures.conflicts),
        _classes(figures.classes, draw),
        _media(figures.media, draw),
        *([] if figures.availability is None else [_availability(figures.availability, draw)]),
        _near_duplicates(figures.near_duplicates),
        *([] if figures.doubts is None else [_doubts(figures.doubts)]),
        _runs(figures, draw),
    ]
    return _with_galleries(found, galleries or {})


def _with_galleries(found: list[Section], galleries: Mapping[str, Gallery]) -> list[Section]:
    """Add galleries to the section of their anchor, or as sections of their own before the runs."""
    anchors = [section.anchor for section in found]
    joined = [
        Section(section.anchor, section.title, [*section.blocks, galleries[section.anchor]])
        if section.anchor in galleries
        else section
        for section in found
    ]
    own = [
        Section(name, gallery.title, [dataclasses.replace(gallery, title="")])
        for name, gallery in galleries.items()
        if name not in anchors
    ]
    return [*joined[:-1], *own, joined[-1]]


def _overview(figures: Figures) -> Section:
    recipe = figures.manifest["recipe"]
    words = f"Content hash {figures.manifest['content_hash']}."
    if "leak_policy" in recipe:
        of_kinetics = f"{recipe['leak_policy']}, holdout {','.join(recipe['holdout'])}"
        words = f"Policy {figures.manifest.get('union', {}).get('policy', of_kinetics)}. {words}"
    return Section(
        "overview", "Overview", [Tiles(tables.overview_tiles(figures)), words, tables.sources_table(figures)]
    )


def _attrition(figures: Figures, draw: bool) -> Section:
    attrition = figures.attrition
    if attrition is None:
        return Section("attrition", "What became of the rows", ["This manifest holds no counts of its build."])
    comparison = tables.printed_table(attrition) if attrition["beside_the_printed"] else attrition["why_it_differs"]
    blocks: list[Block] = [tables.fates_table(attrition), comparison]
    if draw and attrition["flows"]:
        from k710.report.charts import attrition_chart

        own = figures.manifest.get("own_sources", ())
        blocks[0] = attrition_chart(attrition, {entry["source"]: entry["colour"] for entry in own})
    blocks += attrition["list_warnings"]
    if (malformed := tables.malformed_table(attrition)) is not None:
        blocks.append(malformed)
    return Section("attrition", "What became of the rows", blocks)


def _overlap(overlap: dict[str, Any]) -> Section:
    if not overlap["lists"]:
        return Section("overlap", "Overlaps and leaks", ["No list has a clip."])
    totals = ", ".join(f"{count:,} in {splits}" for splits, count in overlap["ids_by_splits"].items())
    blocks: list[Block] = [tables.overlap_table(overlap, "by_id"), tables.overlap_table(overlap, "by_clip")]
    blocks.append(f"Videos over all releases: {totals}.")
    policies = tables.policy_table(overlap)
    blocks.append(
        policies or "These lists allow no policy: a policy needs train lists and the lists that they leak into."
    )
    if overlap["near_duplicates"]:
        blocks.append(
            f"This manifest's train lacks {counted(overlap['near_duplicates'], 'clip')} more: near-duplicates."
        )
    return Section("overlap", "Overlaps and leaks", blocks)


def _conflicts(conflicts: dict[str, Any]) -> Section:
    found = tables.conflict_tables(conflicts)
    blocks: list[Block] = [*found] or ["The lists do not contradict each other."]
    if any(table.more for table in found):
        blocks.append("k710 audit --json names all of them. k710 explain explains each.")
    return Section("conflicts", "Conflicts", blocks)


def _classes(classes: dict[str, Any], draw: bool) -> Section:
    beside = tables.beside_tables(classes)
    if not classes["rows"]:
        union = classes.get("union", UNION.short_title)
        words = f"No clip has a class of {union}." if beside else "No clip has a label; clips of test lists have none."
        return Section("classes", "Classes", [words, *beside])
    drawn: list[Chart | Table | None] = [tables.imbalance_table(classes)]
    hit = tables.hit_table(classes)
    if hit.rows:
        drawn.append(hit)
    if draw:
        from k710.report.charts import class_size_chart, hit_chart

        drawn = [class_size_chart(classes) or tables.imbalance_table(classes), hit_chart(classes)]
    blocks = [*(block for block in drawn if block), tables.class_table(classes), *beside]
    return Section("classes", "Classes", blocks)


def _media(media: dict[str, Any] | None, draw: bool) -> Section:
    title = "Media"
    if media is None:
        return Section("media", title, [_NO_STORE])
    hours = media["duration_s"] / 3600
    words = (
        f"Store {media['store']}, profile {media['profile']}: {counted(media['fetched'], 'clip')}, "
        f"{data_size(media['bytes'])}, {hours:,.1f} hours."
    )
    blocks = _media_charts(media) if draw else _media_tables(media)
    words += _alike(media)
    return Section("media", title, [words, *(block for block in blocks if block is not None)])


_KINDS: tuple[tuple[str, str, str], ...] = (
    ("resolutions", "pixels", "Resolutions"),
    ("frame_rates", "frames a second", "Frame rates"),
    ("codecs", "codec", "Codecs"),
)
_FLAGS = ("flag", "Kept and flagged")
_HISTOGRAMS: tuple[tuple[str, str, str, float], ...] = (
    ("durations", "seconds", "Durations", 1.0),
    ("sizes", "kB", "Bytes per clip", _KILO),
)


def _alike(media: dict[str, Any]) -> str:
    """The properties that all clips share, as text instead of a chart with one bar."""
    alike = [f"{media[key][0]['kind']} {what}" for key, what, _ in _KINDS if len(media[key]) == 1]
    for key, what, _, unit in _HISTOGRAMS:
        if media[key] and not _varies(media[key]):
            alike.append(f"{media[key]['low'] / unit:,.6g} {what}")
    return f" All of them: {', '.join(alike)}." if alike else ""


def _varies(found: Any) -> bool:
    """Whether there is more than one kind or value."""
    return bool(found) and (len(found) > 1 if isinstance(found, list) else found["low"] < found["high"])


def _histograms(media: dict[str, Any]) -> list[tuple[str, tuple[str, str, float]]]:
    """The histograms in which the clips differ: key → what is measured, title, unit."""
    return [(key, (what, title, unit)) for key, what, title, unit in _HISTOGRAMS if _varies(media[key])]


def _media_tables(media: dict[str, Any]) -> list[Block | None]:
    blocks: list[Block | None] = [tables.status_table(media), tables.failure_table(media)]
    blocks += [tables.histogram_table(media[key], *words) for key, words in _histograms(media)]
    blocks += [tables.kinds_table(media[key], what, title) for key, what, title in _KINDS if _varies(media[key])]
    return blocks + ([tables.kinds_table(media["flags"], *_FLAGS)] if media["flags"] else [])


def _media_charts(media: dict[str, Any]) -> list[Block | None]:
    from k710.report import charts

    drawn: list[Block | None] = [charts.status_chart(media), charts.failure_chart(media)]
    drawn += [charts.histogram_chart(media[key], *words) for key, words in _histograms(media)]
    drawn += [charts.kinds_chart(media[key], what, title) for key, what, title in _KINDS if _varies(media[key])]
    return [*drawn, charts.kinds_chart(media["flags"], *_FLAGS, colour=charts.AMBER)]


def _availability(found: dict[str, Any], draw: bool) -> Section:
    title = "Availability"
    if not found["origins"]:
        return Section("availability", title, ["The ledger has none of the manifest's clips."])
    words = (
        f"What {counted(found['witnesses'], 'store')} found, by the ledger. {counted(found['gone'], 'video')} gone or "
        f"private by two answers or more."
    )
    blocks: list[Block] = [words, tables.answers_table(found)]
    if draw and len(found["months"]) > 1:
        from k710.report.charts import decay_chart

        blocks.append(decay_chart(found))
    elif found["months"]:
        blocks.append(tables.decay_table(found))
    return Section("availability", title, blocks)


def _near_duplicates(found: dict[str, Any] | None) -> Section:
    title = "Near-duplicates"
    if found is None:
        return Section("near-duplicates", title, [_NOT_LOOKED])
    if "problem" in found:
        return Section("near-duplicates", title, [found["problem"]])
    words = ""
    if found["clips"] is not None and found["compared"] is not None:
        words = (
            f"{found['compared']:,} of {counted(found['clips'], 'clip')} compared (view {found['view']}, "
            f"{found['threshold_bits']} of 256 bits). "
        )
    words += (
        f"{counted(found['pairs'], 'pair')} in {counted(found['groups'], 'group')}, {found['mirrored']:,} mirrored; "
        f"{counted(found['dropped'], 'clip')} proposed to be dropped, {found['out']:,} of them already dropped."
    )
    blocks: Sequence[Block] = [words, tables.near_duplicate_table(found)] if found["shown"] else [words]
    return Section("near-duplicates", title, blocks)


def _doubts(found: dict[str, Any]) -> Section:
    title = "Doubtful labels"
    if "problem" in found:
        return Section("doubts", title, [found["problem"]])
    by_kind = ", ".join(f"{count:,} by a {kind}" for kind, count in found["counts"].items() if count)
    words = f"The label of {found['clips']:,} of {counted(found['labelled'], 'labelled clip')} is contradicted"
    blocks: list[Block] = [f"{words}: {by_kind}." if by_kind else f"{words}.", *found["notes"]]
    if found["shown"]:
        blocks.append(tables.doubts_table(found))
    return Section("doubts", title, blocks)


def _runs(figures: Figures, draw: bool) -> Section:
    runs, title = figures.runs, "Training runs"
    if runs is None:
        return Section("runs", title, ["No runs were given; --runs DIR shows them."])
    blocks: list[Block] = []
    table = run_tables.runs_table(runs, figures.manifest["content_hash"])
    if table is not None:
        blocks.append(table)
        if not draw:
            blocks += [
                table for name in ("loss", "accuracy", "lr") if (table := run_tables.curve_table(runs, name)).rows
            ]
        else:
            from k710.report.run_charts import curve_charts

            blocks += curve_charts(runs)
    if (evaluations := run_tables.evaluations_table(runs)) is not None:
        blocks.append(evaluations)
    for evaluation in runs["evaluations"]:
        blocks += _evaluation(evaluation, draw)
    return Section("runs", title, blocks)


def _evaluation(evaluation: dict[str, Any], draw: bool) -> list[Block]:
    if not draw:
        found = [run_tables.accuracy_table(evaluation), run_tables.confusion_table(evaluation)]
        return [table for table in found if table.rows]
    from k710.report.run_charts import accuracy_chart, confusion_chart

    return [chart for chart in (accuracy_chart(evaluation), confusion_chart(evaluation)) if chart is not None]
