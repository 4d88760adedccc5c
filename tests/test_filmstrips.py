"""Filmstrips show the frames that they should, of the clip that they name, from every profile."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numbered_stores import make_numbered, num_frames_of
from PIL import Image

from k710.loading.sampling import FrameSampling, nearest_stored, stored_indices
from k710.report.filmstrips import HEIGHT_PX, NUM_FRAMES, read_strips, strip_of
from k710.sample.numbered import read_number
from k710.store import Store

PROFILES = ("h264", "frames")


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, k710):
    folder = tmp_path_factory.mktemp("numbered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K710_CACHE", str(folder / "cache"))
        yield make_numbered(folder, k710, PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_frames_of_the_clip_from_the_first_to_the_last_part(numbered, profile):
    store = Store(numbered.manifest.path / "store", profile)
    ids = store.best_rows(("clip_id",))["clip_id"].to_pylist()[::-3]
    heard: list[int] = []
    strips = list(read_strips(store, ids, told=heard.append))
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
        assert [read_number(frame) for frame in np.split(picture, NUM_FRAMES, axis=1)] == wanted.tolist()


@pytest.mark.parametrize(("width", "height"), [(2, 4000), (4000, 2), (340, 256), (1, 1)])
def test_strips_of_odd_sizes_stay_small(width, height):
    strip = strip_of("x", np.full((4, height, width, 3), 120, np.uint8))
    assert strip.height_px == HEIGHT_PX
    assert 4 * 40 <= strip.width_px <= 4 * 160
