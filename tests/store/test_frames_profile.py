"""The `frames` profile: what is stored of a clip, and that fetch, verify and pack take it as any other."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from k710.errors import RecipeError, StoreError
from k710.fetch.encode.profiles import ENCODING_VERSION, Profile, read_profile
from k710.fetch.run import check_profile
from k710.loading.sampling import FrameSampling, nearest_stored, storage_error
from k710.manifest.read import open_manifest
from k710.manifest.views import split_of, view
from k710.random_key import RandomKey
from k710.sample.footage import clips_of, write_video
from k710.sample.motions import Look
from k710.sample.numbered import numbered_frames, read_number
from k710.store.store import MEDIA_SCHEMA, METADATA_KEY, Store, read_unit, unit_digest
from k710.store.stored_frames import stored_indices

LOOK = Look(128, 96, 12)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory, k710, sample):
    """A manifest whose val clips of K400 are in its store as frames; their frames carry their numbers."""
    folder = tmp_path_factory.mktemp("frames")
    k710("build", "--sources", "k400,k600,k700", "--annotations", "sample", "--out", folder / "m")
    manifest = open_manifest(folder / "m")
    (folder / "clips").mkdir()
    for clip in clips_of(split_of(view(manifest.clips, "k400"), "val")):
        num_frames = 40 if clip.clip_id.endswith("_000050_000060") else 110
        frames = numbered_frames(num_frames, LOOK)
        write_video(folder / "clips" / f"{clip.clip_id}.mp4", frames, LOOK)
    chosen = ("--view", "k400", "--splits", "val", "--profile", "frames", "--workers", 2)
    result = k710("fetch", folder / "m", "--from", f"local:{folder / 'clips'}", *chosen)
    assert result.exit_code == 0, result.output
    return open_manifest(folder / "m"), Store(folder / "m" / "store", "frames")


def test_the_first_and_the_last_frame_are_stored_and_the_gaps_are_even():
    for num_frames in (1, 2, 63, 64, 65, 100, 300, 600):
        indices = stored_indices(num_frames, 64)
        assert len(indices) == min(num_frames, 64)
        assert indices[0] == 0
        assert indices[-1] == num_frames - 1
        gaps = np.diff(indices)
        assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_of_128_stored_frames_a_window_of_16_frames_4_apart_shows_16():
    assert read_profile("frames-128").stored_frames == 128
    stored = stored_indices(300, 128)
    assert storage_error(stored, 300) == 1
    for method in ("window", "dense"):
        for number in range(50):
            wanted = FrameSampling(16, method, 4).train(300, RandomKey(0, 0, number).draws("frames"))
            assert len(set(nearest_stored(wanted, stored).tolist())) == 16
            assert len(set(nearest_stored(wanted, stored_indices(300, 64)).tolist())) < 16


@pytest.mark.slow
def test_every_stored_jpeg_is_the_frame_that_its_row_says(fetched):
    _, store = fetched
    rows = store.best_rows().to_pylist()
    assert rows
    for row in rows:
        assert row["suffix"] == row["codec"] == "mjpeg"
        assert row["frame_indices"] == stored_indices(row["num_frames"], 64).tolist()
        with (store.tars_folder / row["tar"]).open("rb") as tar:
            tar.seek(row["offset"])
            media = tar.read(row["size"])
        for begin, end, index in zip(
            row["frame_offsets"], [*row["frame_offsets"][1:], row["size"]], row["frame_indices"], strict=True
        ):
            assert read_number(np.asarray(Image.open(io.BytesIO(media[begin:end])))) == index


def test_a_sample_of_the_tar_says_where_its_frames_are(fetched):
    _, store = fetched
    tar = next(store.tars_folder.glob("*.tar"))
    with tarfile.open(tar) as archive:
        names = archive.getnames()
        assert {name.partition(".")[2] for name in names} == {"mjpeg", "json"}
        about = json.load(archive.extractfile(next(name for name in names if name.endswith(".json"))))
    assert len(about["frame_offsets"]) == len(about["frame_indices"]) <= 64


def test_verify_decodes_them_and_pack_packs_them(fetched, k710, tmp_path):
    manifest, store = fetched
    verified = k710("verify", manifest.path, "--decode")
    assert verified.exit_code == 0, verified.output
    chosen = ("--view", "k400", "--split", "val", "--profile", "frames")
    packed = k710("pack", manifest.path, *chosen, "--out", tmp_path / "s")
    assert packed.exit_code == 0, packed.output
    with tarfile.open(next((tmp_path / "s").glob("*.tar"))) as archive:
        about = json.load(archive.extractfile(next(n for n in archive.getnames() if n.endswith(".json"))))
    row = next(row for row in store.best_rows().to_pylist() if row["clip_id"] == about["clip_id"])
    assert about["frame_offsets"] == row["frame_offsets"]
    assert k710("status", manifest.path).exit_code == 0


def test_rows_of_an_older_store_are_read_with_nothing_in_the_new_columns(fetched, tmp_path):
    _, store = fetched
    rows, metadata = read_unit(store.unit_files()[0])
    older = [name for name in MEDIA_SCHEMA.names if not name.startswith("frame_")]
    table = rows.select(older)
    metadata = {key: value for key, value in metadata.items() if key != "sha256"} | {"schema_version": "1.0"}
    metadata["sha256"] = unit_digest(table, metadata)
    (tmp_path / "media" / "old").mkdir(parents=True)
    file = tmp_path / "media" / "old" / "u-1.parquet"
    pyarrow.parquet.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()}), file)
    assert read_unit(file)[0]["frame_offsets"].null_count == len(rows)
    assert Store(tmp_path, "old").best_rows()["frame_indices"].null_count == len(rows)


def test_a_store_from_before_a_key_existed_has_its_default(fetched, monkeypatch):
    _, store = fetched
    before = {key: value for key, value in read_profile("frames").settings().items() if key != "jpeg_qscale"}
    monkeypatch.setattr("k710.fetch.run.unit_metadata", lambda file: {"profile": before})
    check_profile(store, read_profile("frames"))
    monkeypatch.setattr("k710.fetch.run.unit_metadata", lambda file: {"profile": before | {"short_side_px": 96}})
    with pytest.raises(StoreError, match="short_side_px 96"):
        check_profile(store, read_profile("frames"))


def test_clips_of_an_earlier_encoding_are_kept_and_told_of(fetched, monkeypatch):
    _, store = fetched
    heard: list[str] = []
    metadata = read_unit(store.unit_files()[0])[1]
    assert metadata["encoding"] == ENCODING_VERSION
    check_profile(store, read_profile("frames"), on_message=heard.append)
    assert heard == []
    del metadata["encoding"]
    monkeypatch.setattr("k710.fetch.run.unit_metadata", lambda file: metadata)
    check_profile(store, read_profile("frames"), on_message=heard.append)
    assert len(heard) == 1
    assert "made by an earlier version" in heard[0]


@pytest.mark.parametrize(
    ("changes", "named"), [({"stored_frames": 0}, "stored_frames"), ({"jpeg_qscale": 1}, "jpeg_qscale")]
)
def test_a_profile_that_cannot_be_is_refused_by_its_key(changes, named, tmp_path):
    with pytest.raises(RecipeError, match=named):
        Profile(codec="frames", name="mine", **changes).checked(tmp_path)
    with pytest.raises(RecipeError, match="audio"):
        read_profile("frames", audio=True)
