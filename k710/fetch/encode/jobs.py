"""What the run asks of the processes that touch media, and what they answer. The run itself loads no decoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from k710.engine.helper_pool import HelperPool
from k710.fetch.encode.measured import Measured
from k710.fetch.encode.profiles import Profile
from k710.sources.video_ids import Span

NO_SPACE = "no_space"  # no failure of the clip: the run ends


@dataclass(frozen=True)
class Candidate:
    """A file that may hold a clip; `named_span`: it is named by the span, not by the video alone; `is_exact`: and by
    nothing else, as `…(1).mp4` is. With `frames_per_s`, it is a folder of JPEGs, so many to a second."""

    path: Path
    named_span: bool
    is_exact: bool = True
    frames_per_s: float = 0.0


@dataclass(frozen=True)
class ClipJob:
    """What to make: the clip `span` (None: all of it) of a video whose clips in the manifest have these `spans`, from
    the first of `candidates` that holds it, by `profile`, as a file that is called `out` and a suffix."""

    clip_id: str
    span: Span | None
    spans: tuple[Span, ...]
    candidates: tuple[Candidate, ...]
    out: Path
    profile: Profile
    limit_s: float = 300.0

    def as_json(self) -> dict[str, Any]:
        plain = asdict(self) | {"out": str(self.out)}
        candidates = self.candidates
        plain["candidates"] = [
            [str(each.path), each.named_span, each.is_exact, each.frames_per_s] for each in candidates
        ]
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> ClipJob:
        candidates = tuple(Candidate(Path(path), *named) for path, *named in plain["candidates"])
        spans = tuple((start, end) for start, end in plain["spans"])
        span = plain["span"] and tuple(plain["span"])
        profile = Profile(**plain["profile"])
        return cls(plain["clip_id"], span, spans, candidates, Path(plain["out"]), profile, plain["limit_s"])


@dataclass(frozen=True)
class CheckJob:
    """A file of the store to decode from its first frame to its last."""

    clip_id: str
    path: Path
    limit_s: float = 300.0

    def as_json(self) -> dict[str, Any]:
        return {"check": str(self.path), "clip_id": self.clip_id, "limit_s": self.limit_s}


@dataclass(frozen=True)
class Made:
    """What came of a ClipJob: a file with what it was measured to be, or the class of its failure and a message.

    `source` is the index of the candidate that it came from (of the last that failed).
    """

    clip_id: str
    failure: str | None = None
    message: str | None = None
    path: str | None = None
    suffix: str | None = None
    measured: Measured | None = None
    flags: tuple[str, ...] = field(default=())
    source: int = 0
    frame_offsets: tuple[int, ...] | None = None  # of stored frames: where each begins in the file,
    frame_indices: tuple[int, ...] | None = None  # and which frame of the span it is

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Made:
        measured = plain["measured"]
        if measured is not None:
            measured = Measured(**measured | {"flags": tuple(measured["flags"])})
        tuples = {key: plain[key] and tuple(plain[key]) for key in ("frame_offsets", "frame_indices")}
        return cls(**plain | tuples | {"measured": measured, "flags": tuple(plain["flags"])})


ClipPool = HelperPool[Made]


def clip_pool(num_processes: int) -> ClipPool:
    """Processes that do a ClipJob or a CheckJob; each is started when it is first needed."""
    return HelperPool(num_processes, module="k710.fetch.encode.clip_process", answer=Made)
