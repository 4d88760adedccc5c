"""A part of stored frames has the pixels of the whole, and batches made of parts are those made of whole frames."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from k710.errors import LoadError
from k710.fetch.encode.restart_markers import RestartMarkers
from k710.loading.augment.augment import Augment
from k710.loading.augment.boxes import Box, choose_box
from k710.loading.batch import pack_clips
from k710.loading.decoders.jpeg_parts import cut_parts
from k710.loading.decoders.jpegs import decode_jpegs
from k710.loading.finish import Finish
from k710.loading.load_clip import ClipOptions, ClipReader, StoredFrames, UndecodedClip
from k710.loading.order import Sample
from k710.random_key import RandomKey
from k710.sample.motions import Look
from k710.sample.numbered import numbered_frames
from k710.store.jpeg_header import read_header
from k710.store.stored_frames import stored_indices

NUM_FRAMES = 12
LOOK = Look(454, 256, 12)
WHOLE_FRAME = {"auto_contrast", "equalize", "contrast", "sharpness", "rotate"} | {
    f"{name}_{axis}" for name in ("shear", "translate") for axis in "xy"
}


def jpegs_of(width_px, height_px, *, markers=True, noise=20.0, **options):
    """Frames with edges and noise as JPEGs, which differ in their tables."""
    random = np.random.default_rng(3)
    made = []
    for number, frame in enumerate(numbered_frames(NUM_FRAMES, LOOK)):
        cut = np.asarray(frame, np.float64)[:height_px, :width_px]
        pixels = cut + random.normal(0, noise * (number % 3), cut.shape)
        out = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "jpeg", **{"quality": 90, **options})
        made.append(out.getvalue())
    again = RestartMarkers()
    return [again(jpeg) for jpeg in made] if markers else made


# Columns of blocks: 22 (a marker after two), 29 (after each), 7 and 1 (odd sides too).
@pytest.mark.parametrize("size", [(340, 256), (454, 256), (99, 131), (16, 16), (352, 64)])
def test_a_part_has_the_pixels_of_the_whole(size):
    width_px, height_px = size
    jpegs = jpegs_of(width_px, height_px)[:3]
    whole = decode_jpegs(jpegs)
    boxes = [
        choose_box(height_px, width_px, (0.02, 1.0), (0.5, 2.0), RandomKey(0, 0, n).draws("crop")) for n in range(150)
    ]
    # Borders of blocks, and one pixel beside them, are where neighbours count.
    edges = sorted({at for block in (0, 16, 32) for at in (block - 1, block, block + 1) if 0 <= at < min(size) - 1})
    boxes += [Box(top, left, 1, 1) for top in edges for left in edges]
    boxes += [Box(0, left, height_px, width_px - left) for left in edges] + [Box(0, 0, height_px, width_px)]
    for box in boxes:
        part = decode_jpegs(jpegs, box)
        assert np.array_equal(part, whole[:, box.top : box.top + box.height, box.left : box.left + box.width]), box


def test_little_more_than_the_box_is_decoded():
    jpegs = jpegs_of(340, 256)
    parts = cut_parts(jpegs, Box(100, 100, 40, 50))
    header = read_header(bytes(parts.jpegs[0]))
    assert (parts.top, parts.left) == (96, 96)
    assert (header.width_px, header.height_px) == (64, 48)
    assert sum(map(len, parts.jpegs)) < sum(map(len, jpegs)) / 4


def test_jpegs_that_cannot_be_cut_are_decoded_whole():
    box = Box(20, 30, 40, 50)
    for jpegs in (
        jpegs_of(96, 80, markers=False),
        jpegs_of(96, 80, subsampling=0),  # 4:4:4, which RestartMarkers leaves as it is
        jpegs_of(96, 80, markers=False, restart_marker_blocks=4),  # 6 blocks a row are no multiple of 4
        jpegs_of(96, 80, markers=False, progressive=True),
    ):
        assert cut_parts(jpegs, box) is None
        assert np.array_equal(decode_jpegs(jpegs, box), decode_jpegs(jpegs)[:, 20:60, 30:80])


@pytest.mark.parametrize("kept", [0.3, 0.8])
def test_a_damaged_jpeg_is_not_cut_and_is_an_error(kept):
    jpegs = jpegs_of(96, 80)
    jpegs[1] = jpegs[1][: int(len(jpegs[1]) * kept)] + jpegs[1][-2:]
    assert cut_parts(jpegs, Box(20, 30, 40, 50)) is None
    with pytest.raises(LoadError, match="does not decode"):
        decode_jpegs(jpegs, Box(20, 30, 40, 50))


def clip_of(jpegs, clip_id):
    stored = StoredFrames(30, stored_indices(30, NUM_FRAMES), lambda at: [jpegs[number] for number in at.tolist()])
    return UndecodedClip(clip_id, 0, "a.tar", lambda: b"", stored)


@pytest.mark.parametrize("order", ["published", "crop_first"])
@pytest.mark.parametrize("settings", [{}, {"randaugment": None}, {"randaugment": None, "crop": "multi_scale"}])
def test_batches_of_parts_are_those_of_whole_frames(order, settings):
    augment = Augment(crop_px=32, order=order, color_jitter=0.0 if order == "published" else 0.3, **settings)
    jpegs = jpegs_of(170, 128)
    clips = [clip_of(jpegs, f"clip-{number}") for number in range(10)]
    reader = ClipReader(ClipOptions(num_frames=4, seed=5), training=True)
    finish = Finish(augment, None, True, 1, torch.float32)
    batches, sizes = [], []
    for needed_by in (None, augment):
        samples = [Sample(number, 2, repeat) for number in range(10) for repeat in range(2)]
        loaded = [one for sample in samples for one in reader.load(clips[sample.clip], [sample], needed_by)]
        packed, loaded = pack_clips(loaded, 3)
        finish.choose(packed, loaded, 5, [])
        batches.append(finish.apply(packed).pixels)
        sizes.append(packed.block.numel())
    assert torch.equal(*batches)
    assert sizes[1] < 0.9 * sizes[0], "some clips are smaller than their frames"
    if order == "crop_first" or settings:
        assert sizes[1] < 0.75 * sizes[0]


def test_what_needs_the_whole_frame_gets_it():
    published, first = Augment(), Augment(order="crop_first")
    seen = set()
    for number in range(300):
        choices = published.choose(RandomKey(0, 0, number), 256, 340)
        names = {operation.name for operation in choices.operations}
        needs_whole = names & WHOLE_FRAME
        assert published.part(choices) == (None if needs_whole else choices.box)
        assert first.part(choices) == choices.box
        seen.add(bool(needs_whole))
    assert seen == {True, False}


def test_a_clip_that_fails_keeps_its_place():
    jpegs = jpegs_of(64, 48)
    clip = clip_of([b"none"] * len(jpegs), "clip-0")
    augment = Augment(crop_px=32)
    with pytest.raises(LoadError, match=r"clip clip-0 \(a.tar\): no JPEG"):
        ClipReader(ClipOptions(num_frames=4), training=True).load(clip, [Sample(0)], augment)
    reader = ClipReader(ClipOptions(num_frames=4, on_error="zero_weight"), training=True)
    (failed,) = reader.load(clip, [Sample(0)], augment)
    assert (failed.weight, failed.choices) == (0.0, None)
