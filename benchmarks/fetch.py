"""Time `k710 fetch` against a bare pool of ffmpeg processes that do the same encodes; both sides in one run.

    python benchmarks/fetch.py [--clips 250] [--repetitions 2] [--one-more] [--tiny-clips 10000] [--table]

All sides read the same generated clips (340x256, 30 fps, 10 s, one key frame in 250, as released) and encode them with
the very same ffmpeg commands. The bare pool does nothing else: its commands are made beforehand. It runs one ffmpeg per
core; with --one-more there is a second such pool, with one more, as many as k710 has. k710 is a whole process that also
probes, checks, hashes, packs and commits. Then the no-op rerun, and a run that is watched: where in it do cores have
nothing to do? With --tiny-clips, the peak memory of the run's own process over many tiny clips; without it the file
keeps what was measured before. The numbers go to `results/fetch.json`. Linux only (/proc).
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from build import busy_sentence, machine, other_cores
from core_use import idle, watched

from k710.fetch.encode.encode import encode_command
from k710.fetch.encode.ffmpeg_binary import ffmpeg_version
from k710.fetch.encode.profiles import read_profile
from k710.fetch.encode.source_file import part_of, probe
from k710.lists.clip_paths import clip_in_path
from k710.sample.footage import Clip, write_footage
from k710.sample.motions import LOOKS

RESULTS = Path(__file__).resolve().parent / "results" / "fetch.json"
DISTINCT = 12  # clips that are generated, at most; the others are copies under other names
WATCHED_CLIPS = 60
MEMORY = "peak memory of the run's process"
TARGETS = {
    "fetch over bare pool, clips/s": (0.98, "at least"),
    "no-op rerun, s": (0.4, "at most"),
    "idle core-seconds at the start": (0.7, "at most"),
    "idle core-seconds at the end": (0.7, "at most"),
}


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
    models = [Clip(f"model-{number:05d}", 0, span_s, "archery") for number in range(min(DISTINCT, len(clip_ids)))]
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


def command_of(manifest: Path, clips: Path) -> list[Any]:
    return [sys.executable, "-m", "k710", "fetch", manifest, "--from", f"local:{clips}"]


def fetch(manifest: Path, clips: Path) -> dict[str, float]:
    """What a whole `k710 fetch` takes, and the peak memory of its own process."""
    command = command_of(manifest, clips)
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


def measure_rates(scratch: Path, num_clips: int, repetitions: int, pools: dict[str, int]) -> dict[str, Any]:
    ids = write_lists(scratch / "lists", num_clips, 10)
    write_clips(scratch, ids, "released", 10)
    build(scratch / "lists", scratch / "manifest")
    sides: dict[str, Callable[[], dict[str, float]]] = {
        name: partial(bare_pool, scratch / "clips", scratch / "bare", workers) for name, workers in pools.items()
    }
    sides["k710 fetch"] = partial(_from_nothing, scratch)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in (*sides, "no-op rerun")}
    for repetition in range(repetitions):
        names = list(sides)
        for name in names if repetition % 2 == 0 else reversed(names):  # none always follows the same
            runs[name].append(sides[name]())
        runs["no-op rerun"].append(fetch(scratch / "manifest", scratch / "clips"))
    found = len(list((scratch / "bare").glob("*.mp4")))
    if found != num_clips:
        raise RuntimeError(f"the bare pool made {found} clips of {num_clips}")
    return {"clips": num_clips, **{name: _spread(each) for name, each in runs.items()}}


def _from_nothing(scratch: Path) -> dict[str, float]:
    shutil.rmtree(scratch / "manifest" / "store", ignore_errors=True)
    return fetch(scratch / "manifest", scratch / "clips")


def measure_idle(scratch: Path, num_clips: int, cores: int) -> dict[str, Any]:
    """Where a run of so many clips leaves cores without work."""
    shutil.rmtree(scratch / "manifest" / "store")
    command = [*command_of(scratch / "manifest", scratch / "clips"), "--limit", str(num_clips)]
    return {"clips": num_clips, **idle(watched(command), cores)}


def measure_memory(scratch: Path, num_clips: int) -> dict[str, Any]:
    """The peak memory of the run's process over a tenth of the tiny clips, and over all."""
    found = {}
    for count in (num_clips // 10, num_clips):
        folder = scratch / f"tiny-{count}"
        ids = write_lists(folder / "lists", count, 2)
        write_clips(folder, ids, "tiny", 2)
        build(folder / "lists", folder / "manifest")
        run = fetch(folder / "manifest", folder / "clips")
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


def targets_of(rates: dict[str, Any], idle_cores: dict[str, Any]) -> dict[str, Any]:
    measured = {
        "fetch over bare pool, clips/s": _median(rates, "bare pool") / _median(rates, "k710 fetch"),
        "no-op rerun, s": _median(rates, "no-op rerun"),
        "idle core-seconds at the start": idle_cores["start"]["idle_core_s"],
        "idle core-seconds at the end": idle_cores["end"]["idle_core_s"],
    }
    found = {}
    for name, (limit, sense) in TARGETS.items():
        met = measured[name] >= limit if sense == "at least" else measured[name] <= limit
        found[name] = {sense.replace(" ", "_"): limit, "measured": round(measured[name], 3), "met": met}
    return found


def _median(rates: dict[str, Any], side: str, what: str = "wall_s") -> float:
    return float(rates[side][what]["median"])


def table(result: dict[str, Any]) -> str:
    """The sides beside each other, in Markdown; the ratio is that of the pool with one ffmpeg per core to k710."""
    sides = [name for name in ("bare pool", "bare pool, one more", "k710 fetch") if name in result]
    lines = [_row(("median (lowest to highest)", *sides, "ratio")), _row(("---", *["---:"] * (len(sides) + 1)))]
    for what, title in (("wall_s", "wall clock, s"), ("cpu_s", "CPU, s")):
        cells = ["{median:.1f} ({min:.1f} to {max:.1f})".format(**result[side][what]) for side in sides]
        ratio = _median(result, "bare pool", what) / _median(result, "k710 fetch", what)
        lines.append(_row((title, *cells, f"{ratio:.2f}")))
    return "\n".join(lines) + "\n" + busy_note(result)


def busy_note(result: dict[str, Any]) -> str:
    """A sentence below the table where other work had the cores."""
    return busy_sentence(result.get("cores of other work before", 0.0))


def idle_table(result: dict[str, Any]) -> str:
    """Where a watched run left cores without work, in Markdown."""
    lines = [_row(("part of a run", "lasts, s", "idle core-seconds")), "| --- | ---: | ---: |"]
    titles = {"start": "until each core has an ffmpeg", "middle": "from then on", "end": "after the last such moment"}
    for part, title in titles.items():
        found = result["idle cores"][part]
        lines.append(_row((title, f"{found['s']:.1f}", f"{found['idle_core_s']:.1f}")))
    return "\n".join(lines) + "\n"


def targets_table(result: dict[str, Any]) -> str:
    """The targets, what was measured, and whether it is enough, in Markdown."""
    lines = [_row(("target", "measured", "")), "| --- | ---: | --- |"]
    for name, found in result["targets"].items():
        sense = next(key for key in ("at_least", "at_most") if key in found)
        wanted = f"{name}: {sense.replace('_', ' ')} {found[sense]:g}"
        lines.append(_row((wanted, f"{found['measured']:.2f}", "met" if found["met"] else "missed")))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time `k710 fetch` against a bare pool of ffmpeg processes.")
    parser.add_argument("--clips", type=int, default=250)
    parser.add_argument("--tiny-clips", type=int, default=0, help="measure the peak memory too; 10,000 take 5 minutes")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--one-more", action="store_true", help="a second bare pool, with one ffmpeg more than cores")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    parser.add_argument("--table", action="store_true", help="measure nothing; print the tables of the results")
    given = parser.parse_args()
    if given.table:
        result = json.loads(given.results.read_text(encoding="utf-8"))
        print("\n".join(make(result) for make in (table, idle_table, targets_table)))
        return
    cores = os.cpu_count() or 1
    before = json.loads(given.results.read_text(encoding="utf-8")) if given.results.exists() else {}
    others = other_cores()
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        pools = {"bare pool": cores} | ({"bare pool, one more": cores + 1} if given.one_more else {})
        rates = measure_rates(Path(scratch), given.clips, given.repetitions, pools)
        idle_cores = measure_idle(Path(scratch), min(WATCHED_CLIPS, given.clips), cores)
        memory = measure_memory(Path(scratch), given.tiny_clips) if given.tiny_clips else before.get(MEMORY, {})
    result = {
        "what": "k710 fetch (whole process) against a pool of ffmpeg processes with the same commands; medians",
        "footage": "generated, 340x256, 30 fps, 10 s, GOP 250, copied under many names",
        "cores": cores,
        "repetitions": given.repetitions,
        "cores of other work before": others,
        "machine": machine() | {"ffmpeg": ffmpeg_version()},
        **rates,
        "idle cores": idle_cores,
        MEMORY: memory,
        "CPU of bare pool over CPU of fetch": round(
            _median(rates, "bare pool", "cpu_s") / _median(rates, "k710 fetch", "cpu_s"), 3
        ),
        "targets": targets_of(rates, idle_cores),
    }
    if memory and not given.tiny_clips:
        result["note"] = "peak memory was measured in an earlier run of its own"
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(make(result) for make in (table, idle_table, targets_table)))


if __name__ == "__main__":
    main()
