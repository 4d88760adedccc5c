"""The files of an evaluation: predictions as Parquet, the table of classes and the confusions as CSV, a summary."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from k710.errors import TrainError
from k710.evaluation.scores import accuracies, ranks
from k710.loading.clip_index import NO_CLASS
from k710.storage.storage import TEMPORARY_PREFIX, held, new_folder, replacing

if TYPE_CHECKING:  # its import takes PyTorch along, which reading these files does not need
    from k710.evaluation.evaluate import Evaluation

PREDICTIONS, SUMMARY, CLASSES, CONFUSIONS = "predictions.parquet", "summary.json", "classes.csv", "confusions.csv"
_KEY = b"k710"


@dataclass(frozen=True)
class Written:
    """Predictions of an earlier evaluation: `scores` (clips, classes) of the clips `clip_ids`, and its summary."""

    clip_ids: list[str]
    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    summary: dict[str, Any]


def write_evaluation(folder: Path, evaluation: Evaluation, about: dict[str, Any]) -> None:
    """Write the four files into `folder`, which is made; `about` (checkpoint, precision, …) joins the summary."""
    summary = {**about, **evaluation.summary()}
    labels = evaluation.labels
    with new_folder(folder):
        with replacing(folder / PREDICTIONS) as file:
            about_json = json.dumps(summary, allow_nan=False).encode()
            table = predictions_table(evaluation).replace_schema_metadata({_KEY: about_json})
            pa.parquet.write_table(table, file, compression="zstd")
        rows = [
            (score.class_id, labels[score.class_id], score.num_clips, f"{score.top1:.6f}", f"{score.top5:.6f}")
            for score in evaluation.classes()
        ]
        _write_csv(folder / CLASSES, ("class_id", "label", "num_clips", "top1", "top5"), rows)
        pairs = [
            (pair.class_id, labels[pair.class_id], pair.taken_for, labels[pair.taken_for], pair.num_clips)
            for pair in evaluation.confusions()
        ]
        _write_csv(folder / CONFUSIONS, ("class_id", "label", "taken_for", "taken_for_label", "num_clips"), pairs)
        with replacing(folder / SUMMARY) as file:
            file.write((json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def predictions_table(evaluation: Evaluation) -> pa.Table:
    """A row for each clip that was read, in clip_id order: its class, the five likeliest, and every probability.

    Columns: clip_id, class_id (null without label), label, rank (0: right), top5 (class ids), num_views, probabilities
    (mean of the views' softmax, one for each class of the view in canonical order).
    """
    found = evaluation.predictions
    classes = np.maximum(found.class_ids, 0)
    unlabelled = found.class_ids == NO_CLASS
    order = np.argsort(-found.scores, axis=1, kind="stable")[:, :5]
    labels = [None if no else evaluation.labels[number] for no, number in zip(unlabelled, classes, strict=True)]
    return pa.table(
        {
            "clip_id": pa.array(found.clip_ids, pa.string()),
            "class_id": pa.array(found.class_ids, pa.int16(), mask=unlabelled),
            "label": pa.array(labels, pa.string()),
            "rank": pa.array(ranks(found.scores, classes), pa.int16(), mask=unlabelled),
            "top5": pa.array(list(order), pa.list_(pa.int16())),
            "num_views": pa.array(found.num_views, pa.int16()),
            "probabilities": _fixed_rows(found.scores),
        }
    )


def read_predictions(path: Path) -> Written:
    """The predictions in a file or in the folder of an evaluation. Raises TrainError for what holds none."""
    file = path / PREDICTIONS if path.is_dir() else path
    try:
        table = pa.parquet.read_table(file)
        summary = json.loads((table.schema.metadata or {})[_KEY])
        scores = table["probabilities"].combine_chunks()
        width = scores.type.list_size
        values = scores.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        class_ids = table["class_id"].fill_null(NO_CLASS).to_numpy().astype(np.int64)
        found = Written(table["clip_id"].to_pylist(), class_ids, values, summary)
    except FileNotFoundError:
        raise TrainError(f"{file}: no such file; `k710 eval … --out {path}` makes one") from None
    except (OSError, pa.ArrowException, KeyError, ValueError, AttributeError) as error:
        raise TrainError(f"{file}: no predictions of k710 eval ({type(error).__name__}: {error})") from None
    if not np.isfinite(found.scores).all():
        raise TrainError(f"{file}: holds scores that are not finite (NaN or infinite); evaluate that checkpoint again")
    return found


@contextlib.contextmanager
def held_folder(folder: Path | None) -> Iterator[None]:
    """The folder of an evaluation as this process's alone for the time of the block.

    It is made, and checked to be writable, before an evaluation that may take hours. Nothing happens for None. Raises
    OSError, and BusyError where another process evaluates into it.
    """
    if folder is None:
        yield
        return
    with new_folder(folder), held(folder, folder / ".lock"):
        check_writable(folder)
        yield


def check_writable(folder: Path) -> None:
    """Make the folder, and see that it takes files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{TEMPORARY_PREFIX}try").open("wb"):
        pass
    (folder / f"{TEMPORARY_PREFIX}try").unlink()


def check_comparable(other: Written, view: str) -> None:
    """Raises TrainError for predictions of another view's classes."""
    if other.summary.get("view") != view:
        raise TrainError(
            f"the other evaluation is of {other.summary.get('view')}, this one of {view}; only evaluations of one view "
            "are compared"
        )


def _fixed_rows(scores: npt.NDArray[np.float32]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(scores).reshape(-1), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, scores.shape[1])


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def compare(part: Evaluation, other: Written) -> dict[str, float]:
    """The scores of another evaluation on the clips of `part`, by the labels of `part`.

    Raises TrainError where the other has other classes, or lacks a clip.
    """
    if other.scores.shape[1] != len(part.labels):
        raise TrainError(
            f"the other evaluation has {other.scores.shape[1]} classes ({other.summary.get('view')}), this one "
            f"{len(part.labels)} ({part.view}); only evaluations of one view are compared"
        )
    place = {clip_id: number for number, clip_id in enumerate(other.clip_ids)}
    rows = np.array([place[clip_id] for clip_id in part.predictions.clip_ids])
    return accuracies(other.scores[rows][part.labelled], part.predictions.class_ids[part.labelled])
