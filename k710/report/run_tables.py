"""Training runs and evaluations as tables."""

from __future__ import annotations

from typing import Any

from k710.report.parts import Row, Table, percent

SHOWN_POINTS = 10  # per curve


def runs_table(runs: dict[str, Any], content_hash: str) -> Table | None:
    """A row for each run; those that learn without labels have a loss of val clips, and a part that is hidden."""
    rows = [
        (
            run["name"],
            run["view"],
            run["clips"],
            run["steps"],
            None if run["last_loss"] is None else f"{run['last_loss']:.4f}",
            None if run["best_top1"] is None else percent(run["best_top1"]),
            None if run["best_loss"] is None else f"{run['best_loss']:.4f}",
            None if run["hidden"] is None else percent(run["hidden"]),
            run["best_epoch"],
            run["failed_clips"],
            "yes" if run["content_hash"] == content_hash else "no",
        )
        for run in runs["runs"]
    ]
    columns = (
        "run", "view", "clips", "steps", "last loss", "best top-1", "best val loss", "hidden", "epoch", "unreadable",
        "of this manifest",
    )  # fmt: skip
    unused = {place for place in (5, 6, 7) if all(row[place] is None for row in rows)}
    used = [place for place in range(len(columns)) if place not in unused]
    shown = [tuple(row[place] for place in used) for row in rows]
    return Table(tuple(columns[place] for place in used), shown, "Runs") if rows else None


_CURVES = {"loss": "Loss", "accuracy": "Top-1 accuracy", "grad_norm": "Gradient norm", "lr": "Learning rate"}
_OF_VALIDATION = {"loss": "loss", "accuracy": "top1"}


def curve_table(runs: dict[str, Any], name: str) -> Table:
    """Some points of each run's curve, including the last, and every validation's accuracy and loss."""
    show = percent if name == "accuracy" else "{:.4g}".format
    rows: list[Row] = []
    for run in runs["runs"]:
        points = [point for point in zip(*run["curves"][name].values(), strict=True) if point[1] is not None]
        every = max(1, len(points) // SHOWN_POINTS)
        rows += [(run["name"], "train", step, show(value)) for step, value in points[::-1][::every][::-1]]
        if key := _OF_VALIDATION.get(name):
            scored = (line for line in run["validations"] if line[key] is not None)
            rows += [(run["name"], "val", line["step"], show(line[key])) for line in scored]
    return Table(("run", "", "step", _CURVES[name].lower()), rows, _CURVES[name])


def evaluations_table(runs: dict[str, Any]) -> Table | None:
    rows = [
        (
            one["name"],
            one["view"],
            one["views"],
            *(
                None if one["scores"].get(name) is None else percent(one["scores"][name])
                for name in ("top1", "top5", "mean_class")
            ),
            one["counts"].get("evaluated"),
            one["counts"].get("in_split"),
            one["fingerprint"],
        )
        for one in runs["evaluations"]
    ]
    columns = ("evaluation", "of", "views", "top-1", "top-5", "mean class", "evaluated", "of clips", "fingerprint")
    return Table(columns, rows, "Evaluations") if rows else None


def accuracy_table(evaluation: dict[str, Any]) -> Table:
    rows = [(row["label"], row["clips"], percent(row["top1"])) for row in evaluation["classes"]]
    return Table(("class", "clips", "top-1"), rows, f"Accuracy per class: {evaluation['name']}", searchable=True)


def confusion_table(evaluation: dict[str, Any]) -> Table:
    rows = [(row["label"], row["taken_for"], row["clips"]) for row in evaluation["confusions"]]
    return Table(("class", "is taken for", "clips"), rows, f"Confusions: {evaluation['name']}")
