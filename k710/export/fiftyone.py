"""A folder that FiftyOne imports: `Dataset.from_dir(..., dataset_type=fiftyone.types.FiftyOneDataset)`.

FiftyOne's present format of that type is a copy of its database, and its schema changes between versions. Every version
also reads the first format, which describes each sample in plain JSON. This module writes the first format.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from k710.errors import FetchError
from k710.export.lists import check_labelled, check_out, held_folder, split_parts
from k710.export.paths import DEFAULT_TEMPLATE, check_template, clip_rows, path_of
from k710.manifest.file_names import names_of_files
from k710.manifest.read import Manifest
from k710.manifest.views import names_in, view
from k710.storage.storage import replacing
from k710.store.local_files import LocalFiles

SAMPLES, METADATA = "samples.json", "metadata.json"


@dataclass(frozen=True)
class FiftyOneCounts:
    """The number of written samples, and of clips without a file in the folder of videos."""

    samples: dict[str, int]  # by split
    missing: dict[str, int]


def export_fiftyone(
    manifest: Manifest,
    out: Path,
    *,
    view_name: str | None = None,
    dialect: str = "canonical",
    splits: tuple[str, ...] = (),
    template: str = DEFAULT_TEMPLATE,
    videos: Path | None = None,
    force: bool = False,
    chosen: pa.Table | None = None,
) -> FiftyOneCounts:
    """Write a view, or the `chosen` clips of it (selection.py), as samples.json and metadata.json.

    A sample has its split as tag, its class as `ground_truth` (a Classification; none in lists without labels), and the
    fields clip_id, youtube_id, time_start_s, time_end_s, class_id. Its file is the clip's file in the folder `videos`,
    in any layout that `k710 fetch` reads. A file named only by the video counts if the view has one clip of that video.
    Clips without a file are left out and counted. Without `videos`, `template` makes the path, and it is not checked
    that the file exists; a relative path starts at `out`. Raises the errors of `lists.export`, and FetchError for a
    folder with none of the clips.
    """
    fields, view_name = check_template(template), manifest.catalogue.check_view(view_name)
    table = view(manifest.clips, view_name, manifest.catalogue, dialect=dialect) if chosen is None else chosen
    parts = split_parts(table, splits)
    for part in parts.values() if videos is None and fields & {"label", "label_", "class_id"} else ():
        check_labelled(part, "the template")
    find = (
        _by_template(template)
        if videos is None
        else _ByFolder(LocalFiles(videos.resolve(), names=names_of_files(manifest)), table)
    )
    samples: Counter[str] = Counter(dict.fromkeys(parts, 0))
    missing: Counter[str] = Counter(dict.fromkeys(parts, 0))
    info = {
        "default_classes": names_in(table),
        "view": view_name,
        "content_hash": manifest.checked_content_hash(),
    }
    with held_folder(out):
        check_out(out, [METADATA, SAMPLES], force=force)
        with replacing(out / SAMPLES) as file:
            separator = b'{"samples": [\n'
            for split, row in _rows(parts):
                path = find(row)
                if path is None:
                    missing[split] += 1
                    continue
                file.write(separator + json.dumps(_sample(row, split, path)).encode())
                samples[split] += 1
                separator = b",\n"
            if not any(samples.values()):
                raise FetchError(f"{videos}: has none of the {sum(missing.values()):,} clips")
            file.write(b"\n]}\n")
        with replacing(out / METADATA) as file:
            file.write(f"{json.dumps({'info': info}, indent=1)}\n".encode())
    return FiftyOneCounts(dict(samples), dict(missing))


def _rows(parts: dict[str, pa.Table]) -> Iterator[tuple[str, dict[str, Any]]]:
    for split, part in parts.items():
        for row in clip_rows(part):
            yield split, row


def _sample(row: dict[str, Any], split: str, path: str) -> dict[str, Any]:
    label = row["label"]
    fields = {name: row[name] for name in ("clip_id", "youtube_id", "time_start_s", "time_end_s", "class_id")}
    classification = None if label is None else {"_cls": "Classification", "label": label}
    return {"filepath": path, "tags": [split], "ground_truth": classification, **fields}


def _by_template(template: str) -> Any:
    return lambda row: path_of(row, template)


class _ByFolder:
    """The file of a clip in a folder of clips, as an absolute path."""

    def __init__(self, files: LocalFiles, table: pa.Table) -> None:
        self._files = files
        # A clip in several splits of the view is one clip of its video.
        clips = dict(zip(table["clip_id"].to_pylist(), table["youtube_id"].to_pylist(), strict=True))
        self._clips_of = Counter(clips.values()) if files.by_video else Counter()

    def __call__(self, row: dict[str, Any]) -> str | None:
        found = self._files.by_span.get(row["clip_id"])
        if found is None and self._clips_of[row["youtube_id"]] == 1:
            found = self._files.by_video.get(row["youtube_id"])
        return None if found is None else str(self._files.folder / found[0])
