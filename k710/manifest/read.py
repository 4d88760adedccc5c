"""An opened manifest, the folder that describes a dataset: its clips table, its commit, and the checks of both.

    MANIFEST/
        clips/clips-{hash}.parquet   the clips table; the name carries the SHA-256 of the file
        dataset.json                 the commit: lists the clips files; replaced last and at once
        versions/{hash}.json         the dataset.json of earlier versions, until `k710 prune`
        near_duplicates.parquet      what `k710 near-duplicates` found, once it was run

Readers open only the files that dataset.json lists. manifests/README.md describes every column.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet

from k710.errors import ManifestError, UsageError
from k710.lists.labels import class_names
from k710.manifest.checks import table_problem
from k710.manifest.listings import class_ids_beside
from k710.manifest.schema import CLIPS_FILE, KNOWN_MAJORS, OWN_UNION_VERSION, all_columns, content_hash
from k710.manifest.versions import COMMIT as _COMMIT
from k710.manifest.versions import commit_of, named_version
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.sources.own import from_plain
from k710.sources.unions import from_plain as union_from_plain
from k710.storage.remote import RemotePath
from k710.storage.remote_copies import copy_of
from k710.storage.storage import Location, location
from k710.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

OWN_SOURCES = "own_sources"  # in dataset.json: see sources/own.py
OWN_UNION = "union"  # likewise: see sources/unions.py


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
        """The clips table, or some columns of it, read from the files each time and not kept; raises as `clips`.

        With the label of a source comes the label of each of its splits where the table has it (listings.py).
        """
        return self._read_clips(self._checked_files(), columns)

    def _read_clips(self, files: list[str], columns: Sequence[str] | None = None) -> pa.Table:
        beside = class_ids_beside(self.catalogue.names)
        class_ids = [beside[name] for name in columns or beside if name in beside]
        schema = all_columns(self.catalogue)
        try:
            if columns is not None:
                schema = pa.schema([schema.field(name) for name in (*columns, *class_ids)])
            clips = pa.concat_tables([_columns_of(file, schema) for file in files])
        except (OSError, pa.ArrowException) as error:
            raise ManifestError(f"{self.path}: the clips table cannot be read: {error}") from None
        # Whoever changed the rows may have changed the hashes of the files too.
        if problem := table_problem(clips, self.catalogue):
            raise ManifestError(f"{self.path}: the clips table is damaged or was not written by k710: {problem}")
        return clips.drop_columns([name for name in class_ids if clips[name].null_count == clips.num_rows])

    def __repr__(self) -> str:
        rows = sum(entry.get("rows") or 0 for entry in self.about["clips"])
        return f"Manifest({str(self.path)!r}, {counted(rows, 'clip')}, content hash {self.content_hash[:16]})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The union's class names (of Kinetics-710: 710) in canonical order: `labels[class_id]` is a clip's label."""
        return class_names(self.catalogue.union.name, sources=self.catalogue)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The union, and the sources that its tables have columns of: k710's, then those that dataset.json describes.
        Raises ManifestError where that description is damaged."""
        num_classes, part = len(class_names(KINETICS.union.name)), OWN_SOURCES
        try:
            catalogue = KINETICS.and_own(from_plain(one, num_classes) for one in self.about.get(OWN_SOURCES, ()))
            part, union = OWN_UNION, self.about.get(OWN_UNION)
            if union is None:
                return catalogue
            catalogue = catalogue.with_union(union_from_plain(union))
            for name, indices in catalogue.union.class_maps.items():
                if len(indices) != (num_own := len(class_names(name, sources=catalogue))):
                    raise ValueError(f"class_maps of {name} has {len(indices)} classes, and the source {num_own}")
            return catalogue
        except (TypeError, ValueError, UsageError) as error:
            raise ManifestError(f"{self.path}: dataset.json is damaged: its {part}: {error}") from None

    def class_names(self, view: str, dialect: str = "canonical") -> tuple[str, ...]:
        """The names of a view's classes, in the index order of a dialect. Raises UsageError for an unknown view or
        dialect."""
        return class_names(self.catalogue.check_view(view), dialect, self.catalogue)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that it was built from, as its recipe records them. Raises ManifestError where it does not."""
        try:
            return self.catalogue.check_sources(self.about["recipe"]["sources"])
        except (KeyError, TypeError, UsageError) as error:
            raise ManifestError(f"{self.path}: dataset.json is damaged: its recipe's sources: {error}") from None

    @property
    def content_hash(self) -> str:
        """SHA-256 over the rows of the clips table: equal for equal datasets, on whatever machine they were built."""
        return str(self.about["content_hash"])

    def to_pandas(self) -> pd.DataFrame:
        """The clips table as a DataFrame; missing class ids stay missing (nullable Int16)."""
        import pandas as pd

        nullable = {pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype()}
        frame: pd.DataFrame = self.clips.to_pandas(types_mapper=nullable.get)
        return frame

    def verify(self) -> None:
        """Read every file whole, compare with the hashes of dataset.json, and check the IDs and classes of every row.
        Raises ManifestError on any difference."""
        self._check_rows(self._read_clips(self._checked_files(again=True)))

    def checked_content_hash(self) -> str:
        """The content hash, computed from the rows and compared: for commands that publish it. Raises ManifestError."""
        self._check_rows(self.read_clips())
        return self.content_hash

    def _check_rows(self, clips: pa.Table) -> None:
        if (found := content_hash(clips)) != self.content_hash:
            raise ManifestError(
                f"{self.path}: the rows have content hash {found}, dataset.json says {self.content_hash}: one of the "
                "two was changed after the build. Build it again, or take a copy that `k710 verify` passes"
            )

    def _checked_files(self, *, again: bool = False) -> list[str]:
        """The clips files on this machine, their hashes checked: pyarrow would read a file with other columns too, with
        null for those that it lacks.

        For a manifest at a URL they are copies, which `again` downloads again.
        """
        return [
            str(_checked_file(self.path / entry["file"], str(entry.get("sha256")), again))
            for entry in self.about["clips"]
        ]


