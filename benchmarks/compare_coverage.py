"""How often the intervals of `k710 compare` hold the truth, and how often its test finds a difference that is none.

    python benchmarks/compare_coverage.py        # about a minute of one idle core

Every trial draws clips of a planted truth, and asks the functions that the command asks. `bootstrap` is the percentile
interval alone; `printed` is what is printed, which takes Wald's adjusted interval where fewer than 20 clips are right
in one run only. With several clips per video, clips of a video are alike.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from k710.compare.power import power
from k710.compare.statistics import FEW_DISCORDANT, adjusted_wald, bootstrap, mcnemar, wilson

# clips, share of clips that only one run has right, true difference, clips of each video
CASES = (
    (20, 0.1, 0.05, 1),
    (50, 0.1, 0.0, 1),
    (50, 0.3, 0.1, 1),
    (200, 0.1, 0.0, 1),
    (200, 0.3, 0.1, 1),
    (1_000, 0.02, 0.0, 1),
    (1_000, 0.1, 0.02, 1),
    (20_000, 0.1, 0.005, 1),
    (1_000, 0.1, 0.0, 4),
    (1_000, 0.1, 0.02, 4),
)


def trial(case: tuple[int, float, float, int], rng: np.random.Generator, resamples: int) -> dict[str, bool]:
    """One draw of a case: which intervals hold the truth, and whether the test calls the two different."""
    num_clips, discordant, difference, per_video = case
    shares = [(discordant - difference) / 2, (discordant + difference) / 2, 0.7 * (1 - discordant)]
    kinds = rng.choice(4, num_clips // per_video, p=[*shares, 1 - sum(shares)])
    videos = np.repeat(np.arange(len(kinds)), per_video)
    # Of several clips of a video four in five are as the video is; the others are drawn anew.
    kinds = np.repeat(kinds, per_video)
    if per_video > 1:
        anew = rng.random(num_clips) < 0.2
        kinds[anew] = rng.choice(4, int(anew.sum()), p=[*shares, 1 - sum(shares)])
    one, other = np.isin(kinds, (0, 2)), np.isin(kinds, (1, 2))
    only_one, only_other = int((kinds == 0).sum()), int((kinds == 1).sum())
    seed = int(rng.integers(2**31))  # one seed for all trials would give all their intervals the same error
    spans = {
        "bootstrap": bootstrap(one, other, videos, seed=seed, resamples=resamples),
        "clips alone": bootstrap(one, other, np.arange(num_clips), seed=seed, resamples=resamples),
        "adjusted Wald": adjusted_wald(only_one, only_other, num_clips),
    }
    spans["printed"] = spans["adjusted Wald" if only_one + only_other < FEW_DISCORDANT else "bootstrap"]
    found = {name: low - 1e-12 <= difference <= high + 1e-12 for name, (low, high) in spans.items()}
    low, high = wilson(int(one.sum()), num_clips)
    return found | {
        "Wilson": bool(low <= shares[0] + shares[2] <= high), "called different": mcnemar(only_one, only_other) <= 0.05,
    }  # fmt: skip


def coverage(case: tuple[int, float, float, int], trials: int, seed: int, resamples: int = 1000) -> dict[str, Any]:
    """The shares over all trials of a case; `power` is what the test should find, of independent clips."""
    rng = np.random.default_rng(seed)
    found = [trial(case, rng, resamples) for _ in range(trials)]
    shares = {name: sum(one[name] for one in found) / trials for name in found[0]}
    num_clips, discordant, difference, per_video = case
    about = {"clips": num_clips, "discordant": discordant, "difference": difference, "clips_per_video": per_video}
    return about | shares | {"power": power(num_clips, difference, discordant)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    begin_s = time.perf_counter()
    rows = [coverage(case, options.trials, options.seed) for case in CASES]
    names = ("bootstrap", "adjusted Wald", "printed", "Wilson", "called different", "power")
    print(f"| clips | only one right | difference | clips per video | {' | '.join(names)} |")
    print(f"|---:|---:|---:|---:|{'---:|' * len(names)}")
    for row in rows:
        about = f"{row['clips']:,} | {row['discordant']:.0%} | {100 * row['difference']:g} | {row['clips_per_video']}"
        print(f"| {about} | {' | '.join(f'{row[name]:.1%}' for name in names)} |")
    print(f"clips alone, where videos have several: {rows[-1]['clips alone']:.1%}")
    print(f"{options.trials} trials each, seed {options.seed}, {time.perf_counter() - begin_s:.0f} s")
    if options.out:
        options.out.write_text(
            json.dumps({"trials": options.trials, "seed": options.seed, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
