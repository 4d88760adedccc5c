"""The path of a clip's file by a template, as lists name it and `k710 unpack` writes it."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from k710.errors import UsageError
from k710.sources.video_ids import raw_id

# The name of a clip's file in the public archives and in most download scripts.
DEFAULT_TEMPLATE = "{clip_id}.mp4"
# The name of a frame in its clip's folder, counted from 1, as MMAction2, VideoMAE V2 and UniFormerV2 (SSv2) have it.
FRAME_FILE = "img_{:05d}.jpg"
TEMPLATE_FIELDS = ("clip_id", "youtube_id", "id", "time_start_s", "time_end_s", "split", "label", "label_", "class_id")

_BATCH_ROWS = 1 << 16
_NOT_IN_A_NAME = re.compile(r"[/\\\x00-\x1f\x7f]")


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
    if not fields & {"clip_id", "youtube_id", "id"}:
        raise UsageError(f"{where} makes one path for all clips; it needs {{clip_id}} or {{youtube_id}}")
    if set(template) & set("\r\n"):
        raise UsageError(f"{where} contains a line break")
    return fields


def clip_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a view."""
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        yield from batch.to_pylist()


def path_of(row: dict[str, Any], template: str) -> str:
    """The path of a clip by a checked template (`check_template`).

    `id` is the video's ID as its lists have it, and `label_` the label with underscores for spaces. A label names one
    folder: what cannot stand in its name (`/`, `\\`, control characters, a dot in front) becomes `_`.
    """
    label = folder_name(row["label"] or "")
    return template.format(
        **row | {"id": raw_id(row["youtube_id"])[1], "label": label, "label_": label.replace(" ", "_")}
    )


def folder_name(label: str) -> str:
    """A label as the name of a folder."""
    name = _NOT_IN_A_NAME.sub("_", label)
    return f"_{name[1:]}" if name.startswith(".") else name
