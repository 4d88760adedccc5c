"""The parts of `gpu.py` that time models: steps of families, UniFormerV2's layouts, VideoMAE V2's pretraining."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dual_masking
import model
import torch
from train import made_up, stepper_of, timed

from k710.train.memory import estimate_memory
from k710.train.read_recipe import read_train_recipe
from k710.train.recipe import TrainRecipe
from k710.train.start import config_of_recipe

if TYPE_CHECKING:
    from gpu import Setting

FROZEN = ("frozen=true", "local=none", "balance=false")  # as the published frozen ones
# Recipe and changes: the model that is meant, and the tiny one that stands for it.
MODELS = {
    "UniFormerV2 B/16": (("pretrain-k710-b16",), ("tiny-k710",)),
    "UniFormerV2 B/16, frozen": (("pretrain-k710-b16", *FROZEN), ("tiny-k710", *FROZEN)),
    "EVL B/16": (("evl-k710-b16",), ("tiny-evl-k710", "frozen=true")),
    "VideoMAE V2 B": (("videomae-k710-b",), ("tiny-videomae-k710",)),
    "UniFormerV2 L/14": (("pretrain-k710-l14",), ("tiny-k710",)),
}
MOST_OF_A_GPU = 0.8  # of its memory, by the estimate: what is beside it must fit too


def steps(setting: Setting) -> dict[str, Any]:
    """Clips/s of a training step, eager, on clips that are there; its share of the matrix peak; memory against the
    estimate."""
    peak = model.peak_flops(setting.device)
    found: dict[str, Any] = {"matrix_product_tflops": round(peak / 1e12, 3), "models": {}}
    for title, (real, tiny) in MODELS.items():
        name, *changes = tiny if setting.tiny else real
        recipe, _ = read_train_recipe(name, [*changes, "precision=bf16"])
        found["models"][title] = {"recipe": name, "changes": changes} | step_of(recipe, setting, peak)
        setting.save(found)
    return found


def step_of(recipe: TrainRecipe, setting: Setting, peak: float) -> dict[str, Any]:
    """A recipe's step on noise. Its batch is the recipe's for one GPU, less where the estimate says that it is too
    large."""
    device, config = setting.device, config_of_recipe(recipe)
    told = estimate_memory(recipe.family, config, precision=recipe.optim.precision, average=False)
    clips = recipe.optim.gpu_batch_size
    if device.type == "cuda":
        room = MOST_OF_A_GPU * torch.cuda.get_device_properties(device).total_memory
        clips = max(1, min(clips, int((room - told.model_bytes) // told.clip_bytes)))
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    recipe = recipe.replace({"optim.batch_size": clips, "optim.gpu_batch_size": clips, "optim.ema_decay": 0.0})
    stepper = stepper_of(recipe, device)
    rate = timed(stepper, made_up(recipe, device), *((2, 1) if setting.tiny else (15, 4)))["clips_per_s"]
    flops = 2 * recipe.family.cost(config).training * rate
    expected = told.of(clips)
    row = {
        "batch": clips,
        "precision": recipe.optim.precision,
        "clips_per_s": round(rate, 3),
        "steps_per_s": round(rate / clips, 3),
        "tflops": round(flops / 1e12, 4),
        "share_of_peak": round(flops / peak, 4),
        "memory": {"estimated_bytes": expected, "peak_bytes": None, "estimate_over_peak": None},
    }
    if device.type == "cuda":
        most = torch.cuda.max_memory_allocated(device)
        row["memory"] = {
            "estimated_bytes": expected, "peak_bytes": most, "estimate_over_peak": round(expected / most, 3)
        }  # fmt: skip
    return row


def layouts(setting: Setting) -> dict[str, Any]:
    """UniFormerV2 B/16 trained in full, eager and compiled, each beside the published layout, which is eager."""
    name = "tiny" if setting.tiny else "kinetics_b16"
    batch, repetitions = (2, 1) if setting.tiny else (32, 5)
    peak = model.peak_flops(setting.device)
    found: dict[str, Any] = {"matrix_product_tflops": round(peak / 1e12, 3)}
    for way, compiled in (("eager", False), ("compiled", True)):
        one = model.compare(name, batch, compiled, repetitions, setting.device)
        targets = model.judge([one], peak, setting.device)
        found[way] = one | ({"targets": targets} if compiled else {})
        setting.save(found)
    mine = {way: found[way]["sides"]["k710"]["step"]["clips_per_s"] for way in ("eager", "compiled")}
    found["compiled_over_eager_step"] = round(mine["compiled"] / mine["eager"], 3)
    return found


def pretrain(setting: Setting) -> dict[str, Any]:
    """A step of VideoMAE V2's masked pretraining, the decoder masked and full, and its share of the matrix peak."""
    preset, clips, rounds = ("tiny", 2, 2) if setting.tiny else ("base", 32, 8)
    peak = model.peak_flops(setting.device)
    found = dual_masking.measure(preset, clips, rounds, setting.device)
    for side in found["sides"].values():
        side["clips_per_s"] = round(clips / side["step_s"]["median"], 2)
        # Backward costs two forwards.
        side["share_of_peak"] = round(2 * 3 * side["gmac_forward"] * 1e9 * side["clips_per_s"] / peak, 4)
    precision = "bf16" if setting.device.type == "cuda" else "fp32"
    return {"matrix_product_tflops": round(peak / 1e12, 3), "precision": precision} | found
