"""What a masked decoder saves in a step of VideoMAE V2's pretraining, against the same model with a full decoder.

python benchmarks/dual_masking.py [--preset small] [--clips 2] [--rounds 5] [--device cpu] [--results FILE]

The two take turns, each on the same clips and weights: masks, forward, loss, backward. Prints multiply-adds of a clip,
the median seconds of a step and, on a GPU, the most memory. The numbers go to `results/dual_masking.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from model import machine

from k710.models.videomaev2.pretrain import MaskedVideoMAEV2
from k710.models.videomaev2.pretrain_family import VIDEOMAEV2_PRETRAIN, multiply_adds
from k710.random_key import RandomKey

RESULTS = Path(__file__).resolve().parent / "results" / "dual_masking.json"
RATIOS = {"masked decoder": 0.5, "full decoder": 0.0}


def step_s(model: MaskedVideoMAEV2, clips: torch.Tensor, number: int) -> float:
    """Seconds of one step without the optimiser, whose cost is the same for both."""
    model.zero_grad()
    begin_s = time.perf_counter()
    masks = model.draw_masks([RandomKey(0, number, clip) for clip in range(len(clips))])
    with torch.autocast(clips.device.type, torch.bfloat16, enabled=clips.is_cuda):
        found = model(clips, *masks)
    torch.autograd.backward(model.losses(found, clips, *masks).mean())
    if clips.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begin_s


def measure(preset: str, num_clips: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Time both sides in turn, and on a GPU measure their memory."""
    configs = {name: VIDEOMAEV2_PRETRAIN.config(preset, decoder_mask_ratio=ratio) for name, ratio in RATIOS.items()}
    models: dict[str, MaskedVideoMAEV2] = {}
    for name, config in configs.items():
        torch.manual_seed(0)
        models[name] = MaskedVideoMAEV2(config).to(device)
    size = configs["full decoder"].size_px
    clips = torch.randn(num_clips, 3, configs["full decoder"].num_frames, size, size, device=device)

    seconds: dict[str, list[float]] = {name: [] for name in models}
    memory: dict[str, int] = {}
    for number in range(rounds + 1):  # the first warms up
        for name, model in models.items():
            if clips.is_cuda:
                torch.cuda.reset_peak_memory_stats()
            seconds[name].append(step_s(model, clips, number))
            memory[name] = torch.cuda.max_memory_allocated() if clips.is_cuda else 0
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    work = {name: sum(multiply_adds(config).values()) for name, config in configs.items()}
    sides = {
        name: {
            "gmac_forward": round(work[name] / 1e9, 2),
            "step_s": {"median": medians[name], "min": min(seconds[name][1:]), "max": max(seconds[name][1:])},
            "memory_bytes": memory[name] or None,
        }
        for name in models
    }
    saved = {what: 1 - found["masked decoder"] / found["full decoder"] for what, found in (("w", work), ("s", medians))}
    return {
        "preset": preset,
        "clips": num_clips,
        "device": device.type,
        "sides": sides,
        "saved": {"multiply_adds": saved["w"], "time": saved["s"]},
    }


def table(result: dict[str, Any]) -> str:
    """Both sides and what is saved as Markdown, for docs/videomae.md."""
    about = f"`{result['preset']}`, {result['clips']} clips a step"
    lines = [f"| {about} | G multiply-adds of a clip | a step, s |", "|---|---:|---:|"]
    for name, side in result["sides"].items():
        peak = f", {side['memory_bytes'] / 2**30:.2f} GiB" if side["memory_bytes"] else ""
        lines.append(f"| {name} | {side['gmac_forward']:.2f} | {side['step_s']['median']:.3f}{peak} |")
    saved = result["saved"]
    return "\n".join([*lines, f"| saved | {saved['multiply_adds']:.0%} | {saved['time']:.0%} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", choices=list(VIDEOMAEV2_PRETRAIN.presets))
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    given = parser.parse_args()

    device = torch.device(given.device)
    about = {"what": "a step of masked pretraining, the decoder masked and not", "machine": machine(device)}
    result = about | measure(given.preset, given.clips, given.rounds, device)
    print(table(result))
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
