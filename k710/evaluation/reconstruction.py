"""A sheet of what a masked pretraining sees of clips and what it makes of the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from k710.errors import UsageError
from k710.evaluation.view_model import Body, open_body
from k710.loading.augment.evaluation_crops import evaluation_crops
from k710.loading.clip_source import Media
from k710.loading.contact_sheet import Picture, captioned, clips_to_show, label_of, row_of, stacked
from k710.loading.dataset import ClipDataset
from k710.loading.load_clip import ClipOptions
from k710.manifest.read import Manifest
from k710.random_key import RandomKey

_FRAME_PX = 112  # height


def open_reconstructing(path: Path, *, num_frames: int | None = None, size_px: int | None = None) -> Body:
    """A checkpoint that can reconstruct. Raises UsageError for one that cannot, CheckpointError as `open_body`."""
    body = open_body(path, num_frames=num_frames, size_px=size_px)
    if body.family.reconstruct is None:
        raise UsageError(
            f"{path}: {body.config.title} reconstructs nothing; want the checkpoint of a masked pretraining"
        )
    return body


def shown_clips(
    body: Body, manifest: Manifest, media: Media, *, view: str | None, split: str, seed: int
) -> ClipDataset:
    """The clips of a split, whatever it is, as the model sees them in an evaluation: one centre view of each."""
    options = ClipOptions(num_frames=body.config.num_frames, seed=seed, **body.sampling.options())
    return media.dataset(manifest, options, view=view, split=split, training=False)


def reconstruction_sheet(
    body: Body,
    dataset: ClipDataset,
    *,
    num_clips: int = 4,
    num_shown: int = 8,
    clip_ids: Sequence[str] = (),
    on_failure: Callable[[str], None] = lambda message: None,
) -> Image.Image:
    """Three rows for each clip: its frames, what the model sees of them, and its reconstruction.

    Clips are drawn as `contact_sheet` draws them, masks by the dataset's seed and the clip. `num_shown` of the model's
    frames are shown, at equal distances. Raises LoadError where no clip can be shown, UsageError for a clip that the
    dataset lacks.
    """
    reconstruct = body.family.reconstruct
    assert reconstruct is not None, "open_reconstructing refuses the others"
    blocks = []
    # Without mean and deviation, crops are the frames themselves; the model's are normalised.
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    for clip in clips_to_show(dataset, num_clips, clip_ids, on_failure=on_failure):
        crop = [dataset.view_of(clip.sample).crop]
        how: dict[str, Any] = body.family.crops(body.config.size_px)
        true, pixels = (evaluation_crops([clip.pixels], crop, **one) for one in (how | plain, how))
        key = RandomKey(dataset.seed, 0, clip.clip_id)
        found = reconstruct(body.model, pixels, [key])
        chosen = np.linspace(0, len(clip.frames) - 1, min(num_shown, len(clip.frames))).round().astype(int)
        rows = [row_of(_frames(one, chosen), _FRAME_PX) for one in (true, found.seen, found.found)]
        numbers = ", ".join(map(str, clip.frames[chosen].tolist()))
        text = f"{label_of(dataset, clip)}   {clip.clip_id}   frames {numbers}   loss {found.losses.item():.3f}"
        blocks.append(captioned(text, rows))
    return stacked(blocks)


def _frames(clip: Tensor, chosen: np.ndarray[Any, Any]) -> Picture:
    """Some frames (T, H, W, 3) of a clip (1, 3, T, H, W) with pixels in 0 to 1."""
    pixels = (clip[0][:, torch.from_numpy(chosen)] * 255).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(pixels.permute(1, 2, 3, 0).numpy())
