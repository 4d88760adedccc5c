"""What encode profiles cost and give: bytes per clip, clips/s to encode, clips/s to decode eight frames, PSNR.

    python benchmarks/profiles.py [FOLDER_OF_CLIPS] [--repetitions 3]

All profiles encode the same clips: those of a folder, or generated ones (340x256, 30 fps, 10 s, one key frame in 250,
as released). Rates are per second of CPU. PSNR (luma) is against the clip itself, at the clip's size. The source as it
is stands beside. The numbers go to `results/profiles.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import resource
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import av
from build import machine

from k710.fetch.encode.encode import encode
from k710.fetch.encode.ffmpeg_binary import ffmpeg_binary, ffmpeg_version
from k710.fetch.encode.profiles import Profile, read_profile
from k710.fetch.encode.source_file import Part, probe
from k710.sample.footage import Clip, write_footage
from k710.sample.generate import CLASSES
from k710.sample.motions import LOOKS

RESULTS = Path(__file__).resolve().parent / "results" / "profiles.json"
NUM_CLIPS = 10
VARIANTS: dict[str, dict[str, Any]] = {
    "h264": {},
    "h264, gop 8": {"gop_frames": 8},
    "h264-gop8": {"gop_frames": 8, "ip_ratio": 1.0},
    "h264, gop 32": {"gop_frames": 32},
    "h264, gop 250, 3 b-frames, tune none": {"gop_frames": 250, "b_frames": 3, "tune": "none"},
    "h264, crf 20": {"crf": 20},
    "h264, crf 26": {"crf": 26},
    "h264, superfast": {"preset": "superfast"},
    "h264, fast": {"preset": "fast"},
    "h264, short side 224": {"short_side_px": 224},
}


def eight_frames(path: Path) -> None:
    """The middle frames of eight equal segments, in one pass: seek to the key frame before each, decode on to it."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.thread_type = "NONE"
        assert stream.duration is not None
        for segment in range(8):
            wanted = int(stream.duration * (segment + 0.5) / 8)
            file.seek(wanted, stream=stream)
            for frame in file.decode(stream):
                if frame.pts is not None and frame.pts >= wanted:
                    frame.to_ndarray(format="rgb24")
                    break


def psnr_db(encoded: Path, source: Path) -> float:
    size = probe(source)
    graph = f"[0:v]scale={size.width_px}:{size.height_px}:flags=bicubic[a];[a][1:v]psnr"
    command = [
        ffmpeg_binary(),
        "-nostdin",
        "-hide_banner",
        "-i",
        encoded,
        "-i",
        source,
        "-lavfi",
        graph,
        "-f",
        "null",
        "-",
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found = re.search(r"PSNR y:([0-9.]+|inf)", said)
    assert found is not None, said
    return float(found[1])


def cpu_s() -> float:
    """CPU time of this process and of those that it started: other work on the machine does not count."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def measure(clips: list[Path], profile: Profile | None, out: Path, repetitions: int) -> dict[str, float]:
    """One profile over all clips; `None`: the clips as they are."""
    made, encode_s = clips, []
    if profile is not None:
        made = [out / clip.name for clip in clips]
        for _ in range(repetitions):
            begin = cpu_s()
            for clip, path in zip(clips, made, strict=True):
                source = probe(clip)
                encode(source, Part(None, source.duration_s, whole=True), profile, path, limit_s=300)
            encode_s.append(cpu_s() - begin)
    decode_s = []
    for _ in range(repetitions):
        begin = cpu_s()
        for path in made:
            eight_frames(path)
        decode_s.append(cpu_s() - begin)
    row = {
        "bytes per clip": round(statistics.mean(path.stat().st_size for path in made)),
        "decode 8 frames, clips/s": round(len(clips) / statistics.median(decode_s), 1),
    }
    if profile is not None:
        row["encode, clips/s"] = round(len(clips) / statistics.median(encode_s), 2)
        row["PSNR, dB"] = round(statistics.mean(psnr_db(path, clip) for path, clip in zip(made, clips, strict=True)), 1)
    return row


def table(result: dict[str, Any]) -> str:
    """The profiles as Markdown, for docs/fetch.md."""
    columns = {
        "bytes a clip": ("bytes per clip", ",.0f"),
        "encode, clips/s": ("encode, clips/s", ".2f"),
        "decode 8 frames, clips/s": ("decode 8 frames, clips/s", ".1f"),
        "PSNR, dB": ("PSNR, dB", ".1f"),
    }
    lines = [f"| settings | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, row in result["profiles"].items():
        cells = [format(row[key], form) if key in row else "" for key, form in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What encode profiles cost and give.")
    parser.add_argument("clips", nargs="?", type=Path, help="folder of clips; generated if not given")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        if arguments.clips is None:
            wanted = [Clip(f"bench-{number:05d}", 0, 10, CLASSES[number]) for number in range(NUM_CLIPS)]
            clips = list(write_footage(Path(scratch) / "clips", wanted, look=LOOKS["released"]).values())
        else:
            clips = sorted(arguments.clips.glob("*.mp4"))
        out = Path(scratch) / "out"
        out.mkdir()
        rows = {"as released": measure(clips, None, out, arguments.repetitions)}
        for name, changes in VARIANTS.items():
            profile = dataclasses.replace(read_profile("h264"), **changes)
            rows[name] = measure(clips, profile, out, arguments.repetitions)
            print(name, rows[name], flush=True)
    result = {
        "what": "encode profiles over the same clips, per second of CPU, medians of the repetitions",
        "clips": "a folder of the user's" if arguments.clips else "generated, 340x256, 30 fps, 10 s, GOP 250",
        "num_clips": len(clips),
        "repetitions": arguments.repetitions,
        "machine": machine() | {"ffmpeg": ffmpeg_version(), "av": av.__version__},
        "profiles": rows,
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
