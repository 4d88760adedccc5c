"""Training runs and evaluations, as their folders tell them: curves, classes, what is taken for what."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from k710.errors import ReportError
from k710.recipes import recorded_section

POINTS = 200  # of a curve
SHOWN_PAIRS = 20
_DEPTH = 3  # RUNS/run/eval
_CURVES = ("loss", "accuracy", "grad_norm", "lr")
_OF_SOME = ("accuracy", "grad_norm")  # of runs with labels, and of newer logs


def run_figures(folders: Sequence[Path]) -> dict[str, Any]:
    """The runs and evaluations in these folders (each a run, an evaluation, or a folder of some).

    Raises ReportError for a folder that is missing or holds neither, and for files that cannot be read.
    """
    runs, evaluations = [], []
    for folder in folders:
        if not folder.is_dir():
            raise ReportError(f"{folder}: no folder of runs there; `k710 train --out` writes a run")
        found = list(_folders(folder, _DEPTH))
        runs += [_run(path, folder) for path in found if (path / "run.json").exists()]
        evaluations += [_evaluation(path, folder) for path in found if _is_evaluation(path)]
        if not any((path / "run.json").exists() or _is_evaluation(path) for path in found):
            raise ReportError(f"{folder}: holds no run (run.json) and no evaluation (summary.json); name such a folder")
    return {"runs": runs, "evaluations": evaluations}


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """The folder and those in it, some levels down, by name; links are not followed."""
    yield folder
    if depth > 1:
        for inside in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from _folders(inside, depth - 1)


def _is_evaluation(folder: Path) -> bool:
    return (folder / "summary.json").exists() and (folder / "classes.csv").exists()


def _name(folder: Path, top: Path) -> str:
    return folder.name if folder == top else f"{top.name}/{folder.relative_to(top)}"


def _run(folder: Path, top: Path) -> dict[str, Any]:
    from k710.train.run_log import read_log

    facts, log = _json(folder / "run.json"), folder / "log.jsonl"
    try:
        lines = [line for line in read_log(log) if isinstance(line, dict)] if log.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{log}: no log of a run: {error}") from None
    steps = [line for line in lines if line.get("kind") == "step"]
    validations = [line for line in lines if line.get("kind") == "validation"]
    try:
        curves = {
            name: _thinned([(line["step"], line[name]) for line in steps if name not in _OF_SOME or name in line])
            for name in _CURVES
        }
        of_validation = ("step", "epoch", "top1", "top5", "mean_class", "loss")
        scores = [{key: line.get(key) for key in of_validation} for line in validations]
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{log}: no log of a run: a line lacks a part ({error!r})") from None
    best = next((line for line in reversed(validations) if line.get("best")), None)
    recipe, clips, of = (facts.get(key) or {} for key in ("recipe", "clips", "manifest"))
    try:
        mix = [str(member["name"]) for member in facts.get("mix") or ()]
        return {
            "name": _name(folder, top),
            "view": " + ".join(mix) or str(recorded_section(recipe, "data")["view"]),
            "clips": clips["train"]["loaded"],
            "content_hash": None if mix else of["content_hash"],
            "steps": int(steps[-1]["step"]) if steps else 0,
            "last_loss": curves["loss"]["value"][-1] if steps else None,
            "hidden": _finite(steps[-1].get("hidden")) if steps else None,
            "best_loss": None if best is None else _finite(best.get("loss")),
            "best_top1": None if best is None else _finite(best.get("top1")),
            "best_epoch": None if best is None else best.get("epoch"),
            "failed_clips": sum(len(line.get("clips") or ()) for line in lines if line.get("kind") == "failed"),
            "curves": curves,
            "validations": scores,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{folder / 'run.json'}: damaged: a part is missing ({error!r})") from None


def _thinned(points: list[tuple[Any, Any]]) -> dict[str, list[float | None]]:
    """A curve of at most `POINTS` points: means of equally many steps each, at the last of them. Null is no number."""
    if not points:
        return {"step": [], "value": []}
    values = np.array([(float(step), math.nan if value is None else float(value)) for step, value in points])
    parts = np.array_split(values, min(POINTS, len(values)))
    means = [part[:, 1].mean() for part in parts]
    return {"step": [int(part[-1, 0]) for part in parts], "value": [_finite(mean) for mean in means]}


def _finite(value: Any) -> float | None:
    """The number in seven digits; JSON knows no NaN."""
    return float(f"{value:.7g}") if isinstance(value, int | float) and math.isfinite(value) else None


def _part(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(f"top1 is {text}")
    return value


def _evaluation(folder: Path, top: Path) -> dict[str, Any]:
    summary = _json(folder / "summary.json")
    try:
        classes = [
            {"label": row["label"], "clips": int(row["num_clips"]), "top1": _part(row["top1"])}
            for row in _csv(folder / "classes.csv")
        ]
        pairs = [
            {"label": row["label"], "taken_for": row["taken_for_label"], "clips": int(row["num_clips"])}
            for row in _csv(folder / "confusions.csv")[:SHOWN_PAIRS]
        ]
        return {
            "name": _name(folder, top),
            "view": f"{summary['view']} {summary['split']}",
            "views": f"{summary['num_clips']} x {summary['num_crops']}",
            "scores": {name: _finite(value) for name, value in summary["scores"].items()},
            "counts": summary["counts"],
            "fingerprint": summary["fingerprint"][:16],
            "classes": sorted(classes, key=lambda row: (row["top1"], -row["clips"], row["label"])),
            "confusions": pairs,
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"{folder}: no evaluation of k710 eval: a part is missing or wrong ({error!r})") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(f"{path}: damaged: {error}") from None
    if not isinstance(content, dict):
        raise ReportError(f"{path}: damaged: it holds no object")
    return content


def _csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from None
