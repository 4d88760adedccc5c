"""The store's files: which row of a clip counts, what a unit writes and when, and what a full disk does to it."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import StoreError
from k710.fetch import store_unit
from k710.fetch.encode.jobs import Made
from k710.fetch.scratch import scratch_folder
from k710.fetch.store_unit import StoreUnit, write_member
from k710.store.store import (
    MEDIA_SCHEMA,
    METADATA_KEY,
    Store,
    best,
    best_of,
    fetch_command,
    profiles_in,
    read_unit,
    unit_metadata,
    unit_name,
)
from tests.helpers.small_stores import (
    about,
    clips_of,
    fake_media,
    left_in_scratch,
    made_of,
    manifest_of,
    members,
    put,
    stored,
    tars,
)

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
IDS = [clip.clip_id for clip in clips_of(12)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", "h264")


# Which row counts.


@st.composite
def media_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of few clips by few units at few times, so that all ties occur; a unit settles a clip once."""
    keys = draw(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("UVWX")), unique=True, max_size=16))
    failures, times = st.sampled_from([None, "corrupt", "gone"]), st.integers(0, 2)
    return [
        {"clip_id": clip, "unit": unit, "failure": draw(failures), "settled_at": BEGIN + timedelta(days=draw(times))}
        for clip, unit in keys
    ]


def rank(row: dict[str, Any]) -> tuple[bool, timedelta, str]:
    return row["failure"] is not None, BEGIN - row["settled_at"], row["unit"]


@given(media_rows(), st.integers(1, 5))
def test_a_success_counts_first_then_the_newest_then_the_units_name(rows, chunk):
    schema = pa.schema([*(MEDIA_SCHEMA.field(name) for name in ("clip_id", "failure", "settled_at"))])
    table = pa.Table.from_pylist(rows, schema=schema.append(pa.field("unit", pa.string())))
    # As it is read: a chunk per file.
    table = pa.concat_tables([table.slice(start, chunk) for start in range(0, max(1, len(rows)), chunk)])
    expected = [min((row for row in rows if row["clip_id"] == clip), key=rank, default=None) for clip in "abcd"]
    found = best(table).select(["clip_id", "unit", "failure", "settled_at"]).to_pylist()
    assert found == [row for row in expected if row is not None]
    asked = "cxad"
    place = best_of(table, pa.array(list(asked)))
    assert [None if row < 0 else rows[row] for row in place] == [
        dict(zip("abcd", expected, strict=True)).get(c) for c in asked
    ]


one_size = st.integers(8, 26).flatmap(lambda size: st.lists(st.text("ab~", min_size=size, max_size=size), min_size=1))


@given(one_size, one_size | st.lists(st.text("abé", max_size=9)), st.integers(1, 5), st.booleans(), st.data())
def test_the_rows_of_clips_are_found_whatever_the_size_of_their_ids(some, others, chunk, all_in_one_slot, data):
    """Also where a row is of no asked clip, where the asked IDs are a slice, and where many IDs have one hash."""
    written = data.draw(st.lists(st.sampled_from(some + others), unique=True))
    asked = data.draw(st.lists(st.sampled_from(some), unique=True, min_size=1))
    ids = [written[start : start + chunk] for start in range(0, len(written), chunk)]
    column = pa.chunked_array(ids, pa.string())
    rows = pa.table({"clip_id": column, "failure": pa.nulls(len(column), pa.string())})
    with pytest.MonkeyPatch.context() as patch:
        if all_in_one_slot:
            patch.setattr("k710.store.store._FACTOR", np.uint64(0))
        found = best_of(rows, pa.array(["before", *asked])[1:])
    assert found.tolist() == [written.index(one) if one in written else -1 for one in asked]


def test_rows_come_in_the_order_of_the_units(store, monkeypatch):
    """Several threads read them, each a part of the files."""
    monkeypatch.setattr("k710.store.store._AT_ONCE", 2)
    units = sorted(put(store, {clip_id: fake_media(clip_id)}, name=f"u{n}") for n, clip_id in enumerate(IDS))
    rows = store.rows(("clip_id", "size"))
    assert rows["unit"].to_pylist() == units
    assert sorted(rows["clip_id"].to_pylist()) == sorted(IDS)
    assert rows.schema.names == ["clip_id", "size", "unit"]


