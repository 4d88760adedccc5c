"""The clips to compare, and the side of each: train, val or test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.build import CurationRecipe, recipe_of
from k710.curation.curate import Policy, codes
from k710.errors import UsageError
from k710.manifest.listings import is_in, masks_of, split_names
from k710.manifest.memberships import in_splits_of
from k710.manifest.read import Manifest
from k710.manifest.schema import NEAR_DUPLICATE
from k710.sources.catalogue import Catalogue
from k710.sources.source import SPLITS

_COLUMNS = ("clip_id", "youtube_id", "time_start_s", "split", "drop_reason")


def columns(manifest: Manifest) -> tuple[str, ...]:
    """The columns of the clips table that `compared_clips` reads."""
    return (*_COLUMNS, *split_names(manifest.catalogue.names))


def compared_clips(manifest: Manifest, *, view: str | None = None, splits: tuple[str, ...] | None = None) -> pa.Table:
    """The clips to compare: clip_id, youtube_id, time_start_s, `side` (a split) and `rank` (0 for the newest release).

    In the view of a release, the side of a clip is its split there. If it has several of `splits`, the first in the
    order val, test, train counts. In the view of the union (the default), train holds the clips that curation put
    there, including dropped near-duplicates. Val and test hold all other clips in such a list of any member, even those
    that the union does not keep, because a benchmark may contain them, and those in lists beside the union that it
    holds out. `splits`: by default train and what is held out; for a release, all. Raises UsageError for an unknown
    view or split, or if no clip is left to compare; RecipeError or UsageError if the manifest's recipe is damaged.
    """
    sources = manifest.catalogue
    view = sources.check_view(view)
    if unknown := [split for split in splits or () if split not in SPLITS]:
        raise UsageError(f"unknown split {unknown[0]!r}; known: {', '.join(SPLITS)}")
    recipe = recipe_of(manifest)
    is_union = view == sources.union.name
    if splits is None:
        held_out = {split for _, split in sources.held_out(recipe.holdout)}
        splits = ("train", *(split for split in SPLITS if split in held_out)) if is_union else SPLITS
    clips = manifest.read_clips(columns(manifest))
    side = _side_in_union(clips, recipe, sources) if is_union else _side_in_release(clips, view, splits)
    wanted = np.isin(side, [SPLITS.index(split) for split in splits])
    if not wanted.any():
        raise UsageError(f"{manifest.path}: view {view} has no {' or '.join(splits)} clips")
    named = pa.DictionaryArray.from_arrays(pa.array(side[wanted].astype(np.int8)), list(SPLITS))
    return (
        clips.select(["clip_id", "youtube_id", "time_start_s"])
        .filter(pa.array(wanted))
        .append_column("side", named)
        .append_column("rank", pa.array(_rank(clips, recipe.policy, sources)[wanted]))
    )


def taken_out(clips: pa.Table) -> set[str]:
    """The IDs of the clips that are out of train as near-duplicates."""
    near = pc.equal(clips["drop_reason"].cast(pa.string()), NEAR_DUPLICATE)
    return set(clips["clip_id"].filter(near).to_pylist())


def _side_in_union(clips: pa.Table, recipe: CurationRecipe, sources: Catalogue) -> npt.NDArray[np.int8]:
    side = np.full(len(clips), -1, np.int8)
    for split in ("test", "val") if recipe.leak_policy == "train-purge" else ():  # the last one counts
        beside = [name for name, splits in sources.union.holdout.items() if split in splits]
        side[is_in(clips, (*sources.members, *beside), (split,))] = SPLITS.index(split)
    kept = codes(clips["split"])
    near = pc.equal(clips["drop_reason"].cast(pa.string()), NEAR_DUPLICATE)
    side[kept >= 0] = kept[kept >= 0]
    side[pc.fill_null(near, False).to_numpy()] = SPLITS.index("train")
    return side


def _side_in_release(clips: pa.Table, release: str, splits: tuple[str, ...]) -> npt.NDArray[np.int8]:
    masks = masks_of(clips, release)
    side = np.full(len(clips), -1, np.int8)
    for split in ("train", "test", "val"):  # the last one counts
        if split in splits:
            side[in_splits_of(masks, (split,))] = SPLITS.index(split)
    return side


def _rank(clips: pa.Table, policy: Policy, sources: Catalogue) -> npt.NDArray[np.int8]:
    """(clips,) the rank of the best release that lists each clip for train, else of the best that lists it."""
    names = sources.names
    rank = np.full(len(clips), len(names), np.int8)
    for is_train in (False, True):
        best = np.full(len(clips), len(names), np.int8)
        for source in names:
            in_split = is_in(clips, (source,), ("train",) if is_train else SPLITS)
            best[in_split] = np.minimum(best[in_split], policy.rank(source, names))
        rank = np.where(best < len(names), best, rank)
    return rank
