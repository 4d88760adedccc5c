"""The manifest: deterministic, committed at once, read back whole, and refused where it is not what it says."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import k710 as package
from k710.errors import ManifestError
from k710.manifest import write as module
from k710.manifest.read import open_manifest
from k710.manifest.schema import CLIPS_SCHEMA, content_hash
from k710.manifest.views import split_of, splits_of, view
from k710.manifest.write import prune, write_manifest
from k710.sources.known import KNOWN_SOURCES, VIEWS


def build(k710, out, *arguments):
    result = k710("build", "--annotations", "sample", "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    return open_manifest(out)


def test_the_same_input_gives_the_same_bytes(k710, tmp_path, sample):
    again = build(k710, tmp_path / "again", "--sources", "k700,k400,k600")  # the order of sources does not matter
    assert again.content_hash == sample.content_hash
    names = sorted(path.relative_to(sample.path) for path in sample.path.rglob("*") if path.is_file())
    assert [(again.path / name).read_bytes() for name in names] == [(sample.path / name).read_bytes() for name in names]


def test_the_content_hash_can_be_computed_by_anyone(sample):
    """As documented: the SHA-256 of the table as CSV, strings quoted, null as nothing, lists joined by semicolons."""
    lines = [",".join(f'"{name}"' for name in CLIPS_SCHEMA.names)]
    for row in sample.clips.to_pylist():
        values = [";".join(map(str, v)) if isinstance(v, list) else v for v in row.values()]
        lines.append(",".join("" if v is None else f'"{v}"' if isinstance(v, str) else str(v) for v in values))
    assert hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest() == sample.content_hash


def test_the_content_hash_sees_every_column(sample):
    hashes = {sample.content_hash}
    for name in CLIPS_SCHEMA.names:
        rows = sample.clips.to_pylist()
        value = rows[0][name]
        other = [709] if name == "other_class_ids" else "test" if name.endswith("split") else None
        rows[0][name] = (
            value + 1 if isinstance(value, int) else f"{value}x" if name in ("clip_id", "youtube_id") else other
        )
        if name in ("label", "drop_reason"):
            rows[0][name] = "vault" if name == "label" else "leaked"
        if name.endswith("class_id") and value is None:
            rows[0][name] = 1
        if name == "kept_clip_id":
            rows[0][name] = "x"
        hashes.add(content_hash(pa.Table.from_pylist(rows, schema=CLIPS_SCHEMA)))
    assert len(hashes) == 1 + len(CLIPS_SCHEMA.names)


def test_it_reads_back_with_pyarrow_and_pandas(sample):
    (file,) = (sample.path / "clips").iterdir()
    assert pa.parquet.read_table(file).equals(sample.clips)
    frame = pd.read_parquet(file)
    assert len(frame) == 73
    assert (frame["split"] == "train").sum() == 50
    ours = package.open_manifest(sample.path).to_pandas()
    assert ours["class_id"].isna().sum() == 0
    assert str(ours["k400_class_id"].dtype) == "Int16"
    assert ours["label"].tolist() == [sample.labels[index] for index in ours["class_id"]]


def test_all_releases_always_have_their_columns(sample):
    assert sample.clips.schema.equals(CLIPS_SCHEMA)
    assert sample.clips["k700_2020_split"].null_count == sample.clips.num_rows
    assert set(KNOWN_SOURCES) == {name.removesuffix("_split") for name in CLIPS_SCHEMA.names if name.endswith("_split")}


def test_provenance(sample):
    from k710.sample import LISTS

    for entry in sample.about["sources"]:
        assert entry["sha256"] == hashlib.sha256((LISTS / entry["file"]).read_bytes()).hexdigest()
    assert sample.about["recipe"]["leak_policy"] == "train-purge"
    assert str(sample.path) not in (sample.path / "dataset.json").read_text()


def test_verify(sample, tmp_path):
    sample.verify()
    folder = tmp_path / "copy"
    shutil.copytree(sample.path, folder)
    (file,) = (folder / "clips").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ManifestError, match="SHA-256 is"):
        open_manifest(folder).verify()


def test_an_old_version_stays_until_prune(k710, tmp_path):
    first = build(k710, tmp_path / "m")
    second = build(k710, tmp_path / "m", "--leak-policy", "val-purge", "--force")
    assert first.content_hash != second.content_hash
    kept = tmp_path / "m" / "versions" / f"{first.content_hash[:16]}.json"
    assert json.loads(kept.read_text()) == first.about
    assert len(list((tmp_path / "m" / "clips").iterdir())) == 2
    result = k710("prune", tmp_path / "m")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert open_manifest(tmp_path / "m").clips.equals(second.clips)
    assert [path.name for path in (tmp_path / "m" / "clips").iterdir()] == [second.about["clips"][0]["file"][6:]]
    assert k710("prune", tmp_path / "m").stdout == f"{tmp_path / 'm'}: nothing to remove\n"


def test_prune_spares_what_is_not_its_own(k710, tmp_path):
    build(k710, tmp_path / "m")
    for place in ("store", "clips"):
        (tmp_path / "m" / place).mkdir(exist_ok=True)
        (tmp_path / "m" / place / "notes.txt").write_text("mine")
    prune(tmp_path / "m")
    assert (tmp_path / "m" / "store" / "notes.txt").exists()
    assert (tmp_path / "m" / "clips" / "notes.txt").exists()


def test_readers_open_only_what_the_commit_lists(k710, tmp_path):
    manifest = build(k710, tmp_path / "m")
    (tmp_path / "m" / "clips" / "clips-0123456789abcdef.parquet").write_bytes(b"left by a killed build")
    assert open_manifest(tmp_path / "m").clips.num_rows == manifest.clips.num_rows


def test_a_failed_write_leaves_the_old_manifest_and_nothing_else(k710, tmp_path, sample, monkeypatch):
    manifest = build(k710, tmp_path / "m", "--leak-policy", "val-purge")
    before = {path: path.read_bytes() for path in (tmp_path / "m").rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(tmp_path / "m", sample.clips, {}, force=True)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(tmp_path / "new" / "deep", sample.clips, {})
    assert {path: path.read_bytes() for path in (tmp_path / "m").rglob("*") if path.is_file()} == before
    assert not (tmp_path / "m" / "versions").exists()
    assert not (tmp_path / "new").exists()
    assert open_manifest(tmp_path / "m").content_hash == manifest.content_hash


def test_a_commit_fails_at_the_last_step(k710, tmp_path, sample, monkeypatch):
    """The clips file and the old version's copy are there already, and go again."""
    build(k710, tmp_path / "m", "--leak-policy", "val-purge")
    before = {path: path.read_bytes() for path in (tmp_path / "m").rglob("*") if path.is_file()}
    real = Path.replace

    def refuse(path, target):
        if Path(target).name == "dataset.json":
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        write_manifest(tmp_path / "m", sample.clips, {}, force=True)
    assert {path: path.read_bytes() for path in (tmp_path / "m").rglob("*") if path.is_file()} == before
    assert not (tmp_path / "m" / "versions").exists()


