"""Every hostile file through `k710 fetch`: fetched right, or refused with its class; none stops the run."""

from __future__ import annotations

import io
import time

import av
import pytest

from k710.maintenance.verify import read_media
from k710.store.store import Store
from tests.helpers.hostile_media import CLIP_NAME, KINDS, SECRET_SIZE_PX, SPAN_S, build

pytestmark = pytest.mark.slow

NAMES = sorted(KINDS)
IDS = {name: f"kind-{number:06d}" for number, name in enumerate(NAMES)}
START_S = 10


def clip_id(name):
    return f"{IDS[name]}_{START_S:06d}_{START_S + SPAN_S:06d}"


@pytest.fixture(scope="module")
def fetched(tmp_path_factory, k710):
    """One run over all kinds: the store's rows by kind, the store, what was printed, and how long it took."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "lists").mkdir()
    (folder / "clips").mkdir()
    header = "label,youtube_id,time_start,time_end,split"
    rows = [f"archery,{IDS[name]},{START_S},{START_S + SPAN_S},train" for name in NAMES]
    (folder / "lists" / "k400_train.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "lists" / "k400_val.csv").write_text(f"{header}\narchery,validation0,0,10,val\n")
    for name in NAMES:
        if not KINDS[name].missing:
            build(name, folder / "clips" / f"{clip_id(name)}.mp4")
    manifest = folder / "manifest"
    assert k710("build", "--sources", "k400", "--annotations", folder / "lists", "--out", manifest).exit_code == 0
    begin_s = time.monotonic()
    result = k710("fetch", manifest, "--from", f"local:{folder / 'clips'}", "--workers", 2)
    took_s = time.monotonic() - begin_s
    assert result.exit_code == 0, result.output
    store = Store(manifest / "store", "h264")
    rows = {row["clip_id"]: row for row in store.best_rows().to_pylist()}
    return rows, store, result, took_s


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_is_fetched_right_or_refused_with_its_class(name, fetched):
    kind = KINDS[name]
    if kind.missing:
        pytest.skip(kind.missing)
    rows, store, _, _ = fetched
    row = rows[clip_id(name)]
    outcome = row["failure"] or "ok"
    assert outcome in kind.outcomes, f"{row['message']} {kind.note}"
    if outcome != "ok":
        assert row["message"]
        return
    assert tuple(row["flags"]) == tuple(kind.flags)
    assert (row["width"], row["height"]) != SECRET_SIZE_PX
    with (store.tars_folder / row["tar"]).open("rb") as tar:
        media = read_media(tar, row)
    assert_plays(media, row, kind)


def assert_plays(media, row, kind):
    """The stored clip decodes from end to end, to the frames and the size that its row promises."""
    with av.open(io.BytesIO(media)) as file:
        frames = [(frame.width, frame.height) for frame in file.decode(video=0)]
        assert not file.streams.audio
    assert len(frames) == row["num_frames"]
    assert set(frames) == {(row["width"], row["height"])}
    if kind.size_px is not None:
        assert all(abs(found - wanted) <= 1 for found, wanted in zip(frames[0], kind.size_px, strict=True))


def test_none_of_them_holds_the_run_up(fetched):
    assert fetched[3] < 0.6 * len(NAMES)


def test_the_clip_name_that_the_builders_expect():
    assert CLIP_NAME.endswith(".mp4")
