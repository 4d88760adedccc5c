"""A dataset as large as Kinetics-710: how long until its first batch, and how much memory it takes.

The rows are real in form and number, in units of 500 clips; only the first clips have their bytes. Hashes and the
places of stored frames differ from clip to clip, as in a real store: equal ones would be read faster.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from k710 import ClipLoader, open_dataset
from k710.fetch.encode.jobs import Candidate, ClipJob
from k710.fetch.encode.make_clip import make_clip
from k710.fetch.encode.profiles import ENCODING_VERSION, read_profile
from k710.fetch.store_unit import write_member
from k710.manifest.schema import CLIPS_SCHEMA
from k710.manifest.write import write_manifest
from k710.sample.footage import Clip, write_footage
from k710.sample.motions import LOOKS
from k710.store.store import EVENLY_STORED, MEDIA_COMPRESSION, MEDIA_SCHEMA, METADATA_KEY, SCHEMA_VERSION, Store
from k710.store.stored_frames import stored_indices

UNIT_CLIPS = 500
FILLED = 200  # clips that have their bytes


def make_large(
    folder: Path, profile: str, rows: int, made: tuple[bytes, dict[str, Any]] | None = None, filled: int = FILLED
) -> None:
    """The manifest `folder`/m and its store. `made`: another clip than `clip_and_row`'s; `filled`: how many have it."""
    ids = [f"{number:011d}_000010_000020" for number in range(rows)]
    columns: dict[str, Any] = {
        "clip_id": ids,
        "youtube_id": [clip_id[:11] for clip_id in ids],
        "time_start_s": np.full(rows, 10, np.int32),
        "time_end_s": np.full(rows, 20, np.int32),
        "class_id": np.arange(rows, dtype=np.int32) % 710,
        "split": pa.repeat("train", rows),
        "k700_split": pa.repeat("train", rows),
    }
    table = pa.table(
        [_array(columns[f.name], f.type) if f.name in columns else pa.nulls(rows, f.type) for f in CLIPS_SCHEMA],
        schema=CLIPS_SCHEMA,
    )
    about = {"recipe": {"name": "made up", "sources": ["k700"]}, "sources": [{"source": "k700"}]}
    write_manifest(folder / "m", table, about)
    _fill(Store(folder / "m" / "store", profile), ids, *(made or clip_and_row(folder, profile)), filled)


def clip_and_row(folder: Path, profile: str) -> tuple[bytes, dict[str, Any]]:
    """A clip's bytes, and what its row says of them."""
    clip = Clip("large-clip0", 10, 20, "archery")
    source = write_footage(folder / "clips", [clip], look=LOOKS["released"])[clip]
    job = ClipJob(
        clip.clip_id, (10, 20), ((10, 20),), (Candidate(source, True),), folder / "out", read_profile(profile)
    )
    made = make_clip(job)
    assert made.path is not None
    assert made.measured is not None
    content = Path(made.path).read_bytes()
    indices = stored_indices(made.measured.num_frames, 64).tolist() if made.frame_offsets else None
    offsets = list(made.frame_offsets) if made.frame_offsets else None
    facts = vars(made.measured) | {"size": len(content), "suffix": made.suffix, "flags": []}
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    return content, facts | {"frame_offsets": offsets, "frame_indices": indices}


