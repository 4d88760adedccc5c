"""List files for other trainers, from a view of the manifest."""

from __future__ import annotations

import contextlib
import csv
import io
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from k710.errors import ManifestError, UsageError
from k710.manifest.views import split_of, splits_of
from k710.storage.storage import held, new_folder, replacing

# The name of a clip's file in the public archives and in most download scripts.
DEFAULT_TEMPLATE = "{clip_id}.mp4"
TEMPLATE_FIELDS = ("clip_id", "youtube_id", "time_start_s", "time_end_s", "split", "label", "label_", "class_id")

_BATCH_ROWS = 1 << 16


def export(
    table: pa.Table,
    out: Path,
    *,
    form: str,
    template: str = DEFAULT_TEMPLATE,
    separator: str = " ",
    splits: tuple[str, ...] = (),
    force: bool = False,
) -> dict[str, int]:
    """Write one file per split of a view (views.view) into the folder `out`; returns rows by file name.

    Forms: `csv` (the columns of the releases) and `parquet` (every column of the view). For trainers, a line has a path
    and a class index: `slowfast` ({split}.csv, for PySlowFast and UniFormerV2), `videomae` ({split}.csv, for VideoMAE
    and finetuning with VideoMAE V2), `mmaction2` ({split}.txt). `videomaev2-pretrain` ({split}.csv, `path 0 -1`) has no
    classes, for VideoMAE V2's pretraining. `template` makes the path; its fields are TEMPLATE_FIELDS, and `label_` is
    the label with underscores for spaces. Raises UsageError for an unknown form or field, for a path that contains the
    separator, or for clips without a label if the form needs one; ManifestError for an existing file without `force`,
    or for an ID with a line break.
    """
    if form not in FORMS:
        raise UsageError(f"unknown format {form!r}; known: {', '.join([*FORMS, *FOLDER_FORMS])}")
    suffix, write = FORMS[form]
    check_template(template)
    if not separator or set(separator) & set("\r\n"):
        raise UsageError(f"separator {separator!r} does not separate the two fields of a line")
    parts = split_parts(table, splits)
    with held_folder(out):
        check_out(out, [f"{split}{suffix}" for split in parts], force=force)
        write_files(out, {f"{split}{suffix}": write(part, template, separator) for split, part in parts.items()})
    return {f"{split}{suffix}": part.num_rows for split, part in parts.items()}


def split_parts(table: pa.Table, splits: tuple[str, ...] = ()) -> dict[str, pa.Table]:
    """The clips of each split of a view, by default of all its splits. Raises UsageError for a split without clips."""
    known = splits_of(table)
    if not (splits or known):
        raise UsageError("the view has no clips to export")
    for split in splits:
        if split not in known:
            raise UsageError(f"the view has no {split} clips; it has {', '.join(known) or 'none at all'}")
    return {split: split_of(table, split) for split in splits or known}


@contextlib.contextmanager
def held_folder(out: Path) -> Iterator[None]:
    """Let only this export write `out` during the block. Raises BusyError if another process writes it, ManifestError
    for a manifest, which is not changed."""
    check_out(out, (), force=True)
    with new_folder(out), held(out, out / ".lock"):
        yield


def check_out(out: Path, names: Iterable[str], *, force: bool) -> None:
    """Raise ManifestError for a folder that is a manifest, or for an existing file without `force`."""
    if (out / "dataset.json").exists():
        raise ManifestError(f"{out}: is a manifest, which holds nothing else; choose another --out")
    for name in names:
        if (out / name).exists() and not force:
            raise ManifestError(f"{out / name}: exists already; --force replaces it")


