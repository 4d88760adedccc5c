"""A new codec is a row in CODECS: clips in it are fetched, verified and loaded without another line changed."""

from __future__ import annotations

import io
import os
import runpy
from pathlib import Path

import av
import pytest

from k710.errors import RecipeError
from k710.fetch.encode.codecs import CODECS
from k710.fetch.encode.profiles import read_profile
from k710.fetch.estimate import estimate
from k710.fetch.origins.local import LocalOrigin
from k710.fetch.plan import FetchOptions
from k710.loading.dataset import open_dataset
from k710.loading.load_clip import ClipOptions
from k710.maintenance.status import status
from k710.manifest.read import open_manifest
from k710.sample.numbered import read_number
from k710.store.store import Store
from tests.helpers.tiny_media import build, clip_file, fetched, numbers, settled

# Python runs a file of this name when it starts, so the processes that make clips get the row too.
ROW = """
from k710.fetch.encode.codecs import CODECS, Codec, keeping_matrix, scaled


def options(source, profile):
    picture = scaled(source, profile, colours=keeping_matrix(source))
    return {"vf": picture, "q:v": 4, "g": profile.gop_frames, "f": "matroska"}


CODECS["mpeg4"] = Codec("mpeg4", options, "mkv", expected_bytes=3_000_000, keeps_audio=False, cuts_sections=False)
"""
PROFILE = "codec: mpeg4\nshort_side_px: 0\n"
CLIPS = [("made-up-001", 0, 2), ("made-up-002", 1, 3)]


@pytest.fixture
def profile(tmp_path, monkeypatch) -> Path:
    """A profile of the made-up codec, which all processes of this test know."""
    (tmp_path / "row").mkdir()
    (tmp_path / "row" / "sitecustomize.py").write_text(ROW)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'row'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setitem(CODECS, "mpeg4", None)  # for its removal at the end
    runpy.run_path(str(tmp_path / "row" / "sitecustomize.py"))
    file = tmp_path / "made-up.yaml"
    file.write_text(PROFILE)
    return file


def test_a_made_up_codec_is_fetched_verified_and_loaded(k710, tmp_path, profile):
    manifest = build(k710, tmp_path, {("k400", "train"): CLIPS, ("k400", "val"): [("made-up-003", 0, 2)]})
    names = [f"{youtube_id}_{start_s:06d}_{end_s:06d}" for youtube_id, start_s, end_s in CLIPS]
    clip_file(tmp_path / "clips" / f"{names[0]}.mp4")
    clip_file(tmp_path / "clips" / f"{CLIPS[1][0]}.mp4", seconds=6)  # a whole video, to be cut
    result = k710("fetch", manifest, "--from", f"local:{tmp_path / 'clips'}", "--profile", profile, "--workers", 2)
    assert "This run: 2 clips fetched" in result.stdout, result.output

    rows = settled(manifest / "store", "made-up")
    assert {name: (rows[name]["codec"], rows[name]["suffix"]) for name in names} == dict.fromkeys(
        names, ("mpeg4", "mkv")
    )
    for content in fetched(manifest / "store", "made-up").values():
        with av.open(io.BytesIO(content)) as file:
            assert file.format.name == "matroska,webm"
            assert file.streams.video[0].codec_context.name == "mpeg4"
    assert numbers(fetched(manifest / "store", "made-up")[names[1]]) == list(range(10, 30))
    assert sum(line.fetched for line in status(open_manifest(manifest), Store(manifest / "store", "made-up"))) == 4

    assert k710("verify", manifest, "--decode").exit_code == 0
    dataset = open_dataset(
        open_manifest(manifest), view="k400", profile="made-up", training=False, options=ClipOptions(num_frames=4)
    )
    assert [clip.clip_id for clip in dataset.index] == names
    loaded = dataset[1]
    assert loaded.error is None
    shown = [read_number(picture) for picture in loaded.pixels.numpy()]
    assert shown == [10 + frame for frame in loaded.frames.tolist()]


def test_its_row_says_what_it_takes_and_cannot_do(k710, tmp_path, profile):
    manifest = build(k710, tmp_path, {("k400", "train"): CLIPS, ("k400", "val"): [("made-up-003", 0, 2)]})
    clip_file(tmp_path / "clips" / f"{CLIPS[0][0]}.mp4", seconds=6)
    options = FetchOptions(read_profile(str(profile)), origins=(LocalOrigin(tmp_path / "clips"),))
    assert estimate(open_manifest(manifest), manifest / "store", options).store_bytes == 3_000_000
    with pytest.raises(RecipeError, match="codec mpeg4 keeps no sound"):
        read_profile(str(profile), audio=True)
    result = k710("fetch", manifest, "--from", "youtube", "--youtube-sections", "--profile", profile)
    assert "--youtube-sections needs a profile that encodes" in result.stderr
