"""Several evaluations brought onto one list of clips: whose clip is whose, and which class each clip has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from k710.compare.answers import Answers
from k710.compare.classes import NONE, Ints, ViewClasses, order_of
from k710.errors import UsageError
from k710.manifest.read import Manifest
from k710.manifest.views import split_of, view, view_columns
from k710.sources.known import KINETICS
from k710.sources.video_ids import split_clip_id, video_of
from k710.text import counted

# More clips of contradicting labels than that are no odd clips: the files number or name their classes differently.
_MOST_CONTRADICTIONS = 0.1
_SHOWN = 3


@dataclass(frozen=True)
class Full:
    """The whole list that the evaluations are of: its number of labelled clips, and the class of each where a manifest
    has it."""

    num_clips: int
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """All evaluations over all clips that any of them has and whose class is known.

    `right`: (runs, clips) 1 for a right answer, 0 for a wrong one, -1 where the run lacks the clip; `top5` likewise, -1
    for a run without scores. `class_ids`: (clips,) of the view, in canonical order. `counts` says what was left out.
    """

    view: str
    split: str | None
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    clip_ids: tuple[str, ...]
    class_ids: Ints
    right: npt.NDArray[np.int8]
    top5: npt.NDArray[np.int8]
    full: Full | None
    counts: dict[str, int]
    notes: tuple[str, ...]

    @property
    def common(self) -> npt.NDArray[np.bool_]:
        """(clips,) which clips all runs have."""
        return np.asarray((self.right >= 0).all(axis=0))

    def videos(self) -> Ints:
        """(clips,) a number for the video of each clip."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(video_of(clip_id), len(numbers)) for clip_id in self.clip_ids], np.int64)


def bring_together(
    runs: Sequence[Answers],
    *,
    view_name: str | None = None,
    split: str | None = None,
    manifest: Manifest | None = None,
    num_in_list: int | None = None,
    dialects: Mapping[str, str] | None = None,
) -> Table:
    """All evaluations on one list of clips.

    `view_name` and `split` where no evaluation of k710 tells them; `manifest` gives the list and the labels, or
    `num_in_list` the list's number of clips. `dialects`: the index order of CSVs, by path; `""` for all others. Raises
    UsageError for evaluations that are not of one view and split, for indices in an unknown order, for labels that
    contradict each other in many clips, and where no clip is common or labelled.
    """
    if len(runs) < 2:
        raise UsageError("one evaluation has nothing to be compared with; give two or more")
    if twice := [path for path, number in Counter(str(run.path) for run in runs).items() if number > 1]:
        raise UsageError(f"{twice[0]}: is given twice")
    dialects = dialects or {}
    catalogue = manifest.catalogue if manifest is not None else KINETICS
    wanted = _agreed(runs, "view", view_name)
    if wanted is None:
        raise UsageError("whose classes are these? A CSV does not tell: --view k400 (or k600, k700, k710, …)")
    found_split = _agreed(runs, "split", split)
    classes = ViewClasses.of(wanted, catalogue)
    if manifest is not None:
        found_split = found_split or "val"
    full = _full(manifest, wanted, found_split, num_in_list)
    ids = _clip_ids(runs, full.labels if full else {})
    notes, counts = [*_notes(runs)], Counter[str]()
    predicted, labels = _in_canonical_order(runs, ids, classes, full.labels if full else {}, dialects, notes)
    once = [_once(*columns) for columns in zip(runs, ids, predicted, labels, strict=True)]
    truth = _truth([run_labels for _, run_labels in once], full.labels if full else {}, counts)
    if full and full.labels:
        outside = {clip_id for answers, _ in once for clip_id in answers} - full.labels.keys()
        counts["outside_list"] = len(outside)
    clip_ids = sorted({clip_id for answers, _ in once for clip_id in answers} & truth.keys())
    counts["unlabelled"] = len({c for answers, _ in once for c in answers} - truth.keys()) - (
        counts["outside_list"] + counts["contradicting"]
    )
    class_ids = np.array([truth[clip_id] for clip_id in clip_ids], np.int64)
    table = Table(
        wanted,
        found_split,
        classes.names,
        tuple(run.path for run in runs),
        tuple(clip_ids),
        class_ids,
        np.stack([_right(answers, clip_ids, class_ids) for answers, _ in once]),
        np.stack([_top5(run, clip_ids, class_ids) for run in runs]),
        full,
        dict(counts),
        tuple(notes),
    )
    _check(table)
    return table