@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_units_of_another_compression_are_read(store, codec):
    """Earlier versions wrote zstd."""
    unit = put(store, {IDS[0]: fake_media(IDS[0])})
    before = store.rows()
    file = store.media_folder / f"{unit}.parquet"
    rows = pa.parquet.read_table(file)
    pa.parquet.write_table(rows, file, compression=codec)
    assert pa.parquet.read_metadata(file).row_group(0).column(0).compression == {"zstd": "ZSTD"}.get(
        codec, "UNCOMPRESSED"
    )
    assert store.rows().equals(before)


def test_what_counts_is_found_over_all_units(store):
    first, second, third = IDS[:3]
    put(store, {first: "corrupt", second: fake_media(second), third: "corrupt"}, name="a")
    unit = put(store, {first: fake_media(first), second: "gone", third: "short"}, name="b")
    rows = store.best_rows(("failure", "size")).to_pylist()
    assert [row["failure"] for row in rows] == [None, None, "short"]
    assert [row["unit"] for row in rows] == [unit, rows[1]["unit"], unit]
    assert stored(store) == {clip_id: fake_media(clip_id) for clip_id in (first, second)}


def test_a_store_that_is_not_there_has_no_rows(store):
    assert store.best_rows().num_rows == 0
    assert store.best_rows(("size",)).column_names == ["size", "unit"]
    assert list(profiles_in(store.root)) == []
    assert not store.root.exists()


def test_profiles_are_kept_apart(store):
    put(store, {IDS[0]: fake_media(IDS[0])})
    assert list(profiles_in(store.root)) == ["h264"]
    assert Store(store.root, "source").rows().num_rows == 0


# The media file.


def rewritten(file: Path, table: pa.Table, **metadata: Any) -> None:
    """The file as another version of the program would have written it."""
    found = unit_metadata(file) | metadata
    pa.parquet.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(found).encode()}), file)


def test_rows_have_the_schema_whatever_the_files_have(store):
    """A file of an older minor version lacks a column, one of a newer has more: the others' rows must not suffer."""
    older, newer, ours = (put(store, {clip: fake_media(clip)}, name=f"unit{n}") for n, clip in enumerate(IDS[:3]))
    files = {unit: store.media_folder / f"{unit}.parquet" for unit in (older, newer, ours)}
    table, _ = read_unit(files[older])
    rewritten(files[older], table.drop_columns("flags"))
    table, _ = read_unit(files[newer])
    rewritten(files[newer], table.append_column("loudness", pa.array([1.0])), schema_version="1.2")
    rows = store.rows()
    assert rows.schema.remove_metadata() == MEDIA_SCHEMA.append(pa.field("unit", pa.string()))
    flags = {row["unit"]: row["flags"] for row in rows.to_pylist()}
    assert flags == {older: None, newer: [], ours: []}
    assert stored(store) == {clip: fake_media(clip) for clip in IDS[:3]}


@pytest.fixture
def settled(k710, tmp_path):
    """A manifest with a store of two clips, and the store's media file."""
    clips = [*clips_of(1), *clips_of(1, "val", first=1)]
    manifest = manifest_of(k710, tmp_path, clips)
    unit = put(Store(manifest / "store", "h264"), {clip.clip_id: fake_media(clip.clip_id) for clip in clips})
    return manifest, manifest / "store" / "media" / "h264" / f"{unit}.parquet"


def changed(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"PAR1" + bytes(2000) + b"PAR1",
    ],
    ids=["empty", "cut off", "zeros"],
)
@pytest.mark.parametrize("command", ["status", "fetch", "pack"])
def test_a_damaged_media_file_is_named(k710, settled, damage, command, tmp_path):
    manifest, file = settled
    file.write_bytes(damage(file.read_bytes()))
    more = {"fetch": ("--from", f"local:{tmp_path}"), "pack": ("--out", tmp_path / "shards")}.get(command, ())
    result = k710(command, manifest, *more)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"k710: {file}: damaged: ")
    assert result.stderr.endswith("; `k710 verify MANIFEST --repair` repairs the store\n")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["status", "verify", "verify --repair", "fetch --from local:."])
def test_a_media_file_that_the_disk_does_not_give_is_not_damaged(k710, settled, command, monkeypatch):
    """A repair would throw it away, and its owner has but to allow this user to read it."""
    manifest, file = settled
    content = file.read_bytes()

    whole = pa.parquet.ParquetFile

    def refused(path: object, *more: object, **options: object) -> Any:
        if "clips" in str(path):
            return whole(path, *more, **options)
        raise PermissionError(13, f"Failed to open local file '{path}'. Detail: Permission denied")

    monkeypatch.setattr(pa.parquet, "read_metadata", refused)
    monkeypatch.setattr(pa.parquet, "ParquetFile", refused)
    result = k710(*command.split(), manifest)
    assert result.exit_code == 1
    assert result.stderr == f"k710: Failed to open local file '{file}'. Detail: Permission denied\n"
    assert file.read_bytes() == content


