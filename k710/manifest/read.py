"""The manifest: a folder that says what the dataset is. Its schema, its deterministic writing, its commit, its reading.

    MANIFEST/
        clips/clips-{hash}.parquet   the clips table; the name carries the SHA-256 of the file
        dataset.json                 the commit: lists the clips files; replaced last and at once
        versions/{hash}.json         the dataset.json of earlier versions, until `k710 prune`
        near_duplicates.parquet      what `k710 near-duplicates` found, once it was run

Readers open only what dataset.json lists. Every column is told in manifests/README.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet

from k710.errors import ManifestError
from k710.lists.labels import class_names
from k710.manifest.checks import table_problem
from k710.manifest.memberships import CLASS_IDS_FIELDS, is_in_several, split_masks
from k710.manifest.versions import COMMIT as _COMMIT
from k710.manifest.versions import commit_of, named_version
from k710.sources.known import SOURCES
from k710.storage.remote import RemotePath
from k710.storage.remote_copies import copy_of
from k710.storage.storage import (
    TEMPORARY_PREFIX,
    HashedFile,
    Location,
    alone,
    location,
    named_by_hash,
    new_folder,
    replacing,
)
from k710.text import counted
from k710.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pandas as pd

    from k710.loading.dataset import ClipDataset
    from k710.loading.stream import ShardStream

SCHEMA_VERSION = "1.0"
# Of a table that names several splits of a release for one clip: a k710 that reads 1.0 alone must not read it.
_SEVERAL_SPLITS_VERSION = "2.0"
_KNOWN_MAJORS = ("1", "2")
NEAR_DUPLICATE = "near_duplicate"  # given by `k710 near-duplicates --apply` alone, never by a build
DROP_REASONS = ("duplicate_id", "leaked", "unlabelled", NEAR_DUPLICATE)

_NAME = pa.dictionary(pa.int8(), pa.string())
CLIPS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("youtube_id", pa.string()),
        pa.field("time_start_s", pa.int32()),
        pa.field("time_end_s", pa.int32()),
        pa.field("label", pa.dictionary(pa.int16(), pa.string())),
        pa.field("class_id", pa.int16()),
        pa.field("other_class_ids", pa.list_(pa.int16())),
        pa.field("split", _NAME),
        pa.field("drop_reason", _NAME),
        pa.field("kept_clip_id", pa.string()),
        *(
            pa.field(f"{source}_{column}", kind)
            for source in SOURCES
            for column, kind in (("split", _NAME), ("class_id", pa.int16()))
        ),
    ]
)

_ALL_COLUMNS = pa.schema([*CLIPS_SCHEMA, *CLASS_IDS_FIELDS])  # the last ones stand in few tables


def clips_schema(columns: Iterable[str]) -> pa.Schema:
    """The schema of a clips table with these columns: CLIPS_SCHEMA, and those of CLASS_IDS_FIELDS that it has."""
    present = set(columns)
    return pa.schema([*CLIPS_SCHEMA, *(field for field in CLASS_IDS_FIELDS if field.name in present)])


# What the content hash is taken over: dictionaries and lists as text, slice by slice, since text is far larger.
def _hashed_schema(columns: Iterable[str]) -> pa.Schema:
    def form(kind: pa.DataType) -> pa.DataType:
        return pa.string() if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) else kind

    return pa.schema((field.name, form(field.type)) for field in clips_schema(columns))


_SLICE_ROWS = 1 << 16

_CLIPS_FILE = re.compile(r"clips/clips-[0-9a-f]{16}\.parquet")
_UNCOMMITTED_S = 86400.0
PAIRS_FILE = "near_duplicates.parquet"  # see near_duplicates/pairs.py
_OURS = {_COMMIT, "clips", "versions", "store", "README.md", PAIRS_FILE}  # what a manifest folder may hold


@dataclass(frozen=True, repr=False)
class Manifest:
    """An opened manifest. `about` is the content of dataset.json: sources, recipe, counts, hashes."""

    path: Location
    about: dict[str, Any]

    @cached_property
    def clips(self) -> pa.Table:
        """The clips table (CLIPS_SCHEMA), one row per distinct clip of all sources, in clip_id order.

        `.clips.to_pandas()` makes a DataFrame of it. Raises ManifestError where a listed file is missing or damaged.
        """
        return self.read_clips()

    def read_clips(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The clips table, or some columns of it, read anew and not kept; raises as `clips`.

        With `{release}_class_id` comes `{release}_class_ids` where the table has it (memberships.py).
        """
        return self._read_clips(self._checked_files(), columns)

    def _read_clips(self, files: list[str], columns: Sequence[str] | None = None) -> pa.Table:
        several = {field.name.removesuffix("s"): field.name for field in CLASS_IDS_FIELDS}
        class_ids = [several[name] for name in columns or several if name in several]
        try:
            # Without the explicit schema, a column that only later files have would vanish.
            opened = pa.dataset.dataset(files, schema=_ALL_COLUMNS, format="parquet")
            clips = opened.to_table(columns=columns and [*columns, *class_ids])
        except (OSError, pa.ArrowException) as error:
            raise ManifestError(f"{self.path}: the clips table cannot be read: {error}") from None
        # The hashes of the files may have been made to fit.
        if problem := table_problem(clips):
            raise ManifestError(f"{self.path}: the clips table is damaged or was not written by k710: {problem}")
        return clips.drop_columns([name for name in class_ids if clips[name].null_count == clips.num_rows])

    def __repr__(self) -> str:
        rows = sum(entry.get("rows") or 0 for entry in self.about["clips"])
        return f"Manifest({str(self.path)!r}, {counted(rows, 'clip')}, content hash {self.content_hash[:16]})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The 710 class names in canonical order: `labels[class_id]` is a clip's label."""
        return class_names("k710")

    @property
    def content_hash(self) -> str:
        """SHA-256 over the rows of the clips table: equal for equal datasets, wherever and with whatever built."""
        return str(self.about["content_hash"])

    def to_pandas(self) -> pd.DataFrame:
        """The clips table as a DataFrame; missing class ids stay missing (nullable Int16)."""
        import pandas as pd

        nullable = {pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype()}
        frame: pd.DataFrame = self.clips.to_pandas(types_mapper=nullable.get)
        return frame

    def dataset(self, **options: Any) -> ClipDataset:
        """The clips of a view and split as a torch Dataset: `dataset(split="train", view="k400", num_frames=8)`.

        The options are those of `k710.loading.dataset.open_dataset`.
        """
        from k710.loading.dataset import open_dataset  # the one import upwards: a manifest is where users begin

        return open_dataset(self, **options)

    def stream(self, shards: str | os.PathLike[str] | RemotePath, **options: Any) -> ShardStream:
        """Shards that `k710 pack` made of this manifest, read from beginning to end.

        The options are those of `k710.loading.stream.open_stream`.
        """
        from k710.loading.stream import open_stream

        return open_stream(self, shards, **options)

    def verify(self) -> None:
        """Read every file whole and compare with the hashes of dataset.json; look at every row's IDs and classes.
        Raises ManifestError on any difference."""
        self._check_rows(self._read_clips(self._checked_files(anew=True)))

    def checked_content_hash(self) -> str:
        """The content hash, once the rows were found to have it: for what publishes it. Raises ManifestError."""
        self._check_rows(self.read_clips())
        return self.content_hash

    def _check_rows(self, clips: pa.Table) -> None:
        if (found := content_hash(clips)) != self.content_hash:
            raise ManifestError(
                f"{self.path}: the rows have content hash {found}, dataset.json says {self.content_hash}: one of the "
                "two was changed after the build. Build it anew, or take a copy that `k710 verify` passes"
            )

    def _checked_files(self, *, anew: bool = False) -> list[str]:
        """The clips files, on this machine: a file with other columns would be read too, with null for what it lacks.

        Of a manifest at a URL the copies are read, unless `anew`; their hashes are looked at just the same.
        """
        return [
            str(_checked_file(self.path / entry["file"], str(entry.get("sha256")), anew))
            for entry in self.about["clips"]
        ]


