"""A contact sheet: some clips as training sees them, before augmentation and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

from k710.engine.part import Share
from k710.errors import LoadError
from k710.loading.augment.augment import Augment, augment
from k710.loading.augment.evaluation_crops import evaluation_crops
from k710.loading.dataset import ClipDataset
from k710.loading.load_clip import LoadedClip
from k710.loading.order import EpochOrder, Sample
from k710.text import counted

_FRAME_PX = 96  # height
_GAP_PX = 4
_TEXT_PX = 18
_PAPER, _INK = (255, 255, 255), (20, 20, 20)

Picture = npt.NDArray[np.uint8]


def contact_sheet(
    dataset: ClipDataset,
    *,
    num_clips: int = 4,
    epoch: int = 0,
    settings: Augment | None,
    on_failure: Callable[[str], None] = lambda message: None,
) -> Image.Image:
    """The first `num_clips` clips of an epoch's order, a row of frames each, under its label and its frames' numbers.

    With `settings`, a second row shows the same frames after augmentation (in evaluation, the crop of the first view).
    `on_failure` gets the message of a clip that cannot be read or decoded; the next clip takes its place. Raises
    LoadError where no clip can be shown.
    """
    blocks = []
    for clip in _readable(dataset, num_clips, epoch, on_failure):
        rows = [clip.pixels.numpy()]
        if settings is not None:
            rows.append(_after(dataset, clip, settings))
        name = dataset.labels[clip.class_id] if clip.class_id >= 0 else "no label"
        numbers = ", ".join(map(str, clip.frames.tolist()))
        blocks.append(_captioned(f"{name}   {clip.clip_id}   frames {numbers}", [_row(frames) for frames in rows]))
    return _stacked(blocks, gap_px=3 * _GAP_PX)


def _readable(
    dataset: ClipDataset, num_clips: int, epoch: int, on_failure: Callable[[str], None]
) -> Iterator[LoadedClip]:
    """The first `num_clips` clips of the epoch's order that can be loaded."""
    shown, failed = 0, 0
    first = ""
    for (sample,) in EpochOrder(len(dataset), dataset.seed).batches(epoch, 1, Share()):
        try:
            yield from dataset.load([sample if dataset.training else Sample(sample.clip)])
            shown += 1
        except LoadError as error:
            failed, first = failed + 1, first or str(error)
            on_failure(str(error))
        if shown == num_clips:
            break
    if not shown:
        raise LoadError(f"none of the {counted(failed, 'clip')} can be shown; the first: {first}")


def _after(dataset: ClipDataset, clip: LoadedClip, settings: Augment) -> Picture:
    """The clip (T, S, S, 3) as the model sees it, but for the normalisation."""
    plain: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if dataset.training:
        shown = Augment(**{**vars(settings), **plain})
        choice = shown.choose(dataset.key(clip.sample), *clip.pixels.shape[1:3])
        batch = augment([clip.pixels], [choice], shown)
    else:
        crop = dataset.view_of(clip.sample).crop
        batch = evaluation_crops([clip.pixels], [crop], crop_px=settings.crop_px, **plain)
    pixels = (batch[0] * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0)
    return np.asarray(pixels.numpy())


def _row(frames: Picture) -> Image.Image:
    height_px, width_px = frames.shape[1:3]
    size = (max(1, round(width_px * _FRAME_PX / height_px)), _FRAME_PX)
    sheet = Image.new("RGB", (len(frames) * (size[0] + _GAP_PX) - _GAP_PX, _FRAME_PX), _PAPER)
    for number, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), (number * (size[0] + _GAP_PX), 0))
    return sheet


def _captioned(text: str, rows: list[Image.Image]) -> Image.Image:
    rows_below = _stacked(rows, gap_px=_GAP_PX)
    sheet = Image.new("RGB", (rows_below.width, rows_below.height + _TEXT_PX), _PAPER)
    ImageDraw.Draw(sheet).text((0, 2), text, _INK, font=ImageFont.load_default(12))
    sheet.paste(rows_below, (0, _TEXT_PX))
    return sheet


def _stacked(images: list[Image.Image], *, gap_px: int) -> Image.Image:
    height_px = sum(image.height for image in images) + gap_px * (len(images) - 1)
    sheet = Image.new("RGB", (max(image.width for image in images), height_px), _PAPER)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height + gap_px
    return sheet
