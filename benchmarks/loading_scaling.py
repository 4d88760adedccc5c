"""Of loading.py: what two workers bring, whether threads and processes wait for one another, and what is read."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from loading_clips import Clips, in_batches
from loading_peers import PEERS, Batches

from k710.loading.batch import pack_clips
from k710.loading.dataset import ClipDataset
from k710.loading.order import Sample

_BATCH_SIZE = 4
_IO = Path("/proc/self/io")
WORKERS = {1: "1 worker", 2: "2 workers"}
GROUPS: dict[str, tuple[int, int]] = {"1 process": (1, 1), "2 processes": (2, 1), "2 threads": (1, 2)}

Opened = Callable[[int], Callable[[], Batches]]  # from a number of workers to passes over the clips


def workers_report(sides: dict[str, Opened], rounds: int) -> dict[str, Any]:
    """Clips/s of the wall clock with one and with two workers, and per CPU second of all processes together."""
    found: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for name, opened in sides.items():
            for num_workers in WORKERS:
                found[name][num_workers].append(_timed_pass(opened(num_workers)))
    report = {}
    for name, of in found.items():
        wall = {n: statistics.median(wall for wall, _ in each) for n, each in of.items()}
        cpu = {n: statistics.median(cpu for _, cpu in each) for n, each in of.items()}
        report[name] = {
            "clips/s": {WORKERS[n]: round(rate, 1) for n, rate in wall.items()},
            "clips per CPU second": {WORKERS[n]: round(rate, 1) for n, rate in cpu.items()},
            "times as fast with 2": round(wall[2] / wall[1], 2),
        }
    return report


def _timed_pass(passes: Callable[[], Batches]) -> tuple[float, float]:
    sum(len(ids) for ids, _ in passes())  # starts the workers
    begin, begin_cpu = time.perf_counter(), _cpu_s()
    done = sum(len(ids) for ids, _ in passes())
    return done / (time.perf_counter() - begin), done / (_cpu_s() - begin_cpu)


def _cpu_s() -> float:
    """CPU time of this process and of its children that live."""
    ticks = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def worker_sides(clips: dict[str, Clips], peers: list[str]) -> dict[str, Opened]:
    """k710's loader on each kind of files, and the peers on the same `h264` files."""
    sides: dict[str, Opened] = {f"k710, {kind}": _ours(of) for kind, of in clips.items()}
    shown = clips["h264"].shown(1)

    def theirs(name: str) -> Opened:
        def opened(num_workers: int) -> Callable[[], Batches]:
            session = PEERS[name].open(_BATCH_SIZE, num_workers, clips["h264"].shards)
            return lambda: session(shown)

        return opened

    return sides | {f"{name}, h264": theirs(name) for name in peers}


def _ours(clips: Clips) -> Opened:
    return lambda num_workers: in_batches(clips, _BATCH_SIZE, num_workers)


