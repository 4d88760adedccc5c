"""`k710 fetch`: what is wanted of a manifest, stage by stage, into the store."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from k710.engine.engine import OpenEngine, Stop, local_engine
from k710.errors import FetchError, StoreError, UsageError
from k710.fetch.encode.ffmpeg_binary import failure_reason, ffmpeg_binary
from k710.fetch.encode.jobs import NO_SPACE, Candidate, ClipJob, clip_pool
from k710.fetch.encode.profiles import ENCODING_VERSION, Profile
from k710.fetch.estimate import check_room
from k710.fetch.origins.cvdf import stop_without_network
from k710.fetch.origins.local import clip_of
from k710.fetch.plan import FetchOptions, Plan
from k710.fetch.scratch import scratch_folder, sweep
from k710.fetch.unit_work import Run, Tally
from k710.fetch.wanted import of_part
from k710.manifest.read import Manifest
from k710.storage.remote import RemotePath
from k710.storage.storage import Location
from k710.store.store import MENDED, NewerStoreError, Store, unit_metadata

_SELF_CHECK_S = 60.0


def fetch(
    manifest: Manifest,
    store_root: Location,
    options: FetchOptions,
    *,
    stop: Stop | None = None,
    on_planned: Callable[[int], None] = lambda clips: None,
    on_settled: Callable[[Tally], None] = lambda tally: None,
    on_message: Callable[[str], None] = lambda text: None,
    engine: OpenEngine = local_engine,
) -> Tally:
    """Bring the wanted clips that the store lacks; returns what was settled. `stop` ends it early, as a full disk does.

    `on_planned` gets the number of missing clips at the start, `on_settled` the tally after each settled clip, and
    `on_message` what the user should know now; the last two are called from other threads too. `engine`:
    `local_engine`, or another of its form. Raises UsageError, FetchError, StoreError, RemoteError, EngineError or
    DownloadError; what was settled until then stays settled.
    """
    stop = stop or Stop()
    tally = Tally()
    if isinstance(store_root, RemotePath):
        store_root.check_writable()
    if options.scratch is not None:
        options = replace(options, scratch=options.scratch.absolute())  # another machine has another current folder
    store = Store(store_root, options.profile.folder)
    plan = Plan(manifest, store, options)
    check_profile(store, options.profile, on_message=on_message)
    if not len(plan.wanted):
        where = f"view {options.view}" if options.view else "any release"
        raise UsageError(f"{manifest.path}: has no clip of {where} in splits {', '.join(options.splits)}")
    state = plan.read_store()
    if not len(state.missing):
        sweep(store_root, options.scratch)
        return tally
    on_planned(len(of_part(state.missing, options.part)))
    shared = tuple(plan.local_files())
    if isinstance(store_root, Path):  # a URL is the same everywhere
        store = Store(store_root.absolute(), store.profile_folder)
        shared = (store_root.absolute() / "scratch", *shared)
    opens = partial(_open_run, store=store, options=options, on_message=on_message)
    with engine(opens, workers=options.workers, stop=stop, shared=shared) as opened:
        counted, checked = _Counted(tally, on_settled, stop), False
        plan.workers = opened.workers
        for stage in plan.stages(state):
            tally.unread.update(stage.unread)
            check_room(store, options, stage)
            if stage.units and not checked:
                opened.on_each_machine(partial(_check_tools, num_clips=stage.clips))
                checked = True
            if stage.note:
                on_message(stage.note)
            opened.run_units(
                stage.units, partial(_do, do=stage.do), on_result=counted.on_result, on_progress=counted.on_progress
            )
            plan.refused |= tally.refused.keys()
            if stop.asked:
                break
    if not options.part.is_whole or tally.unsettled or tally.unread or tally.damaged:
        missing = plan.read_store().missing
        tally.left = len(plan.left_to_others(missing))
        _forget_what_came(tally, missing)
    return tally


def _forget_what_came(tally: Tally, missing: pa.Array) -> None:
    """Remove videos and archives that gave no answer or broke off, if the clips that were wanted of them came."""
    videos = {clip_of(clip_id).youtube_id for clip_id in missing.to_pylist()}
    tally.unsettled = {video: reason for video, reason in tally.unsettled.items() if video in videos}
    if not videos:
        tally.unread.clear()
        tally.damaged.clear()


@contextmanager
def _open_run(
    stop: Stop, workers: int, *, store: Store, options: FetchOptions, on_message: Callable[[str], None]
) -> Iterator[Run]:
    """What the units share on one machine."""
    with scratch_folder(store.root, scratch=options.scratch) as scratch, clip_pool(workers) as pool:
        run = Run(store, options.profile, pool, scratch, stop, Tally(), on_message)
        try:
            yield run
        except BaseException:
            pool.kill()
            raise
        finally:
            run.close()


def _do(unit: Any, run: Run, report: Callable[[Any], None], *, do: Callable[[Any, Run], None]) -> dict[str, Any]:
    """A unit with a tally of its own, which is counted once the unit is done."""
    tally = Tally(on_settled=lambda tally: report((tally.fetched, tally.bytes_stored, Counter(tally.failed))))
    do(unit, replace(run, tally=tally))
    return tally.counts()


class _Counted:
    """Counts in `tally` what finished units have settled; what is shown also has the progress of those at work."""

    def __init__(self, tally: Tally, on_settled: Callable[[Tally], None], stop: Stop) -> None:
        self._tally, self._on_settled, self._stop = tally, on_settled, stop
        self._at_work: dict[int, tuple[int, int, Counter[str]]] = {}
        self._lock = threading.Lock()

    def on_result(self, number: int, counts: dict[str, Any]) -> None:
        with self._lock:
            self._at_work.pop(number, None)
            self._tally.add(counts)
            # Where something was answered, the network works, and the archives behind it are worth a try.
            answered = counts["refused"].keys() | counts["no_archives"].keys()
            stop_without_network(self._tally, counts["unread"].keys() - answered, self._stop)

    def on_progress(self, number: int, settled: tuple[int, int, Counter[str]] | None) -> None:
        with self._lock:
            if settled is None:  # its machine is gone: what the unit had settled was not committed
                self._at_work.pop(number, None)
                return
            self._at_work[number] = settled
            shown = Tally(self._tally.fetched, self._tally.bytes_stored, Counter(self._tally.failed))
            for fetched, size_bytes, failed in self._at_work.values():
                shown.add({"fetched": fetched, "bytes_stored": size_bytes, "failed": failed})
        self._on_settled(shown)


def _metadata_of_units(store: Store) -> Iterator[dict[str, Any]]:
    for file in store.unit_files():
        try:
            yield unit_metadata(file)
        except NewerStoreError:
            raise
        except StoreError as error:
            raise StoreError(f"{error}; {MENDED}") from None


def check_profile(store: Store, profile: Profile, *, on_message: Callable[[str], None] = lambda text: None) -> None:
    """Raise StoreError where the store's clips of this profile were made with other settings. `on_message` gets a
    warning where they were made by an earlier encoding; the fetch goes on."""
    # A repair may have recovered a unit that does not say how its clips were made.
    unit = next((metadata for metadata in _metadata_of_units(store) if metadata.get("profile")), None)
    if unit is None:
        return
    recorded = unit["profile"]
    if unit.get("encoding", 1) < ENCODING_VERSION:
        on_message(
            f"{store.media_folder}: clips there were made by an earlier version of k710, which lost the last frames of "
            f"some clips and with ffmpeg 7.0 the colours; they are kept. docs/fetch.md says how to make them anew"
        )
    # A store that an older version began does not know the newer keys: their defaults are what it did.
    found: dict[str, Any] = Profile().settings() | recorded
    differing = [
        f"{key} {found.get(key)} → {value}" for key, value in profile.settings().items() if found.get(key) != value
    ]
    if differing:
        raise StoreError(
            f"{store.media_folder}: its clips were made with other settings ({', '.join(differing)}); "
            f"give the profile another name, or use another --store"
        )


def _check_tools(run: Run, *, num_clips: int) -> None:
    """Raise FetchError where ffmpeg cannot make a clip of a picture of its own, which is no failure of the clips;
    RemoteError where this machine lacks what a store at a URL needs, which would show only when clips are put.

    The processes for `num_clips` clips start meanwhile.
    """
    run.pool.start(num_clips)
    if isinstance(run.store.root, RemotePath):
        run.store.media_folder.exists()
    test = run.scratch / "self-check.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=10:duration=2", "-c:v", "libx264", "-f", "mp4"]
    try:
        command = [ffmpeg_binary(), "-nostdin", "-v", "error", *picture, str(test)]
        # A session of its own: the terminal's Ctrl-C must not pass for a broken ffmpeg.
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, timeout=_SELF_CHECK_S, check=False, start_new_session=True
        )
        problem = failure_reason(done.stderr.decode(errors="replace"), done.returncode)
        if done.returncode == 0:
            cut = Candidate(test, named_span=False)
            job = ClipJob("self-check", (0, 1), ((0, 1),), (cut,), run.scratch / "checked", run.profile, _SELF_CHECK_S)
            made = run.pool.submit(job).result()
            problem = "" if made.failure in (None, NO_SPACE) else str(made.message)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        raise FetchError(f"ffmpeg cannot make clips here: {problem.splitlines()[-1][-300:]}")
