"""Which copies `k710 near-duplicates` finds, and what it takes for copies that is none, by threshold.

    python benchmarks/near_duplicate_recall.py [--videos 40] [--strangers 1400]

Videos are generated: fractal landscapes with things that move (k710.sample.textures), and a few of ffmpeg's own
sources. Of each the original and every copy of k710.sample.copies.COPIES, some shifted at random, are encoded, decoded
and hashed as clips of ten seconds, and all are compared with all, by the very functions of the command. Recall: of the
copies of one kind, how many are found as a copy of their original. Negatives are reported apart: clips of other videos;
clips of one class of the sample, which show the same motion before another scene; clips that share their scene and
differ in what happens in it, which no one should take for negatives lightly. The numbers go to
`results/near_duplicate_recall.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from build import machine

from k710.fetch.encode.ffmpeg_binary import ffmpeg_binary
from k710.loading.decoders.decode import decode
from k710.near_duplicates.align import matches
from k710.near_duplicates.candidates import candidates
from k710.near_duplicates.find import DEFAULT_THRESHOLD_BITS
from k710.near_duplicates.frames import STEP_S, hashed_frames
from k710.near_duplicates.groups import best_of_each
from k710.near_duplicates.hash_clip import VARIANTS, ClipHashes, hash_clip
from k710.near_duplicates.hashed_clips import HashedClips
from k710.sample.copies import COPIES, Copy
from k710.sample.footage import encode_video
from k710.sample.motions import LOOKS, MOTIONS, Frame, Look, motion_frames
from k710.sample.textures import textured_frames

RESULTS = Path(__file__).resolve().parent / "results" / "near_duplicate_recall.json"
LOOK = Look(320, 240, 15, noise=0)
SPAN_S = 10
LONGEST_S = 16  # a clip and the longest shift
THRESHOLDS = (16, 24, 31, 40, 48)
FFMPEG_SOURCES = (
    # Places far apart: near ones would be the same video twice.
    "mandelbrot=size=320x240:rate=15:start_x=-0.{n}5:start_y=-0.{n}:start_scale=0.9:end_scale=0.01:end_pts=400",
    "life=size=320x240:rate=15:mold=10:ratio=0.2:seed={n}:death_color=#C83232:life_color=#00ff00",
    "sierpinski=size=320x240:rate=15:seed={n}:type=carpet",
)


class Hashed(NamedTuple):
    """A clip: which video it shows, in what kind of copy (empty: the original), its hashes, and the true shift."""

    video: str
    kind: str
    hashes: ClipHashes
    shift_s: float = 0.0


def copies(rng: np.random.Generator) -> dict[str, Copy]:
    """The copies of one video: those of the sample, and shifted ones whose shift is drawn."""

    def drawn() -> float:
        return float(rng.integers(LOOK.fps, 5 * LOOK.fps, endpoint=True)) / LOOK.fps

    return COPIES | {
        "shifted by 1 to 5 s": Copy(shift_s=drawn()),
        "shifted by 1 to 5 s, crf 40": Copy(shift_s=drawn(), crf=40),
        "shifted by 1 to 5 s, mirrored": dataclasses.replace(COPIES["mirrored"], shift_s=drawn()),
        "shifted by 1 to 5 s, cropped": dataclasses.replace(COPIES["cropped by 10 %"], shift_s=drawn()),
    }


def hashed(frames: Iterable[Frame], look: Look) -> ClipHashes:
    """What the command makes of a clip of these frames, which is encoded first."""
    video = encode_video(frames, look)
    return hash_clip(decode(video, lambda num_frames: hashed_frames(num_frames, num_frames / look.fps)))


def planted(number: int) -> list[Hashed]:
    """A video and its copies; one in eight is of ffmpeg."""
    span, longest = (seconds * LOOK.fps for seconds in (SPAN_S, LONGEST_S))
    if number % 8 == 7:
        source = FFMPEG_SOURCES[number // 8 % len(FFMPEG_SOURCES)].format(n=number)
        video = list(ffmpeg_frames(source, longest))
    else:
        video = list(textured_frames(f"video {number}", longest, LOOK))
    clips = [Hashed(f"video {number}", "", hashed(video[:span], LOOK))]
    for kind, copy in copies(np.random.default_rng(number)).items():
        look, first = copy.look(LOOK), round(copy.shift_s * LOOK.fps)
        copied = hashed(copy.frames(video[first : first + span], look), look)
        clips.append(Hashed(f"video {number}", kind, copied, first / LOOK.fps))
    print(f"video {number}", flush=True)
    return clips


def ffmpeg_frames(source: str, num_frames: int) -> Iterator[Frame]:
    """The first frames of one of ffmpeg's own sources, at LOOK's size."""
    command = [ffmpeg_binary(), "-v", "error", "-f", "lavfi", "-i", source, "-frames:v", str(num_frames)]
    made = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True)
    yield from np.frombuffer(made.stdout, np.uint8).reshape(-1, LOOK.height_px, LOOK.width_px, 3)


def stranger(number: int) -> Hashed:
    """The original of another video, for the negatives: what is hashed of it, never encoded."""
    look = dataclasses.replace(LOOK, fps=round(1 / STEP_S))
    frames = textured_frames(f"stranger {number}", SPAN_S * look.fps, look)
    return Hashed(f"stranger {number}", "", hash_clip(np.stack(list(frames))))


def scene_alikes(per_class: int) -> Iterator[Hashed]:
    """Clips of the sample's classes: the same motion, another scene and shape each time."""
    look = LOOKS["quick"]
    for label, number in itertools.product(MOTIONS, range(per_class)):
        name = f"{label[:3]}-{number:07d}"
        yield Hashed(name, label, hashed(motion_frames(label, name, SPAN_S * look.fps, look, seed=number), look))