def test_a_damaged_file_of_another_profile_is_named(k710, settled, loopback):
    """What was seen in archives stands in the units of all profiles."""
    manifest, _ = settled
    damaged = manifest / "store" / "media" / "other" / "cvdf-k400-train-part_0-00000000.parquet"
    damaged.parent.mkdir()
    damaged.write_bytes(b"PAR1")
    result = k710("fetch", manifest, "--from", f"cvdf:{loopback.url('')}", "--profile", "source")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"k710: {damaged}: damaged: ")
    assert result.stderr.endswith("; `k710 verify MANIFEST --repair` repairs the store\n")


@pytest.mark.parametrize("name", ["../store", "s3:x", "file:x", "-x", "a%20b"])
def test_a_relative_folder_that_looks_like_something_else(k710, settled, tmp_path, monkeypatch, name):
    manifest, _ = settled
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (manifest / "store").rename(name)
    assert k710("verify", manifest, f"--store={name}").exit_code == 0
    assert "k400 val         1         1             0   100.0%" in k710("status", manifest, f"--store={name}").stdout


@pytest.mark.slow
def test_no_flipped_bit_passes_for_data(store):
    """Parquet's own check sums are optional and leave its footer out, which may even name other columns."""
    put(store, {IDS[0]: fake_media(IDS[0]), IDS[1]: "corrupt"})
    file = store.unit_files()[0]
    content, (rows, metadata) = file.read_bytes(), read_unit(file)
    refused = 0
    for at in range(0, len(content), 5):
        file.write_bytes(changed(content, at))
        try:
            found, said = read_unit(file)
        except StoreError:
            refused += 1
        else:
            assert found.equals(rows), f"byte {at} of {len(content)}"
            assert said == metadata, f"byte {at} of {len(content)}"
    assert refused > len(content) / 5 / 3


def test_a_time_zone_that_is_none(store, monkeypatch):
    """One flipped bit makes ETC of UTC; how pyarrow takes it depends on whether pytz is installed."""
    put(store, {IDS[0]: fake_media(IDS[0])})
    file = store.unit_files()[0]
    rows = read_unit(file)[0]
    column = rows.column_names.index("settled_at")
    rewritten(file, rows.set_column(column, "settled_at", rows["settled_at"].cast(pa.timestamp("ms", "ETC"))))
    with pytest.raises(StoreError, match="damaged: "):
        read_unit(file)

    def no_zone(*_: object) -> None:
        raise KeyError("ETC")

    monkeypatch.setattr("k710.store.store.unit_digest", no_zone)
    with pytest.raises(StoreError, match=r"damaged: 'ETC'"):
        read_unit(file)


@pytest.mark.parametrize("command", ["status", "verify", "verify --repair"])
def test_a_store_of_a_newer_version_is_refused(k710, settled, command):
    manifest, file = settled
    rewritten(file, read_unit(file)[0], schema_version="2.0")
    content = file.read_bytes()
    result = k710(*command.split(), manifest)
    assert result.exit_code == 1
    assert result.stderr == f"k710: {file}: has schema version 2.0, this k710 reads 1.1; upgrade k710\n"
    assert file.read_bytes() == content, "nothing in it is to be mended"


@pytest.mark.parametrize("metadata", [None, {}, {METADATA_KEY: b"{"}, {METADATA_KEY: b"[]"}])
def test_a_foreign_parquet_file_is_no_media_file(store, metadata):
    put(store, {IDS[0]: "corrupt"})
    file = store.unit_files()[0]
    pa.parquet.write_table(MEDIA_SCHEMA.empty_table().replace_schema_metadata(metadata), file)
    with pytest.raises(StoreError, match="damaged"):
        read_unit(file)


