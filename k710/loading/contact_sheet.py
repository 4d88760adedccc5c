"""A contact sheet: some clips as training sees them, before augmentation and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

from k710.engine.part import Share
from k710.errors import LoadError, UsageError
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
    clip_ids: Sequence[str] = (),
    on_failure: Callable[[str], None] = lambda message: None,
) -> Image.Image:
    """The first `num_clips` clips of an epoch's order, a row of frames each, under its label and its frames' numbers.

    With `settings`, a second row shows the same frames after augmentation (in evaluation, the crop of the first view).
    `clip_ids` are shown in place of the first ones. `on_failure` gets the message of a clip that cannot be read or
    decoded; the next clip takes its place. Raises LoadError where no clip can be shown, UsageError for a clip that the
    dataset lacks.
    """
    blocks = []
    for clip in clips_to_show(dataset, num_clips, clip_ids, epoch=epoch, on_failure=on_failure):
        rows = [clip.pixels.numpy()]
        if settings is not None:
            rows.append(_after(dataset, clip, settings))
        numbers = ", ".join(map(str, clip.frames.tolist()))
        text = f"{label_of(dataset, clip)}   {clip.clip_id}   frames {numbers}"
        blocks.append(captioned(text, [row_of(frames) for frames in rows]))
    return stacked(blocks)


def label_of(dataset: ClipDataset, clip: LoadedClip) -> str:
    return dataset.labels[clip.class_id] if clip.class_id >= 0 else "no label"


def clips_to_show(
    dataset: ClipDataset,
    num_clips: int,
    clip_ids: Sequence[str] = (),
    *,
    epoch: int = 0,
    on_failure: Callable[[str], None],
) -> Iterator[LoadedClip]:
    """The clips `clip_ids`, or the first `num_clips` of the epoch's order that can be loaded.

    Raises LoadError where none can be, UsageError for a clip that the dataset lacks.
    """
    shown, failed = 0, 0
    first = ""
    chosen = _chosen(dataset, clip_ids) if clip_ids else None
    num_clips = len(clip_ids) or num_clips
    drawn = (batch[0] for batch in EpochOrder(len(dataset), dataset.seed).batches(epoch, 1, Share()))
    for sample in chosen or drawn:
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


def _chosen(dataset: ClipDataset, clip_ids: Sequence[str]) -> list[Sample]:
    places = {clip_id: number for number, clip_id in enumerate(dataset.index.clip_ids.to_pylist())}
    for clip_id in clip_ids:
        if clip_id not in places:
            raise UsageError(
                f"no clip {clip_id!r} among the {counted(len(dataset), f'{dataset.view} clip')} that are here"
            )
    return [Sample(places[clip_id]) for clip_id in clip_ids]


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


def row_of(frames: Picture, height_px: int = _FRAME_PX) -> Image.Image:
    """Frames (T, H, W, 3) beside each other, `height_px` high."""
    own_height_px, own_width_px = frames.shape[1:3]
    size = (max(1, round(own_width_px * height_px / own_height_px)), height_px)
    sheet = Image.new("RGB", (len(frames) * (size[0] + _GAP_PX) - _GAP_PX, height_px), _PAPER)
    for number, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), (number * (size[0] + _GAP_PX), 0))
    return sheet


def captioned(text: str, rows: list[Image.Image]) -> Image.Image:
    """Rows below each other, under a line of text."""
    rows_below = stacked(rows, gap_px=_GAP_PX)
    sheet = Image.new("RGB", (rows_below.width, rows_below.height + _TEXT_PX), _PAPER)
    ImageDraw.Draw(sheet).text((0, 2), text, _INK, font=ImageFont.load_default(12))
    sheet.paste(rows_below, (0, _TEXT_PX))
    return sheet


def stacked(images: list[Image.Image], *, gap_px: int = 3 * _GAP_PX) -> Image.Image:
    """Pictures below each other."""
    height_px = sum(image.height for image in images) + gap_px * (len(images) - 1)
    sheet = Image.new("RGB", (max(image.width for image in images), height_px), _PAPER)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height + gap_px
    return sheet
