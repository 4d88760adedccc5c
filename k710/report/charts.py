"""Figures as charts: plotly figures as JSON, each with its table. The page sets the colours of text and background."""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import plotly.graph_objects as go

from k710.report import tables
from k710.report.parts import Chart, Table
from k710.sources.known import KNOWN_SOURCES, UNION
from k710.sources.source import SPLITS

BLUE, TEAL, AMBER, RED, VIOLET, GREY = "#3d7ab8", "#2f9e8f", "#cf8f2e", "#c25548", "#8067b7", "#8b93a1"
LINES = (BLUE, AMBER, TEAL, RED, VIOLET, GREY)
_OUTCOMES = {
    "train": BLUE,
    "val": TEAL,
    "same_clip": GREY,
    "duplicate_id": AMBER,
    "leaked": RED,
    "unlabelled": GREY,
    "near_duplicate": AMBER,
    "malformed": RED,
    "other_classes": GREY,
    "doubtful_label": AMBER,
}
_PLACES = {"train": BLUE, "val": TEAL, "test": VIOLET, "fetched": TEAL, "leaked": RED, "unlabelled": GREY}
_PLACES |= {"not_listed": GREY, "not_settled": GREY}
_SPOKEN = {
    "same_clip": "same clip in another list",
    "duplicate_id": "other clip of the video kept",
    "leaked": "leaked: held out",
    "unlabelled": "unlabelled (test)",
    "near_duplicate": "repeats a clip of another video",
    "doubtful_label": "left out by a review of labels",
    "other_classes": "of classes that the union lacks",
}
_WIDE_PX, _BAR_PX = 560, 26
_LETTER_PX, _BARS_PX = 7, 190  # per letter of the names, and the least width of the bars


def chart_of(traces: Iterable[Any], title: str, table: Table, *, note: str = "", **layout: Any) -> Chart:
    """A chart of these traces. `layout` is plotly's, with `half`, `min_width_px` and `height` of the Chart itself."""
    height_px, min_width_px = layout.pop("height", 320), layout.pop("min_width_px", 0)
    half = layout.pop("half", False)
    figure = go.Figure(list(traces))
    figure.update_layout(
        template="none",
        height=height_px,
        margin={"l": 8, "r": 24, "t": 14, "b": 14},
        xaxis={"automargin": True},
        yaxis={"automargin": True},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        bargap=0.25,
        **layout,
    )
    return Chart(title, json.loads(figure.to_json(engine="json")), table, note, height_px, half, min_width_px)


def plain(value: Any) -> str:
    """Text escaped for plotly, which interprets some HTML."""
    return html.escape(str(value), quote=False)


def _colour_of(name: str, own: Mapping[str, str]) -> str:
    """The colour of a list (`k400 train`): that of its source. `own`: those of sources that k710 does not know."""
    source = KNOWN_SOURCES.get(name.split()[0])
    return own.get(name.split()[0], GREY) if source is None else source.colour


def attrition_chart(attrition: dict[str, Any], own_colours: Mapping[str, str] = MappingProxyType({})) -> Chart:
    """The flow of the rows of each list into the union or out of it. `own_colours` are those of a manifest's own
    sources."""
    union = attrition.get("union", UNION.short_title)
    known = {f"{union} {name}" if name in SPLITS else name: colour for name, colour in _OUTCOMES.items()}
    flows = [(flow["list"], flow["outcome"], flow["rows"]) for flow in attrition["flows"]]
    lists = {name: _colour_of(name, own_colours) for name, _, _ in flows}
    outcomes = {name: colour for name, colour in known.items() if any(flow[1] == name for flow in flows)}
    table = tables.fates_table(attrition)
    return _flow_chart(flows, lists, outcomes, "rows", f"From the lists' rows to {union}", table)


def between_chart(flows: Sequence[tuple[str, str, int]], title: str, table: Table) -> Chart:
    """The clips of two datasets: (place in A, place in B, number of clips)."""
    left, right = ({name: _PLACES.get(name, AMBER) for name in names} for names in list(zip(*flows, strict=True))[:2])
    return _flow_chart(flows, left, right, "clips", title, table)


