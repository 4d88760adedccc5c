"""The states of two datasets' clips in two stores: fetched, a class of failure, or not settled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.diff.sides import Pairs
from k710.manifest.memberships import memberships
from k710.sources.source import SPLITS

MEDIA_COLUMNS = ("clip_id", "failure", "sha256")
FETCHED, NOT_SETTLED = "fetched", "not_settled"

Codes = npt.NDArray[np.int16]


@dataclass(frozen=True)
class MediaChange:
    """Clips of a split by their states in A and B; None if the side does not have the clip or has no store."""

    split: str  # of B if the clip is in one, else of A; a clip in several splits counts in each
    a: str | None
    b: str | None
    clips: int
    other_bytes: int  # fetched on both sides, with different bytes


@dataclass(frozen=True)
class MediaOfPairs:
    """Per pair: the state on each side (an index into `states`, -1 for none) and whether the two differ."""

    states: tuple[str, ...]
    a: Codes
    b: Codes
    other_bytes: npt.NDArray[np.bool_]

    @property
    def differs(self) -> npt.NDArray[np.bool_]:
        """The clips that are in a split of both, with a store on both sides, in different states."""
        different: npt.NDArray[np.bool_] = (self.a >= 0) & (self.b >= 0) & ((self.a != self.b) | self.other_bytes)
        return different

    def columns(self, index: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
        """media_a and media_b of some pairs; media_b is `other_bytes` if both are fetched with different bytes."""
        names = [*self.states, "other_bytes"]
        b = np.where(self.other_bytes, len(self.states), self.b)[index]
        sides = {"media_a": self.a[index], "media_b": b}
        return {name: pa.array(names, pa.string()).take(pa.array(c, mask=c < 0)) for name, c in sides.items()}


def media_changes(
    pairs: Pairs, media_a: pa.Table | None, media_b: pa.Table | None
) -> tuple[tuple[MediaChange, ...], MediaOfPairs | None]:
    """The counts of the clips in a split by their states on both sides, and the states of each pair.

    The counts sum to the clips in a split of A or B; a clip in several splits counts in each. Returns ((), None)
    without media.
    """
    if media_a is None and media_b is None:
        return (), None
    failures = sorted(name for media in (media_a, media_b) if media is not None for name in _failures(media))
    states = (FETCHED, NOT_SETTLED, *dict.fromkeys(failures))
    a, sha256_a = _states(pairs, media_a, pairs.in_a, states)
    b, sha256_b = _states(pairs, media_b, pairs.in_b, states)
    other_bytes = np.zeros(len(pairs), bool)
    both = np.flatnonzero((a == 0) & (b == 0))
    if len(both):
        other_bytes[both] = pc.fill_null(pc.not_equal(sha256_a(both), sha256_b(both)), True).to_numpy(
            zero_copy_only=False
        )
    found = MediaOfPairs(states, a, b, other_bytes)
    return tuple(_counts(pairs, found)), found


def _failures(media: pa.Table) -> list[str]:
    return [name for name in pc.unique(media["failure"]).to_pylist() if name is not None]


def _states(
    pairs: Pairs, media: pa.Table | None, inside: npt.NDArray[np.bool_], states: tuple[str, ...]
) -> tuple[Codes, Callable[[npt.NDArray[np.int64]], pa.Array]]:
    """The state of each pair on one side, and a function for the SHA-256 of pairs that are fetched there."""
    codes = np.full(len(pairs), -1, np.int16)
    rows = np.full(len(pairs), -1, np.int64)
    if media is None:
        return codes, lambda index: pa.nulls(len(index), pa.string())
    index = np.flatnonzero(inside)
    match = pc.index_in(pairs.clip_ids(index), value_set=media["clip_id"].combine_chunks())
    rows[index] = match.fill_null(-1).to_numpy(zero_copy_only=False)
    of_row = pc.index_in(media["failure"], value_set=pa.array(states, pa.string())).fill_null(0)
    of_row = np.append(of_row.to_numpy().astype(np.int16), np.int16(states.index(NOT_SETTLED)))
    codes[index] = of_row[rows[index]]
    return codes, lambda index: media["sha256"].take(pa.array(rows[index])).combine_chunks()


def _counts(pairs: Pairs, media: MediaOfPairs) -> list[MediaChange]:
    index, in_split = memberships(np.where(pairs.in_b, pairs.masks_b, pairs.masks_a))
    split = in_split.astype(np.int64)
    width = len(media.states) + 1
    key = (split * width + media.a[index] + 1) * width + media.b[index] + 1
    keys, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    other = np.bincount(inverse, weights=media.other_bytes[index], minlength=len(keys)).astype(int)
    names = (None, *media.states)
    return [
        MediaChange(SPLITS[one // width**2], names[one // width % width], names[one % width], clips, differ)
        for one, clips, differ in zip(keys.tolist(), counts.tolist(), other.tolist(), strict=True)
    ]