def _agreed(runs: Sequence[Answers], what: str, stated: str | None) -> str | None:
    """The view or split that all name. Raises UsageError where two differ."""
    named = {str(run.path): run.summary[what] for run in runs if run.summary and run.summary.get(what)}
    if stated is not None:
        named = {f"--{what}": stated} | named
    if len(set(named.values())) > 1:
        (one, first), (other, second) = next((a, b) for a in named.items() for b in named.items() if a[1] != b[1])
        raise UsageError(
            f"{one} is of {what} {first}, {other} of {second}; only evaluations of one {what} are compared. "
            f"`k710 eval --{what} {first}` makes one of the other's checkpoint"
        )
    return next(iter(named.values()), None)


def _full(manifest: Manifest | None, view_name: str, split: str | None, num_in_list: int | None) -> Full | None:
    if manifest is None or split is None:
        return None if num_in_list is None else Full(num_in_list)
    if num_in_list is not None:
        raise UsageError("--manifest holds the list; leave out --in-list")
    rows = split_of(
        view(manifest.read_clips(view_columns(view_name, manifest.catalogue)), view_name, manifest.catalogue), split
    )
    labels = dict(zip(rows["clip_id"].to_pylist(), rows["class_id"].fill_null(NONE).to_pylist(), strict=True))
    if not labels:
        raise UsageError(f"{manifest.path}: has no {view_name} {split} clips")
    labelled = sum(number >= 0 for number in labels.values())
    return Full(labelled or len(labels), labels)


def _clip_ids(runs: Sequence[Answers], listed: Iterable[str]) -> list[list[str]]:
    """The clip_id of every row of every run. A name without span means the one clip that the others have of its video;
    where they have several, or none, it stays the video's name, and is no clip of the others."""
    known = set(listed)
    if not known:
        known = {
            c for run in runs for c in run.clips if (found := split_clip_id(c)) is not None and found[1] is not None
        }
    of_video: dict[str, set[str]] = {}
    for clip_id in known:
        of_video.setdefault(video_of(clip_id), set()).add(clip_id)

    def clip_id_of(name: str) -> str:
        if name in known or name not in of_video:
            return name
        return next(iter(of_video[name])) if len(of_video[name]) == 1 else name

    return [[clip_id_of(name) for name in run.clips] for run in runs]


def _in_canonical_order(
    runs: Sequence[Answers],
    ids: Sequence[Sequence[str]],
    classes: ViewClasses,
    listed: Mapping[str, int],
    dialects: Mapping[str, str],
    notes: list[str],
) -> tuple[list[Ints], list[Ints]]:
    """Each run's predicted classes and labels. Those that need no order come first: by them others are judged."""
    predicted: list[Ints] = [np.array([], np.int64)] * len(runs)
    labels = list(predicted)
    known = {clip_id: number for clip_id, number in listed.items() if number >= 0}
    needs_order = [not run.canonical and (run.has_indices or run.has_label_indices) for run in runs]
    for number in sorted(range(len(runs)), key=needs_order.__getitem__):
        run, path = runs[number], str(runs[number].path)
        if run.canonical and run.num_classes != len(classes.names):
            raise UsageError(f"{path}: has {run.num_classes} classes, {classes.view} has {len(classes.names)}")
        if not run.has_label_indices and not run.canonical:
            labels[number] = classes.of_names(run.labels, path, run.lines)  # type: ignore[arg-type]
            known |= _known(ids[number], labels[number])
        dialect = "canonical"
        if path in dialects and not needs_order[number]:
            raise UsageError(f"--dialect {path}={dialects[path]}: it has no class indices of another framework")
        if needs_order[number]:
            truth = np.array([known.get(clip_id, NONE) for clip_id in ids[number]], np.int64)
            dialect, more = order_of(run, classes, truth, dialects.get(path, dialects.get("")))
            notes += more
        if run.has_label_indices or run.canonical:
            labels[number] = classes.of_indices(run.labels, dialect, path)  # type: ignore[arg-type]
            known = _known(ids[number], labels[number]) | known
        if run.has_indices:
            predicted[number] = classes.of_indices(run.predicted, dialect, path)  # type: ignore[arg-type]
        else:
            predicted[number] = classes.of_names(run.predicted, path, run.lines)  # type: ignore[arg-type]
    return predicted, labels


def _known(ids: Sequence[str], labels: Ints) -> dict[str, int]:
    return {clip_id: label for clip_id, label in zip(ids, labels.tolist(), strict=True) if label >= 0}