def test_a_run_that_fails_does_not_replace_one_that_has_the_clip(store):
    """Two runs at once make the same units, and one of them may meet a network that is down."""
    put(store, {IDS[0]: fake_media(IDS[0]), IDS[1]: "corrupt"})
    put(store, {IDS[0]: "gone_unconfirmed", IDS[1]: fake_media(IDS[1])})
    put(store, {IDS[0]: "gone_unconfirmed", IDS[1]: "corrupt"})
    assert stored(store) == {clip_id: fake_media(clip_id) for clip_id in IDS[:2]}
    put(store, {IDS[0]: "gone_unconfirmed", IDS[1]: "corrupt"})
    assert len(store.unit_files()) == 3, "what says the same is replaced"


def test_files_of_others_in_the_folders_are_passed_over(store):
    put(store, {IDS[0]: fake_media(IDS[0])})
    (store.media_folder / ".hidden.parquet").write_bytes(b"")
    (store.media_folder / "notes.txt").write_text("mine")
    assert list(stored(store)) == [IDS[0]]


# What a unit writes.


def test_the_units_name_says_which_clips_it_settled():
    digest = hashlib.sha256(b"a\nb").hexdigest()[:8]
    assert unit_name("local", ["a", "b"]) == f"local-{digest}"
    assert len({unit_name("local", ids) for ids in (["a", "b"], ["b", "a"], ["ab"], ["a"], [])}) == 5
    with pytest.raises(AssertionError):
        unit_name("../up", ["a"])


def test_a_committed_unit(store, tmp_path):
    media = {clip_id: fake_media(clip_id, 100 * number + 1) for number, clip_id in enumerate(IDS[:5])}
    unit = put(store, {**media, IDS[5]: "corrupt"})
    assert unit == unit_name("local", [*IDS[:5], f"{IDS[5]} corrupt"])
    [(name, content)] = tars(store).items()
    assert name == f"{unit}-0-{hashlib.sha256(content).hexdigest()[:8]}.tar"
    table, metadata = read_unit(store.media_folder / f"{unit}.parquet")
    assert metadata.pop("sha256")
    assert metadata == {"schema_version": "1.1", "frames_evenly_stored": True, **about()}
    rows = table.to_pylist()
    assert [row["clip_id"] for row in rows] == IDS[:6], "in the order in which they were settled"
    for row in rows[:5]:
        whole = media[row["clip_id"]]
        assert content[row["offset"] : row["offset"] + row["size"]] == whole
        assert row["sha256"] == hashlib.sha256(whole).hexdigest()
        assert (row["tar"], row["width"], row["num_frames"], row["flags"], row["failure"]) == (name, 64, 16, [], None)
    assert (rows[5]["failure"], rows[5]["message"], rows[5]["tar"], rows[5]["size"]) == ("corrupt", "why", None, None)
    found = members(content)
    assert list(found) == [f"{clip_id}.{suffix}" for clip_id in IDS[:5] for suffix in ("mp4", "json")]
    for clip_id, whole in media.items():
        assert found[f"{clip_id}.mp4"] == whole
        sidecar = json.loads(found[f"{clip_id}.json"])
        assert sidecar["sha256"] == hashlib.sha256(whole).hexdigest()
        assert not sidecar.keys() & {"origin", "came_from", "settled_at", "tar"}
    assert left_in_scratch(store) == []


def test_the_headers_of_a_tar_say_name_and_size_and_nothing_else():
    file = io.BytesIO()
    assert write_member(file, "clip.mp4", b"media") == tarfile.BLOCKSIZE
    assert len(file.getvalue()) == 2 * tarfile.BLOCKSIZE
    info = tarfile.TarInfo.frombuf(file.getvalue()[:512], "utf-8", "strict")
    assert (info.name, info.size, info.mode) == ("clip.mp4", 5, 0o644)
    assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")


def test_a_unit_of_failures_has_no_tar(store):
    put(store, {IDS[0]: "corrupt", IDS[1]: "gone"})
    assert not store.tars_folder.exists()
    assert store.rows(("tar",))["tar"].null_count == 2


def test_a_unit_that_settled_nothing_can_be_committed(store):
    """As an archive is that held none of the wanted clips: that it was read is worth knowing."""
    unit = put(store, {})
    table, metadata = read_unit(store.media_folder / f"{unit}.parquet")
    assert table.num_rows == 0
    assert table.schema.remove_metadata() == MEDIA_SCHEMA
    assert metadata["unit"] == "local"
    assert store.best_rows().num_rows == 0