def _fill(store: Store, ids: list[str], content: bytes, row: dict[str, Any], filled: int) -> None:
    """Unit files for all rows; the clip is written for the first `filled` of them, the others have no bytes."""
    store.tars_folder.mkdir(parents=True)
    store.media_folder.mkdir(parents=True)
    row |= {"origin": "made up", "came_from": "nowhere"}
    row |= {"settled_at": datetime.now(timezone.utc), "failure": None, "message": None}
    # Fetched in another order than that of their ids, but for the first unit's, whose bytes are there.
    rng = np.random.default_rng(0)
    ids[UNIT_CLIPS:] = rng.permutation(ids[UNIT_CLIPS:]).tolist()
    like_it = pa.Table.from_pylist([{"clip_id": "", "tar": "", "offset": 0, **row}], schema=MEDIA_SCHEMA)
    place = -(-len(content) // 512) * 512 + 512
    about = {"schema_version": SCHEMA_VERSION, "sha256": "not taken", EVENLY_STORED: True}
    about |= {"profile": read_profile(store.profile_folder).settings(), "encoding": ENCODING_VERSION}
    for number, start in enumerate(range(0, len(ids), UNIT_CLIPS)):
        unit, part = f"unit-{number:05d}", ids[start : start + UNIT_CLIPS]
        tar, count = f"{unit}-0-00000000.tar", len(part)
        with (store.tars_folder / tar).open("wb") as file:  # mostly a hole: members have their places, few are filled
            for slot in range(max(0, min(count, filled - start))):
                file.seek(slot * place)
                write_member(file, f"{part[slot]}.{row['suffix']}", content)
        table = like_it.take(pa.array(np.zeros(count, np.int64)))
        columns: dict[str, Any] = {"clip_id": part, "tar": pa.repeat(tar, count)}
        columns["offset"] = np.arange(count) * place + 512
        if start >= filled:
            columns["sha256"] = [rng.bytes(32).hex() for _ in range(count)]
            if row["frame_offsets"]:
                columns["frame_offsets"] = _lists(np.sort(rng.integers(0, len(content), (count, 64), np.int32)))
        for name, values in columns.items():
            field = MEDIA_SCHEMA.field(name)
            table = table.set_column(table.column_names.index(name), field, _array(values, field.type))
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()})
        pa.parquet.write_table(table, store.media_folder / f"{unit}.parquet", compression=MEDIA_COMPRESSION)


def _array(values: Any, type_: pa.DataType) -> pa.Array:
    found = values if isinstance(values, pa.Array) else pa.array(values)
    if pa.types.is_dictionary(type_):
        found = found.dictionary_encode()
    return found.cast(type_)


def _lists(numbers: Any) -> pa.ListArray:
    borders = np.arange(len(numbers) + 1, dtype=np.int32) * numbers.shape[1]
    return pa.ListArray.from_arrays(pa.array(borders), pa.array(numbers.ravel()))


def rows_report(folder: Path, profile: str, rows: int) -> dict[str, Any]:
    """Seconds to the first batch, without and with a kept index, and MiB of the process that holds the dataset."""
    folder.mkdir(parents=True)
    make_large(folder, profile, rows)
    command = [sys.executable, __file__, str(folder / "m"), profile]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(3)]
    return {"rows": rows, "index not made yet": runs[0], "index kept": runs[2]}


def main(path: str, profile: str) -> None:
    """What one process sees: opening, dataset, first batch of eight clips by one worker."""
    begin = time.perf_counter()
    import pandas  # noqa: F401  # pyarrow loads it with its first array
    import torch  # noqa: F401  # what any training has loaded

    import k710.loading.loader

    assert k710.loading.loader
    from memory_curve import resident_mib

    imported_s = time.perf_counter() - begin
    before = resident_mib()
    begin, cpu_begin_s = time.perf_counter(), time.process_time()
    dataset = open_dataset(path, profile=profile)
    opened_s, opened_cpu_s = time.perf_counter() - begin, time.process_time() - cpu_begin_s
    held = resident_mib() - before
    loader = ClipLoader(dataset, batch_size=8, num_workers=1, packed=True)
    # The order is random and few of the made-up clips have bytes, so the loader's order is narrowed to those.
    loader._batches.order = type(loader._batches.order)(FILLED, 0)  # type: ignore[attr-defined]
    batches = iter(loader)
    next(batches)
    first_batch_s = time.perf_counter() - begin
    del batches
    for number in itertools.islice(np.random.default_rng(0).permutation(len(dataset)).tolist(), 100_000):
        dataset.index[number]
    told = {"imports, s": imported_s, "dataset opened, s": opened_s, "dataset opened, CPU s": opened_cpu_s}
    told |= {"first batch, s": first_batch_s, "held, MiB": held}
    told["held after 100,000 rows were looked up, MiB"] = resident_mib() - before
    print(json.dumps({name: round(value, 2) for name, value in told.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
