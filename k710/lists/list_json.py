"""The clips that a JSON list names: Kinetics' and ActivityNet's form, and plain arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from k710.errors import ListError
from k710.lists.annotation_rows import json_entries
from k710.lists.clip_paths import ClipName, clips_in_path

_KEYS = ("youtube_id", "clip_id", "video_id", "id", "path", "video_path", "video", "file_name", "filename", "url")


def names_in_json(text: str) -> Iterator[tuple[int, tuple[ClipName, ...], str]]:
    """The number, the clips and the text of every entry of a JSON list.

    Read are an object with an ID for a key, ActivityNet's `database`, an array of names, and an array of objects with a
    name. Raises ListError for other JSON.

    A number is a line; in an array, which is often a single line, it is the entry's place.
    """
    try:
        if text.lstrip()[:1] == "[":
            entries = json.loads(text)
            yield from ((number, _clips_of_entry(entry), str(entry)) for number, entry in enumerate(entries, 1))
            return
        entries = list(json_entries(text))
        database = next((value for _, key, value in entries if key == "database" and isinstance(value, dict)), None)
        if database is not None:
            entries = [(number, key, value) for number, (key, value) in enumerate(database.items(), 1)]
    except json.JSONDecodeError as error:
        raise ListError(f"line {error.lineno}: not JSON, or cut off: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise ListError(f"not a JSON list: {error}") from None
    for line, key, value in entries:
        yield line, _with_span(clips_in_path(key), value), key


def _clips_of_entry(entry: Any) -> tuple[ClipName, ...]:
    if isinstance(entry, str):
        return clips_in_path(entry)
    if isinstance(entry, dict):
        key = next((key for key in _KEYS if isinstance(entry.get(key), str)), None)
        return clips_in_path(entry[key]) if key else ()
    return ()


def _with_span(found: tuple[ClipName, ...], entry: Any) -> tuple[ClipName, ...]:
    """The clip with the span of its only annotation, as Kinetics' lists have it, if it is in whole seconds."""
    annotation = entry.get("annotations") if isinstance(entry, dict) else None
    segment = annotation.get("segment") if isinstance(annotation, dict) else None
    if len(found) != 1 or found[0].span_s or not (isinstance(segment, list) and len(segment) == 2):
        return found
    if not all(isinstance(time, (int, float)) and float(time).is_integer() and time >= 0 for time in segment):
        return found
    return (ClipName(found[0].youtube_id, (int(segment[0]), int(segment[1]))),)
