"""The comparison of two datasets in a view: gained, lost and moved clips, the reasons, and the changes of their
media."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.diff.media import MEDIA_COLUMNS, MediaChange, media_changes
from k710.diff.sides import Pairs, pair
from k710.errors import ManifestError, UsageError
from k710.lists.labels import class_names
from k710.manifest.memberships import in_splits_of
from k710.manifest.read import Manifest
from k710.manifest.views import view_columns
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS, UNION
from k710.sources.source import SPLITS
from k710.store.store import Store
from k710.text import counted

# The changes of a clip in a view:
#   gained      in a split of B and in no split of A
#   lost        in a split of A and in no split of B
#   moved       in different splits of A and B
#   relabelled  in the same split of both, with different labels
#   outside     in no split of A or B, but for different reasons or in favour of different clips
#   media       same split and label, but different states in the two stores
CHANGES = ("gained", "lost", "moved", "relabelled", "outside", "media")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GroupChange:
    """The clips of one split, or of one label in a split.

    `came` counts the clips that are in other splits, or have another label, in A; `went` those that are or have in B.
    So a + gained + came - lost - went = b. A clip in several splits of a release counts in each.
    """

    split: str
    label: str | None
    a: int
    b: int
    gained: int
    lost: int
    came: int
    went: int


@dataclass(frozen=True)
class Move:
    """The number of clips that went from one place to another. A place is a split, a drop reason, or
    sides.NOT_LISTED."""

    change: str  # one of CHANGES, except `media`
    a: str
    b: str
    clips: int
    same_video: int  # gained or lost clips whose video has another clip in a split of the other side


@dataclass(frozen=True)
class Difference:
    """The differences between two datasets in one view. All fields except `clips` are small."""

    view: str
    listed: int  # clips in A or B
    changes: dict[str, int]  # clips by change
    splits: tuple[GroupChange, ...]
    moves: tuple[Move, ...]  # the most clips first
    classes: tuple[GroupChange, ...]  # classes that changed; the most clips first
    media: tuple[MediaChange, ...]  # of the clips in a split; empty without stores
    clips: pa.Table  # a row per differing clip, in clip_id order

    @property
    def unchanged(self) -> int:
        """The number of clips that are the same in A and B."""
        return self.listed - sum(self.changes.values())


def diff_manifests(
    a: Manifest, b: Manifest, *, view: str | None = None, store_a: Store | None = None, store_b: Store | None = None
) -> Difference:
    """`diff` of two manifests or two versions of one, optionally with their stores.

    `view`: by default the union of A. Raises UsageError for a view that one of them does not have, ManifestError and
    StoreError for damage.
    """
    view = a.catalogue.check_view(view)
    for manifest in (a, b):
        if view not in manifest.catalogue.views:
            raise UsageError(f"{manifest.path}: unknown view {view!r}; known: {', '.join(manifest.catalogue.views)}")
    tables = [manifest.read_clips(columns_of(view, manifest.catalogue)) for manifest in (a, b)]
    names = [manifest.class_names(view) for manifest in (a, b)]
    if names[0] != names[1]:
        raise UsageError(f"{view} has other classes in {a.path} than in {b.path}; their clips cannot be compared")
    media = [store and store.best_rows(MEDIA_COLUMNS) for store in (store_a, store_b)]
    return diff(
        *tables, view=view, listing=a.catalogue.listing(view), names=names[0], media_a=media[0], media_b=media[1]
    )


def columns_of(view: str, sources: Catalogue = KINETICS) -> tuple[str, ...]:
    """The columns of the clips table that `diff` reads. Raises UsageError for an unknown view."""
    sources.check_view(view)
    of_view = tuple(name for name in view_columns(view, sources) if not name.startswith("time_"))
    return (*of_view, "drop_reason", "kept_clip_id") if view == sources.union.name else of_view


def diff(
    a: pa.Table,
    b: pa.Table,
    *,
    view: str = UNION.name,
    listing: str | None = None,
    names: tuple[str, ...] | None = None,
    media_a: pa.Table | None = None,
    media_b: pa.Table | None = None,
) -> Difference:
    """The difference of two clips tables (`columns_of` the view) and of their media rows (media.MEDIA_COLUMNS).

    `listing` (manifest/listings.py) and `names`, the classes of the view, are by default those that k710 knows. Media
    are compared only if both sides have media rows. Labels are compared by class, and only for clips in a split.
    """
    pairs = pair(a, b, listing=KINETICS.listing(view) if listing is None else listing)
    change = _change_of(pairs)
    same_video = _same_video(pairs)
    names = class_names(view) if names is None else names
    media, media_columns = media_changes(pairs, media_a, media_b)
    if media_columns is not None:
        change[(change < 0) & media_columns.differs] = CHANGES.index("media")
    differing = np.flatnonzero(change >= 0)
    counts = np.bincount(change[differing], minlength=len(CHANGES)).tolist()
    columns = pairs.columns(differing, names) | {"same_video": pa.array(same_video[differing])}
    if media_columns is not None:
        columns |= media_columns.columns(differing)
    else:
        columns |= {name: pa.nulls(len(differing), pa.string()) for name in ("media_a", "media_b")}
    kinds = pa.DictionaryArray.from_arrays(pa.array(change[differing].astype(np.int8)), list(CHANGES))
    table = pa.table({"clip_id": columns.pop("clip_id"), "change": kinds, **columns})
    return Difference(
        view=view,
        listed=len(pairs),
        changes=dict(zip(CHANGES, counts, strict=True)),
        splits=tuple(_groups(pairs, with_labels=False, names=names)),
        moves=tuple(_moves(pairs, change, same_video)),
        classes=tuple(_changed_classes(pairs, names)),
        media=media,
        clips=table.take(pc.sort_indices(table["clip_id"])),
    )


def _change_of(pairs: Pairs) -> npt.NDArray[np.int8]:
    """For each pair its index in CHANGES, except `media`; -1 if nothing changed."""
    in_a, in_b = pairs.in_a, pairs.in_b
    elsewhere = pairs.place_a != pairs.place_b
    change = np.full(len(pairs), -1, np.int8)
    change[~in_a & in_b] = CHANGES.index("gained")
    change[in_a & ~in_b] = CHANGES.index("lost")
    change[in_a & in_b & elsewhere] = CHANGES.index("moved")
    change[in_a & in_b & ~elsewhere & np.any(pairs.classes_a != pairs.classes_b, axis=0)] = CHANGES.index("relabelled")
    outside = ~in_a & ~in_b
    change[outside & elsewhere] = CHANGES.index("outside")
    maybe = np.flatnonzero(outside & ~elsewhere)
    change[maybe[pairs.kept_differs(maybe)]] = CHANGES.index("outside")
    return change


def _same_video(pairs: Pairs) -> Mask:
    """Whether another clip of a gained or lost clip's video is in a split of the side that lacks the clip."""
    found = np.zeros(len(pairs), bool)
    in_a, in_b = pairs.in_a, pairs.in_b
    lost, gained = np.flatnonzero(in_a & ~in_b), np.flatnonzero(in_b & ~in_a)
    for index, videos, others in (
        (lost, pairs.video_a(lost), pairs.video_b(np.flatnonzero(in_b))),
        (gained, pairs.video_b(gained), pairs.video_a(np.flatnonzero(in_a))),
    ):
        found[index] = pc.is_in(videos, value_set=others).to_numpy(zero_copy_only=False)
    return found


