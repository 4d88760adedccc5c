"""`k710 eval`: the accuracy of a checkpoint on a view."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import (
    ANY_PATH,
    CACHE,
    CACHE_GB,
    CLIP_WEIGHTS,
    FEATURES,
    FOLDER,
    FOLDER_OR_URL,
    SPLIT,
    VIEW,
    media_of,
    one_message,
    print_json,
    print_table,
    steps,
)
from k710.cli.eval_probe import baseline_scores, check_probe, fitted_probe, probe_lines
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted

if TYPE_CHECKING:
    import torch

    from k710.engine.torch_process import Process
    from k710.evaluation.evaluate import EvalOptions, Evaluation
    from k710.evaluation.files import Written
    from k710.evaluation.view_model import Body, ViewModel
    from k710.loading.clip_source import Media
    from k710.manifest.read import Manifest
    from k710.progress import Steps


@click.command("eval")
@click.option("--checkpoint", required=True, type=ANY_PATH, help="What to evaluate.")
@click.option("--manifest", required=True, type=FOLDER_OR_URL, help="The manifest whose clips it is evaluated on.")
@click.option("--view", type=VIEW, required=True, help="k710, k400, k600, k700 or k700_2020: whose clips and classes.")
@click.option("--split", type=SPLIT, default="val", show_default=True, help="train, val or test.")
@click.option("--clips", "num_clips", type=click.IntRange(min=1), default=4, show_default=True, help="Temporal clips.")
@click.option("--crops", "num_crops", type=click.IntRange(1, 3), default=3, show_default=True, help="Crops: 1 or 3.")
@click.option("--frames", "num_frames", type=click.IntRange(min=1), help="Frames of a view, where nothing tells it.")
@click.option("--size", "size_px", type=click.IntRange(min=1), help="Side of a frame in px, where nothing tells it.")
@click.option("--dialect", help="Index order of the head, where the file does not tell it.")
@CLIP_WEIGHTS
@click.option("--probe", is_flag=True, help="Fit a linear classifier to what the frozen model makes of train clips.")
@click.option("--baseline", is_flag=True, help="With --probe: probe the same model with random weights too.")
@click.option("--which-dialect", is_flag=True, help="Tell from labelled clips which index order the head has.")
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True, help="Clips for --which-dialect.")
@click.option("--common-with", type=ANY_PATH, help="Compare with another evaluation's --out.")
@click.option("--out", type=FOLDER, help="Write predictions, classes, confusions and a summary into this folder.")
@click.option("--store", type=FOLDER_OR_URL, help="Where the clips are.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="The encode profile of the clips.")
@CACHE
@CACHE_GB
@click.option("--folder", type=FOLDER, help="Read clip files of a folder instead of a store.")
@FEATURES
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Views at once.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True, help="Of the model."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where it runs.  [a GPU where there is one]")
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Loader processes.")
@click.option("--json", "as_json", is_flag=True, help="The summary, for machines.")
def command(
    checkpoint: Path,
    manifest: Location,
    view: str,
    split: str,
    num_clips: int,
    num_crops: int,
    num_frames: int | None,
    size_px: int | None,
    dialect: str | None,
    clip_weights: str | None,
    probe: bool,
    baseline: bool,
    which_dialect: bool,
    limit: int,
    common_with: Path | None,
    out: Path | None,
    store: Location | None,
    profile: str,
    cache: Path | None,
    cache_gb: float,
    folder: Path | None,
    features: Path | None,
    batch_size: int,
    precision: str,
    device: str | None,
    workers: int,
    as_json: bool,
) -> None:
    """Evaluate a checkpoint on a view.

    As published: softmax of each view, summed over temporal clips and crops. Each view once, under torchrun too.

    With --probe, a linear classifier on the frozen features of any model is evaluated, with a head or without one.

    \b
    Examples:
      k710 eval --checkpoint runs/tiny/best.pt --manifest manifests/k710 --view k400 --clips 1 --crops 1
      k710 eval --probe --checkpoint runs/pretrain/best.pt --manifest manifests/k710 --view k400
    """
    if (probe or which_dialect) and features is not None:
        raise click.UsageError(f"{'--probe' if probe else '--which-dialect'} looks at clips; leave --features out")
    check_probe(probe=probe, baseline=baseline, dialect=dialect, which_dialect=which_dialect)
    with one_message():
        step = steps()
        if os.environ.get("RANK", "0") == "0":
            step("loading PyTorch, the checkpoint and the clips' index, then evaluating")
        from k710.engine.torch_process import joined
        from k710.evaluation.evaluate import EvalOptions
        from k710.evaluation.files import held_folder

        media = media_of(store, profile, folder, cache, cache_gb, features)
        options = EvalOptions(num_clips, num_crops, batch_size, workers, precision)
        with joined(device) as process, contextlib.ExitStack() as stack:
            if which_dialect:
                if process.is_first:  # a few hundred clips are work for one process
                    _which_dialect(
                        step,
                        checkpoint,
                        manifest,
                        media,
                        process.device,
                        view,
                        split,
                        num_frames,
                        clip_weights,
                        limit,
                        as_json,
                    )
                return
            with process.together():
                if process.is_first:
                    stack.enter_context(held_folder(out))
            told = {"num_frames": num_frames, "size_px": size_px, "weights": clip_weights}
            _evaluate(
                step, process, checkpoint, manifest, media, options, view=view, split=split, told=told,
                dialect=dialect, probe=probe, baseline=baseline, common_with=common_with, out=out, as_json=as_json,
            )  # fmt: skip


def _evaluate(
    step: Steps,
    process: Process,
    checkpoint: Path,
    manifest: Location,
    media: Media,
    options: EvalOptions,
    *,
    view: str,
    split: str,
    told: dict[str, Any],
    dialect: str | None,
    probe: bool,
    baseline: bool,
    common_with: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """`told` is what the user says of the model beside its file."""
    from k710.evaluation.evaluate import evaluate
    from k710.evaluation.files import check_comparable, read_predictions, write_evaluation
    from k710.evaluation.probe import random_body
    from k710.evaluation.view_model import ViewModel, model_for_view, open_body
    from k710.manifest.read import open_manifest

    with process.together():
        other = read_predictions(common_with) if common_with else None
        if other is not None:
            check_comparable(other, view)
        opened = open_manifest(manifest)
        source: Body | ViewModel
        if probe:
            source = open_body(checkpoint, **told)
            random = random_body(source) if baseline else None
        else:
            source = model_for_view(checkpoint, view, sources=opened.catalogue, dialect=dialect, **told)
    if process.is_first:
        for message in source.messages:
            step.say(message)
    about = {"checkpoint": str(checkpoint.absolute()), "num_frames": source.config.num_frames}
    about |= {"precision": options.precision, "profile": media.profile_name}
    if isinstance(source, ViewModel):
        model = source
    else:
        fitted = fitted_probe(step, process, source, opened, media, options, view=view)
        model, about["probe"] = fitted.model, fitted.summary()
        if random is not None:
            about["probe"]["random"] = baseline_scores(
                step, process, random, opened, media, options, view=view, split=split, out=out, about=about
            )
    evaluation = evaluate(model, opened, process, media, view=view, split=split, options=options)
    step.end()
    if not process.is_first:
        return
    about |= {"trained_on": _note(model, opened, evaluation)}
    if out is not None:
        write_evaluation(out, evaluation, about)
    shared = _common(evaluation, other) if other is not None else None
    if as_json:
        print_json({**about, **evaluation.summary(), **({"common": shared} if shared else {})})
        return
    _print(evaluation)
    for line in probe_lines(about["probe"]) if probe else ():
        click.echo(line)
    if shared is not None:
        _print_common(shared)


def _note(model: ViewModel, manifest: Manifest, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Say what puts the number in doubt; returns what it shares with the clips that the checkpoint was trained on."""
    from k710.evaluation.suspicions import suspicions
    from k710.evaluation.trained_on import overlap_notes, overlaps, unrecorded

    shared = overlaps(model.runs, manifest, evaluation)
    # A probe's classifier was fitted to the classes in the order that it is read in.
    doubtful = [] if model.head is None else suspicions(evaluation, model.head)
    notes = [*doubtful, *overlap_notes(shared, len(evaluation.predictions.clip_ids))]
    for sentence in (*notes, *unrecorded(model.runs)):
        click.echo(f"note: {sentence}", err=True)
    return [overlap.summary() for overlap in shared]


