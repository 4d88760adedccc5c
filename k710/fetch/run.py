"""`k710 fetch`: what is wanted of a manifest, stage by stage, into the store."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from k710.engine import Stop, run_units
from k710.errors import DownloadError, FetchError, StoreError
from k710.fetch.clip_pool import ClipPool
from k710.fetch.ffmpeg_binary import ffmpeg_binary
from k710.fetch.jobs import NO_SPACE, Candidate, ClipJob
from k710.fetch.plan import Choices, Plan
from k710.fetch.profiles import Profile
from k710.fetch.scratch import scratch_folder, sweep
from k710.fetch.unit_work import Run, Tally
from k710.http_reader import head
from k710.manifest import Manifest
from k710.store import Store, unit_metadata

# Before a store can say how large its clips are: ten seconds of the public archives, as docs/fetch.md measures them.
EXPECTED_CLIP_BYTES = {"h264": 1_000_000, "source": 2_000_000, "frames": 1_500_000}
SOURCE_CLIP_BYTES = 4_000_000  # of a clip that waits in the scratch, generously
ENOUGH_ROWS = 100
_HEADS_AT_ONCE = 16
_SELF_CHECK_S = 60.0


@dataclass(frozen=True)
class Estimate:
    """What a fetch would take. `download_bytes` is None where a server did not say; `archives` are read at most."""

    wanted: int
    missing: int
    stages: tuple[tuple[str, int, int, int | None], ...]  # origin, clips, archives, bytes to download
    store_bytes: int
    scratch_bytes: int
    free_bytes: int
    notes: tuple[str, ...] = ()  # what the origins want to be known before they begin


def units_at_a_time(workers: int) -> int:
    """Two, so that clips are made while the other unit commits; more archives at once where there are many cores."""
    return max(2, min(16, workers // 4))


def estimate(manifest: Manifest, store_root: Path, choices: Choices) -> Estimate:
    """What `fetch` would do, without doing it: downloads no more than the lists of archives and asks for sizes."""
    store = Store(store_root, choices.profile.folder)
    plan = Plan(manifest, store, choices)
    stages, notes, clips = [], [], 0
    for stage in plan.stages():
        stages.append((stage.origin, stage.clips, len(stage.archives), _download_bytes(stage.archives)))
        notes += [stage.note] if stage.note else []
        clips += stage.clips
    clips = min(clips, len(plan.missing()))
    return Estimate(
        len(plan.wanted),
        len(plan.missing()),
        tuple(stages),
        clips * _clip_bytes(store, choices.profile),
        _scratch_bytes(choices),
        _free_bytes(store_root),
        tuple(notes),
    )


def fetch(
    manifest: Manifest,
    store_root: Path,
    choices: Choices,
    *,
    stop: Stop | None = None,
    told: Callable[[Tally], None] = lambda tally: None,
    planned: Callable[[int], None] = lambda clips: None,
    say: Callable[[str], None] = lambda text: None,
) -> Tally:
    """Bring the wanted clips that the store lacks; returns what was settled. `stop` ends it early, as a full disk does.

    `planned` hears of the missing clips at the start, `told` of each settled clip, `say` what the user should know now,
    both from other threads too. Raises UsageError, FetchError, StoreError or DownloadError; what was settled until then
    stays settled.
    """
    stop = stop or Stop()
    tally = Tally(told=told)
    store = Store(store_root, choices.profile.folder)
    plan = Plan(manifest, store, choices)
    check_profile(store, choices.profile)
    missing = len(plan.missing())
    if not missing:
        sweep(store_root)
        return tally
    planned(missing)
    with scratch_folder(store_root) as scratch, ClipPool(choices.workers) as pool:
        run, checked = Run(store, choices.profile, pool, scratch, stop, tally, say), False
        try:
            for stage in plan.stages():
                _check_room(store, choices, stage.clips)
                if stage.units and not checked:
                    _check_tools(pool, scratch, choices.profile)
                    checked = True
                if stage.note:
                    say(stage.note)
                run_units(
                    stage.units,
                    lambda unit, do=stage.do: do(unit, run),  # type: ignore[misc]
                    parallel=units_at_a_time(choices.workers),
                    stop=stop,
                )
                if stop.asked:
                    break
        except BaseException:
            pool.kill()
            raise
        finally:
            run.close()
    return tally


def check_profile(store: Store, profile: Profile) -> None:
    """Raise StoreError where the store's clips of this profile were made with other settings."""
    files = store.unit_files()
    if not files:
        return
    # A store that an older version began does not know the newer keys: their defaults are what it did.
    found: dict[str, Any] = Profile().settings() | (unit_metadata(files[0]).get("profile") or {})
    differing = [
        f"{key} {found.get(key)} → {value}" for key, value in profile.settings().items() if found.get(key) != value
    ]
    if differing:
        raise StoreError(
            f"{store.media_folder}: its clips were made with other settings ({', '.join(differing)}); "
            f"give the profile another name, or use another --store"
        )


def _check_tools(pool: ClipPool, scratch: Path, profile: Profile) -> None:
    """Raise FetchError where ffmpeg cannot make a clip of a picture of its own: else all clips would get the blame."""
    test = scratch / "self-check.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=10:duration=2", "-c:v", "libx264", "-f", "mp4"]
    try:
        command = [ffmpeg_binary(), "-nostdin", "-v", "error", *picture, str(test)]
        # A session of its own: the terminal's Ctrl-C must not pass for a broken ffmpeg.
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, timeout=_SELF_CHECK_S, check=False, start_new_session=True
        )
        said = done.stderr.decode(errors="replace").strip() or f"exit {done.returncode}"
        if done.returncode == 0:
            cut = Candidate(test, named_span=False)
            job = ClipJob("self-check", (0, 1), ((0, 1),), (cut,), scratch / "checked", profile, _SELF_CHECK_S)
            made = pool.submit(job).result()
            said = "" if made.failure in (None, NO_SPACE) else str(made.message)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said:
        raise FetchError(f"ffmpeg cannot make clips here: {said.splitlines()[-1][-300:]}")


def _check_room(store: Store, choices: Choices, clips: int) -> None:
    needed = clips * _clip_bytes(store, choices.profile) + _scratch_bytes(choices)
    free = _free_bytes(store.root)
    if clips and needed > free:
        raise FetchError(
            f"{store.root}: {clips:,} clips need about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            f"take --limit, fewer --splits, or another --store"
        )


def _clip_bytes(store: Store, profile: Profile) -> int:
    """The mean size of the clips that the store has, else what the profile's are expected to have."""
    sizes = store.rows(("size",))["size"].drop_null()
    if len(sizes) >= ENOUGH_ROWS:
        return int(pc.mean(sizes).as_py())
    return EXPECTED_CLIP_BYTES[profile.codec]


def _scratch_bytes(choices: Choices) -> int:
    clips = units_at_a_time(choices.workers) * (2 * choices.workers + 2)
    return clips * (SOURCE_CLIP_BYTES + EXPECTED_CLIP_BYTES[choices.profile.codec])


def _free_bytes(folder: Path) -> int:
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
