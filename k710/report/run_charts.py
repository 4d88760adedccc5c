"""Training runs and evaluations as charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from k710.report import run_tables
from k710.report.charts import AMBER, BLUE, LINES, bars, chart_of, plain
from k710.report.parts import Chart


def curve_charts(runs: dict[str, Any]) -> list[Chart]:
    """Charts of all runs: loss, accuracy, norm of the gradients and learning rate; what is of val clips is dotted."""
    trained = [run for run in runs["runs"] if run["curves"]["loss"]["step"]]
    if not trained:
        return []
    pairs: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("loss", [*_curves(trained, "loss"), *_validations(trained, "loss")], {"yaxis_title": "loss"}),
        (
            "accuracy",
            [*_curves(trained, "accuracy", " train"), *_validations(trained, "top1")],
            {"yaxis_title": "top-1", "yaxis_tickformat": ".0%"},
        ),
        (
            "grad_norm",
            _curves(trained, "grad_norm"),
            {"yaxis_title": "norm of the gradients", "yaxis_type": "log", "yaxis_dtick": "D2"},
        ),
        ("lr", _curves(trained, "lr"), {"yaxis_title": "learning rate", "yaxis_exponentformat": "e"}),
    ]
    common: dict[str, Any] = {"xaxis_title": "step", "xaxis_rangemode": "tozero", "showlegend": True}
    found = [(run_tables.curve_table(runs, name), lines, axes) for name, lines, axes in pairs]
    # Runs without labels have no accuracy.
    return [chart_of(lines, table.title, table, **common, **axes) for table, lines, axes in found if table.rows]


def _curves(runs: Sequence[dict[str, Any]], name: str, suffix: str = "") -> list[Any]:
    return [
        _line(run["name"] + suffix, run["curves"][name]["step"], run["curves"][name]["value"], number)
        for number, run in enumerate(runs)
    ]


def _validations(runs: Sequence[dict[str, Any]], name: str) -> list[Any]:
    lines = []
    for number, run in enumerate(runs):
        scored = [line for line in run["validations"] if line[name] is not None]
        if scored:
            values = [line[name] for line in scored]
            lines.append(_line(run["name"] + " val", [line["step"] for line in scored], values, number, "dot"))
    return lines


def _line(name: str, steps: list[int], values: list[float | None], number: int, dash: str = "solid") -> Any:
    line = {"color": LINES[number % len(LINES)], "width": 2, "dash": dash}
    return go.Scatter(
        x=steps, y=values, name=plain(name), mode="lines+markers" if len(steps) < 40 else "lines", line=line
    )


def accuracy_chart(evaluation: dict[str, Any], shown: int = 20) -> Chart | None:
    classes = evaluation["classes"][:shown]
    if not classes:
        return None
    title = f"Accuracy per class: {evaluation['name']}"
    note = f"The {shown} lowest of {len(evaluation['classes'])}." if len(evaluation["classes"]) > shown else ""
    series = {"top-1": [row["top1"] for row in classes]}
    names = [row["label"] for row in classes]
    return bars(
        names,
        series,
        title,
        run_tables.accuracy_table(evaluation),
        colours=(BLUE,),
        tickformat=".0%",
        note=note,
        top=1.0,
    )


def confusion_chart(evaluation: dict[str, Any]) -> Chart | None:
    pairs = evaluation["confusions"]
    if not pairs:
        return None
    names = [f"{pair['label']} → {pair['taken_for']}" for pair in pairs]
    title = f"Confusions: {evaluation['name']}"
    series = {"clips": [pair["clips"] for pair in pairs]}
    return bars(names, series, title, run_tables.confusion_table(evaluation), colours=(AMBER,))