def _checked_file(path: Location, sha256: str, anew: bool) -> Path:
    found = "no file"
    # A copy that has been damaged here is no damage there: it is brought once more.
    for bring in (anew, True) if isinstance(path, RemotePath) else (False,):
        with contextlib.suppress(FileNotFoundError):
            copy = copy_of(path, version=sha256[:16], anew=bring)
            found = hashlib.sha256(copy.read_bytes()).hexdigest()
            if found == sha256:
                return copy
    raise ManifestError(f"{path}: damaged: SHA-256 is {found}, dataset.json says {sha256}")


def open_manifest(path: str | os.PathLike[str] | RemotePath, *, version: str | None = None) -> Manifest:
    """Open the manifest that `k710 build` wrote, a folder or at a URL (`s3://bucket/k710`), or an earlier version that
    it still holds.

    `version` is the beginning of that version's content hash; `MANIFEST@VERSION` as the path says the same, unless a
    folder of that very name exists. Raises ManifestError where there is none, where dataset.json is damaged, or where
    a newer k710 wrote it; RemoteError where a URL cannot be read.
    """
    folder = location(path)
    if version is None:
        folder, version = named_version(folder)
    return _open(folder, folder / _COMMIT if version is None else commit_of(folder, version))


def _open(folder: Location, commit: Location) -> Manifest:
    """The manifest in exactly this folder, as one of its commits has it."""
    try:
        dataset = json.loads(commit.read_text(encoding="utf-8"))
        version, files = str(dataset["schema_version"]), [entry["file"] for entry in dataset["clips"]]
    except FileNotFoundError:
        raise ManifestError(
            f"{folder}: no manifest there (no {_COMMIT}); `k710 build --out {folder}` makes one"
        ) from None
    except NotADirectoryError:
        raise ManifestError(f"{folder}: no manifest, which is a folder that holds {_COMMIT}: this is a file") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"{commit}: damaged: {error!r}") from None
    if version.split(".")[0] not in _KNOWN_MAJORS:
        raise ManifestError(
            f"{folder}: has schema version {version}, this k710 reads {_SEVERAL_SPLITS_VERSION} and older; upgrade k710"
        )
    for file in files:
        if not _CLIPS_FILE.fullmatch(str(file)):
            raise ManifestError(f"{commit}: lists {file!r}, which is no clips file of this folder")
    if not files or not all(dataset.get(key) for key in ("content_hash", "recipe", "sources")):
        raise ManifestError(f"{commit}: damaged: a part of it is missing")
    return Manifest(folder, dataset)


