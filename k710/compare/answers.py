"""The answers of one evaluation: of k710's, or of a CSV of any framework with a clip and its predicted class a row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from k710.errors import ListError, TrainError
from k710.evaluation.files import PREDICTIONS, read_predictions
from k710.lists.annotation_rows import column_names, quoted, split_fields, whole_seconds
from k710.lists.clip_names import parse_clip_name
from k710.lists.list_bytes import list_text
from k710.loading.clip_index import NO_CLASS
from k710.sources.source import YOUTUBE_ID
from k710.sources.video_ids import clip_id_of, split_clip_id

# In the order in which they are asked. `id` may be a row's number: a column counts whose first row names a clip.
CLIP_COLUMNS = (
    *("clip_id", "clip", "youtube_id", "video_id", "id"),
    *("path", "video_path", "file", "filename", "file_name", "video", "url"),
)
PREDICTION_COLUMNS = (
    *("prediction", "predicted", "pred", "predicted_class", "pred_class", "predicted_label", "pred_label"),
    *("y_pred", "top1"),
)
LABEL_COLUMNS = ("label", "class", "target", "truth", "ground_truth", "gt", "true_label", "y_true")
_INDEX = re.compile(r"-?[0-9]{1,9}(?:\.0+)?")


@dataclass(frozen=True)
class Answers:
    """What an evaluation says, as its file says it.

    `clips` are names in any form. `predicted` and `labels` are class names, or indices in an order that is not known
    yet (`None` for a clip without label). `canonical`: the indices are those of the view in canonical order, as k710
    writes them. `top5`: (clips, 5) class indices, the likeliest first, where the file has scores. `summary` is k710's
    own record of the evaluation; empty for a CSV.
    """

    path: Path
    clips: Sequence[str]
    predicted: Sequence[str] | Sequence[int]
    labels: Sequence[str | None] | Sequence[int | None]
    canonical: bool = False
    num_classes: int | None = None
    top5: Any = None
    summary: dict[str, Any] | None = None
    lines: Sequence[int] = ()  # of a CSV: where each row stands

    @property
    def has_indices(self) -> bool:
        return not isinstance(self.predicted[0], str)

    @property
    def has_label_indices(self) -> bool:
        return any(isinstance(label, int) for label in self.labels)


def read_answers(path: Path) -> Answers:
    """The answers in the folder of a k710 evaluation, in its Parquet file, or in a CSV.

    Raises TrainError for a damaged evaluation, ListError for a CSV that cannot be read without a guess.
    """
    if path.is_dir() or path.suffix == Path(PREDICTIONS).suffix:
        return _of_k710(path)
    try:
        return _of_csv(path)
    except ListError as error:
        raise ListError(f"{path}: {error}") from None


def _of_k710(path: Path) -> Answers:
    found = read_predictions(path)
    if not isinstance(found.summary, dict):
        raise TrainError(f"{path}: no predictions of k710 eval (its summary is no record)")
    order = np.argsort(-found.scores, axis=1, kind="stable")[:, :5]  # equal scores in order of class, as everywhere
    labels = [None if number == NO_CLASS else number for number in found.class_ids.tolist()]
    return Answers(
        path,
        found.clip_ids,
        order[:, 0].tolist(),
        labels,
        canonical=True,
        num_classes=found.scores.shape[1],
        top5=order,
        summary=found.summary,
    )


def _of_csv(path: Path) -> Answers:
    numbered = [(number, line) for number, line in enumerate(list_text(path).split("\n"), 1) if line.strip()]
    if len(numbered) < 2:
        raise ListError(
            "has no rows; want a first line that names the columns, such as clip,prediction, and a row a clip"
        )
    try:
        columns, delimiter = column_names(numbered[0][1])
    except csv.Error as error:
        raise ListError(f"line {numbered[0][0]}: not CSV ({error})") from None
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise ListError(f"line {numbered[0][0]}: column {quoted(twice[0])} stands there twice")
    rows = list(_rows(numbered[1:], columns, delimiter))
    prediction, label = _prediction_column(columns), _first(LABEL_COLUMNS, columns)
    clips = _clips(rows, columns)
    predicted = _classes(rows, prediction, empty_allowed=False)
    labels: Sequence[Any] = _classes(rows, label, empty_allowed=True) if label else [None] * len(rows)
    return Answers(path, clips, predicted, labels, lines=[number for number, _ in rows])


def _rows(
    numbered: Sequence[tuple[int, str]], columns: Sequence[str], delimiter: str
) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in numbered:
        try:
            fields = split_fields(line, delimiter)
        except csv.Error as error:
            raise ListError(f"line {number}: not CSV, or cut off ({error}): {quoted(line.strip())}") from None
        if len(fields) != len(columns):
            raise ListError(f"line {number}: {len(fields)} fields where the first line has {len(columns)}")
        yield number, dict(zip(columns, fields, strict=True))


def _prediction_column(columns: Sequence[str]) -> str:
    found = [name for name in PREDICTION_COLUMNS if name in columns]
    if len(found) == 1:
        return found[0]
    if found:
        raise ListError(f"line 1: which column is the predicted class, {' or '.join(found)}? Keep one of them")
    raise ListError(
        f"line 1 names no column of predicted classes among {quoted(','.join(columns))}; call it prediction (and that "
        "of the true class, if there is one, label)"
    )


def _first(names: Sequence[str], columns: Sequence[str]) -> str | None:
    found = [name for name in names if name in columns]
    if len(found) > 1:
        raise ListError(f"line 1: which column is the true class, {' or '.join(found)}? Keep one of them")
    return found[0] if found else None


def _clips(rows: Sequence[tuple[int, dict[str, str]]], columns: Sequence[str]) -> list[str]:
    """The clip of each row: the video, and the span where the row tells it."""
    named = [name for name in CLIP_COLUMNS if name in columns]
    if not named:
        raise ListError(f"line 1 names no column of clips among {quoted(','.join(columns))}; call it clip")
    if {"youtube_id", "time_start", "time_end"} <= set(columns):
        return [_of_span(number, row) for number, row in rows]
    column = next((name for name in named if _clip(name, rows[0][1][name]) is not None), named[0])
    clips = []
    for number, row in rows:
        clip = _clip(column, row[column])
        if clip is None:
            raise ListError(f"line {number}: {column} {quoted(row[column])} names no clip, or more than one")
        clips.append(clip)
    return clips


def _clip(column: str, text: str) -> str | None:
    """The clip that a cell names: as k710 writes it, or in any form of a path; None where there is none, or several."""
    if (column in ("clip_id", "youtube_id") or "~" in text) and split_clip_id(text) is not None:
        return text
    named = parse_clip_name(text)
    return None if named is None else str(named)


def _of_span(number: int, row: dict[str, str]) -> str:
    start_s, end_s = whole_seconds(row["time_start"]), whole_seconds(row["time_end"])
    if not re.fullmatch(YOUTUBE_ID, row["youtube_id"]) or start_s is None or end_s is None or not 0 <= start_s < end_s:
        raise ListError(f"line {number}: no YouTube ID with a span in whole seconds: {quoted(','.join(row.values()))}")
    return clip_id_of(row["youtube_id"], (start_s, end_s))


def _classes(rows: Sequence[tuple[int, dict[str, str]]], column: str, *, empty_allowed: bool) -> list[Any]:
    """The classes of a column: all names, or all indices."""
    texts = [row[column] for _, row in rows]
    if not empty_allowed and "" in texts:
        raise ListError(
            f"line {rows[texts.index('')][0]}: {column} is empty; leave out the rows of clips without answer"
        )
    kinds = {bool(_INDEX.fullmatch(text)) for text in texts if text}
    if kinds == {True, False}:
        odd = next(number for number, row in rows if row[column] and not _INDEX.fullmatch(row[column]))
        raise ListError(f"{column} holds class indices and names; line {odd} has a name")
    if kinds == {True}:
        return [int(float(text)) if text else None for text in texts]
    return [text or None for text in texts]