def same_scenes(scenes: int) -> Iterator[Hashed]:
    """Clips that share their scene, five to one, each with another motion in it."""
    look = LOOKS["quick"]
    for number, label in itertools.product(range(scenes), list(MOTIONS)[:5]):
        frames = motion_frames(label, f"scene-{number:05d}", SPAN_S * look.fps, look, seed=7)
        yield Hashed(f"{label}, scene {number}", f"scene {number}", hashed(frames, look))


def pairs_of(clips: list[Hashed], max_bits: int) -> dict[tuple[int, int], float]:
    """The pairs of clips that are found, one below the other, with the shift from the first to the second."""
    column = {
        name: pa.chunked_array([pa.array([getattr(clip.hashes, name).tobytes() for clip in clips], pa.large_binary())])
        for name in ClipHashes._fields
    }
    numbers = np.arange(len(clips), dtype=np.int32)
    together = HashedClips(pa.array([str(number) for number in numbers]), numbers, column.__getitem__)
    index, found = together.frames(VARIANTS[0]), []
    for variant in VARIANTS:
        queries = index.even_steps() if variant == VARIANTS[0] else together.frames(variant)
        both = variant.startswith("cropped")
        near = candidates(queries, index, numbers, max_bits=max_bits, both_ways=both)
        found += matches(near, queries, index, variant=variant, max_bits=max_bits)
    return {(match.clip, match.other): match.shift_s for match in best_of_each(found)}


def recall(clips: list[Hashed], found: dict[tuple[int, int], float]) -> dict[str, Any]:
    """For each kind of copy how many there are, how many are found with their original, and of those how many at the
    right shift, within a step; and pairs of other videos."""
    original = {clip.video: number for number, clip in enumerate(clips) if not clip.kind}
    kinds: dict[str, Counter[str]] = {}
    for number, clip in enumerate(clips):
        if clip.kind:
            counts, pair = kinds.setdefault(clip.kind, Counter()), (original[clip.video], number)
            counts["copies"] += 1
            counts["found"] += pair in found
            # What the original shows at a time, a copy that begins later shows earlier.
            counts["right shift"] += pair in found and abs(found[pair] + clip.shift_s) <= STEP_S
    wrong = sum(clips[one].video != clips[other].video for one, other in found)
    return {"copies": {kind: dict(counts) for kind, counts in kinds.items()}, "pairs of other videos": wrong}


def strange_pairs(clips: list[Hashed], related: Callable[[Hashed, Hashed], bool]) -> int:
    """How many pairs of clips there are that are not of one video, and `related`."""
    two = itertools.combinations(clips, 2)
    return sum(one.video != other.video and related(one, other) for one, other in two)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--strangers", type=int, default=1400)
    parser.add_argument("--per-class", type=int, default=12)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    begin_s = time.perf_counter()
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        all_clips = list(itertools.chain.from_iterable(pool.map(planted, range(options.videos))))
        others = list(pool.map(stranger, range(options.strangers), chunksize=20))
    alike = list(scene_alikes(options.per_class))
    scenes = list(same_scenes(options.per_class))
    one_class = strange_pairs(alike, lambda one, other: one.kind == other.kind)
    one_scene = strange_pairs(scenes, lambda one, other: one.kind == other.kind)
    of_video = Counter(clip.video for clip in [*all_clips, *others])
    total = len(all_clips) + len(others)
    strange = total * (total - 1) // 2 - sum(count * (count - 1) // 2 for count in of_video.values())
    rows = {}
    for bits in THRESHOLDS:
        result = recall([*all_clips, *others], pairs_of([*all_clips, *others], bits))
        wrong = result.pop("pairs of other videos")
        found_alike, found_scene = pairs_of(alike, bits), pairs_of(scenes, bits)
        result["negatives"] = {
            "other videos": {"pairs": strange, "found": wrong, "per million": round(wrong / strange * 1e6, 2)},
            "one class, other scene": {
                "pairs": one_class,
                "found": sum(alike[one].kind == alike[other].kind for one, other in found_alike),
            },
            "one scene, other motion": {
                "pairs": one_scene,
                "found": sum(scenes[one].kind == scenes[other].kind for one, other in found_scene),
            },
        }
        rows[bits] = result
    took = round(time.perf_counter() - begin_s)
    about = {"machine": machine(), "took_s": took, "default_threshold_bits": DEFAULT_THRESHOLD_BITS}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps({**about, "thresholds": rows}, indent=1) + "\n")
    print(table(rows))


def table(rows: dict[int, dict[str, Any]]) -> str:
    """The recall by kind and threshold, as Markdown, and the negatives below."""
    lines = ["| copy | " + " | ".join(f"{bits} bits" for bits in rows) + " |"]
    lines.append("|---|" + "---:|" * len(rows))
    for kind in next(iter(rows.values()))["copies"]:
        cells = [row["copies"][kind] for row in rows.values()]
        lines.append(f"| {kind} | " + " | ".join(f"{cell['found']} of {cell['copies']}" for cell in cells) + " |")
    for name in next(iter(rows.values()))["negatives"]:
        cells = [row["negatives"][name] for row in rows.values()]
        said = " | ".join(f"{cell['found']} of {cell['pairs']:,}" for cell in cells)
        lines.append(f"| *not copies:* {name} | {said} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
