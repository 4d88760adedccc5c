"""A small experiment: three releases in miniature, with overlap and leaks, and footage whose motion is the class.

`python -m k710.sample.experiment FOLDER` writes FOLDER/lists (annotation lists in the format of the releases) and
FOLDER/clips (a file for each clip). The sample of `k710.sample` has too few clips to learn from. This experiment has
enough for a tiny model to learn the motions, not only the clips.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path

import click

from k710.lists.labels import Alignment, class_names, k710_classes_of
from k710.sample.footage import Clip, write_footage
from k710.sample.generate import CLASSES
from k710.sample.motions import LOOKS
from k710.storage.storage import replacing
from k710.text import counted

RELEASES = ("k400", "k600", "k700")
SPAN_S = 2  # 16 frames of the tiny look: one cycle of each motion


def membership(number: int) -> dict[str, str]:
    """The split of a class's `number`-th video in each release that has it.

    Every second video is in k400, seven of ten are in k600, and all in k700. One in five is a val video. A third of the
    val videos leak: the newest release has them in train, as it has a third of the real k400 val.
    """
    releases = {"k400": number % 2 == 0, "k600": number % 10 < 7, "k700": True}
    split = "val" if number % 5 == 4 else "train"
    leaks = number % 15 == 14
    return {release: "train" if leaks and release == "k700" else split for release, is_in in releases.items() if is_in}


def experiment_clips(release: str, clips_per_class: int) -> Iterator[Clip]:
    """The clips of one release with its own class names; none for a class that it lacks."""
    indices = k710_classes_of(release)
    names = dict(zip(indices, class_names(release), strict=True))
    alignment = Alignment()
    for number, label in enumerate(CLASSES):
        index = alignment.find(label)
        if index not in names:
            continue
        for video in range(clips_per_class):
            split = membership(video).get(release)
            if split:
                start_s = 3 * (video % 7)
                yield Clip(f"mini{number}-{video:05d}", start_s, start_s + SPAN_S, names[index], split)


def write_lists(folder: Path, clips_per_class: int) -> None:
    """Write the train and val list of each release into `folder`, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    for release in RELEASES:
        clips = list(experiment_clips(release, clips_per_class))
        for split in ("train", "val"):
            with replacing(folder / f"{release}_{split}.csv") as file:
                file.write(_csv(clip for clip in clips if clip.split == split).encode())


def write_experiment(
    folder: Path, *, clips_per_class: int = 60, look: str = "tiny", seed: int = 0, num_workers: int = 2
) -> int:
    """Write lists and footage into `folder`, which is created. Returns the number of clip files.

    `look` is a key of LOOKS. The same arguments give the same lists and frames on every machine.
    """
    write_lists(folder / "lists", clips_per_class)
    clips = {clip.clip_id: clip for release in RELEASES for clip in experiment_clips(release, clips_per_class)}
    return len(write_footage(folder / "clips", clips.values(), look=LOOKS[look], seed=seed, num_workers=num_workers))


def _csv(clips: Iterator[Clip]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
    for clip in clips:
        writer.writerow((clip.label, clip.youtube_id, clip.time_start_s, clip.time_end_s, clip.split))
    return text.getvalue()


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--clips-per-class", default=60, show_default=True, help="Videos of each of the ten classes.")
@click.option("--look", type=click.Choice(list(LOOKS)), default="tiny", show_default=True, help="Of the footage.")
@click.option("--seed", default=0, show_default=True, help="Seed of the footage; the lists do not depend on it.")
def main(folder: Path, clips_per_class: int, look: str, seed: int) -> None:
    """Write the lists and the footage of the experiment into FOLDER."""
    begin_s = time.perf_counter()
    count = write_experiment(folder, clips_per_class=clips_per_class, look=look, seed=seed)
    click.echo(
        f"{counted(count, 'clip')} in {folder}/clips, lists in {folder}/lists, in {time.perf_counter() - begin_s:.1f} s"
    )


if __name__ == "__main__":
    main()
