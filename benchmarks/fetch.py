"""Time `k710 fetch` against a bare pool of ffmpeg processes that do the same encodes; both sides in one run.

    python benchmarks/fetch.py [--clips 300] [--tiny-clips 10000] [--repetitions 3]

Both sides read the same generated clips (340x256, 30 fps, 10 s, one key frame in 250, as released) and encode them with
the very same ffmpeg commands, as many at a time as there are cores. The bare pool does nothing else; k710 is a whole
process that also probes, checks, hashes, packs and commits. Then the no-op rerun, and the peak memory of the run's own
process over many tiny clips. The numbers go to `results/fetch.json`. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from build import machine

from k710.fetch.encode.encode import encode_command
from k710.fetch.encode.ffmpeg_binary import ffmpeg_version
from k710.fetch.encode.profiles import read_profile
from k710.fetch.encode.source_file import part_of, probe
from k710.lists.clip_paths import clip_in_path
from k710.sample.footage import Clip, write_footage
from k710.sample.motions import LOOKS

RESULTS = Path(__file__).resolve().parent / "results" / "fetch.json"
DISTINCT = 12  # clips that are generated; the others are copies under other names
TARGETS = {"fetch over bare pool, clips/s": (0.95, "at least"), "no-op rerun over first run": (0.01, "at most")}


def write_lists(folder: Path, num_clips: int, span_s: int) -> list[str]:
    """A K400 train list of that many clips; returns their clip ids."""
    folder.mkdir(parents=True)
    ids = [f"bench-{number:05d}" for number in range(num_clips)]
    rows = [f"archery,{youtube_id},10,{10 + span_s},train" for youtube_id in ids]
    (folder / "k400_train.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]) + "\n")
    (folder / "k400_val.csv").write_text("label,youtube_id,time_start,time_end,split\narchery,bench-valid,0,10,val\n")
    return [f"{youtube_id}_000010_{10 + span_s:06d}" for youtube_id in ids]


def write_clips(folder: Path, clip_ids: list[str], look: str, span_s: int) -> None:
    """Generate a few distinct clips and copy them under all names."""
    models = [Clip(f"model-{number:05d}", 0, span_s, "archery") for number in range(DISTINCT)]
    made = list(write_footage(folder / "models", models, look=LOOKS[look]).values())
    clips = folder / "clips"
    clips.mkdir()
    for number, clip_id in enumerate(clip_ids):
        shutil.copyfile(made[number % len(made)], clips / f"{clip_id}.mp4")


def bare_pool(clips: Path, out: Path, workers: int) -> dict[str, float]:
    """What a pool of ffmpeg processes takes for the same encodes, wall and CPU. Its commands are made beforehand."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    profile, commands = read_profile("h264"), []
    for path in sorted(clips.glob("*.mp4")):
        name, source = clip_in_path(path.name), probe(path)
        assert name is not None
        assert name.span_s is not None
        part = part_of(source, name.span_s, named_span=True, spans=[name.span_s])
        commands.append(encode_command(source, part, profile, out / path.name))
    begin, cpu = time.perf_counter(), children_cpu_s()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda command: subprocess.run(command, check=True, capture_output=True), commands))
    return {"wall_s": time.perf_counter() - begin, "cpu_s": children_cpu_s() - cpu}


