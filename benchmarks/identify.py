"""`k710 identify` and the audit of a train list at list scale, beside a plain pandas script, in one run.

    python benchmarks/identify.py [--rows 10000000] [--out benchmarks/results/identify.json]

The lists are made up: the nine lists of full_size_lists.py are the reference; the things to identify are train lists
with `rows` rows, of which a fixed share names clips of the reference and the rest other videos, as a pretraining list
does. Each side runs in a process of its own, which reports its time and its largest memory.

The pandas side reads the list with `read_csv`, takes ID and span apart with one regular expression, merges with the
reference, and counts what each list has, what is missing, and the distinct clips; it hashes the sorted names. It
checks no line, decides nothing and reads one form.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from full_size_lists import LISTS, write_lists

ROWS = 10_000_000
FORMS = ("trainer", "csv", "parquet", "urls")
KNOWN_SHARE = 0.1  # of the rows name clips of the reference
_CHUNK = 1 << 18
_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8)
_LAST = np.frombuffer(b"AEIMQUYcgkosw048", np.uint8)


def chunks(reference: pd.DataFrame, rows: int, seed: int) -> Iterator[pd.DataFrame]:
    """Rows of a made-up train list: ID, start, end and class."""
    rng = np.random.default_rng(seed)
    for first in range(0, rows, _CHUNK):
        count = min(_CHUNK, rows - first)
        letters = _ALPHABET[rng.integers(0, 64, (count, 11))]
        letters[:, 10] = _LAST[rng.integers(0, 16, count)]
        start = rng.integers(0, 3_000, count)
        chunk = pd.DataFrame({"youtube_id": letters.view("S11").ravel().astype("U11"), "time_start": start})
        chunk["time_end"] = start + 10
        known = np.flatnonzero(rng.random(count) < KNOWN_SHARE)
        picked = reference.iloc[rng.integers(0, len(reference), len(known))]
        for name in ("youtube_id", "time_start", "time_end"):
            chunk.loc[known, name] = picked[name].to_numpy()
        chunk["label"] = rng.integers(0, 400, count)
        yield chunk


def write_thing(path: Path, form: str, reference: pd.DataFrame, rows: int, seed: int = 710) -> None:
    """A train list of one form."""
    writer = None
    with path.open("w", encoding="ascii") as file:
        for chunk in chunks(reference, rows, seed):
            if form == "csv":
                chunk.to_csv(file, index=False, header=file.tell() == 0)
            elif form == "parquet":
                table = pa.Table.from_pandas(chunk, preserve_index=False)
                writer = writer or pa.parquet.ParquetWriter(path, table.schema)
                writer.write_table(table)
            elif form == "urls":
                file.write("\n".join("https://www.youtube.com/watch?v=" + chunk["youtube_id"]) + "\n")
            else:
                parts = zip(chunk["youtube_id"], chunk["time_start"], chunk["time_end"], chunk["label"], strict=True)
                file.writelines(
                    f"/data/kinetics/train/{video}_{start:06d}_{end:06d}.mp4 {label}\n"
                    for video, start, end, label in parts
                )
    if writer is not None:
        writer.close()


def read_lists(folder: Path) -> pd.DataFrame:
    """All rows of the reference's lists."""
    parts = []
    for name in LISTS:
        part = pd.read_csv(folder / f"{name}.csv", usecols=["youtube_id", "time_start", "time_end"])
        parts.append(part.assign(list=name))
    return pd.concat(parts, ignore_index=True)


def pandas_side(lists: Path, thing: Path) -> dict[str, object]:
    """The plain script."""
    import hashlib

    reference = read_lists(lists)
    lines = pd.read_csv(thing, header=None, sep="\0", names=["line"], dtype=str, engine="c")["line"]
    parts = lines.str.extract(r"/([\w-]{11})_(\d{6})_(\d{6})\.mp4 (\d+)$")
    clips = (parts[0] + "_" + parts[1] + "_" + parts[2]).drop_duplicates()
    start, end = (reference[name].astype(str).str.zfill(6) for name in ("time_start", "time_end"))
    reference["clip"] = reference["youtube_id"].astype(str) + "_" + start + "_" + end
    found = reference.assign(here=reference["clip"].isin(clips))
    here = found[found["here"]].groupby("list")["clip"].nunique()
    names = np.sort(clips.to_numpy(dtype="U25"))
    sha256 = hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
    return {"clips": len(clips), "here": {name: int(count) for name, count in here.items()}, "sha256": sha256}


