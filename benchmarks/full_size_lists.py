"""Made-up annotation lists of Kinetics-400, 600 and 700 in their published sizes, for timing a build without a network.

    python benchmarks/full_size_lists.py FOLDER [--scale 0.01] [--seed 710]

writes `{source}_{split}.csv` for the nine lists in the official form. The same scale, seed and numpy give the same
bytes. No row is a real clip; what is real is the shape:

Counted in the published lists, and exact at scale 1: the rows of every list, its distinct IDs, and which val and test
lists a video stands in together (EVALUATION_VIDEOS, all 28 combinations that occur).

Assumed, since the train lists were not at hand (TRAIN_SHARES, TRAIN_VIDEOS): K600's train holds 77 % of K400's train,
and K700's train 70 % of K600's; K700's train holds 84 % of K400's val (the published K710 counts need "most"), 73 % of
K600's val and about three fifths of their test lists; K600's train holds some of what K400 evaluates on, and K700's val
was drawn in part from the older train lists. The sizes are chosen so that train-purge leaves about as many train
videos (664,520) as the papers count (658,340), which had lost some that vanished.

Assumed too: a video that stands in several releases has one clip in all of them, but for 1 in 5,000 that K600 and 3 in
100 that K700 cut elsewhere (as between the published val and test lists); one label in all of them, but for CONFLICTS
videos; IDs are uniform over the YouTube alphabet, so that 1 in 64 begins with a dash, and CASE_TWINS of them differ
from another in case alone; starts are log-normal with a median near 30 s; 1 span in 1,000 is shorter than 10 s; every
class is equally frequent; train and val lists are sorted by label, test lists are not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from k710.lists.labels import class_names, k710_classes_of

Ints = npt.NDArray[np.int64]

SOURCES = ("k400", "k600", "k700")
SPLITS = ("train", "val", "test")
LISTS = tuple(f"{source}_{split}" for split in SPLITS for source in SOURCES)  # one bit each in a video's membership

ROWS = {
    "k400_train": 246_245, "k600_train": 392_622, "k700_train": 545_317,
    "k400_val": 19_906, "k600_val": 30_000, "k700_val": 35_000,
    "k400_test": 38_685, "k600_test": 72_924, "k700_test": 70_000,
}  # fmt: skip

# Rows that repeat an ID of their list with another span, every other one under another label. Counted in val and test,
# assumed in train.
REPEATED_IDS = {"k600_train": 60, "k700_train": 2_700, "k600_val": 6, "k700_val": 54, "k700_test": 300}
# Rows that repeat a clip of their list under another label. None is known in val; planted in train.
REPEATED_CLIPS = {"k700_train": 40}
# Videos to which an older release gives another label than the newest one.
CONFLICTS = 1_000
CASE_TWINS = 200

# Videos by the val and test lists they stand in, counted in the published lists.
EVALUATION_VIDEOS = {
    "k400_val": 5_874,
    "k600_val": 16_369,
    "k400_val k600_val": 13_552,
    "k700_val": 28_272,
    "k400_val k700_val": 10,
    "k600_val k700_val": 18,
    "k400_val k600_val k700_val": 17,
    "k400_test": 11_068,
    "k700_val k400_test": 15,
    "k600_test": 42_185,
    "k400_val k600_test": 178,
    "k600_val k600_test": 24,
    "k700_val k600_test": 1_983,
    "k400_val k700_val k600_test": 182,
    "k600_val k700_val k600_test": 1,
    "k400_test k600_test": 21_707,
    "k700_val k400_test k600_test": 4_339,
    "k700_test": 67_249,
    "k400_val k700_test": 3,
    "k600_val k700_test": 10,
    "k700_val k700_test": 100,
    "k400_test k700_test": 13,
    "k600_test k700_test": 682,
    "k400_val k600_test k700_test": 90,
    "k600_val k600_test k700_test": 1,
    "k700_val k600_test k700_test": 7,
    "k600_val k700_val k600_test k700_test": 2,
    "k400_test k600_test k700_test": 1_543,
}

# Assumed: of the videos in an evaluation list that a release neither validates nor tests on, the share its train has.
TRAIN_SHARES = {
    "k400_train": {"k600_val": 0.01, "k700_val": 0.10},
    "k600_train": {"k400_val": 0.40, "k400_test": 0.50, "k700_val": 0.15},
    "k700_train": {"k400_val": 0.75, "k600_val": 0.60, "k400_test": 0.60, "k600_test": 0.60},
}
# Assumed: videos of no val or test list by the train lists they stand in; videos of one train list alone fill it up.
TRAIN_VIDEOS = {
    "k400_train k600_train k700_train": 145_000,
    "k400_train k600_train": 43_000,
    "k400_train k700_train": 18_000,
    "k600_train k700_train": 126_000,
}

_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8)
_LAST_OF_ID = np.frombuffer(b"AEIMQUYcgkosw048", np.uint8)  # an ID is 64 bits, so its last character has only four
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Videos:
    """All videos, as arrays of one value per video. Times are in seconds."""

    member: npt.NDArray[np.uint16]  # bit i for LISTS[i]
    youtube_id: npt.NDArray[np.bytes_]
    class_id: Ints  # in K710
    older_class_id: Ints  # what all but the newest of its releases say; differs from class_id for CONFLICTS videos
    start_s: Ints
    length_s: Ints
    shift_s: dict[str, Ints]  # by how much a release cut it elsewhere


def write_lists(folder: Path, *, scale: float = 1.0, seed: int = 710) -> dict[str, int]:
    """Write the nine lists, `scale` times their size, into `folder`; returns the rows of each.

    A scale below 1 keeps at least one video of every kind, so small lists have the overlaps of the large ones, slightly
    enlarged.
    """
    rng = np.random.default_rng(seed)
    videos = make_videos(rng, scale)
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in LISTS:
        rows[name] = 0
        with (folder / f"{name}.csv").open("w", encoding="ascii", newline="") as file:
            for chunk in _lines(rng, videos, name, scale):
                file.writelines(chunk)
                rows[name] += len(chunk)
        rows[name] -= 1  # the header
    return rows


def make_videos(rng: np.random.Generator, scale: float) -> Videos:
    """Membership, ID, label and clip of every video."""
    member = _memberships(rng, scale)
    class_id, older_class_id = _classes(rng, member, scale)
    num_videos = len(member)
    short = rng.random(num_videos) < 0.001
    recut = {"k400": 0.0, "k600": 1 / 5_000, "k700": 0.03}
    return Videos(
        member=member,
        youtube_id=_ids(rng, num_videos, scale),
        class_id=class_id,
        older_class_id=older_class_id,
        start_s=np.minimum(rng.lognormal(np.log(30), 1.5, num_videos), 20_000).astype(np.int64),
        length_s=np.where(short, rng.integers(5, 10, num_videos), 10),
        shift_s={
            source: np.where(rng.random(num_videos) < share, rng.integers(1, 60, num_videos), 0)
            for source, share in recut.items()
        },
    )


def _mask(names: str) -> int:
    return sum(1 << LISTS.index(name) for name in names.split())


def _scaled(count: int, scale: float) -> int:
    return max(1, round(count * scale)) if count else 0


def _memberships(rng: np.random.Generator, scale: float) -> npt.NDArray[np.uint16]:
    """For each video the lists it stands in, in random order."""
    groups = EVALUATION_VIDEOS | TRAIN_VIDEOS
    member = np.repeat([_mask(names) for names in groups], [_scaled(count, scale) for count in groups.values()])
    for train, shares in TRAIN_SHARES.items():
        source = train.removesuffix("_train")
        own = _mask(f"{source}_train {source}_val {source}_test")
        joins = np.zeros(len(member), bool)
        for name, share in shares.items():
            joins |= (member & _mask(name) > 0) & (rng.random(len(member)) < share)
        member[joins & (member & own == 0)] |= _mask(train)
    for train in TRAIN_SHARES:
        repeats = sum(_scaled(table.get(train, 0), scale) for table in (REPEATED_IDS, REPEATED_CLIPS))
        missing = round(ROWS[train] * scale) - repeats - np.count_nonzero(member & _mask(train))
        member = np.concatenate([member, np.full(missing, _mask(train))])
    return rng.permutation(member).astype(np.uint16)


def _ids(rng: np.random.Generator, count: int, scale: float) -> npt.NDArray[np.bytes_]:
    """Distinct YouTube IDs; every other one of the first few differs from the one before it in case alone."""
    letters = _ALPHABET[rng.integers(0, len(_ALPHABET), (count, 11))]
    letters[:, 10] = _LAST_OF_ID[rng.integers(0, len(_LAST_OF_ID), count)]
    twins = 2 * _scaled(CASE_TWINS, scale)
    letters[0:twins:2, 0] = ord("K")
    letters[1:twins:2] = letters[0:twins:2]
    letters[1:twins:2, 0] = ord("k")
    ids = letters.view("S11").ravel()
    assert len(np.unique(ids)) == count  # 64 bits each: a collision among a million is a one in 10^7 affair
    return ids


def _classes(rng: np.random.Generator, member: npt.NDArray[np.uint16], scale: float) -> tuple[Ints, Ints]:
    """Two K710 classes per video: each of a kind that all its releases with labelled lists know."""
    labelled = [member & _mask(f"{source}_train {source}_val") > 0 for source in SOURCES]
    class_id, older = np.zeros((2, len(member)), np.int64)
    for known in range(1, 1 << len(SOURCES)):
        releases = [source for bit, source in enumerate(SOURCES) if known >> bit & 1]
        classes = np.array(sorted(set.intersection(*(set(k710_classes_of(source)) for source in releases))))
        wanted = np.array([source in releases for source in SOURCES])
        index = np.flatnonzero((np.stack(labelled, axis=1) == wanted).all(axis=1))
        pick = rng.integers(0, len(classes), len(index))
        class_id[index], older[index] = classes[pick], classes[(pick + 1) % len(classes)]
    shared = np.flatnonzero(np.sum(labelled, axis=0) > 1)
    conflicting = rng.permutation(shared)[: _scaled(CONFLICTS, scale)]
    older[np.setdiff1d(np.arange(len(member)), conflicting)] = -1
    return class_id, np.where(older >= 0, older, class_id)


def _rows_of_list(rng: np.random.Generator, videos: Videos, name: str, scale: float) -> tuple[Ints, Ints, Ints]:
    """The video, start and class (in the release's own order) of every row of one list, in the order of its lines."""
    source, split = name.split("_")
    index = rng.permutation(np.flatnonzero(videos.member & _mask(name)))
    num_spans, num_labels = (_scaled(table.get(name, 0), scale) for table in (REPEATED_IDS, REPEATED_CLIPS))
    other_span, other_label = index[:num_spans], index[num_spans : num_spans + num_labels]
    start_s = videos.start_s + videos.shift_s[source]
    if split == "test":  # no clip stands in two lists of one release
        start_s = start_s + 61 * (videos.member & _mask(f"{source}_val") > 0)
    start_s = np.concatenate([start_s[index], start_s[other_span] + 127, start_s[other_label]])
    row_video = np.concatenate([index, other_span, other_label])

    newer = [f"{later}_{part}" for later in SOURCES[SOURCES.index(source) + 1 :] for part in ("train", "val")]
    is_newest = videos.member & _mask(" ".join(newer)) == 0
    class_id = np.where(is_newest, videos.class_id, videos.older_class_id)
    classes_here = np.array(k710_classes_of(source))
    number_here = np.zeros(len(class_names("k710")), np.int64)  # unlabelled rows may say anything
    number_here[classes_here] = np.arange(len(classes_here))
    label = number_here[class_id[row_video]]
    renamed = slice(len(index) + num_spans // 2, None)  # half of the other spans, and all repeated clips
    label[renamed] = (label[renamed] + 1) % len(classes_here)
    order = rng.permutation(len(label)) if split == "test" else np.argsort(label, kind="stable")
    return row_video[order], start_s[order], label[order]


def _lines(rng: np.random.Generator, videos: Videos, name: str, scale: float) -> Iterator[list[str]]:
    """The lines of one list, its header first, some ten thousand at a time."""
    source, split = name.split("_")
    row_video, start_s, label = _rows_of_list(rng, videos, name, scale)
    end_s = start_s + videos.length_s[row_video]
    is_cc = rng.random(len(row_video)) < 0.026  # as in K400's published val list
    labels = _label_fields(source)
    yield [_header(source, split)]
    for begin in range(0, len(row_video), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        ids = videos.youtube_id[row_video[part]].astype("U11").tolist()
        heads = [f"{labels[number]}," for number in label[part]] if split != "test" else [""] * len(ids)
        tails = [f",{int(cc)}" for cc in is_cc[part]] if source == "k400" and split != "test" else [""] * len(ids)
        columns = zip(heads, ids, start_s[part].tolist(), end_s[part].tolist(), tails, strict=True)
        yield [f"{head}{id_},{start},{end},{split}{tail}\n" for head, id_, start, end, tail in columns]


def _header(source: str, split: str) -> str:
    columns = ["label"] * (split != "test") + ["youtube_id", "time_start", "time_end", "split"]
    return ",".join(columns + ["is_cc"] * (source == "k400" and split != "test")) + "\n"


def _label_fields(source: str) -> list[str]:
    """The class names as they stand in a list: K400 quotes those with a space, the others quote none."""
    return [f'"{name}"' if source == "k400" and " " in name else name for name in class_names(source)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write made-up Kinetics lists in their published sizes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="1 for the published sizes (default)")
    parser.add_argument("--seed", type=int, default=710)
    arguments = parser.parse_args()
    for name, rows in write_lists(arguments.folder, scale=arguments.scale, seed=arguments.seed).items():
        print(f"{name:12} {rows:9,} rows")


if __name__ == "__main__":
    main()
