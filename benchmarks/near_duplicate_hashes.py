"""What hashing costs: PDQ by k710 and by pdqhash on the same frames in one run, and a whole clip from bytes to hashes.

    python benchmarks/near_duplicate_hashes.py [--frames 100] [--repetitions 3]

pdqhash is Meta's own code; where it is not installed (it is built with a C++ compiler) its side is left out, and that
is said. k710 makes the mirror image's hash on the way, which pdqhash's `compute` does not. CPU seconds of one thread.
The clip is one of ten seconds, 340x256 at 30 fps, as the h264 profile stores it (a key frame in 16). The numbers go to
`results/near_duplicate_hashes.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from build import machine

from k710.loading.decoders.decode import decode
from k710.near_duplicates.frames import hashed_frames
from k710.near_duplicates.hash_clip import hash_clip
from k710.near_duplicates.hashes import distance, luma_of, pdq
from k710.sample.footage import encode_video
from k710.sample.motions import Look
from k710.sample.textures import textured_frames

RESULTS = Path(__file__).resolve().parent / "results" / "near_duplicate_hashes.json"
LOOK = Look(340, 256, 30, noise=0)
SPAN_S = 10


def cpu_s(work: Callable[[], Any], repetitions: int) -> float:
    """The median over repetitions, after one that does not count."""
    work()
    found = []
    for _ in range(repetitions):
        begin_s = time.process_time()
        work()
        found.append(time.process_time() - begin_s)
    return statistics.median(found)


def by_pdqhash(frames: np.ndarray, repetitions: int) -> dict[str, Any]:
    """pdqhash's time for each frame, and in how many bits its hashes differ from ours."""
    try:
        import pdqhash
    except ImportError:
        return {"pdqhash": "not installed"}
    theirs = [np.packbits(np.array(pdqhash.compute(frame)[0])[::-1], bitorder="little") for frame in frames]
    bits = distance(pdq(luma_of(frames))[0], np.stack(theirs).view(np.uint64))
    took_s = cpu_s(lambda: [pdqhash.compute(frame) for frame in frames], repetitions)
    return {"pdqhash, ms a frame": round(took_s / len(frames) * 1e3, 3), "bits that differ, at most": int(bits.max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    frames = np.stack(list(textured_frames("a video", options.frames, LOOK)))
    ours_s = cpu_s(lambda: pdq(luma_of(frames)), options.repetitions)
    result = {"machine": machine(), "frames": len(frames), "size": f"{LOOK.width_px}x{LOOK.height_px}"}
    result |= {"k710, the mirror's hash too, ms a frame": round(ours_s / len(frames) * 1e3, 3)}
    result |= by_pdqhash(frames, options.repetitions)
    video = encode_video(
        textured_frames("a video", SPAN_S * LOOK.fps, LOOK), LOOK, options={"g": "16", "bf": "0", "tune": "fastdecode"}
    )
    decode_s = cpu_s(lambda: decode(video, lambda count: hashed_frames(count, SPAN_S)), options.repetitions)
    pixels = decode(video, lambda count: hashed_frames(count, SPAN_S))
    hash_s = cpu_s(lambda: hash_clip(pixels), options.repetitions)
    result |= {"a clip": {"decode, s": round(decode_s, 3), "hash in all variants, s": round(hash_s, 3)}}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
