"""Time UniFormerV2 against the published layout; both sides, and the machine's matrix product, in one run.

    python benchmarks/model.py [--presets kinetics_b16,kinetics_l14] [--batch 64] [--no-compile] [--forms]

The other side is `published_layout.py`: the same weights through `nn.MultiheadAttention` in (L, N·T, C), eager, under
bf16 autocast, on the same batch. Ours is the model of k710 under the same autocast, compiled on a GPU (`--compile`
does so on a CPU). Before anything is timed both give logits that must agree. Each measure takes turns between the
sides; every turn is synchronised. A training step is forward, cross entropy, backward, and AdamW (fused) over what is
trained; dropout is on, drop paths off on both sides, which have them in neither's favour.

Shares of peak: nominal multiply-adds of the model (no credit for what folding saves) x 2, x 3 for a step (of a frozen
backbone x 1), over the rate of a bf16 matrix product of the same run. `--forms` times the equal forms of single parts
instead. The numbers go to `results/model.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from model_forms import forms
from published_layout import PublishedLayout
from torch.nn import functional as F  # noqa: N812

from k710.models.uniformerv2.config import PRESETS, UniFormerV2Config, preset
from k710.models.uniformerv2.cost import BACKBONE_PARTS, multiply_adds
from k710.models.uniformerv2.model import UniFormerV2

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "model.json"
SIDES = ("k710", "published layout")

# Clips per batch on a GPU of 140 GB, so that the eager side fits too; 1 on a CPU.
BATCHES = {"kinetics_b16": 64, "kinetics_b16_frozen": 128, "kinetics_l14": 24, "kinetics_l14_336_frozen": 32}

# On an H200: preset, measure, what it is at least. `step ratio` is our steps per second over the other side's.
TARGETS_H200 = {
    "kinetics_b16 step, share of peak": ("kinetics_b16", "share of peak, step", 0.42),
    "kinetics_l14 step, share of peak": ("kinetics_l14", "share of peak, step", 0.50),
    "kinetics_b16 step, times the published layout's": ("kinetics_b16", "step ratio", 1.5),
    "kinetics_b16_frozen step, clips/s": ("kinetics_b16_frozen", "clips/s, step", 1000.0),
}
TARGETS_CPU = {
    "kinetics_b16 forward, times the published layout's": ("kinetics_b16", "forward ratio", 1.0),
    "kinetics_b16 step, times the published layout's": ("kinetics_b16", "step ratio", 1.0),
}


def config_of(name: str) -> UniFormerV2Config:
    """A preset, or one with a frozen backbone, and without drop path, which the other side does not have."""
    base = name.removesuffix("_frozen") if name not in PRESETS else name
    config = preset(base, drop_path=0.0, global_drop_path=0.0)
    return config if base == name else replace(config, frozen=True, balance=False)


def default_batch(name: str, device: torch.device) -> int:
    return BATCHES.get(name, 8) if device.type == "cuda" else 1


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    wait(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    wait(device)
    return (time.perf_counter() - begin) / repeats


def peak_flops(device: torch.device) -> float:
    """FLOP/s of a large square bf16 matrix product: the best of ten, after a warm-up.

    A CPU without bf16 instructions takes seconds for a large product, so there a small one is measured.
    """

    def product(size: int, times: int) -> float:
        a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
        return min(seconds(lambda: a @ b, device, 3) for _ in range(times))

    size = 8192 if device.type == "cuda" else 2048 if product(256, 1) < 1e-3 else 256
    return 2 * size**3 / product(size, 10)


def measures(model: torch.nn.Module, run: Callable[..., Any], clips: torch.Tensor) -> dict[str, Callable[[], object]]:
    """One forward and one training step of a side."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    labels = torch.arange(len(clips), device=clips.device)

    def forward() -> None:
        model.eval()
        with torch.no_grad(), torch.autocast(clips.device.type, torch.bfloat16):
            run(clips)

    def step() -> None:
        model.train()
        with torch.autocast(clips.device.type, torch.bfloat16):
            loss = F.cross_entropy(run(clips).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {"forward": forward, "step": step}


def compare(name: str, batch: int, compiled: bool, repetitions: int, device: torch.device) -> dict[str, Any]:
    """Check that both sides agree (SystemExit where not), then time them in turn."""
    config = config_of(name)
    torch.manual_seed(0)
    ours, theirs = UniFormerV2(config), PublishedLayout(config)
    with torch.no_grad():  # nothing at zero, so that the comparison sees every part
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    theirs.load_state_dict(ours.state_dict())
    models = dict(zip(SIDES, (ours.to(device), theirs.to(device)), strict=True))
    clips = torch.randn(batch, 3, config.num_frames, config.size_px, config.size_px, device=device)
    agreement = differs(models, clips[:2])
    run = torch.compile(ours, fullgraph=True) if compiled else ours
    runs = {side: measures(model, run if side == "k710" else model, clips) for side, model in models.items()}
    cost = multiply_adds(config)
    result: dict[str, Any] = {
        "config": name,
        "batch": batch,
        "compiled": compiled,
        "gmac_per_clip": round(sum(cost.values()) / 1e9, 2),
        "largest_difference_of_logits_fp32": agreement,
    }
    taken: dict[str, dict[str, list[float]]] = {}
    for measure in ("forward", "step"):
        for turn in range(-1, repetitions):  # the first warms up, and compiles
            for side in sorted(SIDES, reverse=turn % 2 == 1):
                spent = seconds(runs[side][measure], device, 1 if device.type == "cpu" else 5)
                if turn >= 0:
                    taken.setdefault(measure, {}).setdefault(side, []).append(spent)
    if device.type == "cuda":
        result["peak_gib"] = peak_memory(runs, device)
    return result | summary(taken, batch, nominal(cost, config.frozen))


def differs(models: dict[str, torch.nn.Module], clips: torch.Tensor) -> float:
    # Without TF32, which a GPU's convolutions have by default and one of the sides has more of.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        first, second = (model.eval()(clips) for model in models.values())
    largest = (first - second).abs().max().item()
    if largest > 1e-3 * second.abs().max().item():
        raise SystemExit(f"the two sides differ by {largest}: nothing was timed")
    return largest


def peak_memory(runs: dict[str, dict[str, Callable[[], object]]], device: torch.device) -> dict[str, float]:
    """The most that a training step of each side holds, weights and optimizer of both sides included."""
    peaks = {}
    for side, measure in runs.items():
        torch.cuda.reset_peak_memory_stats(device)
        measure["step"]()
        wait(device)
        peaks[side] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return peaks


def nominal(cost: dict[str, int], frozen: bool) -> dict[str, int]:
    """FLOP per clip: a backward costs two forwards, of what is trained."""
    forward = 2 * sum(cost.values())
    backbone = 2 * sum(cost[part] for part in BACKBONE_PARTS)
    return {"forward": forward, "step": forward + 2 * (forward - backbone if frozen else forward)}


def summary(taken: dict[str, dict[str, list[float]]], batch: int, flop: dict[str, int]) -> dict[str, Any]:
    sides: dict[str, Any] = {side: {} for side in SIDES}
    ratios = {}
    for measure, by_side in taken.items():
        for side, spent in by_side.items():
            median = statistics.median(spent)
            sides[side][measure] = {
                "clips_per_s": round(batch / median, 3),
                "s": {"median": round(median, 5), "min": round(min(spent), 5), "max": round(max(spent), 5)},
                "tflops": round(flop[measure] * batch / median / 1e12, 4),
            }
        first, second = (statistics.median(by_side[side]) for side in SIDES)
        ratios[f"{measure} ratio"] = round(second / first, 3)
    return {"sides": sides, **ratios}


def judge(results: list[dict[str, Any]], peak: float, device: torch.device) -> dict[str, Any]:
    """Shares of peak, and of each target that was measured whether it is met."""
    values: dict[tuple[str, str], float] = {}
    for result in results:
        for measure in ("forward", "step"):
            side = result["sides"]["k710"][measure]
            side["share_of_peak"] = round(side["tflops"] * 1e12 / peak, 4)
            values[result["config"], f"share of peak, {measure}"] = side["share_of_peak"]
            values[result["config"], f"clips/s, {measure}"] = side["clips_per_s"]
            values[result["config"], f"{measure} ratio"] = result[f"{measure} ratio"]
            other = result["sides"]["published layout"][measure]
            other["share_of_peak"] = round(other["tflops"] * 1e12 / peak, 4)
    targets = TARGETS_CPU if device.type == "cpu" else TARGETS_H200
    return {
        title: {"at_least": least, "measured": values[name, key], "met": values[name, key] >= least}
        for title, (name, key, least) in targets.items()
        if (name, key) in values
    }


def machine(device: torch.device) -> dict[str, Any]:
    """The machine and the versions that the numbers hold for."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "gpu": gpu,
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": [round(load, 1) for load in os.getloadavg()],
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def table(result: dict[str, Any]) -> str:
    """The rates as Markdown, for docs/performance.md."""
    lines = [
        "| configuration, batch | measure | k710, clips/s | published layout | ratio | k710, share of peak |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for each in result["configurations"]:
        for measure in ("forward", "step"):
            mine, other = (each["sides"][side][measure] for side in SIDES)
            lines.append(
                f"| {each['config']}, {each['batch']} | {measure} | {mine['clips_per_s']:.2f} | "
                f"{other['clips_per_s']:.2f} | {each[f'{measure} ratio']:.2f} | {mine['share_of_peak']:.0%} |"
            )
    return "\n".join(lines)


def show(result: dict[str, Any]) -> None:
    print(table(result))
    print(f"\nbf16 matrix product: {result['matrix_product_tflops']:.3f} TFLOP/s")
    for title, target in result["targets"].items():
        verdict = "met" if target["met"] else "missed"
        print(f"{title}: {target['measured']:.2f}, wanted at least {target['at_least']:.2f}: {verdict}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time UniFormerV2 against the published layout.")
    gpu = torch.cuda.is_available()
    default = "kinetics_b16,kinetics_l14,kinetics_b16_frozen" if gpu else "kinetics_b16,kinetics_b16_frozen"
    parser.add_argument("--presets", default=default, help=f"of {', '.join(PRESETS)}, and these with _frozen")
    parser.add_argument("--batch", type=int, help=f"clips; default on a GPU: {BATCHES} and 8 for others; on a CPU: 1")
    parser.add_argument("--repetitions", type=int, default=10 if gpu else 3)
    parser.add_argument("--threads", type=int, help="of torch on a CPU")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=gpu, help="compile k710's side")
    parser.add_argument("--forms", action="store_true", help="time equal forms of single parts, and stop")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.forms:
        forms(device, seconds)
        return
    about = machine(device)
    peak = peak_flops(device)
    results = [
        compare(name, arguments.batch or default_batch(name, device), arguments.compile, arguments.repetitions, device)
        for name in arguments.presets.split(",")
    ]
    peak = max(peak, peak_flops(device))  # clocks change while it runs: shares are of the better of the two
    result = {
        "what": "UniFormerV2 of k710 against the published layout, bf16 autocast on both sides, medians",
        "repetitions": arguments.repetitions,
        "machine": about,
        "matrix_product_tflops": round(peak / 1e12, 3),
        "targets": judge(results, peak, device),
        "configurations": results,
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(result)


if __name__ == "__main__":
    main()
