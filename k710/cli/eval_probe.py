"""`k710 eval --probe`: the part of the command that fits a linear classifier to frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.text import counted

if TYPE_CHECKING:
    from k710.engine.torch_process import Process
    from k710.evaluation.evaluate import EvalOptions
    from k710.evaluation.probe import Probe
    from k710.evaluation.view_model import Body
    from k710.loading.clip_source import Media
    from k710.manifest.read import Manifest
    from k710.progress import Steps

BASELINE = "random"  # the folder of the baseline's evaluation, in that of the probe's


def check_probe(*, probe: bool, baseline: bool, dialect: str | None, which_dialect: bool) -> None:
    """Raises click.UsageError for options that do not go together."""
    if baseline and not probe:
        raise click.UsageError("--baseline belongs to --probe")
    if probe and (dialect is not None or which_dialect):
        raise click.UsageError(
            "a probe has a classifier of its own; --dialect and --which-dialect are of the head's rows"
        )


def fitted_probe(
    step: Steps, process: Process, body: Body, manifest: Manifest, media: Media, options: EvalOptions, *, view: str,
) -> Probe:  # fmt: skip
    """The probe of a model. Shows how far it is."""
    from k710.evaluation.probe import fit_probe

    def on_progress(done: int) -> None:
        if process.is_first:
            step("computing the features of train clips", done)

    def on_fit(number: int) -> None:
        step("fitting linear classifiers", number)

    found = fit_probe(
        body, manifest, process, media, view=view, options=options, on_progress=on_progress, on_fit=on_fit
    )
    step("evaluating")
    return found


def baseline_scores(
    step: Steps, process: Process, body: Body, manifest: Manifest, media: Media, options: EvalOptions, *, view: str,
    split: str, out: Path | None, about: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The scores of random weights that are probed likewise, in plain values; their evaluation is written into
    `out`/random."""
    from k710.evaluation.evaluate import evaluate
    from k710.evaluation.files import write_evaluation

    probe = fitted_probe(step, process, body, manifest, media, options, view=view)
    evaluation = evaluate(probe.model, manifest, process, media, view=view, split=split, options=options)
    found = probe.summary() | {"scores": evaluation.summary()["scores"]}
    if process.is_first and out is not None:
        write_evaluation(
            out / BASELINE, evaluation, {**about, "checkpoint": "random weights", "probe": probe.summary()}
        )
    return found


def probe_lines(summary: Mapping[str, Any]) -> list[str]:
    """What was fitted, and how random weights did, of a probe's summary."""
    lines = [
        f"a linear probe on the frozen features of {counted(summary['train_clips'], 'train clip')}: L2 "
        f"{summary['l2']:.3g}, top-1 {summary['train_top1']:.2%} on those clips"
    ]
    if "random" in summary:
        top1, top5 = summary["random"]["scores"]["top1"], summary["random"]["scores"]["top5"]
        scores = "no score" if top1 is None else f"top-1 {top1:.2%}, top-5 {top5:.2%}"
        lines.append(f"random weights, probed likewise: {scores}")
    return lines
