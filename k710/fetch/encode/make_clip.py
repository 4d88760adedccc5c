"""One clip, from the files that may hold it to a checked file of the store's form. Runs in a process of its own."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from k710.fetch.encode.check import measure
from k710.fetch.encode.codecs import CODECS
from k710.fetch.encode.damage import MAX_LOST_SHARE, check_damage
from k710.fetch.encode.encode import NoSpaceError, NothingMadeError, encode
from k710.fetch.encode.frames import begins_with_jpeg, measure_frames
from k710.fetch.encode.jobs import NO_SPACE, Candidate, CheckJob, ClipJob, Made
from k710.fetch.encode.measured import FramePlaces, Measured
from k710.fetch.encode.profiles import Profile
from k710.fetch.encode.source_file import TOLERANCE_S, Part, SourceFile, container_of, part_of, probe
from k710.store.failures import ClipError
from k710.text import os_error_text

MIN_FREE_BYTES = 8 << 20  # below it, a failure of the disk is likelier than one of the clip


def check_clip(job: CheckJob) -> Made:
    """Decode every frame of the file; what it was measured to be, or the class of its failure."""
    try:
        if begins_with_jpeg(job.path):
            return Made(job.clip_id, measured=measure_frames(job.path))
        return Made(job.clip_id, measured=measure(job.path, container_of(job.path), decode_all=True))
    except ClipError as error:
        return Made(job.clip_id, error.failure, str(error))


def make_clip(job: ClipJob) -> Made:
    """Make the clip from the first candidate that holds it; several are tried in order of preference."""
    failed = Made(job.clip_id, "undecodable", "there is no file")
    for index, candidate in _in_order(job.candidates):
        try:
            return _make(job, index, candidate)
        except ClipError as error:
            failed = Made(job.clip_id, error.failure, str(error), source=index)
            if _disk_is_full(job.out.parent):
                return Made(job.clip_id, NO_SPACE)
        except NoSpaceError:
            return Made(job.clip_id, NO_SPACE)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return Made(job.clip_id, NO_SPACE)
            failed = Made(job.clip_id, "unreadable", f"cannot be read: {os_error_text(error)}", source=index)
    return failed


def _in_order(candidates: Sequence[Candidate]) -> list[tuple[int, Candidate]]:
    """Frames as released first, then the span's name, of those a name that is nothing else, then the larger short side;
    what cannot even be probed last."""
    indexed = list(enumerate(candidates))
    if len(indexed) == 1:
        return indexed

    def rank(item: tuple[int, Candidate]) -> tuple[bool, bool, bool, int, int]:
        candidate = item[1]
        try:
            side_px = 0 if candidate.frames_per_s else probe(candidate.path).short_side_px
        except (ClipError, OSError):
            side_px = 0
        return not candidate.frames_per_s, not candidate.named_span, not candidate.is_exact, -side_px, item[0]

    return sorted(indexed, key=rank)


def _make(job: ClipJob, index: int, candidate: Candidate) -> Made:
    if candidate.frames_per_s:
        from k710.fetch.encode.frame_folder import assemble  # it loads the reader of lists, which few runs need

        assembled = _with_suffix(job.out, "assembled.mov")
        assemble(candidate.path, candidate.frames_per_s, assembled)
        candidate = replace(candidate, path=assembled)
    source, codec = probe(candidate.path), CODECS[job.profile.codec]
    part = part_of(source, job.span, named_span=candidate.named_span, spans=job.spans)
    places: FramePlaces | None = None
    if codec.keeps_whole_files and part.whole:
        suffix, path = source.container.suffix, _with_suffix(job.out, source.container.suffix)
        measured = measure(candidate.path, source.container, decode_all=True)
        _check_length(measured, source, part)
        shutil.copyfile(candidate.path, path)
    else:
        suffix, path = codec.suffix, _with_suffix(job.out, codec.suffix)
        encoded = path if codec.finish is None else _with_suffix(job.out, "encoded")
        if candidate.frames_per_s and codec.keeps_jpegs and part.whole and _fits(source, job.profile):
            candidate.path.rename(encoded)
            measured = measure(encoded, source.container, decode_all=True)
        else:
            measured = _encode(job, source, part, encoded)
        if codec.finish is not None:
            places = codec.finish(encoded, path, job.profile)
            encoded.unlink()
    flags = [*part.flags, *measured.flags]
    if job.span and measured.duration_s < job.span[1] - job.span[0] - TOLERANCE_S:
        flags.append("short")
    made = Made(job.clip_id, None, None, str(path), suffix, measured, tuple(flags), index)
    return made if places is None else replace(made, frame_offsets=places.offsets, frame_indices=places.indices)


def _fits(source: SourceFile, profile: Profile) -> bool:
    """Whether JPEGs can be stored as they are: in colours that every reader of JPEGs knows, and not to be scaled."""
    return source.colours is not None and not 0 < profile.short_side_px < source.short_side_px


def _with_suffix(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.name}.{suffix}")


def _encode(job: ClipJob, source: SourceFile, part: Part, encoded: Path) -> Measured:
    """Encode the part as the file `encoded`; what that file was measured to be. Raises ClipError."""
    try:
        complained = encode(source, part, job.profile, encoded, limit_s=job.limit_s)
    except NothingMadeError:
        check_damage(source, part)
        raise
    if complained and part.start_s is None and source.frames_gone > MAX_LOST_SHARE:
        raise ClipError("corrupt", f"{source.frames_gone:.0%} of its frames are gone")
    found = check_damage(source, part) if complained else None
    measured = _measure_made(encoded, source, part)
    if found and measured.num_frames < (1 - MAX_LOST_SHARE) * found.num_pictures - 1:
        raise ClipError("corrupt", f"{measured.num_frames} of {found.num_pictures} frames decode")
    _check_length(measured, source, part)
    return measured


def _measure_made(path: Path, source: SourceFile, part: Part) -> Measured:
    """What ffmpeg made. Where it made no picture, the ClipError is about the source, not about our own file."""
    try:
        return measure(path, container_of(path), decode_all=False)
    except ClipError as error:
        if error.failure in ("undecodable", "not_video"):
            check_damage(source, part)
            raise ClipError("undecodable", "ffmpeg made no picture of it") from None
        raise


def _check_length(measured: Measured, source: SourceFile, part: Part) -> None:
    """Raise ClipError where less, or more, is there than the file itself declares for this part."""
    left_s = source.duration_s - (part.start_s or 0.0)
    expected_s = left_s if part.whole else min(part.duration_s, left_s)
    # Of the last picture only the beginning is sure to be in the part.
    tolerance_s = max(TOLERANCE_S + 2 / max(measured.fps, 1.0), TOLERANCE_S + source.longest_gap_s)
    if measured.duration_s < expected_s - tolerance_s:
        raise ClipError("corrupt", f"{measured.duration_s:.1f} of {expected_s:.1f} s are there")
    if measured.duration_s > expected_s + tolerance_s:
        raise ClipError("mismatch", f"lasts {measured.duration_s:.1f} s, declared are {expected_s:.1f} s")


def _disk_is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < MIN_FREE_BYTES
    except OSError:
        return True