def identify_side(lists: Path, thing: Path) -> dict[str, object]:
    """`k710 identify`, with a manifest of the same lists."""
    from k710.identify.identify import identify
    from k710.identify.reference import reference_of_manifest
    from k710.identify.things import parts_of
    from k710.manifest.read import open_manifest

    (part,) = parts_of(thing)
    found, _ = identify(part, reference_of_manifest(open_manifest(lists.parent / "manifest")))
    here = {"_".join(fit.list): fit.here for fit in found.fits if fit.list[0] != "k710"}
    return {"clips": found.totals.clips, "here": here, "sha256": found.totals.clips_sha256, "by": found.fits[0].by}


def audit_side(lists: Path, thing: Path) -> dict[str, object]:
    """`k710 audit --train THING --eval k400,k600,k700`, with the same manifest."""
    from k710.identify.contamination import contamination, lists_named
    from k710.identify.reference import only, reference_of_manifest
    from k710.identify.things import parts_of
    from k710.manifest.read import open_manifest

    reference = reference_of_manifest(open_manifest(lists.parent / "manifest"))
    evaluation = only(reference, lists_named("k400,k600,k700", reference.lists))
    found = contamination(parts_of(thing), evaluation)
    return {"leaked_videos": found.leaked_videos, "leaking": found.train.leaking}


SIDES = {"pandas": pandas_side, "identify": identify_side, "audit": audit_side}


def run(side: str, lists: Path, thing: Path) -> dict[str, object]:
    """One side in a process of its own: its result, its seconds and its largest memory."""
    command = [
        sys.executable,
        __file__,
        "--side",
        side,
        "--lists",
        str(lists),
        "--thing",
        str(thing),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        return {"failed": result.stderr.strip().splitlines()[-1:], "exit_code": result.returncode}
    return json.loads(result.stdout)


def measured(side: str, lists: Path, thing: Path) -> dict[str, object]:
    begin, cpu = time.perf_counter(), time.process_time()
    result = SIDES[side](lists, thing)
    seconds, cpu_seconds = round(time.perf_counter() - begin, 1), round(time.process_time() - cpu, 1)
    # ru_maxrss would count the process that started this one too.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak_mib = int(status["VmHWM"].split()[0]) >> 10
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak_mib, "result": result}


def compare(rows: int, scale: float, forms: tuple[str, ...], folder: Path) -> dict[str, object]:
    """Every side on every form; the sides of the trainer's list must agree."""
    from k710.cli import main as k710

    lists = folder / "lists"
    write_lists(lists, scale=scale)
    build = ["build", "--annotations", str(lists), "--splits", "train,val,test", "--out", str(folder / "manifest")]
    k710(build, standalone_mode=False)
    reference = read_lists(lists)
    found: dict[str, dict[str, object]] = {}
    for form in forms:
        thing = folder / f"thing.{'csv' if form == 'csv' else 'parquet' if form == 'parquet' else 'txt'}"
        write_thing(thing, form, reference, rows)
        sides = ("pandas", "identify", "audit") if form == "trainer" else ("identify", "audit")
        found[form] = {side: run(side, lists, thing) for side in sides}
        thing.unlink()
    trainer = found.get("trainer", {})
    agree = None
    if "result" in trainer.get("pandas", {}) and "result" in trainer.get("identify", {}):
        one, other = (trainer[side]["result"] for side in ("pandas", "identify"))
        agree = all(one[name] == other[name] for name in ("clips", "here", "sha256"))
    return {
        "rows": rows,
        "reference_rows": len(reference),
        "versions": {"python": platform.python_version(), "pyarrow": pa.__version__, "pandas": pd.__version__},
        "cores": os.cpu_count(),
        "forms": found,
        "sides_agree": agree,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time k710 identify beside a plain pandas script.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--scale", type=float, default=1.0, help="of the reference's lists; 1 for the published sizes")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--lists", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--thing", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measured(arguments.side, arguments.lists, arguments.thing)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = compare(arguments.rows, arguments.scale, tuple(arguments.forms.split(",")), Path(folder))
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
