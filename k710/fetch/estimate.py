"""What a fetch would take, and whether there is room for it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from k710.engine.engine import units_at_a_time
from k710.errors import DownloadError, FetchError
from k710.fetch.encode.codecs import CODECS
from k710.fetch.encode.profiles import Profile
from k710.fetch.plan import FetchOptions, Plan, Stage
from k710.fetch.scratch import scratch_parent
from k710.manifest.read import Manifest
from k710.storage.http_reader import head
from k710.storage.storage import Location
from k710.store.store import Store
from k710.text import counted, data_size

SOURCE_CLIP_BYTES = 4_000_000  # of a clip that waits in the scratch, generously
ENOUGH_ROWS = 100
_HEADS_AT_ONCE = 16


@dataclass(frozen=True)
class Estimate:
    """What a fetch would take; `wanted` and `missing` are those of all parts. `download_bytes` is None where a server
    did not say; `archives` are read at most."""

    wanted: int
    missing: int
    stages: tuple[tuple[str, int, int, int | None], ...]  # origin, clips, archives, bytes to download
    store_bytes: int
    scratch_bytes: int
    free_bytes: int
    notes: tuple[str, ...] = ()  # what the origins want to be known before they begin


def estimate(manifest: Manifest, store_root: Location, options: FetchOptions) -> Estimate:
    """What `fetch` would do, without doing it: downloads no more than the lists of archives and asks for sizes."""
    store = Store(store_root, options.profile.folder)
    plan = Plan(manifest, store, options, is_dry=True)
    stages, notes, clips, scratch_bytes = [], [], 0, _scratch_bytes(options)
    state = plan.read_store()
    for stage in plan.stages(state):
        notes += [f"not read: {reason}" for _, reason in stage.unread]
        if stage.unread:
            continue
        stages.append((stage.origin, stage.clips, len(stage.archives), _download_bytes(stage.archives)))
        notes += [stage.note] if stage.note else []
        clips += stage.clips
        waiting_bytes = _waiting_bytes(store, options, stage) + _video_bytes(options, stage)
        scratch_bytes = max(scratch_bytes, _scratch_bytes(options) + waiting_bytes)
    clips = min(clips, len(state.missing))
    return Estimate(
        len(plan.wanted),
        len(state.missing),
        tuple(stages),
        clips * _clip_bytes(store, options.profile),
        scratch_bytes,
        free_bytes(scratch_parent(store_root, options.scratch)),
        tuple(notes),
    )


def check_room(store: Store, options: FetchOptions, stage: Stage) -> None:
    """Raise FetchError where a stage does not fit on the disk."""
    if not stage.clips:
        return
    folder = scratch_parent(store.root, options.scratch)
    video_bytes = _video_bytes(options, stage)
    needed, todo = _scratch_bytes(options) + video_bytes, f"{counted(stage.clips, 'clip needs', 'clips need')}"
    if isinstance(store.root, Path):
        needed += stage.clips * _clip_bytes(store, options.profile)
        folder, advice = store.root, "take --limit, fewer --splits, or another --store"
    else:
        needed += _waiting_bytes(store, options, stage)
        todo, advice = "units that are on their way need", "take fewer --workers, or another --scratch"
    if video_bytes:
        advice += f"; {data_size(video_bytes)} are for whole videos: --youtube-max-megabytes makes that less"
    if needed > (free := free_bytes(folder)):
        raise FetchError(f"{folder}: {todo} about {data_size(needed)}, {data_size(free)} are free; {advice}")


def _waiting_bytes(store: Store, options: FetchOptions, stage: Stage) -> int:
    """What waits in the scratch of a store at a URL, at most: units gather there before they are put."""
    if isinstance(store.root, Path) or not stage.units:
        return 0
    at_a_time = min(units_at_a_time(options.workers), len(stage.units))
    return at_a_time * -(-stage.clips // len(stage.units)) * _clip_bytes(store, options.profile)


def _video_bytes(options: FetchOptions, stage: Stage) -> int:
    """What whole videos take in the scratch: those that are downloaded, and in each unit one that is being cut."""
    if stage.origin.partition(":")[0] != "youtube" or options.youtube.sections:
        return 0
    videos = sum(len(unit.videos) for unit in stage.units)
    at_a_time = min(options.youtube.downloads + units_at_a_time(options.workers), videos)
    return int(at_a_time * options.youtube.max_megabytes * 1e6)


def stored_clip_bytes(store: Store) -> int | None:
    """The mean size of the clips that the store has; None where they are too few to tell."""
    sizes = store.rows(("size",))["size"].drop_null()
    return int(pc.mean(sizes).as_py()) if len(sizes) >= ENOUGH_ROWS else None


def _clip_bytes(store: Store, profile: Profile) -> int:
    """The mean size of the clips that the store has, else what the profile's are expected to have."""
    return stored_clip_bytes(store) or CODECS[profile.codec].expected_bytes


def _scratch_bytes(options: FetchOptions) -> int:
    clips = units_at_a_time(options.workers) * (2 * options.workers + 2)
    return clips * (SOURCE_CLIP_BYTES + CODECS[options.profile.codec].expected_bytes)


def free_bytes(folder: Path) -> int:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _download_bytes(urls: tuple[str, ...]) -> int | None:
    """The sum of what the servers say; None where one does not say."""

    def size(url: str) -> int | None:
        try:
            return head(url).size_bytes
        except DownloadError:
            return None

    with ThreadPoolExecutor(_HEADS_AT_ONCE) as pool:
        sizes = list(pool.map(size, urls))
    known = [size_bytes for size_bytes in sizes if size_bytes is not None]
    return sum(known) if len(known) == len(sizes) else None
