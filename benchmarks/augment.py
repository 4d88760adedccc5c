"""Time a batch's training transform against the same one made of Pillow's operations, frame by frame; one run for both.

    python benchmarks/augment.py [--device cuda] [--clips 8] [--repetitions 10] [--results FILE]

Clips are made up: 8 frames of 256 x 340, to crops of 224. Both sides get the same choices and take turns; Pillow's side
crops and normalises with torch. On a CPU, torch has one thread, so the numbers are for one core. On a GPU only our side
is timed, from the clips on the device until the device is done: compare it with your training step. The numbers go to
`results/augment.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from model import machine
from torch import Tensor

from k710.loading.augment.augment import Augment, augment
from k710.random_key import RandomKey

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.helpers.pillow_operations import clip_like_footage, with_pillow

RESULTS = Path(__file__).resolve().parent / "results" / "augment.json"
PILLOW = "Pillow's operations, frame by frame, then our crop"
SETTINGS = {
    '`order="published"`': Augment(),
    '`order="crop_first"`': Augment(order="crop_first"),
    "without RandAugment": Augment(randaugment=None),
}
PUBLISHED, CROPPED = Augment(), Augment(randaugment=None)


def seconds(work: Callable[[], object], device: str) -> float:
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def with_ours(clips: list[Tensor], keys: list[RandomKey], settings: Augment) -> Tensor:
    return augment(clips, [settings.choose(key, 256, 340) for key in keys], settings)


def with_pillows(clips: list[Tensor], keys: list[RandomKey]) -> Tensor:
    choices = [PUBLISHED.choose(key, 256, 340) for key in keys]
    changed = [with_pillow(clip, choice.operations) for clip, choice in zip(clips, choices, strict=True)]
    return augment(changed, [choice._replace(operations=()) for choice in choices], CROPPED)


def table(result: dict[str, Any]) -> str:
    """Clips/s of each side as Markdown, for docs/loading.md."""
    rates = [f"| {name} | {rate:.0f} |" for name, rate in result["clips/s"].items()]
    return "\n".join(["| | clips/s |", "|---|---:|", *rates])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    footage = [clip_like_footage(seed, num_frames=8, height=256, width=340) for seed in range(4)]
    clips = [footage[number % 4].to(options.device) for number in range(options.clips)]
    times: dict[str, list[float]] = {name: [] for name in (*SETTINGS, PILLOW)}
    for epoch in range(options.repetitions + 1):
        keys = [RandomKey(1, epoch, number) for number in range(len(clips))]
        for name, settings in SETTINGS.items():
            times[name].append(seconds(partial(with_ours, clips, keys, settings), options.device))
        if options.device == "cpu":
            times[PILLOW].append(seconds(partial(with_pillows, clips, keys), "cpu"))
    result = {
        "what": "the training transform of a batch: 8 frames of 256 x 340 a clip, to crops of 224; medians",
        "machine": machine(torch.device(options.device)),
        "clips a batch": len(clips),
        "repetitions": options.repetitions,
        "clips/s": {  # the first is to warm up
            name: round(len(clips) / statistics.median(measured[1:]), 1) for name, measured in times.items() if measured
        },
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