def groups_report(clips: dict[str, Clips], rounds: int, seconds: float) -> dict[str, Any]:
    """Reading, decoding and packing by one process, by two, and by two threads of one, at the same time.

    Clips/s are of the wall clock, less the time in which a thread was ready and other work had the core. `waiting`: the
    share of that time in which threads were not ready, because of a lock; `waits per clip`: how often that began.
    """
    measured: dict[str, dict[str, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for kind, of in clips.items():
            for name, (num_processes, num_threads) in GROUPS.items():
                measured[kind][name].append(_group(of, num_processes, num_threads, seconds))
    report: dict[str, Any] = {}
    for kind, by_name in measured.items():
        rate, waiting, waits = (
            {name: statistics.median(one[place] for one in each) for name, each in by_name.items()}
            for place in range(3)
        )
        report[kind] = {
            "clips/s": {name: round(value, 1) for name, value in rate.items()},
            "waiting": {name: round(value, 3) for name, value in waiting.items()},
            "waits per clip": {name: round(value, 2) for name, value in waits.items()},
            "2 threads / 2 processes": round(rate["2 threads"] / rate["2 processes"], 3),
            "2 processes / twice 1 process": round(rate["2 processes"] / (2 * rate["1 process"]), 3),
        }
    return report


class Worked(NamedTuple):
    """What one thread did: clips, seconds less those in which other work had the core, and of these, on a core."""

    num_clips: int
    own_s: float
    cpu_s: float
    num_waits: int


class Group(NamedTuple):
    rate: float
    waiting: float
    waits_per_clip: float


def _group(clips: Clips, num_processes: int, num_threads: int, seconds: float) -> Group:
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(num_processes), context.Queue()
    cores = sorted(os.sched_getaffinity(0))
    children = []
    for number in range(num_processes):
        allowed = {cores[number]} if num_threads == 1 else set(cores)
        children.append(context.Process(target=_work, args=(clips, num_threads, allowed, start, seconds, results)))
        children[-1].start()
    worked = [one for _ in children for one in _result(results, children)]
    for child in children:
        child.join()
    own_s = sum(one.own_s for one in worked)
    return Group(
        rate=sum(one.num_clips / one.own_s for one in worked),
        waiting=1 - sum(one.cpu_s for one in worked) / own_s,
        waits_per_clip=sum(one.num_waits for one in worked) / sum(one.num_clips for one in worked),
    )


def _result(results: Any, children: Sequence[BaseProcess]) -> list[Worked]:
    """What the next process did. Raises RuntimeError where one has failed: the others would wait for it for ever."""
    while True:
        try:
            worked: list[Worked] = results.get(timeout=1)
            return worked
        except queue.Empty:
            if any(child.exitcode for child in children):
                for child in children:
                    child.terminate()
                raise RuntimeError("a process that loads clips failed; its message is above") from None


def _work(clips: Clips, num_threads: int, cores: set[int], start: Any, seconds: float, results: Any) -> None:
    """In a process of its own; each thread has a dataset of its own."""
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(1)
    datasets = [pickle.loads(pickle.dumps(clips.dataset)) for _ in range(num_threads)]
    for dataset in datasets:
        pack_clips(dataset.load([Sample(0, 0)]), 1)  # opens its files
    start.wait()
    with ThreadPoolExecutor(num_threads) as threads:
        results.put(list(threads.map(partial(_load, seconds=seconds), datasets)))


def _load(dataset: ClipDataset, seconds: float) -> Worked:
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_THREAD)
    cpu_s, ready_s = _thread_times()
    num_clips = 0
    while time.perf_counter() - begin < seconds:
        epoch, clip = divmod(num_clips, len(dataset))
        pack_clips(dataset.load([Sample(clip, epoch)]), 1)
        num_clips += 1
    after, (cpu_after_s, ready_after_s) = resource.getrusage(resource.RUSAGE_THREAD), _thread_times()
    own_s = time.perf_counter() - begin - (ready_after_s - ready_s)
    return Worked(num_clips, own_s, cpu_after_s - cpu_s, after.ru_nvcsw - before.ru_nvcsw)


def _thread_times() -> tuple[float, float]:
    """Seconds in which this thread was on a core, and in which it was ready for one."""
    on_core, ready, _ = Path("/proc/thread-self/schedstat").read_text().split()
    return int(on_core) / 1e9, int(ready) / 1e9


def reads_report(do: Callable[[], int]) -> dict[str, float]:
    """What this process asked the system to read in one pass over the clips: bytes and requests, a clip's share.

    Pages of mapped files do not count. Empty where the system does not
    count.
    """
    if not _IO.exists():
        return {}
    do()
    before = _io()
    num_clips = do()
    read, requests = (after - earlier for after, earlier in zip(_io(), before, strict=True))
    return {"KiB read per clip": round(read / num_clips / 1024, 1), "reads per clip": round(requests / num_clips, 1)}


def _io() -> tuple[int, int]:
    lines = dict(line.split(": ") for line in _IO.read_text().splitlines())
    return int(lines["rchar"]), int(lines["syscr"])
