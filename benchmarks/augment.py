"""Time a batch's training transform against the same one made of Pillow's operations, frame by frame; one run for both.

    python benchmarks/augment.py [--device cuda] [--clips 32] [--repetitions 10]

Clips are made up: 8 frames of 256 x 340, to crops of 224. Both sides get the same choices and take turns; Pillow's side
crops and normalises with torch. On a CPU, torch has one thread, so the numbers are for one core. On a GPU only our side
is timed, from the clips on the device until the device is done: compare it with your training step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from k710.loading.augment.augment import Augment, augment
from k710.random_key import RandomKey

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.helpers.pillow_operations import clip_like_footage, with_pillow

SETTINGS = {
    "published": Augment(),
    "crop_first": Augment(order="crop_first"),
    "no RandAugment": Augment(randaugment=None),
}


def seconds(work: Callable[[], object], device: str) -> float:
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def with_ours(clips: list[Tensor], keys: list[RandomKey], settings: Augment) -> Tensor:
    return augment(clips, [settings.choose(key, 256, 340) for key in keys], settings)


def with_pillows(clips: list[Tensor], keys: list[RandomKey]) -> Tensor:
    choices = [SETTINGS["published"].choose(key, 256, 340) for key in keys]
    changed = [with_pillow(clip, choice.operations) for clip, choice in zip(clips, choices, strict=True)]
    return augment(changed, [choice._replace(operations=()) for choice in choices], SETTINGS["no RandAugment"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    footage = [clip_like_footage(seed, num_frames=8, height=256, width=340) for seed in range(4)]
    clips = [footage[number % 4].to(options.device) for number in range(options.clips)]
    times: dict[str, list[float]] = {name: [] for name in (*SETTINGS, "Pillow, published")}
    for epoch in range(options.repetitions + 1):
        keys = [RandomKey(1, epoch, number) for number in range(len(clips))]
        for name, settings in SETTINGS.items():
            times[name].append(seconds(partial(with_ours, clips, keys, settings), options.device))
        if options.device == "cpu":
            times["Pillow, published"].append(seconds(partial(with_pillows, clips, keys), "cpu"))
    for name, measured in times.items():
        if measured:
            batch_s = statistics.median(measured[1:])  # the first is to warm up
            print(f"{name:20} {batch_s * 1000:8.1f} ms a batch of {len(clips)}, {len(clips) / batch_s:8.1f} clips/s")


if __name__ == "__main__":
    main()
