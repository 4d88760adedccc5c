"""What the tests of the store share: clips of a few kB, manifests of them, and stores filled without ffmpeg."""

from __future__ import annotations

import io
import random
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from click.testing import Result

from k710.fetch.encode.jobs import Made
from k710.fetch.encode.measured import Measured
from k710.fetch.encode.profiles import Profile, read_profile
from k710.fetch.scratch import scratch_folder
from k710.fetch.store_unit import StoreUnit
from k710.maintenance.verify import read_media
from k710.sample.footage import Clip, write_footage
from k710.sample.motions import LOOKS
from k710.store.store import Store

# Classes that all releases spell alike.
LABELS = ("abseiling", "archery", "juggling balls", "riding mountain bike")
SPAN_S = 2
MEASURED = Measured(64, 48, 8.0, 16, 2.0, "h264")


def clips_of(count: int, split: str = "train", *, first: int = 0, labels: Sequence[str] = LABELS) -> list[Clip]:
    """Clips numbered from `first`, of the labels in turn."""
    numbers = range(first, first + count)
    return [Clip(f"clip-{n:06d}", n, n + SPAN_S, labels[n % len(labels)], split) for n in numbers]


def manifest_of(k710: Callable[..., Result], folder: Path, clips: Iterable[Clip]) -> Path:
    """The manifest of a K400 that has these clips, in `folder`/m."""
    lists = folder / "lists"
    lists.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[str]] = {}
    for clip in clips:
        line = f"{clip.label},{clip.youtube_id},{clip.time_start_s},{clip.time_end_s},{clip.split},0"
        rows.setdefault(clip.split, ["label,youtube_id,time_start,time_end,split,is_cc"]).append(line)
    for split, lines in rows.items():
        (lists / f"k400_{split}.csv").write_text("\n".join([*lines, ""]))
    splits = ",".join(sorted(rows))
    result = k710("build", "--sources", "k400", "--splits", splits, "--annotations", lists, "--out", folder / "m")
    assert result.exit_code == 0, result.output
    return folder / "m"


def film(folder: Path, clips: Iterable[Clip]) -> Path:
    """A folder of clip files that decode."""
    write_footage(folder, clips, look=LOOKS["tiny"])
    return folder


def fake_media(clip_id: str, size: int = 700) -> bytes:
    """Bytes that are the clip's own and nobody else's; no decoder will look at them."""
    return random.Random(clip_id).randbytes(size)


def made_of(scratch: Path, clip_id: str, media: bytes, measured: Measured = MEASURED) -> Made:
    """A clip as its process hands it over: a file in the scratch folder, and what it was measured to be."""
    path = scratch / f"{clip_id}.mp4"
    path.write_bytes(media)
    return Made(clip_id, path=str(path), suffix="mp4", measured=measured)


def put(store: Store, media: Mapping[str, bytes | str], *, name: str = "local", origin: str = "local:/clips") -> str:
    """Settle clips in one unit: with their bytes, or with the class of their failure; returns the unit's name."""
    with scratch_folder(store.root) as scratch:
        unit = StoreUnit(store, name, scratch)
        for clip_id, content in media.items():
            made = Made(clip_id, content, "why") if isinstance(content, str) else made_of(scratch, clip_id, content)
            unit.add(made, origin=origin, came_from=f"{clip_id}.mp4")
        return unit.commit(about(name, origin))


def about(name: str = "local", origin: str = "local:/clips", profile: Profile | None = None) -> dict[str, Any]:
    """What a unit says of itself."""
    settings = (profile or read_profile("h264")).settings()
    return {"unit": name, "origin": origin, "profile": settings, "tools": {"k710": "0"}}


def stored(store: Store) -> dict[str, bytes]:
    """The bytes of each clip that counts, by its row."""
    found = {}
    for row in store.best_rows().to_pylist():
        if row["failure"] is None:
            with (store.tars_folder / row["tar"]).open("rb") as tar:
                found[row["clip_id"]] = read_media(tar, row)
    return found


def hashes(store: Store) -> dict[str, str]:
    """The SHA-256 of each clip that counts."""
    rows = store.best_rows(("clip_id", "sha256", "failure")).to_pylist()
    return {row["clip_id"]: row["sha256"] for row in rows if row["failure"] is None}


def members(tar: Path | bytes) -> dict[str, bytes]:
    """What Python's own tarfile finds; it fails the test where it stumbles."""
    source = io.BytesIO(tar if isinstance(tar, bytes) else tar.read_bytes())
    with tarfile.open(fileobj=source, mode="r:", errorlevel=2) as opened:
        found = {info.name: opened.extractfile(info).read() for info in opened.getmembers()}  # type: ignore[union-attr]
        assert opened.offset + 2 * tarfile.BLOCKSIZE == len(source.getvalue()), "it ends with two empty blocks"
    return found


def tars(store: Store) -> dict[str, bytes]:
    """The tars by name."""
    return {path.name: path.read_bytes() for path in sorted(store.tars_folder.glob("*"))}


def left_in_scratch(store: Store) -> list[str]:
    """What is in the scratch folder; nothing, once no run is at work."""
    return sorted(str(path.relative_to(store.root)) for path in store.scratch_folder.rglob("*"))


def copy_of(store: Store, root: Path) -> Store:
    """The same store elsewhere, to be damaged."""
    shutil.copytree(store.root, root)
    return Store(root, store.profile_folder)