def test_equal_clips_make_equal_tars(tmp_path):
    """Whenever, wherever and from wherever: names and bytes are those of the clips alone."""
    media = {clip_id: fake_media(clip_id) for clip_id in IDS}
    one, other = Store(tmp_path / "one", "h264"), Store(tmp_path / "elsewhere" / "other", "h264")
    put(one, media, origin="local:/a")
    put(other, media, origin="cvdf:k400")
    assert tars(one) == tars(other)
    assert put(one, media) == one.unit_files()[0].stem, "done again, it replaces itself"
    assert tars(one) == tars(other)
    put(other, dict(reversed(media.items())))
    assert len(tars(other)) == 2


def test_an_abandoned_unit_leaves_nothing(store):
    with scratch_folder(store.root) as scratch:
        unit = StoreUnit(store, "local", scratch)
        unit.add(made_of(scratch, IDS[0], fake_media(IDS[0])), origin="local:/a", came_from="a")
        unit.abandon()
        assert [path.name for path in scratch.iterdir()] == ["lock"]
    assert [path.name for path in store.root.rglob("*")] == ["scratch"]


def test_the_file_of_a_clip_leaves_the_scratch_with_its_settlement(store):
    with scratch_folder(store.root) as scratch:
        unit = StoreUnit(store, "local", scratch)
        made = made_of(scratch, IDS[0], fake_media(IDS[0]))
        unit.add(made, origin="local:/a", came_from="a")
        assert not Path(made.path).exists()
        assert unit.bytes_stored == 700
        unit.add(Made(IDS[1], "gone", "why"), origin="local:/a", came_from="a")
        assert unit.bytes_stored == 700
        unit.abandon()


def test_a_tar_ends_after_the_clip_that_passes_the_limit(store, monkeypatch):
    monkeypatch.setattr(store_unit, "TAR_BYTES", 5000)
    media = {
        clip_id: fake_media(clip_id, size) for clip_id, size in zip(IDS, [3000, 3000, 10, 9000, 10, 10], strict=False)
    }
    unit = put(store, media)
    held = [
        [name.removesuffix(".mp4") for name in members(content) if name.endswith("mp4")]
        for content in tars(store).values()
    ]
    assert held == [IDS[:2], IDS[2:4], IDS[4:6]]
    assert [name.rsplit("-", 1)[0] for name in tars(store)] == [f"{unit}-{number}" for number in range(3)]
    assert stored(store) == media


def test_a_tar_that_was_just_ended_is_not_followed_by_an_empty_one(store, monkeypatch):
    monkeypatch.setattr(store_unit, "TAR_BYTES", 1)
    put(store, {clip_id: fake_media(clip_id) for clip_id in IDS[:3]})
    assert len(tars(store)) == 3
    assert all(members(content) for content in tars(store).values())


# The commit.


@pytest.fixture
def unit(store):
    with scratch_folder(store.root) as scratch:
        unit = StoreUnit(store, "local", scratch)
        for clip_id in IDS[:3]:
            unit.add(made_of(scratch, clip_id, fake_media(clip_id)), origin="local:/a", came_from="a")
        yield unit


