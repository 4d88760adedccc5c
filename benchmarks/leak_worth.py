"""What a leak is worth, planted and in miniature: how much of a gain on a test list is gone with k710-strict.

    python benchmarks/leak_worth.py              # about two minutes of one core

K400's test list is drawn, and half of its videos are in K700's train list too, as some of the real one are. `k710`, the
published policy, holds out val lists alone and leaves these videos in train; `k710-strict` holds them out. A third
train set has as many other videos in their place, for what more clips alone are worth. The same small network of three
3D convolutions learns from each, without augmentation, and the answers are compared on the same test clips. Footage is
drawn in memory. (table9e.py has a leak with UniFormerV2's tiny preset, which takes much longer.)
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from k710.compare.power import clips_needed, power
from k710.compare.statistics import bootstrap, mcnemar
from k710.curation.build import CurationRecipe, build
from k710.lists.annotations import find_lists
from k710.lists.labels import Alignment, class_names, k710_classes_of
from k710.manifest.read import Manifest
from k710.manifest.views import split_of, view
from k710.recipes import read_recipe
from k710.sample.experiment import SPAN_S
from k710.sample.generate import CLASSES
from k710.sample.motions import LOOKS, motion_frames

RELEASES = ("k400", "k600", "k700")
ARMS = {"leaked": ("leaked", "k710"), "k710-strict": ("leaked", "k710-strict"), "other clips": ("others", "k710")}
FRAMES = 8


class Clip(NamedTuple):
    """A clip, and the place of its class among `labels`."""

    clip_id: str
    label: int


def labels() -> list[str]:
    """The motions whose class all three releases have."""
    in_all = set.intersection(*(set(k710_classes_of(release)) for release in RELEASES))
    return [label for label in CLASSES if Alignment().find(label) in in_all]


def write_lists(folder: Path, world: str, num_train: int, num_test: int) -> None:
    """The lists of one world: in `leaked` K700's train has half of K400's test videos, in `others` as many others."""
    rows: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for number, label in enumerate(labels()):
        train = [f"train{number}-{video:04d}" for video in range(num_train)]
        test = [f"tests{number}-{video:04d}" for video in range(num_test)]
        more = test[::2] if world == "leaked" else [f"other{number}-{video:04d}" for video in range(0, num_test, 2)]
        for release, videos in zip(RELEASES, (train[::3], train[::2], [*train, *more]), strict=True):
            rows.setdefault((release, "train"), []).extend((label, video) for video in videos)
            rows.setdefault((release, "val"), []).append((label, f"valid{number}-0000"))
            of_test = test if release == "k400" else [f"{release}{number}-00000"]
            rows.setdefault((release, "test"), []).extend((label, video) for video in of_test)
    folder.mkdir(parents=True)
    for (release, split), listed in rows.items():
        names = dict(zip(k710_classes_of(release), class_names(release), strict=True))
        with (folder / f"{release}_{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
            for label, video in listed:
                writer.writerow([names[Alignment().find(label)], video, 0, SPAN_S, split])


def build_arm(folder: Path, arm: str) -> Manifest:
    world, recipe_name = ARMS[arm]
    recipe = read_recipe("curation", recipe_name, CurationRecipe).checked()
    return build(recipe, find_lists(folder / "lists" / world, RELEASES, recipe.splits), folder / arm)


def clips_of(manifest: Manifest, name: str, split: str) -> list[Clip]:
    """The clips of a view; their class is in their ID, since test lists have none."""
    rows = split_of(view(manifest.clips, name), split).to_pylist()
    return [Clip(row["clip_id"], int(row["youtube_id"][5])) for row in rows]


def frames_of(clips: Sequence[Clip], seed: int) -> torch.Tensor:
    """(clips, 3, frames, height, width), around 0."""
    drawn = [
        np.stack(list(motion_frames(labels()[clip.label], clip.clip_id[:11], FRAMES, LOOKS["tiny"], seed=seed)))
        for clip in clips
    ]
    return torch.from_numpy(np.stack(drawn)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def network() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv3d(before, after, 3, stride=(1, 2, 2), padding=1), nn.BatchNorm3d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d((4, 2, 2)), nn.Flatten(), nn.Linear(64 * 16, len(labels())))


def trained(pixels: torch.Tensor, classes: torch.Tensor, epochs: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(pixels)).split(32):
            if len(batch) > 1:  # one clip has no spread to normalise by
                optimizer.zero_grad()
                functional.cross_entropy(model(pixels[batch]), classes[batch]).backward()
                optimizer.step()
    return model.eval()


def one_seed(seed: int, options: argparse.Namespace) -> dict[str, dict[str, bool]]:
    """By arm, whether each of K400's test clips is right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for world in ("leaked", "others"):
            write_lists(folder / "lists" / world, world, options.train, options.test)
        manifests = {arm: build_arm(folder, arm) for arm in ARMS}
        train = {arm: clips_of(manifest, "k710", "train") for arm, manifest in manifests.items()}
        test = clips_of(manifests["k710-strict"], "k400", "test")
    assert len(test) == options.test * len(labels())
    assert not {clip.clip_id for clip in train["k710-strict"]} & {clip.clip_id for clip in test}
    test_pixels = frames_of(test, seed)
    found = {}
    for arm, clips in train.items():
        model = trained(frames_of(clips, seed), torch.tensor([clip.label for clip in clips]), options.epochs, seed)
        with torch.no_grad():
            answers = torch.cat([model(part) for part in test_pixels.split(64)]).argmax(1).tolist()
        found[arm] = {clip.clip_id: answer == clip.label for clip, answer in zip(test, answers, strict=True)}
        top1 = np.mean(list(found[arm].values()))
        print(f"seed {seed}: {arm}: {len(clips)} train clips, top-1 {top1:.1%}", flush=True)
    return found