def check_output(folder: Location, *, force: bool) -> None:
    """Raise ManifestError unless `folder` is new or empty, or holds a manifest that `force` allows to replace."""
    if isinstance(folder, RemotePath):
        folder.check_writable()
    if folder.is_dir():
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in _OURS and path.name[0] != ".")
        if foreign:
            raise ManifestError(f"{folder}: holds {foreign[0]!r}, so it is no manifest folder; choose another --out")
        if (folder / _COMMIT).exists() and not force:
            raise ManifestError(f"{folder}: a manifest is there already; --force writes a new version beside the old")
    elif folder.exists():
        raise ManifestError(f"{folder}: is a file, not a folder; choose another --out")


def write_manifest(folder: Location, clips: pa.Table, details: dict[str, Any], *, force: bool = False) -> Manifest:
    """Write `clips` (CLIPS_SCHEMA, in clip_id order) and commit them with `details` (sources, recipe, counts).

    Killed at any moment, this leaves the old manifest or the new one. An old version stays until `prune`. Of two at
    once on this machine's disks the second waits for the first, and is asked as if it had come later.
    """
    check_output(folder, force=force)
    with new_folder(folder), _only_writer(folder), new_folder(folder / "clips"):
        check_output(folder, force=force)
        before = _files(folder)
        # Hashing and writing take a while, and neither holds the interpreter.
        with ThreadPoolExecutor(1) as pool:
            hashing = pool.submit(content_hash, clips)
            entry = _write_clips(folder, clips)
            clips_hash = hashing.result()
        dataset = {
            "schema_version": _schema_version(clips),
            "content_hash": clips_hash,
            "clips": [entry],
            **details,
            "tools": {"k710": __version__, "pyarrow": pa.__version__, "python": platform.python_version()},
        }
        commit = (json.dumps(dataset, indent=1) + "\n").encode()
        try:
            _keep_old_version(folder, commit)
            with replacing(folder / _COMMIT) as file:
                file.write(commit)
        except BaseException:
            # Of a put that seemed to fail the answer alone may be lost: then the new clips are the ones that count.
            if isinstance(folder, Path):
                for path in _files(folder) - before:
                    path.unlink()
                with contextlib.suppress(OSError):
                    (folder / "versions").rmdir()  # if it is empty
            raise
    return Manifest(folder, dataset)


def _schema_version(clips: pa.Table) -> str:
    several = any(is_in_several(split_masks(clips[f"{source}_split"])).any() for source in SOURCES)
    return _SEVERAL_SPLITS_VERSION if several else SCHEMA_VERSION


