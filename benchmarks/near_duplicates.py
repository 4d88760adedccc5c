"""Time the search for near-duplicates against brute force by faiss; both sides in one run, one thread each.

    python benchmarks/near_duplicates.py [--clips 650000] [--queries 2000]

Signatures of clips of ten seconds are generated, 40 frames of 256 bits each that change as footage does, with planted
copies that are shifted and up to 36 bits off, and a title card that many clips share. One side is
`near_duplicates.candidates` over all of them, every second frame of each clip against every frame of all others. The
other is faiss's IndexBinaryFlat, for some of the same queries, those of planted copies, its time scaled to all: a
search through everything takes the same time whatever it finds. Both must find the same planted copies. A second run
of 20,000 clips has faiss's IndexBinaryMultiHash too, with as many bands. Every side is a process of its own, for its
peak memory. The numbers go to `results/near_duplicates.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from build import machine

from k710.near_duplicates.candidates import HASH_BITS, NUM_BANDS, candidates, common_frames
from k710.near_duplicates.find import DEFAULT_THRESHOLD_BITS
from k710.near_duplicates.hashed_clips import HashedFrames

RESULTS = Path(__file__).resolve().parent / "results" / "near_duplicates.json"
FRAMES = 40
PLANTED = 1000  # pairs
CARD_CLIPS, CARD_FRAMES = 2000, 6  # clips that share a title card, and for how many frames
MULTI_HASH_CLIPS = 50_000
SMALLER_CLIPS = 20_000  # a second run, where the first has more than the multi-hash index can hold
TARGET = 10.0
SIDES = ("k710", "faiss flat", "faiss multi-hash")
Words = npt.NDArray[np.uint64]


def generated(num_clips: int, seed: int = 710) -> HashedFrames:
    """The frames of all clips. Clip 2n + 1 is a copy of 2n for n below PLANTED."""
    rng = np.random.default_rng(seed)
    words = np.empty((num_clips, FRAMES, 4), np.uint64)
    for begin in range(0, num_clips, 10_000):
        part = words[begin : begin + 10_000]
        part[:, 0] = _random(rng, part[:, 0].shape)
        # A frame differs from the one before in a sixteenth of its bits, a quarter of a second later.
        steps = _random(rng, part[:, 1:].shape)
        for _ in range(3):
            steps &= _random(rng, steps.shape)
        part[:, 1:] = steps
        np.bitwise_xor.accumulate(part, axis=1, out=part)
    for pair in range(_num_planted(num_clips)):
        shift, wrong = rng.integers(0, FRAMES // 2), rng.uniform(2, 36) / HASH_BITS
        shown = words[2 * pair, shift:]
        noise = np.packbits(rng.random((len(shown), HASH_BITS)) < wrong, axis=1).view(np.uint64)
        words[2 * pair + 1, : len(shown)] = shown ^ noise
    with_card = rng.choice(np.arange(2 * _num_planted(num_clips), num_clips), min(CARD_CLIPS, num_clips // 4), False)
    card = _random(rng, (4,))
    noise = _random(rng, (len(with_card), CARD_FRAMES, 4))
    for _ in range(5):
        noise &= _random(rng, noise.shape)
    words[with_card, :CARD_FRAMES] = card ^ noise
    clip = np.repeat(np.arange(num_clips, dtype=np.int32), FRAMES)
    step = np.tile(np.arange(FRAMES, dtype=np.int16), num_clips)
    return HashedFrames(words.reshape(-1, 4), clip, step, np.arange(num_clips + 1) * FRAMES)


def _num_planted(num_clips: int) -> int:
    return min(PLANTED, num_clips // 8)


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> Words:
    return rng.integers(0, np.iinfo(np.uint64).max, shape, np.uint64, endpoint=True)


def k710_side(num_clips: int, num_queries: int) -> dict[str, Any]:
    index = generated(num_clips)
    before_mib = _peak_mib()
    begin_s = time.process_time()
    common, video = common_frames(index), np.arange(num_clips, dtype=np.int32)
    telling = index.only(~common)
    pairs = candidates(telling.even_steps(), telling, video, max_bits=DEFAULT_THRESHOLD_BITS)
    took_s = time.process_time() - begin_s
    found = {(one, other) for one, other in pairs.tolist()}
    asked = range(min(_num_planted(num_clips), num_queries * 2 // FRAMES))
    return {
        "cpu_s": round(took_s, 2),
        "planted found": sum((2 * pair, 2 * pair + 1) in found for pair in asked),
        "of": len(asked),
        "all planted found": sum((2 * pair, 2 * pair + 1) in found for pair in range(_num_planted(num_clips))),
        "pairs": len(pairs),
        "common frames": int(np.count_nonzero(common)),
        "peak_mib": round(_peak_mib()),
        "of it the signatures_mib": round(before_mib),
    }


def faiss_side(num_clips: int, num_queries: int, *, multi_hash: bool) -> dict[str, Any]:
    import faiss

    faiss.omp_set_num_threads(1)
    frames = generated(num_clips)
    hashes = frames.words.view(np.uint8).reshape(-1, HASH_BITS // 8)
    asked = range(min(_num_planted(num_clips), num_queries * 2 // FRAMES))
    begin_s = time.process_time()
    if multi_hash:
        index = faiss.IndexBinaryMultiHash(HASH_BITS, NUM_BANDS, HASH_BITS // NUM_BANDS)
    else:
        index = faiss.IndexBinaryFlat(HASH_BITS)
    index.add(hashes)
    added_s = time.process_time() - begin_s
    # A multi-hash index is quick, so it is asked everything; flat, the first frames of planted copies, every second.
    total = num_clips * FRAMES // 2
    queries = hashes[::2] if multi_hash else np.concatenate([hashes[2 * n * FRAMES :: 2][: FRAMES // 2] for n in asked])
    begin_s = time.process_time()
    limits, _, entries = index.range_search(np.ascontiguousarray(queries), DEFAULT_THRESHOLD_BITS + 1)
    took_s = time.process_time() - begin_s
    found = 0
    for number, pair in enumerate(asked):
        first = 2 * pair * FRAMES // 2 if multi_hash else number * FRAMES // 2
        clips = entries[limits[first] : limits[first + FRAMES // 2]] // FRAMES
        found += bool((clips == 2 * pair + 1).any())
    return {
        "cpu_s": round(added_s + took_s * total / len(queries), 2),
        "queries asked": len(queries),
        "queries in all": total,
        "measured_s": round(took_s, 2),
        "planted found": found,
        "of": len(asked),
        "peak_mib": round(_peak_mib()),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_side(side: str, num_clips: int, num_queries: int) -> dict[str, Any]:
    """One side in a process of its own, with one thread."""
    command = [sys.executable, __file__, "--side", side, "--clips", str(num_clips), "--queries", str(num_queries)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"{side}: {found}", flush=True)
    return found


def compare(num_clips: int, num_queries: int) -> dict[str, Any]:
    """Every side that can hold so many clips, in turn, and the ratio of the first two."""
    names = SIDES if num_clips <= MULTI_HASH_CLIPS else SIDES[:2]
    rows = {side: run_side(side, num_clips, num_queries) for side in names}
    ratio = rows["faiss flat"]["cpu_s"] / rows["k710"]["cpu_s"]
    same = rows["faiss flat"]["planted found"] <= rows["k710"]["planted found"]
    return {
        "clips": num_clips,
        **rows,
        "faiss flat over k710": round(ratio, 1),
        "wanted": TARGET,
        "met": bool(ratio >= TARGET and same),
    }


def table(result: dict[str, Any]) -> str:
    """The sides as Markdown, for docs/near-duplicates.md."""
    lines = [f"| {result['clips']:,} clips | CPU, s | peak memory, MiB | planted pairs found |", "|---|---:|---:|---:|"]
    for side in SIDES:
        row = result.get(side)
        if row is None:
            continue
        name, peak, found = side, f"{row['peak_mib']:,}", f"{row['planted found']} of {row['of']}"
        if "queries asked" in row and row["queries asked"] < row["queries in all"]:
            name += f", scaled from {row['queries asked']:,} of {row['queries in all']:,} queries"
        if "all planted found" in row:
            peak += f" ({row['of it the signatures_mib']:,} of it the hashes)"
            found += f" ({row['all planted found']:,} of {_num_planted(result['clips']):,})"
        lines.append(f"| {name} | {row['cpu_s']:,.0f} | {peak} | {found} |")
    return "\n".join(lines)


def smaller_table(result: dict[str, Any]) -> str:
    """As `table`, of the run whose clips faiss's multi-hash index can hold."""
    return table(result["smaller"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=650_000)
    parser.add_argument("--queries", type=int, default=2_000, help="Frames that the flat index is asked.")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    sides = {
        "k710": k710_side,
        "faiss flat": lambda *how: faiss_side(*how, multi_hash=False),
        "faiss multi-hash": lambda *how: faiss_side(*how, multi_hash=True),
    }
    if options.side:
        print(json.dumps(sides[options.side](options.clips, options.queries)))
        return
    about = {"machine": machine(), "frames a clip": FRAMES, "bits": DEFAULT_THRESHOLD_BITS}
    result = about | compare(options.clips, options.queries)
    if options.clips > MULTI_HASH_CLIPS:
        result["smaller"] = compare(SMALLER_CLIPS, options.queries)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    ratio = result["faiss flat over k710"]
    print(f"faiss's flat index takes {ratio:,.0f} times as long; wanted {TARGET:g} at the same recall: {result['met']}")


if __name__ == "__main__":
    main()
