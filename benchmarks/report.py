"""Time `k710 report` of a dataset as large as Kinetics-710, and weigh its page.

    python benchmarks/report.py [--scale 1.0] [--results FILE]

The manifest is built from made-up lists in their published sizes (full_size_lists.py). The store has a row for every
labelled clip, in units of 500, a few in a hundred of them failures; the clips that the page shows have their bytes (one
clip of a released copy's size, 340x256 and 10 s, encoded as `k710 fetch` does), the others only their place in a tar.
What is timed is the whole process. Linux only (resource).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from build import machine
from full_size_lists import write_lists
from large_dataset import UNIT_CLIPS, clip_and_row

from k710.curation.build import CurationRecipe, build
from k710.fetch.store_unit import write_member
from k710.lists.annotations import find_lists
from k710.manifest.read import Manifest
from k710.report.figures.gather import gather
from k710.report.galleries import choose_clips
from k710.store.store import MEDIA_COMPRESSION, MEDIA_SCHEMA, METADATA_KEY, SCHEMA_VERSION, Store

RESULTS = Path(__file__).resolve().parent / "results" / "report.json"
TARGETS = {"seconds": 60.0, "megabytes": 20.0}
_FAILURES = (None, "gone", "private", "corrupt", "short", "undecodable")
_SHARES = (0.93, 0.04, 0.01, 0.01, 0.005, 0.005)
_SIZES = ((340, 256), (256, 340), (426, 320), (320, 240), (454, 256))


def make_manifest(folder: Path, scale: float) -> Manifest:
    """The manifest `folder`/m of made-up lists, train, val and test."""
    write_lists(folder / "lists", scale=scale)
    sources, splits = ("k400", "k600", "k700"), ("train", "val", "test")
    files = find_lists(folder / "lists", sources, splits)
    return build(CurationRecipe(sources, splits).checked(), files, folder / "m")


def fill_store(manifest: Manifest, folder: Path) -> None:
    """A row for every labelled clip, and the bytes of those that a page shows."""
    store = Store(manifest.path / "store", "h264")
    store.tars_folder.mkdir(parents=True)
    store.media_folder.mkdir(parents=True)
    content, row = clip_and_row(folder, "h264")
    ids = manifest.clips["clip_id"].filter(pc.is_valid(manifest.clips["class_id"])).combine_chunks()
    rng = np.random.default_rng(710)
    place_bytes = 512 * (2 + len(content) // 512 + 1)
    for number, start in enumerate(range(0, len(ids), UNIT_CLIPS)):
        rows = _rows(ids[start : start + UNIT_CLIPS], f"unit-{number:05d}-0-00000000.tar", place_bytes, rng, row)
        about = json.dumps({"schema_version": SCHEMA_VERSION, "sha256": "not taken"}).encode()
        table = rows.replace_schema_metadata({METADATA_KEY: about})
        pa.parquet.write_table(table, store.media_folder / f"unit-{number:05d}.parquet", compression=MEDIA_COMPRESSION)
    shown = {one.clip_id for one in choose_clips(manifest, store, gather(manifest, store=store))}
    where = store.rows(("clip_id", "tar", "offset"))
    for one in where.filter(pc.is_in(where["clip_id"], pa.array(sorted(shown)))).to_pylist():
        path = store.tars_folder / one["tar"]
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(one["offset"] - 512)
            write_member(file, f"{one['clip_id']}.mp4", content)


def _rows(ids: pa.Array, tar: str, place_bytes: int, rng: np.random.Generator, row: dict[str, Any]) -> pa.Table:
    """The media rows of a unit: as a fetch leaves them, with numbers that differ from clip to clip."""
    count = len(ids)
    failure = rng.choice(np.array(_FAILURES, object), count, p=_SHARES)
    failed = np.array([one is not None for one in failure])
    size = np.array(_SIZES)[rng.integers(0, len(_SIZES), count)]
    duration_s = np.where(rng.random(count) < 0.9, 10.0, rng.uniform(3, 10, count)).round(3)
    flags = [["frozen"] if frozen else [] for frozen in rng.random(count) < 0.01]
    columns: dict[str, Any] = {
        "clip_id": ids,
        "failure": failure.tolist(),
        "message": [f"{one}: Video unavailable" if one else None for one in failure],
        "tar": [tar] * count,
        "offset": [slot * place_bytes + 512 for slot in range(count)],
        "size": [row["size"]] * count,  # the bytes are one clip's; its size is checked
        "sha256": [row["sha256"]] * count,
        "suffix": ["mp4"] * count,
        "width": size[:, 0],
        "height": size[:, 1],
        "fps": rng.choice([25.0, 29.97, 30.0, 24.0, 15.0], count),
        "num_frames": [row["num_frames"]] * count,
        "duration_s": duration_s,
        "codec": ["h264"] * count,
        "flags": flags,
        "origin": ["cvdf:k700_2020"] * count,
        "came_from": ["made up"] * count,
        "settled_at": [datetime.now(timezone.utc)] * count,
    }
    never = {"clip_id", "failure", "message", "origin", "came_from", "settled_at"}
    arrays = []
    for field in MEDIA_SCHEMA:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(count, field.type))
            continue
        array = pa.array(values, field.type)
        keep = pa.array(~failed) if field.name not in never else pa.array(np.ones(count, bool))
        arrays.append(pc.if_else(keep, array, pa.nulls(count, field.type)))
    return pa.table(arrays, schema=MEDIA_SCHEMA)


def measure(manifest: Manifest, out: Path) -> dict[str, Any]:
    """What the whole process takes, and what it leaves."""
    command = [sys.executable, "-m", "k710", "report", str(manifest.path), "--out", str(out)]
    begin_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin_s
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    found = {
        "clips": len(manifest.clips),
        "seconds": round(seconds, 1),
        "megabytes": round(out.stat().st_size / 1e6, 2),
    }
    return found | {"peak_mib": round(peak_mib)}


def report_of_size(folder: Path, scale: float) -> dict[str, Any]:
    """Make everything in `folder` and measure the report."""
    manifest = make_manifest(folder, scale)
    fill_store(manifest, folder)
    return measure(manifest, folder / "report.html")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time `k710 report` of a dataset as large as Kinetics-710.")
    parser.add_argument("--scale", type=float, default=1.0, help="1 for the published sizes (default)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        found = report_of_size(Path(scratch), arguments.scale)
    result = {"what": "k710 report, the whole process", "scale": arguments.scale, "machine": machine(), **found}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{found['clips']:,} clips: {found['seconds']} s, {found['megabytes']} MB, at most {found['peak_mib']:,} MiB")
    for name, target in TARGETS.items():
        print(f"{name}: {found[name]}, wanted at most {target:g}: {'met' if found[name] <= target else 'missed'}")


if __name__ == "__main__":
    main()