@pytest.fixture
def meanwhile(monkeypatch):
    """`meanwhile(work, fail=…)`: the next write that is about to commit finds `work` going on beside it, and then fails
    if it is to. What `work` returned or raised is in the list that it gives."""

    def begin(work, *, fail=False):
        came, real = [], module._keep_old_version

        def beside():
            try:
                came.append(work())
            except Exception as error:  # whatever it is, the test must not wait for it
                came.append(error)

        thread = threading.Thread(target=beside)

        def keep(folder, commit):
            monkeypatch.setattr(module, "_keep_old_version", real)
            thread.start()
            thread.join(timeout=1)
            if fail:
                raise OSError(5, "Input/output error")
            return real(folder, commit)

        monkeypatch.setattr(module, "_keep_old_version", keep)
        threads.append(thread)
        return came

    threads: list[threading.Thread] = []
    yield begin
    for thread in threads:
        thread.join()


def test_a_write_that_fails_removes_nothing_of_another(k710, tmp_path, sample, meanwhile):
    """It removed all that was new in the folder: the clips that the other had committed meanwhile, too."""
    other = build(k710, tmp_path / "other", "--leak-policy", "val-purge")
    out = tmp_path / "m"
    came = meanwhile(lambda: write_manifest(out, other.clips, dict(other.about), force=True), fail=True)
    with pytest.raises(OSError, match="Input/output error"):
        write_manifest(out, sample.clips, dict(sample.about))
    while not came:
        time.sleep(0.01)
    assert open_manifest(out).content_hash == other.content_hash
    open_manifest(out).verify()
    assert not (out / ".lock").exists()