@contextlib.contextmanager
def _only_writer(folder: Location) -> Iterator[None]:
    """No other build or prune in this folder meanwhile: each removes files that nothing lists. At a URL there are no
    locks."""
    if isinstance(folder, RemotePath):
        yield
        return
    with alone(folder / ".lock", needed=False):
        yield


def content_hash(clips: pa.Table) -> str:
    """SHA-256 of the clips table as CSV: the header, then a line per row, strings in double quotes, null as nothing,
    `other_class_ids` joined by semicolons. It holds no time, path or version."""
    sink = HashedFile()
    schema = _hashed_schema(clips.column_names)
    with pa.csv.CSVWriter(sink, schema) as writer:
        for start in range(0, clips.num_rows, _SLICE_ROWS):
            part = clips.slice(start, _SLICE_ROWS)
            columns = [_hashed_form(part[field.name], field.type) for field in schema]
            writer.write_table(pa.table(columns, schema=schema))
    return sink.sha256


def _hashed_form(column: pa.ChunkedArray, form: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_list(column.type):
        return pa.chunked_array([_joined(chunk) for chunk in column.chunks], pa.string())
    return column.cast(form)


def _joined(lists: pa.ListArray) -> pa.Array:
    """Each list's numbers joined by semicolons, a null number as nothing; null for a null list."""
    numbers = pc.fill_null(lists.flatten().cast(pa.string()), "")
    ends = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).cumsum()
    offsets = pa.array([0, *ends], pa.int32())
    return pc.binary_join(pa.ListArray.from_arrays(offsets, numbers, mask=lists.is_null()), ";")


def _write_clips(folder: Location, clips: pa.Table) -> dict[str, Any]:
    """Write the clips file, the same bytes for the same rows under one pyarrow; returns its entry for dataset.json."""
    with named_by_hash(folder / "clips", "clips-{}.parquet") as file:
        pa.parquet.write_table(
            clips,
            file,
            compression="zstd",
            row_group_size=1 << 17,
            # Sorted, clip_ids tell where a clip is; the other columns' ranges tell nothing.
            write_statistics=["clip_id"],
            # IDs do not repeat, but sorted they share their beginnings; everything else repeats.
            use_dictionary=[field.name for field in clips.schema if field.type != pa.string()],
            column_encoding={"clip_id": "DELTA_BYTE_ARRAY", "youtube_id": "DELTA_BYTE_ARRAY"},
        )
    name = f"clips/clips-{file.sha256[:16]}.parquet"
    return {"file": name, "rows": clips.num_rows, "bytes": file.size_bytes, "sha256": file.sha256}


def _files(folder: Location) -> set[Location]:
    return {path for inside in ("clips", "versions") for path in folder.glob(f"{inside}/*")}


def _keep_old_version(folder: Location, new_commit: bytes) -> None:
    content = (folder / _COMMIT).read_bytes() if (folder / _COMMIT).exists() else new_commit
    if content == new_commit:
        return
    try:
        name = _open(folder, folder / _COMMIT).content_hash
    except ManifestError:  # damaged, or of a newer k710: kept as it is
        name = hashlib.sha256(content).hexdigest()
    with new_folder(folder / "versions"), replacing(folder / "versions" / f"{name[:16]}.json") as file:
        file.write(content)


def prune(folder: Location) -> list[Location]:
    """Remove earlier versions and what interrupted builds left; the committed manifest stays. Returns what is gone.

    At a URL, clips that no version lists are left alone for a day: a build may be about to commit them.
    """
    _open(folder, folder / _COMMIT)
    with _only_writer(folder):
        current = {entry["file"] for entry in _open(folder, folder / _COMMIT).about["clips"]}
        old: list[Location] = [*folder.glob("versions/*.json")]  # first, so that no version is left without its clips
        listed = {file for version in old for file in _listed(version)}
        for path in folder.glob("clips/clips-*.parquet"):
            if (file := f"clips/{path.name}") not in current and (file in listed or not _may_be_committed(path)):
                old.append(path)
        for inside in (folder, folder / "clips", folder / "versions"):
            old += inside.glob(f"{TEMPORARY_PREFIX}*")
        for path in old:
            path.unlink()
    return sorted(old)


def _listed(version: Location) -> list[str]:
    """The clips files of an earlier version; none where it is damaged."""
    try:
        return [str(entry["file"]) for entry in json.loads(version.read_bytes())["clips"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _may_be_committed(clips: Location) -> bool:
    return isinstance(clips, RemotePath) and (clips.age_s or 0.0) < _UNCOMMITTED_S
