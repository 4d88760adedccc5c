"""The process that decodes and hashes clips: it reads one HashJob per line and writes one Hashed. `python -m` starts
it.

Damaged bytes may crash or hang a decoder. Then only this process ends, and the run continues with a new one.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from k710.engine.helper_process import serve

UNREADABLE, UNDECODABLE = "unreadable", "undecodable"


@dataclass(frozen=True)
class HashJob:
    """A clip to hash: its media row (frames.ClipMedia, in order), and the folder of its tar."""

    clip_id: str
    tars_folder: str
    media: tuple[Any, ...]
    limit_s: float = 120.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Hashed:
    """The result of a HashJob: the bytes of each column of hashes, or a failure and a message.

    `unreadable`: the store cannot read the clip's bytes, which may be repaired. `undecodable`: the bytes are no video.
    `settled`: the result holds for these bytes in every run. It is false if the process died, because of a disk that
    hung or a lack of memory; then the pool answers in its place.
    """

    clip_id: str
    failure: str | None = None
    message: str | None = None
    columns: dict[str, bytes] = field(default_factory=dict)
    settled: bool = False

    def as_json(self) -> dict[str, Any]:
        text = {name: base64.b64encode(content).decode() for name, content in self.columns.items()}
        return asdict(self) | {"columns": text}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Hashed:
        columns = {name: base64.b64decode(text) for name, text in plain["columns"].items()}
        return cls(**plain | {"columns": columns})


def main() -> None:
    """Hash clips until stdin ends."""
    serve(_load)


def _load() -> Callable[[dict[str, Any]], dict[str, Any]]:
    import functools

    from k710.errors import LoadError
    from k710.near_duplicates.frames import ClipMedia, frames_of, media_files, read_clip
    from k710.near_duplicates.hash_clip import hash_clip
    from k710.storage.storage import location

    opened = functools.cache(media_files)

    def answer(plain: dict[str, Any]) -> dict[str, Any]:
        clip = ClipMedia(*plain["media"])
        try:
            content = read_clip(opened(location(plain["tars_folder"])), clip)
        except LoadError as error:
            return Hashed(clip.clip_id, UNREADABLE, str(error)).as_json()
        try:
            hashes = hash_clip(frames_of(clip, content))
        except LoadError as error:
            return Hashed(clip.clip_id, UNDECODABLE, str(error), settled=True).as_json()
        columns = {name: part.tobytes() for name, part in hashes._asdict().items()}
        return Hashed(clip.clip_id, columns=columns, settled=True).as_json()

    return answer


if __name__ == "__main__":
    main()
