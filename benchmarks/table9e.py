"""The paper's Table 9e in miniature: individual training, co-training, K710 pretraining with a five-epoch finetune.

    python benchmarks/table9e.py                 # three seeds, about half an hour of two cores
    python benchmarks/table9e.py --seeds 1 --epochs 6

Also: what the leaks do to K400's number when they stay in K710's train, and what the remapped head is worth against a
new one. Lists, curation, views, sampling, augmentation, model, schedule and heads are the package's own; clips are
drawn in memory (k710.sample.motions), so that nothing but training takes time. docs/train.md says what it can tell.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from k710.curation.build import CurationRecipe, build
from k710.engine.part import Share
from k710.lists.annotations import find_lists
from k710.lists.labels import class_names, row_map
from k710.loading.augment.augment import augment
from k710.loading.augment.evaluation_crops import evaluation_crops
from k710.loading.order import EpochOrder
from k710.loading.sampling import FrameSampling
from k710.manifest.views import split_of, view
from k710.models.uniformerv2.family import UNIFORMERV2
from k710.models.uniformerv2.model import UniFormerV2
from k710.random_key import RandomKey
from k710.sample.experiment import RELEASES, SPAN_S, write_lists
from k710.sample.motions import LOOKS, motion_frames
from k710.train.optimizer import clip_gradients, learning_rate, make_optimizer, set_learning_rate
from k710.train.read_recipe import read_train_recipe
from k710.train.recipe import TrainRecipe, augment_of
from k710.train.start import config_of_recipe

HEAD = "transformer.proj.2"
FINETUNE_EPOCHS = 5  # as in the paper
FRAMES = LOOKS["tiny"].num_frames(SPAN_S)


class Clip(NamedTuple):
    """A clip in a training set: its row of the head, and which rows that head has, of all that the model has."""

    clip_id: str
    row: int
    head: slice


class World:
    """The lists, the manifests and the frames of one seed."""

    def __init__(self, folder: Path, clips_per_class: int, seed: int) -> None:
        write_lists(folder / "lists", clips_per_class)
        files = find_lists(folder / "lists", RELEASES, ("train", "val"))
        clean = build(CurationRecipe(RELEASES).checked(), files, folder / "clean")
        leaky = build(CurationRecipe(RELEASES, leak_policy="val-purge").checked(), files, folder / "leaky")
        self.tables = {name: view(clean.clips, name) for name in ("k710", *RELEASES)}
        self.leaky = view(leaky.clips, "k710")
        rows = clean.clips.to_pylist()
        labels = {row["clip_id"]: clean.labels[row["class_id"]] for row in rows if row["class_id"] is not None}
        labels |= {
            row["clip_id"]: row["label"] for table in self.tables.values() for row in table.to_pylist() if row["label"]
        }
        self.frames = {
            row["clip_id"]: torch.from_numpy(
                np.stack(
                    list(
                        motion_frames(
                            labels[row["clip_id"]], row["youtube_id"], FRAMES, LOOKS["tiny"],
                            start_s=row["time_start_s"], seed=seed,
                        )
                    )
                )
            )
            for row in rows
        }  # fmt: skip
        in_train = set(split_of(self.leaky, "train")["clip_id"].to_pylist())
        self.leaked = in_train & {clip.clip_id for name in RELEASES for clip in self.clips(name, "val")}

    def clips(self, name: str, split: str, first: int = 0, without: frozenset[str] = frozenset()) -> list[Clip]:
        """The clips of a view; its head has rows from `first` on."""
        table = split_of(self.leaky if name == "leaky" else self.tables[name], split)
        head = slice(first, first + len(class_names("k710" if name == "leaky" else name)))
        found = zip(table["clip_id"].to_pylist(), table["class_id"].to_pylist(), strict=True)
        return [Clip(clip_id, first + class_id, head) for clip_id, class_id in found if clip_id not in without]


def new_model(recipe: TrainRecipe, num_classes: int) -> UniFormerV2:
    torch.manual_seed(recipe.seed)
    return UniFormerV2(dataclasses.replace(config_of_recipe(recipe), num_classes=num_classes))


def fit(model: UniFormerV2, world: World, clips: Sequence[Clip], recipe: TrainRecipe) -> int:
    """Train; the number of clips seen, which is what it costs."""
    settings, sampling = augment_of(recipe), FrameSampling(recipe.data.num_frames)
    optimizer, order = make_optimizer(model, recipe.family, recipe.optim), EpochOrder(len(clips), recipe.seed)
    model.train()
    seen = 0
    for epoch in range(recipe.optim.epochs):
        steps = order.num_batches(recipe.optim.batch_size)
        for step, samples in enumerate(order.batches(epoch, recipe.optim.batch_size, Share())):
            set_learning_rate(optimizer, learning_rate(recipe.optim, epoch + step / steps))
            batch = [clips[sample.clip] for sample in samples]
            keys = [RandomKey(recipe.seed, epoch, clip.clip_id) for clip in batch]
            pixels = [
                world.frames[clip.clip_id][torch.from_numpy(sampling.train(FRAMES, key.draws("frames")))]
                for clip, key in zip(batch, keys, strict=True)
            ]
            choices = [settings.choose(key, *frames.shape[1:3]) for key, frames in zip(keys, pixels, strict=True)]
            logits = model(augment(pixels, choices, settings))
            # Each clip is asked among the classes of its own release alone: three heads, where there are three.
            losses = [
                functional.cross_entropy(row[clip.head], torch.tensor(clip.row - clip.head.start))
                for row, clip in zip(logits, batch, strict=True)
            ]
            optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).mean().backward()
            clip_gradients(model, recipe.optim.clip_grad)
            optimizer.step()
            seen += len(batch)
    return seen


@torch.no_grad()
def right(model: UniFormerV2, world: World, clips: Sequence[Clip], num_views: int = 4) -> dict[str, bool]:
    """Of each clip, whether its class is the likeliest of its head's: centre crops of several temporal clips."""
    model.eval()
    sampling, found = FrameSampling(model.config.num_frames), {}
    for clip in clips:
        indices = [sampling.test(FRAMES, clip=number, num_clips=num_views) for number in range(num_views)]
        pixels = [world.frames[clip.clip_id][torch.from_numpy(chosen)] for chosen in indices]
        logits = model(evaluation_crops(pixels, [1] * num_views, **UNIFORMERV2.crops(model.config.size_px)))
        scores = logits[:, clip.head].softmax(-1).sum(0)
        found[clip.clip_id] = int(scores.argmax()) == clip.row - clip.head.start
    return found


