"""All that contradicts the labels of a manifest's clips, with the most contradicted clips first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from k710.doubts.confident import contradictions
from k710.errors import UsageError
from k710.evaluation.files import Written
from k710.lists.labels import union_classes_of_view
from k710.loading.clip_index import NO_CLASS
from k710.manifest.pairs import read_pairs
from k710.manifest.read import Manifest
from k710.sources.catalogue import Catalogue
from k710.text import counted

KINDS = ("model", "release", "near-duplicate")


@dataclass(frozen=True)
class Witness:
    """Something that gives a clip another label. `kind` is one of KINDS, `by` names it; `margin` is a model's,
    0 else."""

    kind: str
    by: str
    label: str
    margin: float = 0.0


@dataclass(frozen=True)
class Doubt:
    """A clip, its label, and what contradicts it."""

    clip_id: str
    split: str | None
    label: str
    witnesses: tuple[Witness, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if any(witness.kind == kind for witness in self.witnesses))

    @property
    def margin(self) -> float:
        return max(witness.margin for witness in self.witnesses)

    @property
    def suggested(self) -> tuple[str, ...]:
        """The other labels, the one that most witnesses name first."""
        labels = [witness.label for witness in self.witnesses]
        return tuple(sorted(set(labels), key=lambda label: (-labels.count(label), labels.index(label))))


@dataclass(frozen=True)
class Doubts:
    """`found`: clips with more kinds of witnesses first, then by a model's margin. `notes` say what puts a witness in
    doubt itself."""

    found: tuple[Doubt, ...]
    counts: dict[str, int]  # clips by kind of witness
    num_labelled: int
    notes: tuple[str, ...]


def find_doubts(manifest: Manifest, predictions: Sequence[tuple[Path, Written]] = ()) -> Doubts:
    """What contradicts the labels of a manifest's union.

    `predictions`: evaluations of k710 on clips of this manifest, of any view; clips that the manifest does not label
    are passed over. Raises UsageError for an evaluation of a view that the manifest lacks, ManifestError for damage.
    """
    columns = ("clip_id", "split", "class_id", "other_class_ids")
    clips = manifest.read_clips(columns)
    names = manifest.labels
    ids, splits = clips["clip_id"].to_pylist(), clips["split"].to_pylist()
    class_of = {
        clip_id: class_id
        for clip_id, class_id in zip(ids, clips["class_id"].to_pylist(), strict=True)
        if class_id is not None
    }
    witnesses: dict[str, list[Witness]] = {}
    notes: list[str] = []
    told: list[Iterable[tuple[str, Witness]]] = [
        _of_models(predictions, manifest.catalogue, class_of, names, notes),
        _of_releases(ids, clips["other_class_ids"].to_pylist(), names),
        _of_near_duplicates(manifest, class_of, names, notes),
    ]
    for part in told:
        for clip_id, witness in part:
            if clip_id in class_of and witness.label != names[class_of[clip_id]]:
                witnesses.setdefault(clip_id, []).append(witness)
    split_of = dict(zip(ids, splits, strict=True))
    found = [
        Doubt(clip_id, split_of[clip_id], names[class_of[clip_id]], tuple(dict.fromkeys(of_clip)))
        for clip_id, of_clip in witnesses.items()
    ]
    found.sort(key=lambda doubt: (-len(doubt.kinds), -doubt.margin, doubt.clip_id))
    counts = {kind: sum(kind in doubt.kinds for doubt in found) for kind in KINDS}
    return Doubts(tuple(found), counts, len(class_of), tuple(notes))


def _of_models(
    predictions: Sequence[tuple[Path, Written]],
    sources: Catalogue,
    class_of: dict[str, int],
    names: Sequence[str],
    notes: list[str],
) -> Iterator[tuple[str, Witness]]:
    for path, written in predictions:
        view = written.summary.get("view") if isinstance(written.summary, dict) else None
        if not isinstance(view, str):
            raise UsageError(f"{path}: its record does not say which view it is of")
        sources.check_view(view)
        union = np.array(union_classes_of_view(view, sources), np.int64)
        if written.scores.shape[1] != len(union):
            raise UsageError(f"{path}: has {written.scores.shape[1]} classes, {view} has {len(union)}")
        if len(written.class_ids) and not NO_CLASS <= written.class_ids.min() <= written.class_ids.max() < len(union):
            raise UsageError(f"{path}: damaged: it has a class that {view} has not")
        labelled = (written.class_ids != NO_CLASS) & np.isin(written.clip_ids, list(class_of))
        notes += _on_training(path, written)
        rows = np.flatnonzero(labelled)
        if not len(rows):
            notes.append(f"{path}: has no labelled clip of this manifest")
            continue
        for found in contradictions(written.scores[rows], written.class_ids[rows]):
            if union[found.suggested] >= 0:
                label = names[union[found.suggested]]
                yield written.clip_ids[rows[found.clip]], Witness("model", str(path), label, found.margin)


def _on_training(path: Path, written: Written) -> Iterator[str]:
    for one in written.summary.get("trained_on") or ():
        if isinstance(one, dict) and isinstance(one.get("clips"), int) and one["clips"]:
            yield (
                f"{path}: its checkpoint was trained on the videos of {counted(one['clips'], 'clip')} of these; of "
                "such clips a model repeats the label, right or wrong"
            )


def _of_releases(
    ids: Sequence[str], others: Sequence[list[int] | None], names: Sequence[str]
) -> Iterator[tuple[str, Witness]]:
    for clip_id, class_ids in zip(ids, others, strict=True):
        for class_id in class_ids or ():
            yield clip_id, Witness("release", "another list", names[class_id])


def _of_near_duplicates(
    manifest: Manifest, class_of: dict[str, int], names: Sequence[str], notes: list[str]
) -> Iterator[tuple[str, Witness]]:
    """Both clips of a pair with two labels: which of them is wrong, the footage does not say."""
    pairs = read_pairs(manifest)
    if pairs is None:
        notes.append(f"near-duplicates were not looked for; `k710 near-duplicates {manifest.path}` does")
        return
    for one, other in zip(pairs["clip_id"].to_pylist(), pairs["other_clip_id"].to_pylist(), strict=True):
        if one in class_of and other in class_of and class_of[one] != class_of[other]:
            yield one, Witness("near-duplicate", other, names[class_of[other]])
            yield other, Witness("near-duplicate", one, names[class_of[one]])
