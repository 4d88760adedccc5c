"""Compared evaluations as tables, sentences and a page: `k710 compare` and its `--html`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from k710.compare.compare import ClassPair, Comparison, Pair
from k710.compare.statistics import FEW_DISCORDANT
from k710.report.charts import AMBER, BLUE, GREY, chart_of, plain
from k710.report.page import render_page
from k710.report.parts import Block, Chart, Row, Section, Table, Tiles
from k710.text import counted

LEVEL = 0.05
_CHART_CLASSES = 20
_ROW_PX = 30


def compare_page(found: Comparison) -> str:
    """The page as HTML. Every text of the files is escaped by the templates."""
    of = f"{found.view} {found.split}" if found.split else found.view
    overview: list[Block] = [Tiles(_tiles(found)), *reading(found), *(f"Note: {note}" for note in found.notes)]
    overview += [sides_table(found)]
    sections = [Section("overview", "Overview", overview), Section("differences", "Differences", [_pairs_chart(found)])]
    tables = class_tables(found)
    blocks: list[Block] = []
    for pair, table in zip(found.pairs, tables, strict=True):
        blocks.append(_classes_chart([row for row in found.classes if row.other == pair.other], table))
    sections.append(Section("classes", "Classes", blocks))
    return render_page("Evaluations on common clips", sections, subtitle=f"{of}, {counted(found.num_common, 'clip')}")


def sides_table(found: Comparison) -> Table:
    """A row for each evaluation."""
    has_top5 = all(side.top5 is not None for side in found.sides)
    has_full = found.in_list is not None
    rows: list[Row] = [
        (
            str(side.path),
            side.num_clips,
            _percent(side.top1),
            _range(side.interval, _percent),
            *([_percent(side.top5)] if has_top5 and side.top5 is not None else []),
            _percent(side.mean_class),
            *([_range(side.full, _percent)] if side.full else []),
        )
        for side in found.sides
    ]
    top5, full = ("top-5",) * has_top5, (f"top-1 on all {found.in_list or 0:,}",) * has_full
    columns = ("evaluation", "clips", "top-1", "95 %", *top5, "mean class", *full)
    return Table(columns, rows, f"On the {counted(found.num_common, 'clip')} of all {len(found.sides)}")


def pairs_table(found: Comparison) -> Table:
    """A row for each evaluation against the first."""
    several, has_full = len(found.pairs) > 1, found.in_list is not None
    rows: list[Row] = [
        (
            str(pair.other),
            _points(pair.difference),
            _range(pair.interval, _points),
            pair.only_first,
            pair.only_other,
            _p(pair.p),
            *([_p(pair.p_holm)] if several else []),
            _points(pair.detectable)[1:] if pair.detectable is not None else "-",
            *([_range(pair.full, _points)] if pair.full else []),
        )
        for pair in found.pairs
    ]
    holm, full = ("p, Holm",) * several, (f"points on all {found.in_list or 0:,}",) * has_full
    columns = ("evaluation", "points", "95 %", "only first right", "only this right", "p", *holm, "detectable", *full)
    note = f"p: McNemar's exact test. Intervals: {_methods(found)}. Detectable: the smallest true difference that so "
    note += "many clips show in four of five trials, at this share of clips that only one has right."
    return Table(columns, rows, f"Against {found.sides[0].path}", note)


def class_tables(found: Comparison) -> list[Table]:
    """For each evaluation against the first, the classes, the smallest p first."""
    columns = ("class", "clips", "first right", "this right", "points", "95 %", "p", "p, Holm")
    tables = []
    for pair in found.pairs:
        of_pair = [row for row in found.classes if row.other == pair.other]
        rows: list[Row] = [
            (
                row.label,
                row.num_clips,
                row.first_right,
                row.other_right,
                _points(row.difference),
                _range(row.interval, _points),
                _p(row.p),
                _p(row.p_holm),
            )
            for row in of_pair
        ]
        note = f"Holm's adjustment is for the {counted(len(of_pair), 'class', 'classes')} of this table; the intervals "
        note += "are not adjusted. With fewer than six clips that only one has right, p cannot be below 0.05."
        tables.append(Table(columns, rows, f"Classes, {pair.other} against the first", note, searchable=True))
    return tables


def reading(found: Comparison) -> list[str]:
    """What the numbers say, a sentence each."""
    sentences = [sentence for pair in found.pairs for sentence in _of_pair(found, pair)]
    sure = sum(row.p_holm < LEVEL for row in found.classes)
    sentences.append(
        f"{counted(sure, 'class differs', 'classes differ')} at p < {LEVEL} after Holm's adjustment over the "
        f"{counted(found.num_classes, 'class', 'classes')}{' of each pair' if len(found.pairs) > 1 else ''}."
    )
    sentences += _left_out(found)
    if found.shared_videos:
        sentences.append(
            f"{counted(found.shared_videos, 'clip shares its', 'clips share their')} video with another one: the "
            "bootstrap resamples videos; McNemar's test, Wilson's and Wald's intervals take clips as independent."
        )
    sentences.append(
        f"Intervals: {_methods(found)}; seed {found.seed}. The common clips: SHA-256 {found.common_sha256[:16]}."
    )
    return sentences


def _of_pair(found: Comparison, pair: Pair) -> Iterable[str]:
    first, p = found.sides[0].path, pair.p_holm
    several = f" (adjusted for {len(found.pairs)} comparisons)" if len(found.pairs) > 1 else ""
    if not pair.only_first + pair.only_other:
        yield f"{pair.other} and {first} have the same {counted(found.num_common, 'clip')} right and wrong."
    elif p < LEVEL:
        which = "better" if pair.difference > 0 else "worse"
        yield f"{pair.other} is {which} than {first} on the common clips, p {_p_words(p)}{several}."
    else:
        yield f"No difference between {pair.other} and {first} is shown on the common clips, p {_p_words(p)}{several}."
    if pair.full is None or found.in_list is None:
        return
    low, high = pair.full
    elsewhere = counted(found.in_list - found.num_common, "clip that is", "clips that are")
    if found.in_list == found.num_common:
        yield "All clips of the list are common."
    elif low > 0 or high < 0:
        yield f"The {elsewhere} not common cannot turn this: whatever they are, the sign is the same on the whole list."
    elif pair.break_even is not None and pair.difference:
        yield (
            f"The {elsewhere} not common could turn it: on the whole list the two are equal if the difference there is "
            f"{_points(pair.break_even)} points."
        )


def _left_out(found: Comparison) -> Iterable[str]:
    words = {
        "outside_list": "are not in the list, by their IDs and spans, and are left out",
        "contradicting": "have another label in one file than in another, and are left out",
        "relabelled": "have another label in a file than in the manifest, whose label counts",
        "unlabelled": "have no label, and are left out",
    }
    for key, text in words.items():
        if number := found.counts.get(key, 0):
            yield f"{counted(number, 'clip')}: {text}." if number == 1 else f"{number:,} clips {text}."


def _methods(found: Comparison) -> str:
    words = {
        "bootstrap": f"percentile bootstrap of {found.resamples:,} resamples of videos",
        "adjusted Wald": f"Wald's with a clip more on each side (below {FEW_DISCORDANT} clips that only one has right)",
    }
    used = list(dict.fromkeys(pair.method for pair in found.pairs))
    return f"of the accuracies Wilson's, of the differences {' or '.join(words[name] for name in used)}"


def _tiles(found: Comparison) -> Sequence[tuple[str, str]]:
    tiles = [(f"{found.num_common:,}", "common clips"), (f"{found.num_classes:,}", "classes")]
    if found.in_list is not None:
        tiles.append((f"{found.in_list - found.num_common:,}", "clips of the list not common"))
    return tiles


def _pairs_chart(found: Comparison) -> Chart:
    """Differences with their intervals, and as thin lines what the missing clips could make of them."""
    names = [str(pair.other) for pair in found.pairs]
    traces: list[Any] = []
    if found.in_list is not None:
        spans = [pair.full for pair in found.pairs if pair.full]
        traces.append(
            _error_bars(names, [(low + high) / 2 for low, high in spans], spans, "whole list, at most", GREY, 0)
        )
    middles = [pair.difference for pair in found.pairs]
    traces.append(_error_bars(names, middles, [pair.interval for pair in found.pairs], "common clips, 95 %", BLUE, 9))
    return _forest(traces, names, "Difference from the first, in points", pairs_table(found))


def _classes_chart(rows: Sequence[ClassPair], table: Table) -> Chart:
    shown = rows[:_CHART_CLASSES]
    names = [row.label for row in shown]
    trace = _error_bars(names, [row.difference for row in shown], [row.interval for row in shown], "95 %", AMBER, 8)
    title = f"{table.title}: difference in points"
    note = f"The {len(shown)} of smallest p of {len(rows)}." if len(rows) > len(shown) else ""
    return _forest([trace], names, title, table, note)


def _error_bars(
    names: Sequence[str],
    middles: Sequence[float],
    spans: Sequence[tuple[float, float]],
    name: str,
    colour: str,
    size: int,
) -> Any:
    return go.Scatter(
        x=[100 * middle for middle in middles],
        y=list(range(len(names))),
        mode="markers",
        name=name,
        marker={"color": colour, "size": size},
        customdata=[plain(one) for one in names],
        hovertemplate="%{customdata}: %{x:+.2f} points<extra></extra>",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [100 * (high - middle) for middle, (_, high) in zip(middles, spans, strict=True)],
            "arrayminus": [100 * (middle - low) for middle, (low, _) in zip(middles, spans, strict=True)],
            "color": colour,
            "thickness": 2 if size else 1,
        },
    )


def _forest(traces: Sequence[Any], names: Sequence[str], title: str, table: Table, note: str = "") -> Chart:
    return chart_of(
        traces,
        title,
        table,
        note=note,
        height=110 + _ROW_PX * len(names),
        min_width_px=480,
        showlegend=len(traces) > 1,
        xaxis_title="points",
        xaxis_zeroline=True,
        yaxis_showgrid=False,
        yaxis_zeroline=False,
        yaxis_tickvals=list(range(len(names))),
        yaxis_ticktext=[f"{plain(name)} " for name in names],
        yaxis_range=[len(names) - 0.4, -0.6],
    )


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _points(share: float) -> str:
    """A difference in points of a percent; no minus before a zero."""
    text = f"{100 * share:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def _range(span: tuple[float, float], form: Any) -> str:
    return f"{form(span[0])} to {form(span[1])}"


def _p(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _p_words(p: float) -> str:
    return "below 0.0001" if p < 0.0001 else f"{p:.4f}"