def share(answers: dict[str, bool], only: set[str] | None = None) -> float:
    kept = [answer for clip_id, answer in answers.items() if only is None or clip_id in only]
    return sum(kept) / len(kept) if kept else float("nan")


def finetuned(body: UniFormerV2, release: str, recipe: TrainRecipe, *, remapped: bool) -> UniFormerV2:
    """A model of a release that starts from one of Kinetics-710: its head's rows by class name, or new ones."""
    model = new_model(recipe, len(class_names(release)))
    state = {name: tensor for name, tensor in body.state_dict().items() if not name.startswith(HEAD)}
    if remapped:
        rows = torch.tensor(row_map("k710", release))
        state |= {f"{HEAD}.{part}": body.state_dict()[f"{HEAD}.{part}"][rows] for part in ("weight", "bias")}
    model.load_state_dict(state, strict=False)
    return model


def one_seed(seed: int, epochs: int, clips_per_class: int) -> dict[str, dict[str, float]]:
    """All arms on one seed's footage and first weights: top-1 by arm and release, and clips seen."""
    same = [f"seed={seed}", "batch_size=8"]  # twice the steps of the demo's recipe, which so few clips need
    long = [*same, "lr=2e-3", f"epochs={epochs}", f"warmup_epochs={epochs / 10}"]
    recipe, _ = read_train_recipe("tiny-k710", long)
    short, _ = read_train_recipe("tiny-k400", [*same, "lr=5e-4", f"epochs={FINETUNE_EPOCHS}"])
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), clips_per_class, seed)
    found: dict[str, dict[str, float]] = {}
    val = {release: world.clips(release, "val") for release in RELEASES}
    train = {release: world.clips(release, "train") for release in RELEASES}

    cost, scores = 0, {}
    for release in RELEASES:
        model = new_model(recipe, len(class_names(release)))
        cost += fit(model, world, train[release], recipe)
        scores[release] = share(right(model, world, val[release]))
    found["individual"] = {**scores, "clips": cost}
    say(seed, "individual", found)

    firsts = {"k400": 0, "k600": 400, "k700": 1000}
    purged = frozenset(world.leaked)  # the paper removes the val sets' videos from the joint training
    together = [clip for name in RELEASES for clip in world.clips(name, "train", firsts[name], purged)]
    model = new_model(recipe, 1700)
    cost = fit(model, world, together, recipe)
    scores = {name: share(right(model, world, world.clips(name, "val", firsts[name]))) for name in RELEASES}
    found["co-training"] = {**scores, "clips": cost}
    say(seed, "co-training", found)

    k710 = new_model(recipe, 710)
    cost = fit(k710, world, world.clips("k710", "train"), recipe)
    for arm, remapped in (("K710 + finetune", True), ("K710 + finetune, new head", False)):
        scores, arm_cost = {}, cost
        for release in RELEASES:
            model = finetuned(k710, release, short, remapped=remapped)
            arm_cost += fit(model, world, train[release], short)
            answers = right(model, world, val[release])
            scores[release] = share(answers)
            if release == "k400" and remapped:
                clean_answers = answers
        found[arm] = {**scores, "clips": arm_cost}
        say(seed, arm, found)

    found |= leaks(world, recipe, short, clean_answers)
    say(seed, "with leaks", found)
    return found


