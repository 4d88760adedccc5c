"""Augmentation of batches: crop, flip, normalisation, both orders, mixing, erasing, and the crops of evaluation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from k710.errors import UsageError
from k710.loading.augment.augment import Augment, Choices, augment
from k710.loading.augment.boxes import Box, choose_box
from k710.loading.augment.evaluation_crops import crop_box, evaluation_crops, resized_size
from k710.loading.augment.mix import Mix, MixChoice, mix
from k710.random_key import RandomKey
from tests.helpers.pillow_operations import clip_like_footage, with_pillow

SIZES = ((60, 80), (48, 90), (60, 80), (90, 50), (31, 33), (60, 80))
KEYS = [RandomKey(6666, 2, f"clip{number}") for number in range(len(SIZES))]
ORDERS = ("published", "crop_first")


def a_batch():
    return [clip_like_footage(number, height=h, width=w) for number, (h, w) in enumerate(SIZES)]


def choices_for(settings, clips, keys=KEYS):
    return [settings.choose(key, *clip.shape[1:3]) for key, clip in zip(keys, clips, strict=True)]


def normalised(pixels):
    """Frames (T, C, H, W) of 0..255 as the released code normalises them: (C, T, H, W)."""
    return ((pixels / 255 - 0.45) / 0.225).transpose(0, 1)


def resized(pixels, height, width):
    return functional.interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False)


def by_definition(clip, choice, crop_px):
    """The released code's order: Pillow's operations on whole frames, normalise, crop, resize, flip."""
    top, left, height, width = choice.box
    pixels = normalised(with_pillow(clip, choice.operations).permute(0, 3, 1, 2).float())
    crop = resized(pixels[:, :, top : top + height, left : left + width], crop_px, crop_px)
    return crop.flip(-1) if choice.flip else crop


def test_the_published_order_is_the_released_transform():
    settings, clips = Augment(crop_px=32), a_batch()
    # Other epochs too, so that many operations are met.
    for epoch in range(6):
        choices = choices_for(settings, clips, [RandomKey(1, epoch, number) for number in range(len(clips))])
        batch = augment(clips, choices, settings)
        assert batch.shape == (len(clips), 3, 2, 32, 32)
        assert batch.is_contiguous()
        for ours, clip, choice in zip(batch, clips, choices, strict=True):
            apart = (ours - by_definition(clip, choice, 32)).abs() * 255 * 0.225
            assert (apart < 1.01).float().mean() > 0.998, choice


def test_crop_first_is_the_crop_and_then_pillows_operations():
    settings, clips = Augment(crop_px=32, order="crop_first"), a_batch()
    for epoch in range(6):
        choices = choices_for(settings, clips, [RandomKey(1, epoch, number) for number in range(len(clips))])
        for ours, clip, choice in zip(augment(clips, choices, settings), clips, choices, strict=True):
            top, left, height, width = choice.box
            pixels = clip.permute(0, 3, 1, 2)[:, :, top : top + height, left : left + width].float()
            crop = resized(pixels, 32, 32)
            crop = (crop.flip(-1) if choice.flip else crop).round().byte().permute(0, 2, 3, 1)
            expected = normalised(with_pillow(crop, choice.operations).permute(0, 3, 1, 2).float())
            assert ((ours - expected).abs() * 255 * 0.225 < 1.01).float().mean() > 0.999, choice


@pytest.mark.parametrize("order", ORDERS)
def test_a_clip_looks_the_same_in_any_batch(order):
    settings, clips = Augment(crop_px=24, order=order, color_jitter=0.4, erase_prob=0.5), a_batch()
    choices = choices_for(settings, clips)
    batch = augment(clips, choices, settings)
    alone = torch.cat([augment([clip], [choice], settings) for clip, choice in zip(clips, choices, strict=True)])
    assert torch.equal(batch, alone)
    assert torch.equal(augment(clips[::-1], choices[::-1], settings).flip(0), batch)
    assert choices == choices_for(settings, clips)


@pytest.mark.parametrize("order", ORDERS)
def test_frames_of_a_clip_share_their_choices_and_clips_do_not(order):
    settings = Augment(crop_px=24, order=order)
    still = clip_like_footage(1, num_frames=1).expand(3, -1, -1, -1)
    choices = [settings.choose(RandomKey(1, 1, "clip", repeat), 60, 80) for repeat in range(8)]
    batch = augment([still] * 8, choices, settings)
    assert torch.equal(batch, batch[:, :, :1].expand_as(batch))
    assert len({choice.box for choice in choices}) == 8
    assert len({choice.operations for choice in choices}) > 4


def test_orders_agree_where_there_are_no_operations():
    clips = a_batch()
    settings = [Augment(crop_px=24, order=order, randaugment=None) for order in ORDERS]
    published, crop_first = (augment(clips, choices_for(one, clips), one) for one in settings)
    assert ((published - crop_first).abs() * 255 * 0.225).max() <= 0.501  # rounded to uint8 once more


def test_switching_one_augmentation_off_leaves_the_others():
    key = RandomKey(1, 2, "clip")
    one = Augment(color_jitter=0.4, erase_prob=1.0).choose(key, 60, 80)
    other = Augment(randaugment=None, flip_prob=0.0).choose(key, 60, 80)
    plain = Augment().choose(key, 60, 80)
    assert one.box == other.box == plain.box
    assert one.operations[3:] == plain.operations
    assert {operation.name for operation in one.operations[:3]} == {"brightness", "contrast", "color"}
    assert all(0.6 <= operation.value <= 1.4 for operation in one.operations[:3])
    assert other.operations == ()
    jitters = [Augment(color_jitter=0.4).choose(other_key, 60, 80).operations[:3] for other_key in KEYS * 2]
    assert len({tuple(operation.name for operation in jitter) for jitter in jitters}) > 1


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 10**6))
def test_a_crop_lies_in_the_frame(height, width, clip):
    box = choose_box(height, width, (0.08, 1.0), (3 / 4, 4 / 3), RandomKey(0, 0, clip).draws("crop"))
    assert min(box.height, box.width) >= 1
    assert min(box.top, box.left) >= 0
    assert box.top + box.height <= height
    assert box.left + box.width <= width


def test_the_distribution_of_crops_and_flips():
    """Area uniform, aspect log-uniform, places uniform: in a frame so square and areas so small that all tries fit."""
    choices = [Augment(area=(0.08, 0.5)).choose(RandomKey(0, 0, number), 1000, 1000) for number in range(3000)]
    boxes = np.array([choice.box for choice in choices])
    area = boxes[:, 2] * boxes[:, 3] / 1e6
    aspect = np.log(boxes[:, 3] / boxes[:, 2]) / math.log(4 / 3)
    place = boxes[:, :2] / (1000 - boxes[:, 2:])
    for values, low, high in ((area, 0.08, 0.5), (aspect, -1, 1), (place[:, 0], 0, 1), (place[:, 1], 0, 1)):
        assert low - 0.01 < values.min() <= values.max() < high + 0.01  # sides are whole pixels
        counts, _ = np.histogram(values.clip(low, high), 10, (low, high))
        assert ((counts - 300) ** 2 / 300).sum() < 28  # chi-square, 9 degrees, p = .001
    assert 0.46 < np.mean([choice.flip for choice in choices]) < 0.54


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(10, 100, Box(0, 43, 10, 13)), (100, 10, Box(43, 0, 13, 10)), (100, 120, Box(0, 0, 100, 120))],
)
def test_a_crop_that_fits_nowhere_is_the_largest_central_one(height, width, expected):
    whole = RandomKey(0, 0, 1).draws("crop")
    assert choose_box(height, width, (1.0, 1.0), (3 / 4, 4 / 3), whole) == expected


def test_erasing_fills_one_box_of_all_frames_with_noise():
    settings = Augment(crop_px=64, randaugment=None, erase_prob=1.0)
    clip = torch.full((3, 80, 80, 3), 115, dtype=torch.uint8)
    choice = settings.choose(RandomKey(0, 0, "clip"), 80, 80)
    erased, plain = augment([clip, clip], [choice, choice._replace(erase=None)], settings)
    changed = erased != plain
    box = torch.zeros_like(changed)
    top, left, height, width, _ = choice.erase
    box[:, :, top : top + height, left : left + width] = True
    assert torch.equal(changed, box)
    noise = erased[changed]
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1
    reseeded = choice._replace(erase=choice.erase._replace(seed=choice.erase.seed + 1))
    assert not torch.equal(augment([clip], [reseeded], settings)[0][changed], noise)
    erased = [settings.choose(RandomKey(0, 0, number), 80, 80).erase for number in range(500)]
    areas = [box.height * box.width / 64**2 for box in erased if box]
    assert len(areas) > 480
    assert 0.015 < min(areas) < 0.04
    assert 0.29 < max(areas) < 0.35
    settings = Augment(erase_prob=0.25)
    assert 70 < sum(settings.choose(RandomKey(0, 0, number), 80, 80).erase is not None for number in range(400)) < 130


def test_mixup_mixes_pixels_and_labels_alike():
    batch, labels = torch.randn(4, 3, 2, 8, 8), torch.tensor([0, 1, 2, 1])
    choices = [MixChoice(keep) for keep in (0.9, 1.0, 0.25, 0.5)]
    mixed, targets = mix(batch, labels, 3, choices)
    assert torch.allclose(mixed[0], 0.9 * batch[0] + 0.1 * batch[3], atol=1e-6)
    assert torch.equal(mixed[1], batch[1])
    assert torch.allclose(mixed[2], 0.25 * batch[2] + 0.75 * batch[1], atol=1e-6)
    assert torch.allclose(mixed[3], 0.5 * batch[3] + 0.5 * batch[0], atol=1e-6)
    assert torch.allclose(targets, torch.tensor([[0.9, 0.1, 0], [0, 1, 0], [0, 0.75, 0.25], [0.5, 0.5, 0]]))


def test_cutmix_takes_a_box_of_the_partner_and_labels_by_area():
    batch, labels = torch.randn(2, 3, 2, 16, 16), torch.tensor([0, 1])
    mixed, targets = mix(batch, labels, 2, [MixChoice(1 - 24 / 256, (2, 3, 4, 6)), MixChoice(1.0)])
    expected = batch[0].clone()
    expected[:, :, 2:6, 3:9] = batch[1, :, :, 2:6, 3:9]
    assert torch.equal(mixed[0], expected)
    assert torch.equal(mixed[1], batch[1])
    assert targets[0].tolist() == pytest.approx([1 - 24 / 256, 24 / 256])


def test_the_distribution_of_mixing():
    both = [Mix(0.8, 1.0).choose(RandomKey(0, 0, number), 32) for number in range(2000)]
    assert 0.46 < np.mean([choice.box is not None for choice in both]) < 0.54
    for choice in both:
        if choice.box:
            top, left, height, width = choice.box
            assert choice.keep == 1 - height * width / 32**2
            assert 0 <= top <= top + height <= 32
            assert 0 <= left <= left + width <= 32
    keep = np.array([choice.keep for choice in both if choice.box is None])
    assert abs(keep.mean() - 0.5) < 0.03
    assert abs(keep.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.01  # of Beta(a, a)
    assert all(Mix(0.0, 1.0).choose(key, 32).box for key in KEYS)
    assert not any(Mix(0.8, 0.0).choose(key, 32).box for key in KEYS)
    assert Mix().choose(KEYS[0], 32) == MixChoice(1.0)


def test_a_batch_is_mixed_by_clip_or_alike():
    by_clip, alike = (Mix(0.8, 1.0, per=per).choose_all(KEYS, 32) for per in ("clip", "batch"))
    assert by_clip == [Mix(0.8, 1.0).choose(key, 32) for key in KEYS]
    assert alike == [by_clip[0]] * len(KEYS)
    assert len(set(by_clip)) > 1


# Frames, and where the released code cuts a crop of 224 once the short side has 224: resized size, place of crop 1, 2.
@pytest.mark.parametrize(
    ("frames", "size", "middle", "last"),
    [
        ((256, 340), (224, 297), (0, 37), (0, 73)),
        ((240, 320), (224, 298), (0, 37), (0, 74)),
        ((320, 240), (298, 224), (37, 0), (74, 0)),
        ((720, 1280), (224, 398), (0, 87), (0, 174)),
        ((338, 600), (224, 397), (0, 87), (0, 173)),
        ((225, 224), (225, 224), (1, 0), (1, 0)),
        ((224, 224), (224, 224), (0, 0), (0, 0)),
        ((100, 133), (224, 297), (0, 37), (0, 73)),
    ],
)
def test_evaluation_crops_lie_where_the_released_code_has_them(frames, size, middle, last):
    assert resized_size(*frames, 224) == size
    assert [crop_box(*size, 224, crop)[:2] for crop in range(3)] == [(0, 0), middle, last]


def test_evaluation_crops_of_clips_of_several_sizes():
    clips, crops = a_batch(), [0, 1, 2, 0, 1, 2]
    batch = evaluation_crops(clips, crops, crop_px=32)
    for ours, clip, crop in zip(batch, clips, crops, strict=True):
        size = resized_size(*clip.shape[1:3], 32)
        whole = resized(normalised(clip.permute(0, 3, 1, 2).float()), *size)
        top, left, _, _ = crop_box(*size, 32, crop)
        assert torch.allclose(ours, whole[:, :, top : top + 32, left : left + 32], atol=1e-5)


def test_a_low_precision_can_be_asked_for():
    settings, clips = Augment(crop_px=16), a_batch()
    choices = choices_for(settings, clips)
    low = augment(clips, choices, settings, dtype=torch.bfloat16)
    assert torch.equal(low, augment(clips, choices, settings).to(torch.bfloat16))
    assert evaluation_crops(clips, [1] * 6, crop_px=16, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("order", ORDERS)
def test_a_gpu_gives_the_same_and_is_never_waited_for(order):
    settings, clips = Augment(crop_px=32, order=order, color_jitter=0.4), a_batch()
    for epoch in range(6):
        choices = choices_for(settings, clips, [RandomKey(1, epoch, number) for number in range(len(clips))])
        on_gpu = [clip.cuda() for clip in clips]
        torch.cuda.set_sync_debug_mode("error")
        try:
            batch = augment(on_gpu, choices, settings)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        apart = (batch.cpu() - augment(clips, choices, settings)).abs() * 255 * 0.225
        assert (apart < 1.01).float().mean() > 0.999


CORNER = Choices(Box(0, 0, 4, 4), False, ())


def augmented(*clips, choice=CORNER, count=None):
    return augment(clips, [choice] * (len(clips) if count is None else count), Augment(crop_px=4))


CLIP = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Augment(order="later"), "known: published, crop_first"),
        (lambda: Augment(crop_px=0), "at least 1 px"),
        (lambda: Augment(area=(0.5, 0.1)), "smallest area"),
        (lambda: Augment(aspect=(0.0, 1.0)), "smallest aspect"),
        (lambda: Augment(flip_prob=1.5), "flip_prob is 1.5"),
        (lambda: Augment(color_jitter=-0.1), "color_jitter is -0.1"),
        (lambda: Augment(std=(0.2, 0.0, 0.2)), "allowed: above 0"),
        (lambda: Augment(randaugment="rand"), "cannot read the RandAugment 'rand'"),
        (lambda: Mix(mixup_alpha=2.0), "mixup_alpha is 2.0"),
        (lambda: Mix(per="pair"), "mixed per 'pair'; known: clip, batch"),
        (lambda: augmented(CLIP.float()), "torch.float32"),
        (lambda: augmented(CLIP[..., :1]), r"needed: torch.uint8 \(T, H, W, 3\)"),
        (lambda: augmented(CLIP, CLIP[:1]), r"\[2, 1\] frames in one batch"),
        (lambda: augmented(), "in one batch"),
        (lambda: augmented(CLIP, count=2), "1 clip, 2 choices"),
        (lambda: augmented(CLIP, choice=Choices(Box(5, 0, 4, 4), False, ())), "larger than 8 x 8"),
        (lambda: evaluation_crops([CLIP], [0, 1]), "1 clip, 2 crops"),
        (lambda: evaluation_crops([CLIP], [3]), "crop 3; allowed: 0, 1, 2"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()


def test_evls_crops_are_rounded_in_whole_numbers():
    """As EVL's loader: the longer side by integer division, the middle down."""
    assert (resized_size(112, 115, 224), resized_size(112, 115, 224, in_integers=True)) == ((224, 229), (224, 230))
    for height, width in ((224, 229), (229, 224)):
        up, down = (crop_box(height, width, 224, 1, in_integers=exact) for exact in (False, True))
        assert (max(up[:2]), max(down[:2])) == (3, 2)
        ends = [crop_box(height, width, 224, crop, in_integers=True) for crop in (0, 2)]
        assert [max(box[:2]) for box in ends] == [0, 5]
    clip = torch.arange(24 * 29 * 3, dtype=torch.uint8).view(1, 24, 29, 3)
    plain = {"crop_px": 24, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    found = evaluation_crops([clip], [1], in_integers=True, **plain)
    torch.testing.assert_close(found[0, :, 0], clip[0, :, 2:26].permute(2, 0, 1).float() / 255)
    assert not torch.equal(found, evaluation_crops([clip], [1], **plain))
