"""Of loading.py: k710 and its peers on one kind of files, once each is known to give the same batches."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from loading_clips import Clips, clips_in, in_batches
from loading_peers import PEERS, Batches, Session, Shown
from loading_scaling import reads_report
from torch import Tensor

from k710.manifest.read import Manifest

# How far pixels may be from k710's, of 255, as a mean over a batch: resizing rounds (0.2), and decoders of JPEG scale
# colour up in their own ways (0.7). A wrong neighbour of a frame is 0.6 away in `h264`, 2.1 in `frames`.
MOST_LEVELS = {"source": 0.3, "h264": 0.3, "frames": 1.0}
# Before a reason: "[05:04:14] /x/video_reader.cc:270: " and "[/x/frames_decoder_cpu.cc:253] ".
_PLACES = (re.compile(r"^\[[\d:]+\] "), re.compile(r"^\[?/\S+\.cc:\d+[\]:] ?"))


@dataclass(frozen=True)
class SidesOfKind:
    """`work` is what can be timed; `about`, of each side: what it reads and how near its pixels are, or why not."""

    work: dict[str, Callable[[int], int]]
    about: dict[str, dict[str, Any]]


def sides_of_kind(manifest: Manifest, kind: str, clips: Clips, num_epochs: int) -> SidesOfKind:
    """All sides of one kind. A batch has all clips of it."""
    num_clips = len(clips.dataset)
    ours = {"k710": in_batches(clips, num_clips, 0)}
    if kind == "frames":
        ranged = clips_in(manifest, kind, clips.files[clips.dataset.clip_id(0)].parent, frame_reads="ranged")
        ours["k710, ranged reads"] = in_batches(ranged, num_clips, 0)
    expected = _by_id(ours["k710"]())
    work = {name: _counted(passes) for name, passes in ours.items()}
    about: dict[str, dict[str, Any]] = {name: reads_report(lambda do=do: do(0)) for name, do in work.items()}
    epochs = [clips.shown(num_epochs)[epoch * num_clips :][:num_clips] for epoch in range(num_epochs)]
    for name, peer in PEERS.items():
        if (absent := peer.why_absent()) is not None:
            about[name] = {"absent": absent}
        elif kind in peer.kinds:
            session = peer.open(num_clips, 0, clips.shards)
            about[name] = _checked(session, epochs[0], expected, MOST_LEVELS[kind])
            if "absent" not in about[name]:
                work[name] = _of_peer(session, epochs)
                about[name] |= reads_report(lambda do=work[name]: do(0))
    return SidesOfKind(work, about)


def _counted(passes: Callable[[], Batches]) -> Callable[[int], int]:
    return lambda epoch: sum(len(ids) for ids, _ in passes())


def _of_peer(session: Session, epochs: Sequence[Sequence[Shown]]) -> Callable[[int], int]:
    def do(epoch: int) -> int:
        num_clips = sum(len(ids) for ids, _ in session(epochs[epoch]))
        if num_clips != len(epochs[epoch]):  # SPDL goes on without a clip that fails
            raise RuntimeError(f"{num_clips} of {len(epochs[epoch])} clips were loaded")
        return num_clips

    return do


def _checked(
    session: Session, shown: Sequence[Shown], expected: dict[str, Tensor], most_levels: float
) -> dict[str, Any]:
    """Whether a peer reads these files, and shows the same as k710."""
    with _stderr() as written:
        try:
            found = _by_id(session(shown))
        except Exception as error:  # whatever a library raises
            return {"absent": f"cannot read these files: {_reason([*written(), *str(error).splitlines()], shown)}"}
    away = sum(float((found[i].int() - expected[i].int()).abs().float().mean()) for i in expected) / len(expected)
    return {"levels from k710's": round(away, 3), "counts": away <= most_levels}


def _reason(lines: Sequence[str], shown: Sequence[Shown]) -> str:
    """The first line of an error, without the time, the place in a library's sources, and the folder of the file."""
    reason = next((line.strip() for line in lines if line.strip()), "no reason given")
    for place in _PLACES:
        reason = place.sub("", reason)
    for one in shown:
        reason = reason.replace(f"{one.file.parent}/", "")
    return reason


def _by_id(batches: Batches) -> dict[str, Tensor]:
    return {clip_id: clip for ids, clips in batches for clip_id, clip in zip(ids, clips, strict=True)}


@contextmanager
def _stderr() -> Iterator[Callable[[], list[str]]]:
    """Keeps what libraries write to the terminal; the value gives its lines."""
    kept = os.dup(2)
    file: IO[bytes]
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: _lines(file)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode("utf-8", "replace").splitlines()
