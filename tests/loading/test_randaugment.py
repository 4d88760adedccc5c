"""RandAugment: each operation against Pillow's, the distribution of what is drawn, batches against single clips."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from k710.errors import UsageError
from k710.loading.augment import operations as batched
from k710.loading.augment.randaugment import LEVELS, Operation, RandAugment
from k710.random_key import RandomKey
from tests.helpers.pillow_operations import OPERATIONS, clip_like_footage, with_pillow

SPEC = "rand-m7-n4-mstd0.5-inc1"

# What a magnitude of 7 means in the released code; a tuple has both signs.
PUBLISHED_AT_7 = {
    "auto_contrast": (0,),
    "equalize": (0,),
    "invert": (0,),
    "rotate": (21.0, -21.0),
    "posterize": (2,),
    "solarize": (77,),
    "solarize_add": (77,),
    "color": (1.63, 0.37),
    "contrast": (1.63, 0.37),
    "brightness": (1.63, 0.37),
    "sharpness": (1.63, 0.37),
    "shear_x": (0.21, -0.21),
    "shear_y": (0.21, -0.21),
    "translate_x": (0.315, -0.315),
    "translate_y": (0.315, -0.315),
}

# Few colours, so that frames of one value and of two occur; small, so that the border is most of it.
tiny_clips = st.builds(
    torch.from_numpy,
    st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
        lambda size: arrays(np.uint8, (2, *size, 3), elements=st.sampled_from([0, 1, 60, 127, 128, 200, 255]))
    ),
)
magnitudes = st.floats(0, 10)
signs = st.sampled_from([1, -1])


def apply_operations(clips, operations):
    """The library's operations, for clips (N, T, H, W, 3) as Pillow's have them."""
    changed = batched.apply_operations(clips.permute(0, 1, 4, 2, 3), operations)
    return changed.permute(0, 1, 3, 4, 2)


def difference(clip, operation):
    ours = apply_operations(clip[None], [[operation]])[0]
    return (ours.int() - with_pillow(clip, [operation]).int()).abs()


def drawn(num_keys, randaugment):
    return [randaugment.draw(RandomKey(0, 0, number).draws("randaugment")) for number in range(num_keys)]


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("magnitude", [0.0, 5.2, 7.0, 7.7, 10.0])
def test_operations_are_those_of_pillow(name, magnitude):
    for sign in (1, -1):
        operation = Operation(name, LEVELS[name](magnitude, sign))
        apart = difference(clip_like_footage(3, height=120, width=170), operation)
        assert apart.max() <= 1, operation
        assert (apart == 0).float().mean() > 0.995, operation


@pytest.mark.parametrize("name", LEVELS)
@settings(max_examples=12)
@given(clip=tiny_clips, magnitude=magnitudes, sign=signs)
def test_operations_are_those_of_pillow_at_the_border_too(name, clip, magnitude, sign):
    assert difference(clip, Operation(name, LEVELS[name](magnitude, sign))).max() <= 1


def test_equalize_of_a_frame_that_is_mostly_one_value():
    frames = torch.full((1, 24, 24, 3), 7, dtype=torch.uint8)
    frames[0, :17] = torch.arange(17, dtype=torch.uint8).view(17, 1, 1)
    assert difference(frames, Operation("equalize")).max() == 0


def test_every_operation_of_the_published_set_stands_at_its_published_level():
    assert list(LEVELS) == list(PUBLISHED_AT_7) == list(OPERATIONS)
    for name, levels in PUBLISHED_AT_7.items():
        assert [LEVELS[name](7.0, sign) for sign in (1, -1)[: len(levels)]] == pytest.approx(levels), name


def test_operations_follow_one_another_as_in_pillow():
    """Rounded to uint8 in between: a chain is as near as its parts."""
    clip = clip_like_footage(4)
    for operations in drawn(40, RandAugment()):
        apart = (apply_operations(clip[None], [operations])[0].int() - with_pillow(clip, operations).int()).abs()
        # A table may stretch one level to several; that is rare, and the chain is the same all the same.
        assert (apart <= 1).float().mean() > 0.999, operations


def test_a_clip_fares_the_same_together_and_alone():
    operations = drawn(24, RandAugment(num_ops=6))
    clips = torch.stack([clip_like_footage(seed) for seed in range(24)]).permute(0, 1, 4, 2, 3).contiguous()
    before = clips.clone()
    together = batched.together(clips, operations)
    assert (together == batched.one_by_one(clips, operations)).all()
    assert (together.flip(0) == batched.together(clips.flip(0), operations[::-1])).all()
    assert (clips == before).all()


def test_all_frames_of_a_clip_get_the_same():
    still = clip_like_footage(5, num_frames=1).expand(4, -1, -1, -1)
    for operations in drawn(30, RandAugment()):
        changed = apply_operations(still[None], [operations])[0]
        assert (changed == changed[:1]).all()


def test_histogram_operations_look_at_each_frame_by_itself():
    dark, bright = clip_like_footage(6, num_frames=1) // 4, clip_like_footage(6, num_frames=1) // 4 + 150
    clip = torch.cat([dark, bright])
    for name in ("auto_contrast", "equalize", "contrast"):
        operation = Operation(name, 1.63)
        apart = apply_operations(clip[None], [[operation]])[0]
        alone = torch.cat([apply_operations(frame[None], [[operation]])[0] for frame in (dark, bright)])
        assert (apart == alone).all()


@pytest.mark.slow
def test_the_distribution_of_operations():
    """Each of 15 equally often, half of the draws applied, with replacement, both signs."""
    operations = drawn(5000, RandAugment())
    lengths = Counter(map(len, operations))
    expected = {0: 1 / 16, 1: 4 / 16, 2: 6 / 16, 3: 4 / 16, 4: 1 / 16}
    assert sum((lengths[n] - 5000 * p) ** 2 / (5000 * p) for n, p in expected.items()) < 18.5  # chi-square, p = .001
    names = Counter(operation.name for named in operations for operation in named)
    mean = sum(names.values()) / 15
    assert set(names) == set(LEVELS)
    assert sum((count - mean) ** 2 / mean for count in names.values()) < 36.1  # chi-square, 14 degrees, p = .001
    assert any(len({operation.name for operation in named}) < len(named) for named in operations)
    signs = [operation.value > 0 for named in operations for operation in named if operation.name == "shear_x"]
    assert 0.44 < sum(signs) / len(signs) < 0.56


@pytest.mark.slow
def test_the_distribution_of_magnitudes():
    values = [op.value for named in drawn(8000, RandAugment()) for op in named if op.name in ("rotate", "shear_y")]
    names = [op.name for named in drawn(8000, RandAugment()) for op in named if op.name in ("rotate", "shear_y")]
    levels = np.array(
        [abs(value) / (3 if name == "rotate" else 0.03) for name, value in zip(names, values, strict=True)]
    )
    assert abs(levels.mean() - 7) < 0.06
    assert abs(levels.std() - 0.5) < 0.04
    strong = [abs(op.value) for named in drawn(500, RandAugment(10)) for op in named if op.name == "rotate"]
    assert max(strong) == 30  # cut off at the largest magnitude
    assert sum(value == 30 for value in strong) > len(strong) * 0.3


def test_a_spec_is_read_as_the_papers_print_it():
    assert RandAugment.parse(SPEC) == RandAugment(7, 4, 0.5)
    assert RandAugment.parse("rand-m9.5-n2-inc1") == RandAugment(9.5, 2, 0)
    assert {op.value for named in drawn(300, RandAugment(7, 4, 0)) for op in named if op.name == "rotate"} == {21, -21}


@pytest.mark.parametrize(
    "spec", ["", "rand-m7-n4-mstd0.5-inc0", "rand-m7-n4-mstd0.5", "augmix-m7", "rand-m11-n4-inc1", SPEC + "-w0"]
)
def test_other_specs_are_refused(spec):
    with pytest.raises(UsageError, match="allowed"):
        RandAugment.parse(spec)