def _moves(pairs: Pairs, change: npt.NDArray[np.int8], same_video: Mask) -> list[Move]:
    index = np.flatnonzero((change >= 0) & (change != CHANGES.index("media")))
    num_places = len(pairs.places)
    key = (change[index].astype(np.int64) * num_places + pairs.place_a[index]) * num_places + pairs.place_b[index]
    keys, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    with_video = np.bincount(inverse, weights=same_video[index], minlength=len(keys)).astype(int)
    moves = [
        Move(
            CHANGES[found // num_places**2],
            pairs.places[found // num_places % num_places],
            pairs.places[found % num_places],
            clips,
            same,
        )
        for found, clips, same in zip(keys.tolist(), counts.tolist(), with_video.tolist(), strict=True)
    ]
    return sorted(moves, key=lambda move: (-move.clips, CHANGES.index(move.change), move.a, move.b))


def _changed_classes(pairs: Pairs, names: tuple[str, ...]) -> list[GroupChange]:
    groups = _groups(pairs, with_labels=True, names=names)
    changed = [(group.gained + group.lost + group.came + group.went, group) for group in groups]
    ordered = sorted(changed, key=lambda pair: (-pair[0], SPLITS.index(pair[1].split), pair[1].label or ""))
    return [group for clips, group in ordered if clips]


def _groups(pairs: Pairs, *, with_labels: bool, names: tuple[str, ...]) -> list[GroupChange]:
    """Every split with clips on either side, or every label of these splits."""
    width = len(names) + 1 if with_labels else 1  # plus one for clips without a label
    in_a, in_b = pairs.in_a, pairs.in_b

    def count(keys: npt.NDArray[np.int64], of: Mask) -> npt.NDArray[np.int64]:
        return np.bincount(keys[of], minlength=width)

    parts = []
    for number, split in enumerate(SPLITS):
        a, b = (
            np.where(in_splits_of(masks, (split,)), classes[number].astype(np.int64) + 1 if with_labels else 0, -1)
            for masks, classes in ((pairs.masks_a, pairs.classes_a), (pairs.masks_b, pairs.classes_b))
        )
        columns = [count(a, a >= 0), count(b, b >= 0), count(b, (b >= 0) & ~in_a), count(a, (a >= 0) & ~in_b)]
        columns += [count(b, (b >= 0) & in_a & (a != b)), count(a, (a >= 0) & in_b & (a != b))]
        parts.append(np.stack(columns, axis=1))
    rows = np.concatenate(parts)
    return [
        GroupChange(SPLITS[key // width], names[key % width - 1] if key % width else None, *rows[key].tolist())
        for key in np.flatnonzero(rows.any(axis=1)).tolist()
    ]


def settings_that_differ(a: Manifest, b: Manifest) -> dict[str, tuple[Any, Any]]:
    """The differences between the recipes and lists of two builds: key → values of A and B, None if a side has none.

    The keys are those of the recipe, `union's FILE` for each file that describes a union of the user's own, `synonym
    NAME` for each synonym of the user, `k400 train` and so on for each list
    (its rows and SHA-256), and `k710` for the version of k710.
    """
    sides = [_settings(manifest) for manifest in (a, b)]
    keys = dict.fromkeys([*sides[0], *sides[1]])
    pairs = {key: (sides[0].get(key), sides[1].get(key)) for key in keys}
    return {key: found for key, found in pairs.items() if found[0] != found[1]}


def _settings(manifest: Manifest) -> dict[str, Any]:
    about = manifest.about
    try:
        lists = {
            f"{entry['source']} {entry['split']}": (
                f"{counted(int(entry['rows']), 'row')}, SHA-256 {str(entry['sha256'])[:16]}"
            )
            for entry in about["sources"]
        }
        synonyms = {f"synonym {name}": str(label) for name, label in about.get("synonyms", {}).items()}
        union = {f"union's {one['file']}": f"SHA-256 {str(one['sha256'])[:16]}" for one in about.get("union_files", ())}
        return {**about["recipe"], **union, **synonyms, **lists, "k710": about["tools"]["k710"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ManifestError(f"{manifest.path}: dataset.json is damaged: {error!r}") from None