def _print(evaluation: Evaluation) -> None:
    labels, summary = evaluation.labels, evaluation.summary()
    pairs = [(labels[pair.class_id], labels[pair.taken_for], pair.num_clips) for pair in evaluation.confusions()[:10]]
    worst = sorted(evaluation.classes(), key=lambda score: (score.top1, score.top5))[:10]
    rows = [(labels[score.class_id], score.num_clips, f"{score.top1:.1%}", f"{score.top5:.1%}") for score in worst]
    print_table(["class", "clips", "top-1", "top-5"], rows, title="The classes that it knows least")
    print_table(["class", "is taken for", "clips"], pairs, title="What is taken for what most often")
    counts, scores = summary["counts"], summary["scores"]
    for what, names in (("missing", evaluation.missing), ("unreadable", tuple(evaluation.predictions.failed))):
        if names:
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            click.echo(f"{len(names):,} {what}: {', '.join(names[:3])}{more}")
    click.echo(
        f"{evaluation.view} {evaluation.split}, {counted(evaluation.num_clips, 'clip')} x "
        f"{counted(evaluation.num_crops, 'crop')}: {_scores_text(scores)}; "
        f"{counts['evaluated']:,} of {counted(counts['in_split'], 'clip')}, fingerprint {evaluation.fingerprint[:16]}"
    )


