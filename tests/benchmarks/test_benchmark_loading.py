"""The benchmark of loading: which peers count, how it judges, what it says of absent ones, and that it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from k710.loading.augment.boxes import Box
from tests.helpers import CHECKOUT

BENCHMARKS = CHECKOUT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind everything else: one of its files is called build

import loading_verdict  # noqa: E402
from loading_peers import Peer, Shown, crop  # noqa: E402
from loading_sides import MOST_LEVELS, _checked  # noqa: E402
from loading_table import NOTHING, absent_table, peers_table, reads_table, threads_table, workers_table  # noqa: E402


def side(rate: float, **more: object) -> dict:
    reads = {"KiB read per clip": 513.2, "reads per clip": 1.5}
    return {"clips/s": rate, "lowest": rate - 1, "highest": rate + 1, **reads, **more}


def kinds(*, ours: float) -> dict:
    absent = {"absent": "not installed: pip install some"}
    return {
        "source": {"k710": side(15), "quick": side(10, counts=True), "some": absent},
        "h264": {"k710": side(ours), "quick": side(100, counts=True), "wrong": side(900, counts=False), "some": absent},
        "frames": {"k710": side(4 * ours), "quick": side(399, counts=True), "some": absent},
    }


def test_a_target_is_the_best_peer_that_shows_the_same():
    found = loading_verdict.targets(kinds(ours=150), {})
    assert found == {
        "h264, times the best peer on the same files": {"best": "quick", "measured": 1.5, "wanted": 1.5, "met": True},
        "frames, times the best peer on video files": {"best": "quick", "measured": 6.0, "wanted": 4.0, "met": True},
    }
    assert [one["met"] for one in loading_verdict.targets(kinds(ours=99), {}).values()] == [False, False]


def test_without_a_peer_no_target_is_met():
    alone = {kind: {"k710": side(100)} for kind in ("source", "h264", "frames")}
    found = loading_verdict.targets(alone, {})
    assert {(one["best"], one["measured"], one["met"]) for one in found.values()} == {("none", None, False)}


def test_threads_that_wait_for_one_another_miss_the_target():
    groups = {"h264": {"2 threads / 2 processes": 0.7, "2 processes / twice 1 process": 0.98}}
    found = loading_verdict.targets(kinds(ours=150), groups)
    assert not found["h264, 2 threads / 2 processes"]["met"]
    assert found["h264, 2 processes / twice 1 process"]["met"]


def test_the_tables_name_every_side():
    result = {"same batches": kinds(ours=150), "threads and processes": {}}
    assert "| quick | 10.0 (9.0 to 11.0) | 100 (99.0 to 101) | 399 (398 to 400) |" in peers_table(result)
    assert "| wrong |  | 900 (899 to 901, other pixels) |  |" in peers_table(result)
    assert "| k710 | 513 in 1.5 | 513 in 1.5 | 513 in 1.5 |" in reads_table(result)
    assert absent_table(result) == "- some, source, h264, frames: not installed: pip install some"
    assert workers_table(result) == threads_table(result) == peers_table({}) == absent_table({}) == NOTHING


def test_a_package_that_is_missing_is_named():
    peer = Peer(("no_such_package_of_anyone", "torch"), "no-such-package", open=lambda *_: lambda _: iter(()))
    assert peer.why_absent() == "not installed: pip install no-such-package"
    assert Peer(("torch",), "torch", open=peer.open).why_absent() is None


def test_a_peer_that_shows_other_frames_does_not_count():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (8, 224, 224, 3)).astype(np.uint8))
    shown = [Shown("a", Path("a.mp4"), tuple(range(8)), Box(0, 0, 224, 224), False)]

    def checked(given: torch.Tensor) -> dict:
        return _checked(lambda _: iter([(["a"], given[None])]), shown, {"a": pixels}, MOST_LEVELS["h264"])

    assert checked(pixels) == {"levels from k710's": 0, "counts": True}
    assert not checked(pixels.roll(1, 0))["counts"]


@pytest.mark.parametrize(
    "text",
    [
        "\nno such codec: a.mp4\nat line 3",
        "[05:04:14] /x/reader.cc:270: no such codec: /y/a.mp4",
        "[/x/decoder.cc:2] no such codec: a.mp4",
    ],
)
def test_a_peer_that_cannot_read_the_files_says_why(capfd, text):
    def session(_: object) -> None:
        raise RuntimeError(text)

    shown = [Shown("a", Path("/y/a.mp4"), tuple(range(8)), Box(0, 0, 224, 224), False)]
    assert _checked(session, shown, {}, 1.0) == {"absent": "cannot read these files: no such codec: a.mp4"}
    assert capfd.readouterr().err == ""


def test_what_a_library_writes_is_kept_for_the_reason(capfd):
    def session(_: object) -> None:
        os.write(2, b"the codec is missing\n")
        raise RuntimeError("assert failed")

    assert _checked(session, [], {}, 1.0) == {"absent": "cannot read these files: the codec is missing"}
    assert capfd.readouterr().err == ""


def test_the_crop_is_the_box_of_the_frames():
    frames = torch.arange(300, dtype=torch.int64).remainder(256).to(torch.uint8)[None, None, :, None]
    frames = frames.expand(2, 260, 300, 3)
    same = crop(frames, Box(10, 20, 224, 224), flip=False)
    assert torch.equal(same, frames[:, 10:234, 20:244])
    assert torch.equal(crop(frames, Box(10, 20, 224, 224), flip=True), same.flip(2))
    assert crop(frames, Box(0, 0, 112, 112), flip=False).shape == (2, 224, 224, 3)


@pytest.mark.slow
def test_it_runs(tmp_path: Path):
    pytest.importorskip("decord", reason="decord has wheels for x86-64 alone")
    out = tmp_path / "loading.json"
    command = [sys.executable, BENCHMARKS / "loading.py", "--tiny", "--results", out]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    found = json.loads(out.read_text())
    for kind, sides in found["same batches"].items():
        assert sides["k710"]["clips/s"] > 0
        for name, of in sides.items():
            assert name.startswith("k710") or of.get("counts") or of["absent"], (kind, name)
    peers = found["same batches"]["h264"]
    assert peers["decord"]["counts"]
    assert peers["webdataset, PyAV seeking"]["counts"]
    # Eight of 64 frames by themselves are less to read than the clip.
    frames = found["same batches"]["frames"]
    assert frames["k710"]["KiB read per clip"] < frames["k710, ranged reads"]["KiB read per clip"] / 2
    assert set(found["targets"]) >= {"h264, times the best peer on the same files"}
    again = subprocess.run([*command[:2], "--table", "--results", out], capture_output=True, text=True, timeout=60)
    assert again.stdout.strip() in run.stdout
