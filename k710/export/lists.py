"""List files for other trainers, from a view of the manifest."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from k710.errors import ManifestError, UsageError
from k710.export.paths import DEFAULT_TEMPLATE, FRAME_FILE, check_template, clip_rows, path_of
from k710.manifest.views import split_of, splits_of
from k710.sources.video_ids import raw_id
from k710.storage.storage import held, new_folder, replacing

_BATCH_ROWS = 1 << 16


def export(
    table: pa.Table,
    out: Path,
    *,
    form: str,
    template: str = "",
    separator: str = " ",
    splits: tuple[str, ...] = (),
    force: bool = False,
) -> dict[str, int]:
    """Write one file per split of a view (views.view) into the folder `out`; returns rows by file name.

    Forms: `csv` (the columns of the releases, with `is_cc` where the table has it) and `parquet` (every column of the
    view). For trainers, a line has a path and a class index: `slowfast` ({split}.csv, for PySlowFast and UniFormerV2),
    `videomae` ({split}.csv, for VideoMAE and finetuning with VideoMAE V2), `mmaction2` ({split}.txt).
    `videomaev2-pretrain` ({split}.csv, `path 0 -1`) has no classes, for VideoMAE V2's pretraining. Those of MEDIA_FORMS
    need the columns of `selection.with_media` too. `template` makes the path (paths.py). Raises UsageError for an
    unknown form or field, for a path that contains the separator, or for clips without a label if the form needs one;
    ManifestError for an existing file without `force`, or for an ID with a line break.
    """
    if form not in FORMS | MEDIA_FORMS:
        raise UsageError(f"unknown format {form!r}; known: {', '.join([*FORMS, *MEDIA_FORMS, *FOLDER_FORMS])}")
    suffix, write = (FORMS | MEDIA_FORMS)[form]
    template = template or TEMPLATES.get(form, DEFAULT_TEMPLATE)
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


def check_labelled(table: pa.Table, what: str) -> None:
    """Raise UsageError for a split with clips that have no label, which `what` needs."""
    if table["class_id"].null_count:
        raise UsageError(
            f"{table['class_id'].null_count:,} {table['split'][0]} clips have no label, which {what} needs; "
            "leave them out with --splits"
        )


def _csv(table: pa.Table, template: str, separator: str) -> bytes:
    """The columns of the releases, label,youtube_id,time_start,time_end,split[,is_cc]; their readers read this too.

    Fields are quoted only if necessary, because some readers take a quote for a part of the ID.
    """
    columns = {"label": "label", "youtube_id": "youtube_id", "time_start": "time_start_s", "time_end": "time_end_s"}
    if table["label"].null_count == table.num_rows:
        del columns["label"]  # the releases' test lists have no such column
    columns["split"] = "split"
    if "is_cc" in table.column_names and table["is_cc"].null_count < table.num_rows:
        columns["is_cc"] = "is_cc"
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


def _lines(
    table: pa.Table, template: str, separator: str, *, after: tuple[str, ...] = ("{class_id}",), labelled: bool = True
) -> bytes:
    """Lines of a path and what stands `after` it, templates of a row's columns."""
    if labelled:
        check_labelled(table, "this format")
    lines = []
    for row in clip_rows(table):
        path = path_of(row, template)
        if separator in path:
            raise UsageError(
                f"path {path!r} contains the separator {separator!r}; "
                "use {label_} for {label}, or another --separator"
            )
        if len(path.splitlines()) > 1:  # no build accepts such an ID, but a manifest from elsewhere may have one
            raise ManifestError(f"path {path!r} contains a line break: the manifest is damaged")
        lines.append(separator.join([path, *(field.format(**row) for field in after)]) + "\n")
    return "".join(lines).encode()


Writer = Callable[[pa.Table, str, str], bytes]
FORMS: dict[str, tuple[str, Writer]] = {
    "csv": (".csv", _csv),
    "slowfast": (".csv", _lines),
    "videomae": (".csv", _lines),
    # The index of the first frame and the number of frames; -1 means that the path is a video, not a folder of frames.
    "videomaev2-pretrain": (".csv", partial(_lines, after=("0", "-1"), labelled=False)),
    "mmaction2": (".txt", _lines),
    "parquet": (".parquet", _parquet),
}


def _frame_rows(table: pa.Table, template: str, separator: str) -> bytes:
    """A header and a row for each frame, as SlowFast and PyTorchVideo read Something-Something V2. They take the labels
    from its own JSON files."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(["original_vido_id", "video_id", "frame_id", "path", "labels"])
    for number, row in enumerate(clip_rows(table)):
        video, folder = raw_id(row["youtube_id"])[1], path_of(row, template)
        for frame in range(row["num_frames"]):
            writer.writerow([video, number, frame, f"{folder}/{FRAME_FILE.format(frame + 1)}", ""])
    return text.getvalue().encode()


_FRAMES = partial(_lines, after=("{num_frames}", "{class_id}"))
# Formats with numbers that only a store has (selection.with_media): of folders of frames their number; of files that
# are one segment each, their length, and the segment in them, which is all of it.
MEDIA_FORMS: dict[str, tuple[str, Writer]] = {
    "mmaction2-frames": (".txt", _FRAMES),
    "videomae-frames": (".csv", _FRAMES),
    "uniformerv2-frames": (".txt", _FRAMES),
    # The first frame's number in its file name; the reader adds it to indices from 0.
    "videomaev2-pretrain-frames": (".csv", partial(_lines, after=("1", "{num_frames}"), labelled=False)),
    "slowfast-frames": (".csv", _frame_rows),
    "uniformerv2-segments": (".csv", partial(_lines, after=("{duration_s}", "0", "{duration_s}", "{class_id}"))),
}
# The path where no template is given: folders have no suffix, and UniFormerV2 puts a prefix before the ID.
TEMPLATES = {
    **dict.fromkeys(("mmaction2-frames", "videomae-frames", "videomaev2-pretrain-frames"), "{clip_id}"),
    **dict.fromkeys(("uniformerv2-frames", "slowfast-frames"), "{id}"),
}

# Formats that are folders with more than lists: hf.py, fiftyone.py, lance_folder.py.
FOLDER_FORMS = ("hf", "fiftyone", "lance")
