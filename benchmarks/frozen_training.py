"""What freezing the image tower saves: a training step of EVL and of UniFormerV2, frozen and not, in one run.

    python benchmarks/frozen_training.py [--size b16] [--batch 1] [--repetitions 3] [--precision fp32]

EVL's claim (paper, section 3.3 and Table 5): to train a decoder on a frozen tower takes a fraction of the time and
memory of training all of it. Five sides take turns on the same clips: EVL with its tower frozen, with all trained, and
with features of the tower that were computed before, UniFormerV2's frozen variant and the whole one. A step is forward,
cross entropy, backward, and AdamW over what is trained, dropout on. On features, a step also reads them from a file in
float16, as `k710 train --features` does; nobody decodes or crops clips here, which it would spare too. Memory is
counted on fake tensors for the whole batch: weights, gradients and moments, and what a forward pass keeps for backward
(k710.train.memory); on a GPU the measured peak is beside it.

`tiny` is quick anywhere. The numbers go to `results/frozen_training.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model import machine, seconds
from torch.nn import functional as F  # noqa: N812

from k710.engine.torch_process import DTYPES
from k710.evaluation.features import drop_frozen, features_for, see
from k710.loading.kept_features import DTYPES as KEPT_DTYPES
from k710.loading.kept_features import FeatureReader, KeptView
from k710.models.evl.config import PRESETS as EVL_PRESETS
from k710.models.evl.cost import BACKBONE_PARTS
from k710.models.evl.family import EVL
from k710.models.family import Family
from k710.models.uniformerv2.config import PRESETS
from k710.models.uniformerv2.family import UNIFORMERV2
from k710.train.memory import estimate_memory

RESULTS = Path(__file__).resolve().parent / "results" / "frozen_training.json"
SIZES = {"b16": "kinetics_b16", "l14": "kinetics_l14", "tiny": "tiny"}
EVL_FROZEN, EVL_WHOLE, EVL_KEPT = "EVL, tower frozen", "EVL, all trained", "EVL, from features"
UNIFORMER_FROZEN, UNIFORMER_WHOLE = "UniFormerV2, backbone frozen", "UniFormerV2, all trained"
# What each ratio divides: how many times the second takes of the first.
RATIOS = {
    "EVL, all trained over frozen": (EVL_WHOLE, EVL_FROZEN),
    "EVL, tower frozen over from features": (EVL_FROZEN, EVL_KEPT),
    "UniFormerV2, all trained over frozen": (UNIFORMER_WHOLE, UNIFORMER_FROZEN),
    "frozen UniFormerV2 over frozen EVL": (UNIFORMER_FROZEN, EVL_FROZEN),
    "whole UniFormerV2 over frozen EVL": (UNIFORMER_WHOLE, EVL_FROZEN),
}


def sides(size: str) -> dict[str, tuple[Family, Any]]:
    """The models, of 8 frames and 400 classes."""
    same = {"num_frames": 8, "num_classes": 400}
    evl, uniformer = replace(EVL_PRESETS[SIZES[size]], **same), replace(PRESETS[SIZES[size]], **same)
    return {
        EVL_FROZEN: (EVL, evl),
        EVL_WHOLE: (EVL, replace(evl, frozen=False)),
        EVL_KEPT: (EVL, evl),
        UNIFORMER_FROZEN: (UNIFORMERV2, replace(uniformer, frozen=True, balance=False)),
        UNIFORMER_WHOLE: (UNIFORMERV2, uniformer),
    }


def step_of(model: torch.nn.Module, inputs: Callable[[], Any], labels: torch.Tensor, precision: str) -> Any:
    """One training step, which takes its clips, or what a tower has seen of them, from `inputs`."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    dtype = DTYPES[precision]

    def step() -> None:
        with torch.autocast(labels.device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model(inputs()).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def reading(model: torch.nn.Module, clips: torch.Tensor, folder: Path) -> Callable[[], dict[str, torch.Tensor]]:
    """Keeps what the tower of an EVL sees of clips, takes the tower away, and gives what reads it again."""
    kept = features_for(EVL, model, EVL.sampling.of(8), folder, precision="fp32", dtype="float16")
    kept.begin()
    tensors = {name: tensor.to(KEPT_DTYPES[kept.dtype]).cpu() for name, tensor in see(EVL, model, clips).items()}
    kept.write([KeptView(str(number), "", 0, 1, 1) for number in range(len(clips))], tensors)
    drop_frozen(EVL, model)
    places = np.stack([np.zeros(len(clips), np.int32), np.arange(len(clips), dtype=np.int32)], -1)[:, None]
    reader = FeatureReader(folder, tuple(tensors), kept.files(), places, frozenset(), {})
    views = [(number, 0) for number in range(len(clips))]
    return lambda: {name: tensor.to(clips.device) for name, tensor in reader.read(views).items()}


def measure(size: str, batch: int, repetitions: int, precision: str, device: torch.device) -> dict[str, Any]:
    """Time the sides in turn, and count their memory."""
    found = sides(size)
    torch.manual_seed(0)
    taken: dict[str, list[float]] = {side: [] for side in found}
    models = {side: family.build(config).train().to(device) for side, (family, config) in found.items()}
    config = found[EVL_FROZEN][1]
    clips = torch.randn(batch, 3, config.num_frames, config.size_px, config.size_px, device=device)
    with tempfile.TemporaryDirectory() as folder:
        read = reading(models[EVL_KEPT], clips, Path(folder))
        labels = torch.arange(batch, device=device)
        steps = {
            side: step_of(model, read if side == EVL_KEPT else lambda: clips, labels, precision)
            for side, model in models.items()
        }
        for turn in range(-1, repetitions):  # the first warms up
            for side in sorted(found, reverse=turn % 2 == 1):
                spent = spent_s(steps[side], device)
                if turn >= 0:
                    taken[side].append(spent)
        peaks = {side: peak(steps[side], device) for side in found} if device.type == "cuda" else {}
    rows = {}
    for side, (family, side_config) in found.items():
        memory = estimate_memory(family, side_config, precision=precision)
        spared = tower = pixels = 0
        if side == EVL_KEPT:  # neither the tower nor pixels are there
            spared = sum(family.cost(side_config).forward[part] for part in BACKBONE_PARTS)
            tower = sum(4 * weight.numel() for weight in models[EVL_FROZEN].backbone.parameters())
            pixels = 4 * clips[0].numel()
        parameters = [parameter for parameter in models[side].parameters() if parameter.requires_grad]
        rows[side] = {
            "trained_parameters": sum(parameter.numel() for parameter in parameters),
            "gmac_forward": round((sum(family.cost(side_config).forward.values()) - spared) / 1e9, 2),
            "gmac_step": round((family.cost(side_config).training - spared) / 1e9, 2),
            "step_s": {key: round(value, 4) for key, value in spread(taken[side]).items()},
            "model_mib": round((memory.model_bytes - tower) / 2**20, 1),
            "clip_mib": round((memory.clip_bytes - pixels) / 2**20, 1),
        }
        if side in peaks:
            rows[side]["peak_mib"] = peaks[side]
    return {"size": size, "batch": batch, "precision": precision, "sides": rows, "ratios": ratios(rows)}


def spent_s(step: Callable[[], None], device: torch.device) -> float:
    """Seconds of a step: of a GPU by the clock, of a CPU in its own time, all threads together.

    Other programs take a CPU's clock and not its time.
    """
    if device.type == "cuda":
        return seconds(step, device, 5)
    begin = time.process_time()
    step()
    return time.process_time() - begin


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def peak(step: Callable[[], None], device: torch.device) -> float:
    """What a step adds to what is there, in MiB; the weights of all four sides are there."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return round((torch.cuda.max_memory_allocated(device) - before) / 2**20, 1)


def ratios(rows: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of time, of memory per clip and of multiply-adds of a step."""
    return {
        title: {
            "step time": round(rows[first]["step_s"]["median"] / rows[second]["step_s"]["median"], 2),
            "memory of a clip": round(rows[first]["clip_mib"] / rows[second]["clip_mib"], 2),
            "multiply-adds of a step": round(rows[first]["gmac_step"] / rows[second]["gmac_step"], 2),
        }
        for title, (first, second) in RATIOS.items()
    }


def table(result: dict[str, Any]) -> str:
    """The sides and their ratios as Markdown, for docs/evl.md."""
    lines = [
        "| 8 frames, 400 classes | trained | G multiply-adds of a step | a step, s | model, MiB | a clip, MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for side, row in result["sides"].items():
        lines.append(
            f"| {side} | {row['trained_parameters'] / 1e6:.1f} M | {row['gmac_step']:,.0f} | "
            f"{row['step_s']['median']:.2f} | {row['model_mib']:,.0f} | {row['clip_mib']:,.0f} |"
        )
    lines += ["", "| ratio | step time | memory of a clip | multiply-adds of a step |", "| --- | ---: | ---: | ---: |"]
    for title, row in result["ratios"].items():
        lines.append(f"| {title} | {' | '.join(f'{value:.2f}' for value in row.values())} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="What freezing the image tower saves in training.")
    parser.add_argument("--size", choices=SIZES, default="b16")
    parser.add_argument("--batch", type=int, default=32 if gpu else 1, help="clips of a step")
    parser.add_argument("--repetitions", type=int, default=10 if gpu else 3)
    parser.add_argument("--precision", choices=list(DTYPES), default="bf16" if gpu else "fp32")
    parser.add_argument("--threads", type=int, help="of torch on a CPU")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    about = machine(device)
    result = measure(arguments.size, arguments.batch, arguments.repetitions, arguments.precision, device)
    result = {"what": "a training step, the tower frozen and not", "machine": about, **result}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
