"""`k710 show`: the picture is of the clips that it names, before and after augmentation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from k710 import ClipOptions, open_dataset
from k710.engine.part import Share
from k710.loading.augment.augment import Augment
from k710.loading.contact_sheet import contact_sheet
from k710.loading.order import EpochOrder
from k710.sample.numbered import read_number
from tests.helpers.numbered_stores import make_numbered


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, k710):
    folder = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K710_CACHE", str(folder / "cache"))
        yield make_numbered(folder, k710, ())


def test_a_sheet_shows_the_frames_of_its_clips(numbered):
    dataset = open_dataset(numbered.manifest, view="k400", folder=numbered.clips, options=ClipOptions(seed=3))
    sheet = np.asarray(contact_sheet(dataset, num_clips=2, settings=None))
    (first,), (second,) = list(EpochOrder(len(dataset), 3).batches(0, 1, Share()))[:2]
    for row, sample in enumerate((first, second)):
        top = 18 + row * (96 + 18 + 12)
        shown = [read_number(sheet[top : top + 96, column * 132 : column * 132 + 128]) for column in range(8)]
        assert shown == dataset[sample].frames.tolist()


def test_augmented_rows_stand_below_and_are_the_models_crops(numbered):
    for split in ("train", "val"):
        dataset = open_dataset(numbered.manifest, view="k400", split=split, folder=numbered.clips)
        plain, both = (
            contact_sheet(dataset, num_clips=1, settings=settings) for settings in (None, Augment(crop_px=96))
        )
        assert both.height == plain.height + 96 + 4
        below = np.asarray(both)[-96:, : 8 * 100 - 4]
        assert below.std() > 5
        if split == "val":  # the centre of the same frames, of the same height
            above = np.asarray(plain)[-96:]
            assert np.abs(below[:, :96].astype(int) - above[:, 16:112]).mean() < 2


def test_the_command_writes_a_png(numbered, k710, tmp_path):
    where = ("--folder", numbered.clips, "--view", "k400", "--out", tmp_path / "sheet.png")
    result = k710("show", numbered.manifest.path, *where, "--augment", "--clips", 2, "--frames", 4)
    assert result.exit_code == 0, result.output
    assert "2 of 12 clips; 0 are not here" in result.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] >= 4 * 128
    refused = k710("show", numbered.manifest.path, "--view", "k400", "--out", tmp_path / "other.png")
    assert refused.exit_code == 1
    assert "k710 fetch" in refused.stderr
    assert not (tmp_path / "other.png").exists()


def test_clips_that_cannot_be_read_are_named_and_others_shown(numbered, k710, tmp_path):
    """The first of the order is no video, the second is empty: the next two are shown."""
    folder = Path(shutil.copytree(numbered.clips, tmp_path / "clips"))
    dataset = open_dataset(numbered.manifest, view="k400", folder=folder)
    order = [batch[0].clip for batch in EpochOrder(len(dataset), 0).batches(0, 1, Share())]
    first = [dataset[clip].clip_id for clip in order[:4]]
    for clip_id, content in zip(first[:2], (b"no video", b""), strict=True):
        (path,) = folder.rglob(f"{clip_id}*")
        path.write_bytes(content)
    where = ("--folder", folder, "--view", "k400", "--out", tmp_path / "sheet.png", "--clips", 2)
    result = k710("show", numbered.manifest.path, *where)
    assert result.exit_code == 0, result.output
    told = [line for line in result.stderr.splitlines() if line.startswith("not shown: ")]
    assert [clip_id for clip_id, line in zip(first[:2], told, strict=True) if clip_id in line] == first[:2]
    assert "2 of 12 clips; 2 could not be read; 0 are not here" in result.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 2 * (96 + 18) + 12
    for path in folder.rglob("*.mp4"):
        path.write_bytes(b"")
    refused = k710("show", numbered.manifest.path, *where)
    assert refused.exit_code == 1
    assert "none of the 12 clips can be shown; the first: " in refused.stderr
