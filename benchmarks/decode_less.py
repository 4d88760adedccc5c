"""What it saves to decode less: this commit beside an earlier one, and profiles beside one another; one run, in turns.

    python benchmarks/decode_less.py [--before CHECKOUT] [--rounds 9] [--manifest MANIFEST]

CHECKOUT is a folder with an earlier commit (`git worktree add ../before COMMIT`); all sides read the same store with
the same packages. Each side is a process of its own, on one core, up to packed uint8 batches with the augmentation
chosen. Rates are clips per second of its CPU time. A ratio is the median of the rounds' ratios, since what else runs on
a machine changes from round to round. Clips: 10 s, 340x256, 30 fps, generated, as benchmarks/loading.py makes them. The
numbers go to `results/decode_less.json`, after each group.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve()
RESULTS = HERE.parent / "results" / "decode_less.json"
PROFILES = ("h264", "h264-gop8", "frames", "frames-parts", "frames-128")
ROUND_S = 0.4
NUM_CLIPS = 12


class Side(NamedTuple):
    """What is timed: a profile, read by this commit or the earlier one."""

    profile: str
    before: bool = False
    sampling: str = "8 sparse"
    augment: str = "whole frames"

    @property
    def name(self) -> str:
        """Its name in results and tables."""
        return ", ".join([self.profile, self.sampling, self.augment, "before" if self.before else "now"])


SAMPLINGS: dict[str, dict[str, Any]] = {
    "8 sparse": {"num_frames": 8},
    "16 sparse": {"num_frames": 16},
    "32 sparse": {"num_frames": 32},
    "16 x 4": {"num_frames": 16, "method": "window", "stride": 4},
}
AUGMENTS: dict[str, dict[str, Any]] = {
    "whole frames": {},
    "published": {},
    "crop_first": {"order": "crop_first"},
    "no RandAugment": {"randaugment": None},
    "multi_scale": {"randaugment": None, "crop": "multi_scale"},
}
# The first of a group is what the others are compared with.
GROUPS: dict[str, list[Side]] = {
    "h264": [Side("h264", before=True), Side("h264"), Side("h264-gop8")],
    "frames": [
        Side("frames", before=True),
        Side("frames"),
        *(Side("frames-parts", augment=augment) for augment in AUGMENTS),
    ],
    **{
        f"h264, {sampling}": [
            Side("h264", before=True, sampling=sampling),
            Side("h264", sampling=sampling),
            Side("h264-gop8", sampling=sampling),
        ]
        for sampling in list(SAMPLINGS)[1:]
    },
    **{
        f"frames, {sampling}": [
            Side("frames", before=True, sampling=sampling),
            Side("frames", sampling=sampling),
            Side("frames-128", sampling=sampling),
            Side("frames-128", sampling=sampling, augment="crop_first"),
        ]
        for sampling in list(SAMPLINGS)[1:]
    },
}


def run_side(manifest: str, side: Side, checkout: str) -> None:
    """A child process, of the code in `checkout`: a line on stdin is a round, whose rate is printed."""
    sys.path.insert(0, checkout)  # before an editable install's own place
    if sys.platform == "linux":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import torch

    import k710
    from k710 import ClipLoader, ClipOptions, open_dataset
    from k710.loading.augment.augment import Augment

    assert Path(str(k710.__file__)).is_relative_to(checkout), k710.__file__
    torch.set_num_threads(1)
    options = ClipOptions(seed=1, **SAMPLINGS[side.sampling])
    dataset = open_dataset(manifest, view="k400", profile=side.profile, options=options)
    whole = side.augment == "whole frames"
    # An earlier commit has no such argument, and decodes whole frames.
    known = "whole_frames" in inspect.signature(ClipLoader).parameters
    choice: dict[str, Any] = {"whole_frames": whole} if known else {}
    settings = Augment(**AUGMENTS[side.augment])
    loader = ClipLoader(dataset, batch_size=NUM_CLIPS, packed=True, epoch=0, augment=settings, **choice)

    def one_round() -> float:
        begin, done = time.process_time(), 0
        while time.process_time() - begin < ROUND_S:
            done += sum(len(batch.samples) for batch in loader)
        return done / (time.process_time() - begin)

    one_round()  # to warm up
    print("ready", flush=True)
    for _ in sys.stdin:
        print(one_round(), flush=True)


def measure(manifest: Path, group: list[Side], before: Path | None, rounds: int) -> dict[str, dict[str, float]]:
    """Each side's rate, and its ratio to the first of the group."""
    sides = [side for side in group if before is not None or not side.before]
    children = [_start(manifest, side, before if side.before else HERE.parents[1]) for side in sides]
    rates: list[list[float]] = [[] for _ in sides]
    try:
        for _ in range(rounds):
            for child, found in zip(children, rates, strict=True):
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write("round\n")
                child.stdin.flush()
                found.append(float(child.stdout.readline()))
    finally:
        for child in children:
            child.communicate()
    return {
        side.name: {
            "clips/s": round(statistics.median(found), 1),
            "lowest": round(min(found), 1),
            "highest": round(max(found), 1),
            "ratio": round(statistics.median(a / b for a, b in zip(found, rates[0], strict=True)), 3),
        }
        for side, found in zip(sides, rates, strict=True)
    }


