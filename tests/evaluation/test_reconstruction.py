"""`k710 show --reconstruct`: the clips that it names, what is hidden of them, and what is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from k710.evaluation.reconstruction import open_reconstructing, reconstruction_sheet, shown_clips
from k710.loading.clip_source import Media
from k710.models.videomaev2.config import PRESETS as CLASSIFIERS
from k710.models.videomaev2.model import VideoMAEV2
from k710.models.videomaev2.pretrain import MaskedVideoMAEV2
from k710.models.videomaev2.pretrain_config import PRESETS
from k710.train.run_folder import write_checkpoint

pytest_plugins = ("tests.helpers.run_fixtures",)

# Of the sheet: a caption, and three rows of frames with gaps of 4 px.
_TOP, _SIDE, _GAP = 18, 112, 4


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("pretrained") / "pretrained.pth"
    torch.save({"model": MaskedVideoMAEV2(PRESETS["tiny"]).state_dict()}, path)
    return path


def rows(sheet: Image.Image, block: int = 0) -> np.ndarray:
    """The three rows of a clip, (3, frames, side, side, 3)."""
    pixels, found = np.asarray(sheet).astype(int), []
    top = block * (_TOP + 3 * _SIDE + 2 * _GAP + 3 * _GAP) + _TOP
    for row in range(3):
        begin = top + row * (_SIDE + _GAP)
        lines = pixels[begin : begin + _SIDE]
        found.append([lines[:, left : left + _SIDE] for left in range(0, lines.shape[1], _SIDE + _GAP)])
    return np.array(found)


def test_rows_are_the_clip_what_is_seen_of_it_and_the_whole(experiment, pretrained):
    manifest, clips = experiment
    body = open_reconstructing(pretrained)
    dataset = shown_clips(body, manifest, Media(folder=clips), view="k710", split="train", seed=3)
    true, seen, found = rows(reconstruction_sheet(body, dataset, num_clips=2, num_shown=4), block=1)
    assert true.shape == (4, _SIDE, _SIDE, 3)
    # A place is 28 px; the middle of it is clear of what resizing mixes at its edges.
    places = [(slice(y + 8, y + 20), slice(x + 8, x + 20)) for y in range(0, 112, 28) for x in range(0, 112, 28)]
    hidden = [(np.abs(seen[:, y, x] - 127.5) < 1).all() for y, x in places]
    assert sum(hidden) == 12, "a tube hides the same places in all frames"
    for (y, x), is_hidden in zip(places, hidden, strict=True):
        assert is_hidden or np.abs(seen[:, y, x] - true[:, y, x]).max() <= 1
        assert is_hidden or np.abs(found[:, y, x] - true[:, y, x]).max() <= 1
        assert not is_hidden or np.abs(found[:, y, x] - 127.5).max() > 1, "all that is hidden is reconstructed"


def test_the_command_shows_the_clips_that_are_named(experiment, pretrained, tmp_path, k710):
    manifest, clips = experiment
    dataset = shown_clips(
        open_reconstructing(pretrained), manifest, Media(folder=clips), view="k400", split="val", seed=0
    )
    ids = dataset.index.clip_ids.to_pylist()
    words = ("show", manifest.path, "--folder", clips, "--view", "k400", "--split", "val", "--reconstruct", pretrained)
    out = tmp_path / "out.png"
    result = k710(*words, "--clip-id", ids[2], "--clip-id", ids[0], "--frames", 3, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"2 of {len(ids)} clips" in result.stdout
    assert "VideoMAE V2 ViT-tiny, masked pretraining, 8 frames" in result.stderr
    with Image.open(out) as sheet:
        assert sheet.width == 3 * (_SIDE + _GAP) - _GAP
        alone = k710(*words, "--clip-id", ids[0], "--frames", 3, "--out", tmp_path / "one.png")
        assert alone.exit_code == 0
        with Image.open(tmp_path / "one.png") as one:
            assert (rows(sheet, block=1) == rows(one)).all(), "masks are the clip's, wherever it stands"
        k710(*words, "--clip-id", ids[0], "--frames", 3, "--seed", 1, "--out", tmp_path / "other.png")
        with Image.open(tmp_path / "other.png") as other:
            assert (rows(other)[0] == rows(sheet, block=1)[0]).all()
            assert (rows(other)[1] != rows(sheet, block=1)[1]).any(), "another seed hides other places"
    refused = k710(*words, "--clip-id", "nobody", "--out", tmp_path / "none.png")
    assert refused.exit_code == 2
    assert "no clip 'nobody' among the" in refused.stderr
    assert not (tmp_path / "none.png").exists()


def test_a_run_is_shown_with_its_own_masks(tmp_path):
    state = MaskedVideoMAEV2(PRESETS["tiny"]).state_dict()
    recipe = {"model": {"mask_ratio": 0.5, "decoder_mask_ratio": 0.25}, "data": {"num_frames": 8, "size_px": 32}}
    write_checkpoint(tmp_path / "best.pt", {"model": state, "head": None, "run": {"recipe": recipe}})
    config = open_reconstructing(tmp_path / "best.pt").config
    assert (config.mask_ratio, config.decoder_mask_ratio) == (0.5, 0.25)


def test_what_cannot_reconstruct_is_refused(experiment, pretrained, tmp_path, k710):
    manifest, clips = experiment
    torch.save(VideoMAEV2(CLASSIFIERS["tiny"]).state_dict(), tmp_path / "classifier.pth")
    where = ("show", manifest.path, "--folder", clips, "--out", tmp_path / "out.png")
    for options, message in (
        (("--reconstruct", tmp_path / "classifier.pth"), "reconstructs nothing; want the checkpoint of a masked"),
        (("--reconstruct", pretrained, "--augment"), "--augment and --reconstruct are two sheets"),
    ):
        result = k710(*where, *options)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
    assert not (tmp_path / "out.png").exists()
