"""The whole search for near-duplicates: from a manifest and its store to pairs of clips."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.curate import codes
from k710.errors import StoreError, UsageError
from k710.manifest.pairs import PAIRS_SCHEMA
from k710.manifest.read import Manifest
from k710.near_duplicates.align import MIN_AGREEING, MIN_AGREEING_SHARE, MIN_OF_SHORT, Match, matches
from k710.near_duplicates.candidates import MAX_CLIPS_IN_BUCKET, Ints, candidates, common_frames
from k710.near_duplicates.groups import TRAIN, Clips, best_of_each, groups_of, proposals
from k710.near_duplicates.hash_clip import VARIANTS
from k710.near_duplicates.hashed_clips import MIN_QUALITY, HashedClips, Ints32, video_codes
from k710.near_duplicates.same_bytes import same_bytes
from k710.near_duplicates.sides import compared_clips
from k710.near_duplicates.signatures import SETTINGS, SignatureFolder, Tally, make_missing, media_of, places_of
from k710.sources.known import UNION
from k710.sources.source import SPLITS
from k710.storage.storage import Location
from k710.store.store import Store, fetch_command, profiles_in

DEFAULT_THRESHOLD_BITS = 40
MAX_THRESHOLD_BITS = 64  # unrelated frames differ in about 128 bits, seldom in fewer than 80


@dataclass(frozen=True)
class Question:
    """The clips to compare and the threshold; see `sides.compared_clips`. Raises UsageError."""

    view: str = UNION.name
    splits: tuple[str, ...] | None = None
    threshold_bits: int = DEFAULT_THRESHOLD_BITS

    def __post_init__(self) -> None:
        if not 0 <= self.threshold_bits <= MAX_THRESHOLD_BITS:
            raise UsageError(f"threshold {self.threshold_bits}: must be from 0 to {MAX_THRESHOLD_BITS} of 256 bits")


@dataclass(frozen=True)
class Prepared:
    """The clips of a question, the `media` rows of those in the store, and the media rows with `missing` signatures."""

    clips: pa.Table
    media: pa.Table
    num_failed: int
    folder: SignatureFolder
    missing: pa.Table
    num_damaged: int
    signatures: Location | None = None


@dataclass(frozen=True)
class Found:
    """Pairs (PAIRS_SCHEMA); `about` holds their parameters and counts, as in the file."""

    pairs: pa.Table
    about: dict[str, Any]


def prepare(
    manifest: Manifest, store: Store, question: Question, *, mend: bool = True, signatures: Location | None = None
) -> Prepared:
    """Find the media and the signatures of the clips to compare.

    `mend` removes damaged files of signatures; their clips are hashed again. `signatures` is a folder for new
    signatures instead of the store. Raises StoreError if the store has none of the clips.
    """
    clips = compared_clips(manifest, view=question.view, splits=question.splits)
    media, num_failed = media_of(store, clips["clip_id"].combine_chunks())
    others = [profile for profile in profiles_in(store.root) if profile != store.profile_folder]
    if not num_failed and not len(media) and others:
        raise StoreError(
            f"{store.root}: has none of the {len(clips):,} clips to compare in profile {store.profile_folder}; "
            f"there are clips in {', '.join(others)}: name one with --profile"
        )
    if not len(media):
        raise StoreError(
            f"{store.root}: has none of the {len(clips):,} clips to compare in profile {store.profile_folder} "
            f"({num_failed:,} of them failed); `{fetch_command(manifest.path, store)}` brings them"
        )
    folder = SignatureFolder(store, signatures)
    known = folder.read_known()
    if mend:
        folder.sweep(known.damaged)
    missing = media.filter(pc.is_null(places_of(media, known.rows)))
    return Prepared(clips, media, num_failed, folder, missing, len(known.damaged), signatures)


def make_signatures(prepared: Prepared, store: Store, **options: Any) -> Tally:
    """Decode and hash the clips with missing signatures; for the options see `signatures.make_missing`."""
    return make_missing(store, prepared.missing, elsewhere=prepared.signatures, **options)


@dataclass(frozen=True)
class InStore:
    """The clips of a question that are in the store.

    `clips` has the columns of `compared_clips`, a row for each of `Prepared.media`. `with_signature` are the numbers of
    the clips that have one; the others are compared by their bytes only. `column(name)` reads a column of
    signatures.HASHES, a row for each of `with_signature`.
    """

    clips: pa.Table
    with_signature: Ints
    column: Callable[[str], pa.ChunkedArray]
    num_undecodable: int


def in_store(prepared: Prepared) -> InStore:
    """Read which clips are there, and which of them have signatures by now."""
    known = prepared.folder.read_known()
    place = places_of(prepared.media, known.rows)
    rows = pc.drop_null(place)
    order = pc.index_in(prepared.media["clip_id"], prepared.clips["clip_id"].combine_chunks())
    read = prepared.folder.column
    return InStore(
        prepared.clips.take(order.combine_chunks()),
        np.flatnonzero(pc.is_valid(place)),
        lambda name: read(name).take(rows),
        len(known.rows["failure"].take(rows).drop_null()),
    )


def find(prepared: Prepared, store: Store, question: Question) -> Found:
    """Compare all clips: the bytes of all clips in the store, and the frames of all clips with signatures."""
    there = in_store(prepared)
    clips, with_signature = there.clips, there.with_signature
    deciding = Clips(
        codes(clips["side"]),
        clips["rank"].to_numpy(),
        clips["time_start_s"].fill_null(0).to_numpy(),  # a whole file begins at 0
        clips["clip_id"].to_pylist(),
    )
    video = video_codes(clips["youtube_id"].combine_chunks())
    hashed = HashedClips(
        clips["clip_id"].combine_chunks().take(pa.array(with_signature)), video[with_signature], there.column
    )
    alike, common, too_plain = _compare(hashed, question.threshold_bits)
    equal = same_bytes(prepared.media["sha256"], video, precedence=deciding.precedence)
    matched = equal_first(equal, numbered(alike, with_signature))
    pairs, by_sides = _pairs_table(deciding, matched)
    counts = {
        "clips": len(prepared.clips),
        "compared": len(with_signature) - too_plain,
        "undecodable": there.num_undecodable,
        "too_plain": too_plain - there.num_undecodable,
        "not_read": len(prepared.media) - len(with_signature),
        "failed_to_fetch": prepared.num_failed,
        "pairs": by_sides,
        "same_bytes": len(equal),
        "groups": len(pc.unique(pairs["group"])),
        "common_frames": len(common),
        "common_clips": len(np.unique(common)),
        "common_examples": [deciding.clip_id[clip] for clip in with_signature[np.unique(common)[:5]]],
    }
    return Found(pairs, {"parameters": parameters(question, store.profile_folder), "counts": counts})


def numbered(found: list[Match], clips: Ints) -> list[Match]:
    """The matches with each clip number replaced by its entry in `clips` (some,)."""
    return [match._replace(clip=int(clips[match.clip]), other=int(clips[match.other])) for match in found]


def equal_first(equal: list[Match], alike: list[Match]) -> list[Match]:
    """One match per pair of clips. Equal bytes replace a match of frames."""
    best = {(match.clip, match.other): match for match in [*alike, *equal]}
    return [best[key] for key in sorted(best)]


def parameters(question: Question, profile: str) -> dict[str, Any]:
    """All parameters that decide which pairs are found."""
    return {
        "view": question.view,
        "splits": None if question.splits is None else list(question.splits),
        "threshold_bits": question.threshold_bits,
        "profile": profile,
        **SETTINGS,
        "min_quality": MIN_QUALITY,
        "min_agreeing": MIN_AGREEING,
        "min_agreeing_share": MIN_AGREEING_SHARE,
        "max_clips_in_bucket": MAX_CLIPS_IN_BUCKET,
    }


def _compare(hashed: HashedClips, threshold_bits: int) -> tuple[list[Match], Ints32, int]:
    """The matches, the clip of each frame that is too common, and the number of clips with too few usable frames."""
    index = hashed.frames(VARIANTS[0])
    common = common_frames(index)
    distinctive = index.only(~common)
    found: list[Match] = []
    for variant in VARIANTS:
        searched = distinctive.even_steps() if variant == VARIANTS[0] else hashed.frames(variant)
        # A mirrored pair is symmetric, so one direction is enough. Only one clip of a cropped pair is the crop.
        both_ways = variant.startswith("cropped")
        pairs = candidates(searched, distinctive, hashed.video, max_bits=threshold_bits, both_ways=both_ways)
        queries = index.even_steps() if variant == VARIANTS[0] else searched  # to align, every frame counts
        found += matches(pairs, queries, index, variant=variant, max_bits=threshold_bits)
    return best_of_each(found), index.clip[common], int(np.count_nonzero(np.diff(index.starts) < MIN_OF_SHORT))


def _pairs_table(clips: Clips, found: list[Match]) -> tuple[pa.Table, dict[str, dict[str, int]]]:
    """The pairs as PAIRS_SCHEMA, and their counts by the sides of both clips, such as "train x val"."""
    one, other = (np.array([getattr(match, name) for match in found], np.int64) for name in ("clip", "other"))
    # The train clip comes first if the other is held out.
    swapped = (clips.side[one] != TRAIN) & (clips.side[other] == TRAIN)
    one, other = np.where(swapped, other, one), np.where(swapped, one, other)
    shift_s = np.array([match.shift_s for match in found]) * np.where(swapped, -1, 1) + 0.0  # no -0
    group_of = groups_of(len(clips.clip_id), one, other)[one]
    drop, kept = proposals(clips, one, other)
    ids = pa.array(clips.clip_id, pa.string())
    table = pa.table(
        [
            ids.take(pa.array(one)),
            ids.take(pa.array(other)),
            pa.array([match.distance for match in found], pa.float32()),
            pa.array(shift_s, pa.float64()).cast(pa.float32()),
            pa.array(["mirrored" in match.variant for match in found], pa.bool_()),
            pa.array(np.unique(group_of, return_inverse=True)[1], pa.int32()),
            ids.take(pa.array(drop, mask=drop < 0)),
            ids.take(pa.array(kept, mask=kept < 0)),
        ],
        schema=PAIRS_SCHEMA,
    )
    return table.sort_by([("clip_id", "ascending"), ("other_clip_id", "ascending")]), _by_sides(clips, one, other, drop)


def _by_sides(clips: Clips, one: Ints, other: Ints, drop: Ints) -> dict[str, dict[str, int]]:
    """The pairs and the proposed clips for each pair of sides, those with train first, including those without
    pairs."""
    known = sorted({SPLITS[side] for side in clips.side.tolist()}, key=SPLITS.index)
    found = {f"{a} x {b}": {"pairs": 0, "drops": 0} for a, b in itertools.combinations_with_replacement(known, 2)}
    dropped: set[tuple[str, int]] = set()
    for a, b, gone in zip(clips.side[one].tolist(), clips.side[other].tolist(), drop.tolist(), strict=True):
        sides = " x ".join(SPLITS[side] for side in sorted((a, b)))
        found[sides]["pairs"] += 1
        found[sides]["drops"] += gone >= 0 and (sides, gone) not in dropped
        dropped.add((sides, gone))
    return found