def _start(manifest: Path, side: Side, checkout: Path | None) -> subprocess.Popen[str]:
    assert checkout is not None
    command = [sys.executable, str(HERE), "--side", json.dumps(side), str(manifest), str(checkout)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    if child.stdout.readline() != "ready\n":
        raise SystemExit(f"{side.name} of {checkout} did not start")
    return child


def make_store(folder: Path) -> None:
    """The manifest `folder`/m, whose store has the sample's K400 train clips in all profiles."""
    from k710.cli import main as k710
    from k710.manifest.read import open_manifest
    from k710.manifest.views import split_of, view
    from k710.sample.footage import clips_of, write_footage
    from k710.sample.motions import LOOKS

    run = partial(k710, standalone_mode=False)
    run(["build", "--sources", "k400,k600,k700", "--annotations", "sample", "--out", str(folder / "m")])
    clips = clips_of(split_of(view(open_manifest(folder / "m").clips, "k400"), "train"))[:NUM_CLIPS]
    write_footage(folder / "clips", clips, look=LOOKS["released"])
    for profile in PROFILES:
        chosen = ["--view", "k400", "--splits", "train", "--profile", profile]
        run(["fetch", str(folder / "m"), "--from", f"local:{folder / 'clips'}", *chosen])


def sizes_of(manifest: Path) -> dict[str, int]:
    """Bytes of a clip in each profile, tar headers included."""
    tars = manifest / "store" / "tars"
    return {p: sum(file.stat().st_size for file in (tars / p).iterdir()) // NUM_CLIPS for p in PROFILES}


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "| clips, sampling, decoded | clips/s | lowest to highest | times the first |",
        "| --- | ---: | ---: | ---: |",
    ]
    for group in result["groups"].values():
        for name, found in group.items():
            spread = f"{found['lowest']:.0f} to {found['highest']:.0f}"
            lines.append(f"| {name} | {found['clips/s']:.0f} | {spread} | {found['ratio']:.2f} |")
    lines += ["", "| profile | bytes a clip |", "| --- | ---: |"]
    lines += [f"| {profile} | {size:,} |" for profile, size in result["bytes per clip"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What it saves to decode less.")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--manifest", type=Path, help="one that an earlier run left with --keep, store included")
    parser.add_argument("--keep", type=Path, help="make manifest and store in this folder, and leave them there")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), help="which comparisons; all")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        return run_side(options.side[1], Side(*json.loads(options.side[0])), options.side[2])
    from build import machine

    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        os.environ["K710_CACHE"] = str(Path(scratch) / "cache")
        manifest = options.manifest
        if manifest is None:
            folder = options.keep or Path(scratch)
            make_store(folder)
            manifest = folder / "m"
        before = None if options.before is None else options.before.resolve()
        result: dict[str, Any] = {
            "what": "clips/s of CPU time on a core, up to packed uint8 batches; ratio: median of the rounds",
            "before": None if before is None else _commit(before),
            "machine": machine(),
            "rounds": options.rounds,
            "bytes per clip": sizes_of(manifest),
            "groups": {},
        }
        options.results.parent.mkdir(parents=True, exist_ok=True)
        for name in options.groups:
            result["groups"][name] = measure(manifest, GROUPS[name], before, options.rounds)
            print(json.dumps({name: result["groups"][name]}, indent=1), flush=True)
            options.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return None


def _commit(checkout: Path) -> str:
    found = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"],
        check=False,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() or checkout.name


if __name__ == "__main__":
    main()