def _once(run: Answers, ids: Sequence[str], predicted: Ints, labels: Ints) -> tuple[dict[str, int], dict[str, int]]:
    """Answer and label by clip_id. A clip may stand there twice if it says the same."""
    answers: dict[str, int] = {}
    found: dict[str, int] = {}
    for place, (clip_id, answer, label) in enumerate(zip(ids, predicted.tolist(), labels.tolist(), strict=True)):
        if answers.setdefault(clip_id, answer) != answer or found.setdefault(clip_id, label) != label:
            where = f"line {run.lines[place]}: " if run.lines else ""
            raise UsageError(
                f"{run.path}: {where}clip {clip_id} was there before, with another answer or label. Of several views, "
                "average the scores first; of several clips of one video, name the spans too"
            )
    return answers, found


def _truth(labels: Sequence[Mapping[str, int]], listed: Mapping[str, int], counts: Counter[str]) -> dict[str, int]:
    """The class of each clip: the manifest's, else the one that all files agree on; others are left out."""
    truth = {clip_id: number for clip_id, number in listed.items() if number >= 0}
    has_list = bool(truth)
    named, several, against = set(), set(), set()
    for of_run in labels:
        for clip_id, label in of_run.items():
            if label < 0 or (listed and clip_id not in listed):
                continue
            if clip_id in named:
                several.add(clip_id)
            named.add(clip_id)
            if truth.setdefault(clip_id, label) != label:
                against.add(clip_id)
    compared = len(named if has_list else several)
    if compared and len(against) > _MOST_CONTRADICTIONS * compared:
        few = ", ".join(sorted(against)[:_SHOWN])
        raise UsageError(
            f"{len(against):,} of {counted(compared, 'clip')} have another label in one file than in "
            f"{'the manifest' if has_list else 'another'}, such as {few}: the labels are of other classes or in "
            "another order. --dialect states the order of a CSV's indices"
        )
    counts["relabelled" if has_list else "contradicting"] = len(against)
    return truth if has_list else {clip_id: label for clip_id, label in truth.items() if clip_id not in against}


def _right(answers: Mapping[str, int], clip_ids: Sequence[str], class_ids: Ints) -> npt.NDArray[np.int8]:
    absent = -3
    found = np.array([answers.get(clip_id, absent) for clip_id in clip_ids], np.int64)
    return np.where(found == absent, -1, found == class_ids).astype(np.int8)


def _top5(run: Answers, clip_ids: Sequence[str], class_ids: Ints) -> npt.NDArray[np.int8]:
    if run.top5 is None:
        return np.full(len(clip_ids), -1, np.int8)
    place = {clip_id: number for number, clip_id in enumerate(run.clips)}
    rows = np.array([place.get(clip_id, -1) for clip_id in clip_ids], np.int64)
    hit = (run.top5[rows] == class_ids[:, None]).any(axis=1)
    return np.where(rows < 0, -1, hit).astype(np.int8)


def _notes(runs: Sequence[Answers]) -> Iterable[str]:
    """What else differs between evaluations of k710, and which of them may have seen the clips in training."""
    words = {"num_clips": "temporal clips", "num_crops": "crops", "num_frames": "frames", "precision": "precision"}
    known = [(run.path, run.summary) for run in runs if run.summary]
    for key, what in (words | {"profile": "encode profile"}).items():
        values = {str(path): summary[key] for path, summary in known if summary.get(key) is not None}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{value} in {path}" for path, value in values.items())
            yield f"{what} differ, so the difference is not of the models alone: {listed}"
    for path, summary in known:
        for one in summary.get("trained_on") or ():
            if isinstance(one, dict) and isinstance(one.get("clips"), int) and one["clips"]:
                yield (
                    f"{path}: {counted(one['clips'], 'clip is', 'clips are')} of videos that its checkpoint was "
                    f"trained on ({one.get('view')} train), by its own record"
                )


def _check(table: Table) -> None:
    if not table.clip_ids:
        raise UsageError(
            "no clip has a label: give a CSV a column label, or take the labels of a manifest (--manifest, --split)"
        )
    if not table.common.any():
        examples = [
            next((c for c, r in zip(table.clip_ids, row, strict=True) if r >= 0), "none") for row in table.right
        ]
        few = ", ".join(f"{name} in {path}" for name, path in zip(examples, table.paths, strict=True))
        raise UsageError(f"the evaluations have no labelled clip in common; they have, for example, {few}")
    if table.full is not None and not table.full.labels and table.full.num_clips < len(table.clip_ids):
        raise UsageError(
            f"--in-list {table.full.num_clips:,}: the evaluations have {counted(len(table.clip_ids), 'clip')} already"
        )