def children_cpu_s() -> float:
    """User and system time of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def fetch(manifest: Path, clips: Path, workers: int) -> dict[str, float]:
    """What a whole `k710 fetch` takes, and the peak memory of its own process."""
    command = [sys.executable, "-m", "k710", "fetch", manifest, "--from", f"local:{clips}", "--workers", str(workers)]
    begin, cpu = time.perf_counter(), children_cpu_s()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        peak = [0.0]
        watcher = threading.Thread(target=_watch, args=(process, peak))
        watcher.start()
        _, stderr = process.communicate()
        wall_s = time.perf_counter() - begin
        watcher.join()
    if process.returncode:
        raise RuntimeError(stderr.decode())
    return {"wall_s": wall_s, "cpu_s": children_cpu_s() - cpu, "peak_mib": peak[0]}


def _watch(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    """The highest VmHWM; a rusage would count the ffmpeg children in."""
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            if line.startswith("VmHWM"):
                peak[0] = max(peak[0], int(line.split()[1]) / 1024)
        time.sleep(0.05)


def build(lists: Path, out: Path) -> None:
    command = [sys.executable, "-m", "k710", "build", "--sources", "k400", "--annotations", lists, "--out", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure_rates(scratch: Path, num_clips: int, repetitions: int, workers: int) -> dict[str, Any]:
    ids = write_lists(scratch / "lists", num_clips, 10)
    write_clips(scratch, ids, "released", 10)
    build(scratch / "lists", scratch / "manifest")
    bare, ours, again = [], [], []
    for repetition in range(repetitions):
        sides = [
            lambda: bare.append(bare_pool(scratch / "clips", scratch / "bare", workers)),
            lambda: ours.append(_from_nothing(scratch, workers)),
        ]
        for side in sides if repetition % 2 == 0 else reversed(sides):  # neither always follows the other
            side()
        again.append(fetch(scratch / "manifest", scratch / "clips", workers))
    found = len(list((scratch / "bare").glob("*.mp4")))
    if found != num_clips:
        raise RuntimeError(f"the bare pool made {found} clips of {num_clips}")
    return {
        "clips": num_clips,
        "bare pool": _spread(bare),
        "k710 fetch": _spread(ours),
        "no-op rerun": _spread(again),
    }


def _from_nothing(scratch: Path, workers: int) -> dict[str, float]:
    shutil.rmtree(scratch / "manifest" / "store", ignore_errors=True)
    return fetch(scratch / "manifest", scratch / "clips", workers)


def measure_memory(scratch: Path, num_clips: int, workers: int) -> dict[str, Any]:
    """The peak memory of the run's process over a tenth of the tiny clips, and over all."""
    found = {}
    for count in (num_clips // 10, num_clips):
        folder = scratch / f"tiny-{count}"
        ids = write_lists(folder / "lists", count, 2)
        write_clips(folder, ids, "tiny", 2)
        build(folder / "lists", folder / "manifest")
        run = fetch(folder / "manifest", folder / "clips", workers)
        found[f"{count} clips"] = {name: round(value, 1) for name, value in run.items()}
        shutil.rmtree(folder)
    return found


def _spread(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median and extremes of wall clock and CPU."""
    found = {}
    for name in ("wall_s", "cpu_s"):
        values = [run[name] for run in runs]
        found[name] = {"median": round(statistics.median(values), 2), "min": round(min(values), 2)}
        found[name]["max"] = round(max(values), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time `k710 fetch` against a bare pool of ffmpeg processes.")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--tiny-clips", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        rates = measure_rates(Path(scratch), arguments.clips, arguments.repetitions, workers)
        memory = measure_memory(Path(scratch), arguments.tiny_clips, workers) if arguments.tiny_clips else {}
    bare, ours, again = (rates[side]["wall_s"]["median"] for side in ("bare pool", "k710 fetch", "no-op rerun"))
    ratios = {"fetch over bare pool, clips/s": bare / ours, "no-op rerun over first run": again / ours}
    cpu = rates["bare pool"]["cpu_s"]["median"] / rates["k710 fetch"]["cpu_s"]["median"]
    targets = {}
    for name, (limit, sense) in TARGETS.items():
        met = ratios[name] >= limit if sense == "at least" else ratios[name] <= limit
        targets[name] = {sense.replace(" ", "_"): limit, "measured": round(ratios[name], 4), "met": met}
    result = {
        "what": "k710 fetch (whole process) against a pool of ffmpeg processes with the same commands; medians",
        "footage": "generated, 340x256, 30 fps, 10 s, GOP 250, copied under many names",
        "workers": workers,
        "repetitions": arguments.repetitions,
        "machine": machine() | {"ffmpeg": ffmpeg_version()},
        **rates,
        "peak memory of the run's process": memory,
        "CPU of bare pool over CPU of fetch": round(cpu, 3),
        "targets": targets,
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in (*rates, "peak memory of the run's process", "targets")}, indent=1))


if __name__ == "__main__":
    main()
