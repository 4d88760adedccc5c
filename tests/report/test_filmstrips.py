"""Filmstrips show the frames that they should, of the clip that they name, from every profile."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from k710.loading.sampling import FrameSampling, nearest_stored
from k710.report.filmstrips import GAP_PX, HEIGHT_PX, NUM_FRAMES, read_strips, strip_of
from k710.sample.numbered import read_number
from k710.store.store import Store
from k710.store.stored_frames import stored_indices
from tests.helpers.numbered_stores import make_numbered, num_frames_of

PROFILES = ("h264", "frames")


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, k710):
    folder = tmp_path_factory.mktemp("numbered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K710_CACHE", str(folder / "cache"))
        yield make_numbered(folder, k710, PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.slow
def test_the_frames_of_the_clip_from_the_first_to_the_last_part(numbered, profile):
    store = Store(numbered.manifest.path / "store", profile)
    ids = store.best_rows(("clip_id",))["clip_id"].to_pylist()[::-3]
    heard: list[int] = []
    strips = list(read_strips(store, ids, on_progress=heard.append))
    assert [strip.clip_id for strip in strips] == ids
    assert heard == list(range(1, len(ids) + 1))
    for strip in strips:
        picture = np.asarray(Image.open(io.BytesIO(strip.jpeg)))
        assert picture.shape == (HEIGHT_PX, strip.width_px, 3)
        num_frames = num_frames_of(strip.clip_id)
        wanted = FrameSampling(NUM_FRAMES).test(num_frames)
        if profile == "frames":
            stored = stored_indices(num_frames, 64)
            wanted = stored[nearest_stored(wanted, stored)]
        frame_px = (picture.shape[1] + GAP_PX) // NUM_FRAMES - GAP_PX
        starts = [number * (frame_px + GAP_PX) for number in range(NUM_FRAMES)]
        assert [read_number(picture[:, start : start + frame_px]) for start in starts] == wanted.tolist()


@pytest.mark.parametrize(("width", "height"), [(2, 4000), (4000, 2), (340, 256), (1, 1)])
def test_strips_of_odd_sizes_stay_small(width, height):
    strip = strip_of("x", np.full((4, height, width, 3), 120, np.uint8))
    assert strip.height_px == HEIGHT_PX
    assert 4 * 40 <= strip.width_px - 3 * GAP_PX <= 4 * 160


@pytest.mark.parametrize("luma", [0, 128, 255])
def test_frames_do_not_touch(luma):
    """Between each two of equal frames there is a line that is none of them, however bright they are."""
    strip = strip_of("x", np.full((4, 256, 340, 3), luma, np.uint8))
    row = np.asarray(Image.open(io.BytesIO(strip.jpeg)).convert("L"))[HEIGHT_PX // 2].astype(int)
    assert strip.width_px == len(row) == 4 * 96 + 3 * GAP_PX
    for number in range(1, 4):
        gap = row[number * 96 + (number - 1) * GAP_PX :][:GAP_PX]
        assert abs(gap - luma).max() > 80
        assert abs(row[number * (96 + GAP_PX) + 48] - luma) < 8