def _flow_chart(
    flows: Sequence[tuple[str, str, int]],
    left: dict[str, str],
    right: dict[str, str],
    what: str,
    title: str,
    table: Table,
) -> Chart:
    """The number of `what` that go from each of `left` to each of `right`; both are names with colours."""
    into = [sum(flow[2] for flow in flows if flow[0] == name) for name in left]
    into += [sum(flow[2] for flow in flows if flow[1] == name) for name in right]
    names = [_SPOKEN.get(name, name) for name in (*left, *right)]
    places = {name: place for place, name in enumerate(left)}
    places_right = {name: len(left) + place for place, name in enumerate(right)}
    sankey = go.Sankey(
        arrangement="snap",
        valueformat=",d",
        node={
            "label": [plain(f"{name}  {count:,}") for name, count in zip(names, into, strict=True)],
            "color": [*left.values(), *right.values()],
            "pad": 20,
            "thickness": 14,
            "line": {"width": 0},
            "hovertemplate": "%{label}<extra></extra>",
        },
        link={
            "source": [places[one] for one, _, _ in flows],
            "target": [places_right[other] for _, other, _ in flows],
            "value": [count for _, _, count in flows],
            "color": [_faint(right[other]) for _, other, _ in flows],
            "customdata": [plain(f"{_SPOKEN.get(a, a)} → {_SPOKEN.get(b, b)}") for a, b, _ in flows],
            "hovertemplate": f"%{{customdata}}: %{{value}} {what}<extra></extra>",
        },
    )
    height = max(340, 44 * max(len(left), len(right)) + 60)
    return chart_of([sankey], title, table, height=height, min_width_px=640)


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"


def class_size_chart(classes: dict[str, Any]) -> Chart | None:
    """The classes of the union by size, the largest first."""
    union = classes.get("union", UNION.short_title)
    traces = []
    for number, split in enumerate(name for name in classes["splits"] if name.startswith(f"{union} ")):
        rows = sorted(classes["rows"], key=lambda row: -row["clips"][split])
        rows = [row for row in rows if row["clips"][split]]
        traces.append(
            go.Scatter(
                x=list(range(1, len(rows) + 1)),
                y=[row["clips"][split] for row in rows],
                text=[plain(row["label"]) for row in rows],
                name=plain(split),
                mode="lines" if len(rows) > 60 else "lines+markers",
                line={"color": LINES[number], "width": 2},
                hovertemplate="%{text}: %{y:,}<extra></extra>",
            )
        )
    if not traces:
        return None
    axes: dict[str, Any] = {"xaxis_title": "class, by size", "yaxis_title": "clips", "yaxis_rangemode": "tozero"}
    return chart_of(traces, "Clips per class", tables.imbalance_table(classes), showlegend=True, **axes)


def hit_chart(classes: dict[str, Any]) -> Chart | None:
    """The classes that lost the largest share of their clips in the union."""
    union = classes.get("union", UNION.short_title)
    hit = tables.hardest_hit(classes)[: tables.SHOWN_HIT]
    if not hit:
        return None
    parts = [(row["vanished"], row["failed"] - row["vanished"]) for row in hit]
    totals = [row["failed"] + row["fetched"] for row in hit]
    series = {
        "vanished from YouTube": [gone / total for (gone, _), total in zip(parts, totals, strict=True)],
        "failed otherwise": [other / total for (_, other), total in zip(parts, totals, strict=True)],
    }
    return bars(
        [row["label"] for row in hit],
        {name: values for name, values in series.items() if any(values)},
        "The classes that lost most",
        tables.hit_table(classes),
        colours=(RED, AMBER) if any(series["vanished from YouTube"]) else (AMBER,),
        note=f"Counted over the {union} clips of the class that a fetch settled.",
        tickformat=".0%",
    )


def status_chart(media: dict[str, Any]) -> Chart:
    lines = media["status"]
    whole = [max(1, line["clips"]) for line in lines]
    series = {
        "fetched": [line["fetched"] / total for line, total in zip(lines, whole, strict=True)],
        "failed": [sum(line["failed"].values()) / total for line, total in zip(lines, whole, strict=True)],
        "not settled": [line["unsettled"] / total for line, total in zip(lines, whole, strict=True)],
    }
    names = [f"{line['view']} {line['split']}" for line in lines]
    return bars(
        names,
        series,
        "How much is there",
        tables.status_table(media),
        colours=(TEAL, RED, GREY),
        tickformat=".0%",
        top=1.0,
    )