def leaks(world: World, recipe: TrainRecipe, short: TrainRecipe, clean: dict[str, bool]) -> dict[str, dict[str, float]]:
    """K400's number when the leaked videos stay in K710's train, beside `clean`, the answers when they do not: of all
    val clips, of the leaked ones, and of the others."""
    model = new_model(recipe, 710)
    cost = fit(model, world, world.clips("leaky", "train"), recipe)
    model = finetuned(model, "k400", short, remapped=True)
    cost += fit(model, world, world.clips("k400", "train"), short)
    answers = right(model, world, world.clips("k400", "val"))
    rest = set(answers) - world.leaked
    return {
        arm: {"k400": share(of), "leaked": share(of, world.leaked), "others": share(of, rest), "clips": cost}
        for arm, of in (("without leaks", clean), ("with leaks", answers))
    }


def say(seed: int, arm: str, found: dict[str, dict[str, float]]) -> None:
    numbers = ", ".join(f"{k} {v:.1%}" if k != "clips" else f"{v:,} clips" for k, v in found[arm].items())
    print(f"seed {seed}: {arm}: {numbers}", flush=True)


def table(results: list[dict[str, dict[str, float]]], columns: Sequence[str], arms: Sequence[str]) -> str:
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for arm in arms:
        cells = []
        for column in columns:
            values = [result[arm][column] for result in results]
            spread = f" ± {statistics.stdev(values):.1%}" if len(values) > 1 and column != "clips" else ""
            cells.append(f"{round(values[0]):,}" if column == "clips" else f"{statistics.mean(values):.1%}{spread}")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--clips-per-class", type=int, default=60)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    begin_s = time.perf_counter()
    results = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        results.append(one_seed(seed, options.epochs, options.clips_per_class))
        if options.out:
            facts = {"epochs": options.epochs, "clips_per_class": options.clips_per_class, "seeds": results}
            options.out.write_text(json.dumps(facts, indent=1) + "\n")
    print()
    arms = ("individual", "co-training", "K710 + finetune", "K710 + finetune, new head")
    print(table(results, ("k400", "k600", "k700", "clips"), arms), end="\n\n")
    print(table(results, ("k400", "leaked", "others"), ("without leaks", "with leaks")), end="\n\n")
    print(f"{options.seeds} seeds in {time.perf_counter() - begin_s:.0f} s")


if __name__ == "__main__":
    main()
