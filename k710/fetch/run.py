"""`k710 fetch`: what is wanted of a manifest, stage by stage, into the store."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from k710.engine import Engine, Stop, local_engine, units_at_a_time
from k710.errors import DownloadError, FetchError, StoreError
from k710.fetch.clip_pool import ClipPool
from k710.fetch.ffmpeg_binary import ffmpeg_binary
from k710.fetch.from_cvdf import stop_without_network
from k710.fetch.jobs import NO_SPACE, Candidate, ClipJob
from k710.fetch.plan import Choices, Plan, Stage
from k710.fetch.profiles import Profile
from k710.fetch.scratch import scratch_folder, scratch_parent, sweep
from k710.fetch.unit_work import Run, Tally
from k710.fetch.wanted import of_part
from k710.http_reader import head
from k710.manifest import Manifest
from k710.remote import RemotePath
from k710.storage import Location
from k710.store import Store, unit_metadata

# Before a store can say how large its clips are: ten seconds of the public archives, as docs/fetch.md measures them.
EXPECTED_CLIP_BYTES = {"h264": 1_000_000, "source": 2_000_000, "frames": 1_500_000}
SOURCE_CLIP_BYTES = 4_000_000  # of a clip that waits in the scratch, generously
ENOUGH_ROWS = 100
_HEADS_AT_ONCE = 16
_SELF_CHECK_S = 60.0


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


def estimate(manifest: Manifest, store_root: Location, choices: Choices) -> Estimate:
    """What `fetch` would do, without doing it: downloads no more than the lists of archives and asks for sizes."""
    store = Store(store_root, choices.profile.folder)
    plan = Plan(manifest, store, choices)
    stages, notes, clips, scratch_bytes = [], [], 0, _scratch_bytes(choices)
    for stage in plan.stages():
        stages.append((stage.origin, stage.clips, len(stage.archives), _download_bytes(stage.archives)))
        notes += [stage.note] if stage.note else []
        clips += stage.clips
        scratch_bytes = max(scratch_bytes, _scratch_bytes(choices) + _waiting_bytes(store, choices, stage))
    clips = min(clips, len(plan.missing()))
    return Estimate(
        len(plan.wanted),
        len(plan.missing()),
        tuple(stages),
        clips * _clip_bytes(store, choices.profile),
        scratch_bytes,
        _free_bytes(scratch_parent(store_root, choices.scratch)),
        tuple(notes),
    )


def fetch(
    manifest: Manifest,
    store_root: Location,
    choices: Choices,
    *,
    stop: Stop | None = None,
    told: Callable[[Tally], None] = lambda tally: None,
    planned: Callable[[int], None] = lambda clips: None,
    say: Callable[[str], None] = lambda text: None,
    engine: Callable[..., AbstractContextManager[Engine[Run]]] = local_engine,
) -> Tally:
    """Bring the wanted clips that the store lacks; returns what was settled. `stop` ends it early, as a full disk does.

    `planned` hears of the missing clips at the start, `told` of each settled clip, `say` what the user should know now,
    both from other threads too. `engine`: `local_engine`, or another of its form. Raises UsageError, FetchError,
    StoreError, RemoteError, EngineError or DownloadError; what was settled until then stays settled.
    """
    stop = stop or Stop()
    tally = Tally()
    if isinstance(store_root, RemotePath):
        store_root.check_writable()
    store = Store(store_root, choices.profile.folder)
    plan = Plan(manifest, store, choices)
    check_profile(store, choices.profile)
    if not len(plan.missing()):
        sweep(store_root, choices.scratch)
        return tally
    planned(len(of_part(plan.missing(), choices.part)))
    shared = tuple(plan.local_files())
    if isinstance(store_root, Path):  # a URL is the same everywhere
        store = Store(store_root.absolute(), store.profile_folder)  # where another machine stands is not known
        shared = (store_root.absolute() / "scratch", *shared)
    opens = partial(_open_run, store=store, choices=choices, say=say)
    with engine(opens, workers=choices.workers, stop=stop, shared=shared) as opened:
        counted, checked = _Counted(tally, told, stop), False
        plan.workers = opened.workers
        for stage in plan.stages():
            _check_room(store, choices, stage)
            if stage.units and not checked:
                opened.on_each_machine(_check_tools)
                checked = True
            if stage.note:
                say(stage.note)
            opened.run_units(stage.units, partial(_do, do=stage.do), heard=counted.heard, news=counted.news)
            if stop.asked:
                break
    tally.left = len(plan.left())
    return tally


@contextmanager
def _open_run(stop: Stop, workers: int, *, store: Store, choices: Choices, say: Callable[[str], None]) -> Iterator[Run]:
    """What the units share on one machine."""
    with scratch_folder(store.root, scratch=choices.scratch) as scratch, ClipPool(workers) as pool:
        run = Run(store, choices.profile, pool, scratch, stop, Tally(), say)
        try:
            yield run
        except BaseException:
            pool.kill()
            raise
        finally:
            run.close()


def _do(unit: Any, run: Run, tell: Callable[[Any], None], *, do: Callable[[Any, Run], None]) -> dict[str, Any]:
    """A unit with a tally of its own, which is counted once the unit is done."""
    tally = Tally(told=lambda tally: tell((tally.fetched, tally.bytes_stored, Counter(tally.failed))))
    do(unit, replace(run, tally=tally))
    return tally.counts()


class _Counted:
    """What the units that are done have settled, in `tally`; those at work are added for those who watch."""

    def __init__(self, tally: Tally, told: Callable[[Tally], None], stop: Stop) -> None:
        self._tally, self._told, self._stop = tally, told, stop
        self._at_work: dict[int, tuple[int, int, Counter[str]]] = {}
        self._lock = threading.Lock()

    def heard(self, number: int, counts: dict[str, Any]) -> None:
        with self._lock:
            self._at_work.pop(number, None)
            self._tally.add(counts)
            stop_without_network(self._tally, counts["unread"], self._stop)

    def news(self, number: int, settled: tuple[int, int, Counter[str]] | None) -> None:
        with self._lock:
            if settled is None:  # its machine is gone: what the unit had settled was not committed
                self._at_work.pop(number, None)
                return
            self._at_work[number] = settled
            shown = Tally(self._tally.fetched, self._tally.bytes_stored, Counter(self._tally.failed))
            for fetched, size_bytes, failed in self._at_work.values():
                shown.add({"fetched": fetched, "bytes_stored": size_bytes, "failed": failed})
        self._told(shown)


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


def _check_tools(run: Run) -> None:
    """Raise FetchError where ffmpeg cannot make a clip of a picture of its own: else all clips would get the blame."""
    test = run.scratch / "self-check.mp4"
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
            job = ClipJob("self-check", (0, 1), ((0, 1),), (cut,), run.scratch / "checked", run.profile, _SELF_CHECK_S)
            made = run.pool.submit(job).result()
            said = "" if made.failure in (None, NO_SPACE) else str(made.message)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said:
        raise FetchError(f"ffmpeg cannot make clips here: {said.splitlines()[-1][-300:]}")


def _check_room(store: Store, choices: Choices, stage: Stage) -> None:
    if not stage.clips:
        return
    folder = scratch_parent(store.root, choices.scratch)
    needed, todo = _scratch_bytes(choices), f"{stage.clips:,} clips need"
    if isinstance(store.root, Path):
        needed += stage.clips * _clip_bytes(store, choices.profile)
        folder, advice = store.root, "take --limit, fewer --splits, or another --store"
    else:
        needed += _waiting_bytes(store, choices, stage)
        todo, advice = "units that are on their way need", "take fewer --workers, or another --scratch"
    if needed > (free := _free_bytes(folder)):
        raise FetchError(f"{folder}: {todo} about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; {advice}")


def _waiting_bytes(store: Store, choices: Choices, stage: Stage) -> int:
    """What waits in the scratch of a store at a URL, at most: units gather there before they are put."""
    if isinstance(store.root, Path) or not stage.units:
        return 0
    at_a_time = min(units_at_a_time(choices.workers), len(stage.units))
    return at_a_time * -(-stage.clips // len(stage.units)) * _clip_bytes(store, choices.profile)


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
