"""What a fetch takes for a clip on this machine: some clips are fetched into a store that is thrown away."""

from __future__ import annotations

import math
import shutil
import statistics
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from k710.curation.build import CurationRecipe, build
from k710.fetch.origins.local import LocalOrigin
from k710.fetch.plan import FetchOptions
from k710.fetch.run import fetch
from k710.lists.annotations import find_lists
from k710.manifest.read import Manifest
from k710.plan.clock import Spent, spent
from k710.sample.footage import Clip, write_footage
from k710.sample.motions import LOOKS
from k710.store.store import Store

FEW, SOME, MOST = 4, 16, 400  # clips of the first, second and longest measurement
MADE_S = 10  # of a made-up clip, as the releases'
_LABELS = ("abseiling", "archery")


@dataclass(frozen=True)
class FetchCost:
    """What a fetch of `num_clips` clips took: core-seconds of one, and what a run takes beside them (`start`).

    `clip_bytes` is the mean size of a stored clip, `clip_bytes_error` its standard error; `overhead_bytes` is what the
    tar adds for each clip.
    """

    clip_core_s: float
    start: Spent
    num_clips: int
    clip_bytes: float
    clip_bytes_error: float
    overhead_bytes: float


def measure_fetch(
    manifest: Manifest, root: Path, options: FetchOptions, *, share: float, measure_s: float
) -> FetchCost:
    """Fetch a random part of the clips of a folder into an empty store at `root`, for about `measure_s` seconds of one
    core. `share` of the wanted clips are in the folder.

    A run takes a start, and so much for each clip. Two runs of different length tell them apart.
    """

    def bring(before: int, num_clips: int) -> tuple[int, Spent]:
        # The clips of a limit are among those of a higher one, so that each run has only new ones.
        with spent() as found:
            tally = fetch(manifest, root, replace(options, limit=math.ceil((before + num_clips) / share)))
        return tally.settled, found

    num_few, few = bring(0, FEW)
    num_some, some = bring(FEW, SOME)
    each = _slope(num_few, few.core_s, num_some, some.core_s)
    num_clips = num_few + num_some
    more = min(MOST, math.ceil(measure_s / max(each, 1e-3)))
    if more > 2 * SOME:  # quick ones: a second is too little to tell them from the start
        num_more, longer = bring(FEW + SOME, more)
        if num_more > num_some:
            each, num_clips = _slope(num_few, few.core_s, num_more, longer.core_s), num_clips + num_more
    start = Spent(max(0.0, few.wall_s - num_few * each / options.workers), max(0.0, few.core_s - num_few * each))
    return FetchCost(each, start.on_idle_machine(), num_clips, *_sizes(Store(root, options.profile.folder)))


def _slope(num_few: int, few_s: float, num_some: int, some_s: float) -> float:
    """Seconds of one clip more. Where the longer run had no more clips or was no longer, its mean."""
    if num_some > num_few and some_s > few_s:
        return (some_s - few_s) / (num_some - num_few)
    return max(few_s, some_s) / max(num_few, num_some, 1)


def _sizes(store: Store) -> tuple[float, float, float]:
    """Of the stored clips: the mean size, its standard error, and what the tars add to each clip."""
    rows = store.best_rows(("clip_id", "size", "tar", "failure"))
    sizes = rows["size"].drop_null().to_pylist()
    if not sizes:
        return 0.0, 0.0, 0.0
    error = statistics.stdev(sizes) / math.sqrt(len(sizes)) if len(sizes) > 1 else 0.0
    packed = sum(_packed_bytes(Path(str(store.tar(name)))) for name in set(rows["tar"].drop_null().to_pylist()))
    return statistics.fmean(sizes), error, packed / len(sizes) - statistics.fmean(sizes)


def _packed_bytes(tar: Path) -> int:
    """The bytes of a tar's members with their headers, without its own end: that is one for hundreds of clips."""
    with tarfile.open(tar, "r:") as opened:
        return sum(
            member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE - member.offset
            for member in opened
        )


def made_up_clips(folder: Path, num_clips: int) -> tuple[Manifest, LocalOrigin]:
    """A manifest of `num_clips` val clips of Kinetics-400, and a folder of their files: two generated clips of ten
    seconds, 340x256, 30 fps, like those of the public archives, copied under many names."""
    names = [f"plan-{number:06d}" for number in range(num_clips)]
    (folder / "lists").mkdir(parents=True)
    rows = [f"{_LABELS[number % 2]},{name},0,{MADE_S},val" for number, name in enumerate(names)]
    text = "\n".join(["label,youtube_id,time_start,time_end,split", *rows]) + "\n"
    (folder / "lists" / "k400_val.csv").write_text(text, encoding="utf-8")
    recipe = CurationRecipe(("k400",), splits=("val",)).checked()
    manifest = build(recipe, find_lists(folder / "lists", ("k400",), ("val",)), folder / "manifest")
    clips = [Clip(name, 0, MADE_S, _LABELS[number], "val") for number, name in enumerate(names[:2])]
    drawn = list(write_footage(folder / "clips", clips, look=LOOKS["released"]).values())
    for number, name in enumerate(names[2:]):
        shutil.copyfile(drawn[number % 2], folder / "clips" / f"{Clip(name, 0, MADE_S, None).clip_id}.mp4")
    return manifest, LocalOrigin(folder / "clips")