def _scores_text(scores: dict[str, float | None]) -> str:
    top1, top5, mean_class = (scores[name] for name in ("top1", "top5", "mean_class"))
    if top1 is None or top5 is None or mean_class is None:
        return "no score, since no clip has a label"
    return f"top-1 {top1:.2%}, top-5 {top5:.2%}, mean class {mean_class:.2%}"


def _common(evaluation: Evaluation, other: Written) -> dict[str, Any]:
    """Both evaluations on the clips that both have."""
    from k710.evaluation.evaluate import common
    from k710.evaluation.files import compare
    from k710.evaluation.scores import without_nan

    part = common(evaluation, other.clip_ids)
    return {
        "num_clips": len(part.predictions.clip_ids),
        "here": without_nan(part.scores),
        "there": without_nan(compare(part, other)),
        "checkpoint_there": other.summary["checkpoint"],
        "same_clips": evaluation.fingerprint == other.summary["fingerprint"],
    }


def _print_common(shared: dict[str, Any]) -> None:
    same = "the two are of the same clips"
    here, there = (
        "no label" if shared[side]["top1"] is None else f"{shared[side]['top1']:.2%}" for side in ("here", "there")
    )
    click.echo(
        f"on the {counted(shared['num_clips'], 'clip')} of both: top-1 {here} here, "
        f"{there} there ({shared['checkpoint_there']}); "
        + (same if shared["same_clips"] else "the two are of different clips, compare only this line")
    )


def _which_dialect(
    step: Steps,
    checkpoint: Path,
    manifest: Location,
    media: Media,
    device: torch.device,
    view: str,
    split: str,
    num_frames: int | None,
    clip_weights: str | None,
    limit: int,
    as_json: bool,
) -> None:
    from k710.evaluation.dialect_vote import raw_scores, vote
    from k710.evaluation.view_model import open_body
    from k710.loading.load_clip import ClipOptions
    from k710.manifest.read import open_manifest
    from k710.models.checkpoints.checkpoint import open_checkpoint
    from k710.models.heads.heads import class_counts, find_head

    find_head(open_checkpoint(checkpoint))  # a model without classes is refused
    body = open_body(checkpoint, num_frames=num_frames, weights=clip_weights)
    config = body.config
    label_set = class_counts().get(config.num_classes)
    if label_set is None:
        raise click.UsageError(f"its head has {config.num_classes} rows, which is no published label set")
    clip_options = ClipOptions(num_frames=config.num_frames, on_error="zero_weight", **body.sampling.options())
    dataset = media.dataset(open_manifest(manifest), clip_options, view=view, split=split, training=False)
    scores, class_ids = raw_scores(body.family, body.model, dataset, limit=limit, device=device)
    step.end()
    election = vote(scores, class_ids, view=view, label_set=label_set)
    if as_json:
        print_json([vars(one) for one in election.votes])
        return
    rows = [(" = ".join(one.dialects), one.num_right, one.num_top5, one.num_clips) for one in election.votes]
    print_table(
        ["index order", "right", "among 5", "telling clips"], rows, title=f"{checkpoint}: {label_set}, by its answers"
    )
    if election.winner is None:
        click.echo("no order is clearly right: more clips (--limit), or the model knows none of these classes")
    else:
        click.echo(f"the head is {label_set} ({' = '.join(election.winner.dialects)})")
