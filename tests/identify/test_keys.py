"""IDs and clips as numbers, and the fingerprints of distinct clips."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k710.identify.distinct import DistinctClips
from k710.identify.keys import LAST_CHARACTERS, can_be_youtube, clip_names, from_rest, ids_of, keys_of
from k710.identify.recognise import clips_of
from k710.lists.clip_paths import ClipName

IDS = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True)
WHOLE = st.tuples(st.integers(0, 999_989), st.integers(1, 10)).map(lambda pair: (pair[0], pair[0] + pair[1]))
FRACTIONS = st.tuples(st.integers(0, 999_000_000), st.integers(1, 900_000)).map(
    lambda pair: (pair[0] / 1000, (pair[0] + pair[1]) / 1000)
)
NAMES = st.builds(ClipName, IDS, st.none() | WHOLE | FRACTIONS)


@given(st.lists(IDS, min_size=1, max_size=20))
def test_ids_come_back_and_keep_their_order(ids):
    key, tail, are_ids = keys_of(pa.array(ids))
    assert are_ids.all()
    assert ids_of(key, tail).to_pylist() == ids
    assert [ids[row] for row in np.lexsort((tail, key))] == sorted(ids)


@given(st.lists(st.text(max_size=13) | IDS, max_size=20))
def test_what_is_no_id_is_told(texts):
    key, tail, are_ids = keys_of(pa.array(texts, pa.string()))
    good = [len(text) == 11 and text.isascii() and text.replace("-", "a").replace("_", "a").isalnum() for text in texts]
    assert are_ids.tolist() == good
    assert not key[~are_ids].any()
    assert not tail[~are_ids].any()


def test_slices_are_read_from_their_place():
    ids = pa.array(["x", "-0abcdefghI", "bad", "0wR5jVB-WPk"])
    key, tail, are_ids = keys_of(ids.slice(1, 2))
    assert are_ids.tolist() == [True, False]
    assert ids_of(key[:1], tail[:1]).to_pylist() == ["-0abcdefghI"]


@given(st.lists(NAMES, max_size=20))
def test_clips_come_back_under_their_names(names):
    clips = clips_of(names)
    again = from_rest(clips.key, clips.rest)
    assert clip_names(again).to_pylist() == clip_names(clips).to_pylist() == list(map(str, names))


def sha256_of(names) -> str:
    """As `LC_ALL=C sort -u | sha256sum` makes it."""
    return hashlib.sha256(b"".join(f"{name}\n".encode() for name in sorted(set(names)))).hexdigest()


@settings(max_examples=40)
@given(st.lists(NAMES, min_size=1, max_size=40), st.randoms(use_true_random=False), st.integers(2, 9))
def test_the_fingerprint_is_that_of_the_sorted_names_in_any_order(names, rng, run_rows):
    shuffled = [*names, *rng.sample(names, len(names) // 2)]
    rng.shuffle(shuffled)
    for order, rows in ((names, 1 << 20), (shuffled, run_rows)):
        with DistinctClips(rows) as distinct:
            for start in range(0, len(order), 3):
                distinct.add(clips_of(order[start : start + 3]))
            totals = distinct.totals()
        assert totals.clips_sha256 == sha256_of(map(str, names))
        assert totals.videos_sha256 == sha256_of(name.youtube_id for name in names)
        assert (totals.clips, totals.videos) == (len(set(map(str, names))), len({n.youtube_id for n in names}))


def test_ranges_never_divide_a_video():
    rng = random.Random(710)
    letters = "ABC"
    names = [
        ClipName("".join(rng.choices(letters, k=11)), (start, start + 10)) for _ in range(200) for start in range(5)
    ]
    rng.shuffle(names)
    with DistinctClips(64) as distinct:
        for start in range(0, len(names), 50):
            distinct.add(clips_of(names[start : start + 50]))
        videos = [set(ids_of(clips.key, clips.tail).to_pylist()) for clips in distinct.ranges()]
    assert len(videos) > 3
    assert sum(map(len, videos)) == len(set.union(*videos)) == len({name.youtube_id for name in names})


@pytest.mark.parametrize(
    ("last", "possible"), [*((char, True) for char in LAST_CHARACTERS), ("n", False), ("-", False)]
)
def test_ids_that_no_video_can_have(last, possible):
    key, tail, _ = keys_of(pa.array([f"abcdefghij{last}"]))
    assert can_be_youtube(key, tail).tolist() == [possible]


def test_every_id_of_the_real_lists_can_be_youtubes(real_lists):
    import pyarrow.csv

    for path in sorted(real_lists.glob("*.csv")):
        key, tail, are_ids = keys_of(pyarrow.csv.read_csv(path)["youtube_id"].combine_chunks())
        assert are_ids.all()
        assert can_be_youtube(key, tail).all()