def test_of_two_writes_at_once_one_needs_force(tmp_path, sample, meanwhile):
    came = meanwhile(lambda: write_manifest(tmp_path / "m", sample.clips, dict(sample.about)))
    write_manifest(tmp_path / "m", sample.clips, dict(sample.about))
    while not came:
        time.sleep(0.01)
    assert "a manifest is there already; --force" in str(came)


def test_a_prune_spares_what_a_build_is_about_to_commit(k710, tmp_path, sample, meanwhile):
    build(k710, tmp_path / "m", "--leak-policy", "val-purge")
    came = meanwhile(lambda: prune(tmp_path / "m"))
    write_manifest(tmp_path / "m", sample.clips, dict(sample.about), force=True)
    while not came:
        time.sleep(0.01)
    assert len(came[0]) == 2, "the version that the build replaced, and its clips"
    open_manifest(tmp_path / "m").verify()


def test_a_commit_that_cannot_be_read_is_kept_all_the_same(k710, tmp_path):
    build(k710, tmp_path / "m")
    newer = (
        (tmp_path / "m" / "dataset.json").read_bytes().replace(b'"schema_version": "1.0"', b'"schema_version": "2.0"')
    )
    (tmp_path / "m" / "dataset.json").write_bytes(newer)
    build(k710, tmp_path / "m", "--force")
    assert [path.read_bytes() for path in (tmp_path / "m" / "versions").iterdir()] == [newer]


def test_a_column_of_a_later_minor_version_is_left_alone(sample, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(sample.path, folder)
    wider = sample.clips.append_column("mood", pa.array(["cheerful"] * sample.clips.num_rows))
    sink = io.BytesIO()
    pa.parquet.write_table(wider, sink)
    (file,) = (folder / "clips").iterdir()
    file.write_bytes(sink.getvalue())
    commit = (folder / "dataset.json").read_text()
    old, new = sample.about["clips"][0]["sha256"], hashlib.sha256(sink.getvalue()).hexdigest()
    (folder / "dataset.json").write_text(commit.replace(old, new))
    assert open_manifest(folder).clips.equals(sample.clips)


class TestViews:
    def test_k710_is_the_curated_dataset(self, sample):
        table = view(sample.clips, "k710")
        assert splits_of(table) == ("train", "val")
        assert split_of(table, "train").num_rows == 50
        assert [sample.labels[index] for index in table["class_id"].to_pylist()] == table["label"].to_pylist()

    def test_a_release_is_untouched_by_curation(self, sample):
        table = view(sample.clips, "k700")
        assert table.num_rows == 58  # 46 and 13 rows, one of them twice
        rows = {row["clip_id"]: row for row in table.to_pylist()}
        assert rows["leaked-6000_000090_000100"]["split"] == "train"  # K710 drops it
        assert rows["leaked-6000_000090_000100"]["label"] == "abseiling"

    def test_a_release_speaks_its_own_names(self, sample):
        labels = set(view(sample.clips, "k400")["label"].to_pylist())
        assert {"tying tie", "balloon blowing", "picking fruit"} <= labels
        assert not {"tying necktie", "inflating balloons", "picking apples"} & labels

    @pytest.mark.parametrize("name", VIEWS)
    def test_a_dialect_renumbers_and_renames_nothing(self, sample, name):
        one, other = view(sample.clips, name), view(sample.clips, name, dialect="uniformerv2")
        assert one["label"].to_pylist() == other["label"].to_pylist()
        assert one["split"].equals(other["split"])
        if one.num_rows:
            assert one["class_id"].to_pylist() != other["class_id"].to_pylist()


def test_the_same_build_again_keeps_no_copy_of_itself(k710, tmp_path):
    build(k710, tmp_path / "m")
    build(k710, tmp_path / "m", "--force")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["clips", "dataset.json"]