def failure_chart(media: dict[str, Any]) -> Chart | None:
    table = tables.failure_table(media)
    if table is None:
        return None
    names = [one["kind"] for one in media["failures"]]
    return bars(names, {"clips": [one["clips"] for one in media["failures"]]}, table.title, table, colours=(RED,))


def decay_chart(availability: dict[str, Any]) -> Chart:
    """The share of the clips that YouTube had, by the month in which it was asked."""
    months = availability["months"]
    line = go.Scatter(
        x=[month["month"] for month in months],
        y=[month["had"] / month["asked"] for month in months],
        customdata=[[month["had"], month["asked"]] for month in months],
        mode="lines+markers",
        line={"color": BLUE},
        hovertemplate="%{x}: %{customdata[0]:,} of %{customdata[1]:,} clips (%{y:.1%})<extra></extra>",
    )
    return chart_of(
        [line],
        "Share of the clips that YouTube still had",
        tables.decay_table(availability),
        note="Of the clips that were asked for in that month, by whoever asked.",
        xaxis_type="date",
        yaxis_tickformat=".0%",
        yaxis_rangemode="tozero",
    )


def kinds_chart(kinds: list[dict[str, Any]], what: str, title: str, colour: str = BLUE) -> Chart | None:
    if not kinds:
        return None
    table = tables.kinds_table(kinds, what, title)
    names = [str(row[0]) for row in table.rows]
    return bars(names, {"clips": [one["clips"] for one in kinds]}, title, table, colours=(colour,), half=True)


def histogram_chart(histogram: dict[str, Any], what: str, title: str, unit: float = 1.0) -> Chart:
    """Counts between edges, in units of `unit`."""
    edges = [edge / unit for edge in histogram["edges"]]
    counts = go.Bar(
        x=[(low + high) / 2 for low, high in itertools.pairwise(edges)],
        y=histogram["counts"],
        width=[(high - low) * 0.94 for low, high in itertools.pairwise(edges)],
        text=[f"{low:,.6g} to {high:,.6g}" for low, high in itertools.pairwise(edges)],
        textposition="none",
        marker={"color": BLUE},
        hovertemplate="%{text}: %{y:,}<extra></extra>",
    )
    table = tables.histogram_table(histogram, what, title, unit)
    axes: dict[str, Any] = {"xaxis_title": what, "yaxis_title": "clips"}
    return chart_of([counts], title, table, height=280, half=True, **axes)


def bars(
    names: Sequence[str],
    series: dict[str, list[Any]],
    title: str,
    table: Table,
    *,
    colours: tuple[str, ...],
    tickformat: str = ",d",
    note: str = "",
    top: float | None = None,
    half: bool = False,
) -> Chart:
    """Horizontal bars, the first name on top, series stacked."""
    places = list(range(len(names)))
    traces = [
        go.Bar(
            x=values,
            y=places,
            orientation="h",
            name=name,
            marker={"color": colours[number % len(colours)]},
            customdata=[plain(one) for one in names],
            hovertemplate="%{customdata}: %{x:" + tickformat.replace(".0%", ".1%") + "}<extra>" + name + "</extra>",
        )
        for number, (name, values) in enumerate(series.items())
    ]
    axis: dict[str, Any] = {"tickformat": tickformat, "rangemode": "tozero", "automargin": True}
    if top is not None:
        axis["range"] = [0, top]
    elif tickformat == ",d" and max((max(values) for values in series.values()), default=0) < 8:
        axis["dtick"] = 1
    return chart_of(
        traces,
        title,
        table,
        note=note,
        height=90 + _BAR_PX * len(names) + 24,
        min_width_px=min(_WIDE_PX, _BARS_PX + _LETTER_PX * max(map(len, names))),
        half=half,
        barmode="stack",
        showlegend=len(series) > 1,
        xaxis_title=next(iter(series)) if len(series) == 1 else "",  # several series have a legend
        xaxis_tickformat=tickformat,
        xaxis_rangemode="tozero",
        **{f"xaxis_{key}": value for key, value in axis.items() if key in ("range", "dtick")},
        yaxis_showgrid=False,
        yaxis_zeroline=False,
        yaxis_tickvals=places,
        yaxis_ticktext=[f"{plain(name)} " for name in names],
        yaxis_autorange="reversed",
    )