def _columns_of(file: str, schema: pa.Schema) -> pa.Table:
    """The columns of the schema; those that the file lacks are null. A later version may have more than an earlier one.

    Not by pyarrow.dataset, which loads pandas: that takes longer than many a command.
    """
    with pa.parquet.ParquetFile(file) as opened:
        there = set(opened.schema_arrow.names)
        rows = opened.read([name for name in schema.names if name in there])
        num_rows = opened.metadata.num_rows
    columns = [rows[f.name].cast(f.type) if f.name in there else pa.nulls(num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)


def _checked_file(path: Location, sha256: str, again: bool) -> Path:
    found = "no file"
    # A copy may have been damaged on this machine: then it is downloaded once more.
    for download in (again, True) if isinstance(path, RemotePath) else (False,):
        with contextlib.suppress(FileNotFoundError):
            copy = copy_of(path, version=sha256[:16], refresh=download)
            found = hashlib.sha256(copy.read_bytes()).hexdigest()
            if found == sha256:
                return copy
    raise ManifestError(f"{path}: damaged: SHA-256 is {found}, dataset.json says {sha256}")


def open_manifest(path: str | os.PathLike[str] | RemotePath, *, version: str | None = None) -> Manifest:
    """Open the manifest that `k710 build` wrote: a folder, or a URL (`s3://bucket/k710`).

    `version` opens an earlier version that the folder still has; it is the beginning of that version's content hash. A
    path `MANIFEST@VERSION` means the same, unless a folder of exactly this name exists. Raises ManifestError where
    there is no manifest, where dataset.json is damaged, or where a newer k710 wrote it; RemoteError where a URL cannot
    be read.
    """
    folder = location(path)
    if version is None:
        folder, version = named_version(folder)
    return open_commit(folder, folder / _COMMIT if version is None else commit_of(folder, version))


def open_commit(folder: Location, commit: Location) -> Manifest:
    """The manifest in exactly this folder, in the version of one of its commits."""
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
    if version.split(".")[0] not in KNOWN_MAJORS:
        raise ManifestError(
            f"{folder}: has schema version {version}, this k710 reads {OWN_UNION_VERSION} and older; upgrade k710"
        )
    for file in files:
        if not CLIPS_FILE.fullmatch(str(file)):
            raise ManifestError(f"{commit}: lists {file!r}, which is no clips file of this folder")
    if not files or not all(dataset.get(key) for key in ("content_hash", "recipe", "sources")):
        raise ManifestError(f"{commit}: damaged: a part of it is missing")
    return Manifest(folder, dataset)