def difference(one: np.ndarray, other: np.ndarray, videos: np.ndarray) -> dict[str, Any]:
    """Of two arms on the same clips, other - one."""
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    interval = bootstrap(one, other, videos, seed=0, resamples=10_000)
    return {
        "clips": len(one), "one": one.mean(), "other": other.mean(), "difference": other.mean() - one.mean(),
        "interval": interval, "only_one": only_one, "only_other": only_other, "p": mcnemar(only_one, only_other),
    }  # fmt: skip


def report(seeds: Sequence[dict[str, dict[str, bool]]]) -> dict[str, Any]:
    """All seeds together: each has its own footage, so its clips are other clips."""
    keys = [(number, clip_id) for number, found in enumerate(seeds) for clip_id in found["leaked"]]
    answers = {arm: np.array([seeds[number][arm][clip_id] for number, clip_id in keys]) for arm in ARMS}
    leaked = np.array([int(clip_id[7:11]) % 2 == 0 for _, clip_id in keys])
    parts = {"all": np.ones(len(keys), bool), "in train": leaked, "not in train": ~leaked}
    compared = {
        f"{other} - {one}": {
            part: difference(answers[one][of], answers[other][of], np.arange(of.sum())) for part, of in parts.items()
        }
        for one, other in (("k710-strict", "leaked"), ("k710-strict", "other clips"), ("other clips", "leaked"))
    }
    gain = compared["leaked - k710-strict"]["all"]
    discordant = (gain["only_one"] + gain["only_other"]) / gain["clips"]
    needed = clips_needed(gain["difference"], discordant) if gain["difference"] > 0 else None
    curve = {n: power(n, gain["difference"], discordant) for n in (50, 100, 200, 400, 800, 1600)}
    return {"compared": compared, "discordant": discordant, "clips_needed": needed, "power": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--train", type=int, default=40, help="other train videos per class")
    parser.add_argument("--test", type=int, default=40, help="test videos per class, half of them in train too")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    begin_s = time.perf_counter()
    found = report([one_seed(seed, options) for seed in range(options.seeds)])
    facts = {key: getattr(options, key) for key in ("seeds", "train", "test", "epochs")} | found
    for name, parts in found["compared"].items():
        for part, row in parts.items():
            low, high = row["interval"]
            print(f"{name}, test clips {part}: {row['one']:.1%} -> {row['other']:.1%}, ", end="")
            print(f"{100 * row['difference']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), ", end="")
            print(f"{row['clips']} clips, p {row['p']:.2g}")
    print(f"discordant {found['discordant']:.1%}; clips for 80 % power: {found['clips_needed']}; {found['power']}")
    print(f"{time.perf_counter() - begin_s:.0f} s")
    if options.out:
        options.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