def test_the_rows_come_last(store, unit, monkeypatch):
    """Whatever names a tar finds it whole under its name."""
    seen = []

    really = Path.replace

    def replace(path: Path, target: Path) -> Path:
        seen.append((target, len(tars(store)), list(store.media_folder.glob("*"))))
        return really(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    name = unit.commit(about())
    assert seen == [(store.media_folder / f"{name}.parquet", 1, [])]


@pytest.mark.parametrize("step", ["rename", "replace", "write_table", "fsync"])
def test_a_commit_that_fails_leaves_no_rows(store, unit, monkeypatch, step):
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    place = {"write_table": pa.parquet, "fsync": os}.get(step, Path)
    with monkeypatch.context() as broken:
        broken.setattr(place, step, fail)
        with pytest.raises(OSError, match="Input/output"):
            unit.commit(about())
    unit.abandon()
    assert list(store.media_folder.glob("*")) == []
    assert store.rows().num_rows == 0
    before = tars(store)
    assert len(before) == (1 if step == "replace" else 0), "a tar may be left that no row names"
    put(store, {clip_id: fake_media(clip_id) for clip_id in IDS[:3]})
    assert len(tars(store)) == 1, "done again, the unit takes the same name"
    assert stored(store) == {clip_id: fake_media(clip_id) for clip_id in IDS[:3]}


def test_a_unit_done_again_takes_its_rows_place(store, unit):
    put(store, {clip_id: fake_media(clip_id) for clip_id in IDS[:3]})
    unit.commit(about())
    assert [file.stem for file in store.unit_files()] == [unit_name("local", IDS[:3])]
    assert store.rows(("failure",))["failure"].null_count == 3


# A full disk.


class Disk:
    """Room for so many bytes; a file that is opened for writing through it takes from that, and a cut gives back."""

    def __init__(self, room: int) -> None:
        self.room = room

    def open(self, path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if "b" in mode and ("w" in mode or "+" in mode) and path.suffix == ".tar":
            file = DiskFile(path, mode.replace("b", ""))
            file.disk = self
            return io.BufferedRandom(file) if "+" in mode else io.BufferedWriter(file)
        return open(path, mode, *more, **options)  # noqa: PTH123


class DiskFile(io.FileIO):
    disk: Disk

    def write(self, data: Any) -> int:
        """As the system does: a part is written, then nothing more. Where the file is long enough, it costs nothing."""
        new = max(0, self.tell() + len(data) - os.fstat(self.fileno()).st_size)
        if new and not self.disk.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fits = len(data) - max(0, new - self.disk.room)
        self.disk.room -= min(new, self.disk.room)
        return super().write(memoryview(data).cast("B")[:fits])

    def truncate(self, size: int | None = None) -> int:
        before = os.fstat(self.fileno()).st_size
        after = super().truncate(size)
        self.disk.room += before - after
        return after


def on_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> Disk:
    disk = Disk(room)
    monkeypatch.setattr(Path, "open", lambda path, *more, **options: disk.open(path, *more, **options))
    return disk


@pytest.mark.parametrize("tar_bytes", [1 << 30, 3000], ids=["one tar", "several tars"])
@pytest.mark.slow
def test_a_full_disk_costs_the_clips_that_did_not_fit(tmp_path, monkeypatch, tar_bytes):
    """Wherever the room ends, in a header, in a clip or in padding: the rest is cut off, what was settled is there."""
    monkeypatch.setattr(store_unit, "TAR_BYTES", tar_bytes)
    media = {clip_id: fake_media(clip_id, size) for clip_id, size in zip(IDS, [700, 1500, 10_000, 600], strict=False)}
    outcomes = set()
    for room in range(0, 25_000, 400):
        store = Store(tmp_path / f"{room}", "h264")
        fitted, refused = {}, []
        with monkeypatch.context() as full, scratch_folder(store.root) as scratch:
            unit = StoreUnit(store, "local", scratch)
            on_disk(full, room)
            for clip_id, content in media.items():
                made = made_of(scratch, clip_id, content)
                try:
                    unit.add(made, origin="local:/a", came_from="a")
                except OSError as error:
                    refused.append((clip_id, store_unit.is_disk_full(error)))
                else:
                    fitted[clip_id] = content
            unit.commit(about())
        assert stored(store) == fitted, room
        assert all(is_full for _, is_full in refused)
        named = set(store.rows(("tar",))["tar"].to_pylist())
        assert set(tars(store)) == named, f"{room}: no tar without rows, not even an empty one"
        found = {name: content for tar in tars(store).values() for name, content in members(tar).items()}
        assert {f"{clip_id}.mp4" for clip_id in fitted} == {name for name in found if name.endswith("mp4")}, room
        outcomes.add((len(fitted), len(refused)))
        if fitted:  # what fitted makes the tars that it would have made anyway
            again = Store(tmp_path / f"{room}-again", "h264")
            put(again, fitted)
            assert tars(again) == tars(store)
    assert outcomes >= {(0, 4), (2, 2), (3, 1), (4, 0)}, "and a small clip may fit where a large one did not"


def test_a_unit_begins_with_what_it_needs_to_end(store, monkeypatch):
    """Without room for its rows a unit does not even begin, and what it took is given back."""

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with scratch_folder(store.root) as scratch:
        with monkeypatch.context() as full:
            full.setattr(Path, "write_bytes", fail)
            with pytest.raises(OSError, match="No space"):
                StoreUnit(store, "local", scratch)
        assert [path.name for path in scratch.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("root", "profile", "command"),
    [
        ("m/store", "h264", "k710 fetch m"),
        ("shared", "h264", "k710 fetch m --store shared"),
        ("m/store", "frames", "k710 fetch m --profile frames"),
        ("shared", "source-audio", "k710 fetch m --store shared --profile source --audio"),
    ],
)
def test_the_command_that_brings_clips_into_a_store(root, profile, command):
    assert fetch_command(Path("m"), Store(Path(root), profile)) == command
