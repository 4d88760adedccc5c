"""What a view of a long video costs when the container seeks, against reading the whole file as a clip is read.

python benchmarks/long_videos.py [--minutes 1 5 30] [--rounds 7] [--results FILE]

Writes an H.264 video of each length (640x360, 25 frames/s, a key frame in 250). Both sides take turns on the same
random windows of 16 frames, 4 apart. Prints the median CPU time of a view, and of a look into the file. The numbers go
to `results/long_videos.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import torch
from model import machine

from k710.loading.decoders.decode import decode
from k710.loading.decoders.video_file import frames_at, probe
from k710.loading.sampling import FrameSampling
from k710.random_key import Ints, RandomKey

RESULTS = Path(__file__).resolve().parent / "results" / "long_videos.json"
FPS, WINDOW = 25, FrameSampling(16, "window", 4)


def write_video(path: Path, minutes: int) -> None:
    """A minute of ffmpeg's test picture, which has moving parts, and the same again."""
    minute = path.with_name("minute.mp4")
    source = f"-f lavfi -i testsrc2=size=640x360:rate={FPS}:duration=60"
    ffmpeg(f"{source} -c:v libx264 -preset ultrafast -g 250 -bf 2 -pix_fmt yuv420p", minute)
    ffmpeg(f"-stream_loop {minutes - 1} -i {minute} -c copy", path)


def ffmpeg(options: str, path: Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *options.split(), str(path)]
    subprocess.run(command, check=True)


def cpu_s(work: Callable[[], Any]) -> float:
    begin_s = time.process_time()
    work()
    return time.process_time() - begin_s


def read_whole(path: Path, frames: Ints) -> Any:
    return decode(path.read_bytes(), lambda num_frames: frames)


def measure(path: Path, rounds: int) -> dict[str, float]:
    """Median CPU seconds of a look into the file, and of a view by each way."""
    timing = probe(path)
    seconds: dict[str, list[float]] = {"look": [], "seeking": [], "whole": []}
    for number in range(rounds + 1):  # the first warms up
        wanted = WINDOW.train(timing.num_frames, RandomKey(0, number, path.name).draws("frames"))
        seconds["look"].append(cpu_s(partial(probe, path)))
        seconds["seeking"].append(cpu_s(partial(frames_at, path, timing, wanted)))
        seconds["whole"].append(cpu_s(partial(read_whole, path, wanted)))
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 5, 30])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in given.minutes:
            path = Path(folder) / f"{minutes}.mp4"
            write_video(path, minutes)
            found = measure(path, given.rounds)
            size_bytes = path.stat().st_size
            path.unlink()
            rows.append(
                {"minutes": minutes, "bytes": size_bytes, **{f"{name}_s": cost for name, cost in found.items()}}
            )
            print(
                f"{minutes} min, {size_bytes / 1e6:.0f} MB: a look {1e3 * found['look']:.1f} ms; a view by seeking "
                f"{1e3 * found['seeking']:.0f} ms, of the whole file {1e3 * found['whole']:.0f} ms "
                f"({found['whole'] / found['seeking']:.1f} times)"
            )
    result = {
        "what": "CPU seconds of a view of 16 frames from a long video, by seeking and of the whole file",
        "machine": machine(torch.device("cpu")),
        "rounds": given.rounds,
        "videos": rows,
    }
    given.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