def write_files(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder, each whole or not at all, in their order."""
    with contextlib.ExitStack() as stack:
        for folder in dict.fromkeys([out, *((out / name).parent for name in contents)]):
            stack.enter_context(new_folder(folder))
        for name, content in contents.items():
            with replacing(out / name) as file:
                file.write(content)


def check_template(template: str) -> set[str]:
    """The fields of a path template. Raises UsageError for unknown or nested fields."""
    where = f"path template {template!r}"
    numbers = ("time_start_s", "time_end_s", "class_id")
    try:
        parts = [(field, spec or "") for _, field, spec, _ in string.Formatter().parse(template) if field is not None]
        fields = {field for field, _ in parts}
        if unknown := sorted(fields - set(TEMPLATE_FIELDS)):
            raise UsageError(f"{where}: no field {unknown[0]!r}; known: {', '.join(TEMPLATE_FIELDS)}")
        if nested := [spec for _, spec in parts if "{" in spec]:
            raise UsageError(f"{where}: a field inside another field, {nested[0]!r}")
        template.format(**{field: 0 if field in numbers else "" for field in TEMPLATE_FIELDS})
    except UsageError:
        raise
    except (ValueError, KeyError, IndexError) as error:
        raise UsageError(f"{where}: {error}") from None
    if not fields & {"clip_id", "youtube_id"}:
        raise UsageError(f"{where} makes one path for all clips; it needs {{clip_id}} or {{youtube_id}}")
    if set(template) & set("\r\n"):
        raise UsageError(f"{where} contains a line break")
    return fields


def check_labelled(table: pa.Table, what: str) -> None:
    """Raise UsageError for a split with clips that have no label, which `what` needs."""
    if table["class_id"].null_count:
        raise UsageError(
            f"{table['class_id'].null_count:,} {table['split'][0]} clips have no label, which {what} needs; "
            "leave them out with --splits"
        )


def _csv(table: pa.Table, template: str, separator: str) -> bytes:
    """The columns of the releases (label,youtube_id,time_start,time_end,split), so that their readers read this too.

    Fields are quoted only if necessary, because some readers take a quote for a part of the ID.
    """
    columns = {"label": "label", "youtube_id": "youtube_id", "time_start": "time_start_s", "time_end": "time_end_s"}
    if table["label"].null_count == table.num_rows:
        del columns["label"]  # the releases' test lists have no such column
    columns["split"] = "split"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for batch in table.select(list(columns.values())).to_batches(max_chunksize=_BATCH_ROWS):
        writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    return text.getvalue().encode()


def _parquet(table: pa.Table, template: str, separator: str) -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def _path_and_class(table: pa.Table, template: str, separator: str) -> bytes:
    check_labelled(table, "this format")
    return "".join(f"{line}\n" for line in _lines(table, template, separator)).encode()


def _path_and_no_frames(table: pa.Table, template: str, separator: str) -> bytes:
    """Path, index of the first frame, number of frames; -1 means that the path is a video, not a folder of frames."""
    return "".join(f"{line}\n" for line in _lines(table, template, separator, end=f"0{separator}-1")).encode()


def _lines(table: pa.Table, template: str, separator: str, *, end: str | None = None) -> Iterator[str]:
    """Lines of a path and its class index, or `end`."""
    for row in clip_rows(table):
        path = template.format(**row)
        if separator in path:
            raise UsageError(
                f"path {path!r} contains the separator {separator!r}; "
                "use {label_} for {label}, or another --separator"
            )
        if len(path.splitlines()) > 1:  # no build accepts such an ID, but a manifest from elsewhere may have one
            raise ManifestError(f"path {path!r} contains a line break: the manifest is damaged")
        yield f"{path}{separator}{row['class_id'] if end is None else end}"


def clip_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a view with the fields that a path template may use."""
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for row in batch.to_pylist():
            yield row | {"label_": (row["label"] or "").replace(" ", "_")}


FORMS: dict[str, tuple[str, Callable[[pa.Table, str, str], bytes]]] = {
    "csv": (".csv", _csv),
    "slowfast": (".csv", _path_and_class),
    "videomae": (".csv", _path_and_class),
    "videomaev2-pretrain": (".csv", _path_and_no_frames),
    "mmaction2": (".txt", _path_and_class),
    "parquet": (".parquet", _parquet),
}

# Formats that are folders with more than lists: hf.py, fiftyone.py, lance_folder.py.
FOLDER_FORMS = ("hf", "fiftyone", "lance")
