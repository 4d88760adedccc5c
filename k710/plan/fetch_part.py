"""The part of a plan that is about the fetch: clips, bytes to download and to store, core-hours, hours, money."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from k710.errors import UsageError
from k710.fetch.encode.codecs import CODECS
from k710.fetch.estimate import Estimate, estimate, free_bytes, stored_clip_bytes
from k710.fetch.origins.local import LocalClips, LocalOrigin
from k710.fetch.plan import FetchOptions, Plan
from k710.manifest.read import Manifest
from k710.plan.clock import Spent, num_cores, process_start
from k710.plan.figures import (
    ASSUMED,
    COMPUTED,
    MANIFEST,
    MEASURED,
    ORIGIN,
    STATED,
    STORE,
    Figure,
    unknown,
)
from k710.plan.measure_fetch import MADE_S, FetchCost, made_up_clips, measure_fetch
from k710.plan.options import PlanOptions
from k710.storage.storage import Location
from k710.store.store import Store
from k710.text import counted, seconds

_EXPECTED_S = 10.0  # the length of a clip of which a codec's `expected_bytes` is
_MADE_CLIPS = 64
_MADE = "generated clips"
_MADE_NOTE = "generated clips are of 10 s, 340x256, 30 fps; real ones differ: --from local:DIR measures yours"


@dataclass(frozen=True)
class Footage:
    """Where clips of the profile are, to measure how they are loaded: a store, and a manifest of its clips."""

    manifest: Manifest
    store: Location
    view: str | None  # None: the view that is trained on
    title: str


@dataclass(frozen=True)
class FetchPart:
    """The figures, what the user should know, and clips to measure loading on (None: none are there)."""

    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    footage: Footage | None


def plan_fetch(manifest: Manifest, options: PlanOptions, scratch: Path) -> FetchPart:
    """What a fetch of the manifest's missing clips would take. Measurements write into `scratch`.

    Raises UsageError where nothing is wanted, and as `fetch` and `estimate` do; only an origin that is on a server is
    asked, for the sizes of its archives.
    """
    root = manifest.path / "store" if options.store is None else options.store
    given = FetchOptions(options.profile, view=options.view, splits=options.splits, workers=num_cores())
    if options.origins:
        given = replace(given, origins=options.origins)
    store = Store(root, options.profile.folder)
    planned = Plan(manifest, store, given, is_dry=True)
    if not len(planned.wanted):
        where = f"view {options.view}" if options.view else "any release"
        raise UsageError(f"{manifest.path}: has no clip of {where} in splits {', '.join(options.splits)}")
    missing = planned.read_store().missing
    found = estimate(manifest, root, given) if options.origins and len(missing) else None
    to_fetch = len(missing) if found is None else min(len(missing), sum(stage[1] for stage in found.stages))
    span_s = mean_span_s(manifest, missing if len(missing) else planned.wanted)
    cost, footage = _measured(planned, options, to_fetch, scratch)
    if footage is None and len(missing) < len(planned.wanted):
        footage = Footage(manifest, root, None, f"clips of {root}")
    counts = [
        Figure("clips wanted", len(planned.wanted), "clips", MANIFEST, f"splits {', '.join(options.splits)}"),
        Figure("clips missing", len(missing), "clips", STORE, str(root)),
    ]
    if found is not None:
        named = {stage[0].partition(":")[0] for stage in found.stages}
        folders = [f"local:{each.folder}" for each in options.origins if isinstance(each, LocalOrigin)]
        others = sorted(named - {"local"})
        from_where = ", ".join([*folders, *others]) if named else "no origin has any"
        counts.append(Figure("clips to fetch", to_fetch, "clips", ORIGIN, from_where))
    disk = _disk(store, options, cost, span_s, to_fetch)
    notes = [] if found is None else [*found.notes]
    if cost is not None and not cost.is_own:
        notes.append(_MADE_NOTE)
    if isinstance(root, Path):
        free = free_bytes(root)
        disk.append(Figure("disk free", free, "bytes", MEASURED, str(root)))
        if (disk[1].value or 0) > free:
            notes.append(f"{root}: the clips do not fit on its disk; --store plans for another")
    return FetchPart((*counts, *disk, *_time(options, found, cost, span_s, to_fetch)), tuple(notes), footage)


def mean_span_s(manifest: Manifest, clip_ids: pa.Array) -> float | None:
    """The mean length of the clips' spans, in seconds; None where no clip has a span."""
    clips = manifest.read_clips(("clip_id", "time_start_s", "time_end_s"))
    clips = clips.filter(pc.is_in(clips["clip_id"], clip_ids))
    mean = pc.mean(pc.subtract(clips["time_end_s"], clips["time_start_s"])).as_py()
    return None if mean is None else float(mean)


@dataclass(frozen=True)
class _Measured:
    """A cost, and whether it is of the user's own clips."""

    cost: FetchCost
    process: Spent
    is_own: bool


def _measured(
    planned: Plan, options: PlanOptions, to_fetch: int, scratch: Path
) -> tuple[_Measured | None, Footage | None]:
    """The cost of a clip: of the user's folder where an origin is one and has some, else of generated clips."""
    if not options.measures or not to_fetch:
        return None, None
    process = process_start("k710.fetch.run")
    local = next((origin for origin in options.origins if isinstance(origin, LocalOrigin)), None)
    manifest, given = planned.manifest, planned.options
    if local is not None and (clips := len(LocalClips(local, manifest).found(planned.wanted))):
        of_folder, share = replace(given, origins=(local,)), clips / len(planned.wanted)
        cost = measure_fetch(manifest, scratch / "own", of_folder, share=share, measure_s=options.measure_s)
        return _Measured(cost, process, True), Footage(
            manifest, scratch / "own", None, f"{counted(cost.num_clips, 'clip')} of {local.folder}"
        )
    made, origin = made_up_clips(scratch / "made", _MADE_CLIPS)
    of_made = FetchOptions(given.profile, (origin,), workers=given.workers)
    cost = measure_fetch(made, scratch / "made-store", of_made, share=1.0, measure_s=options.measure_s)
    return _Measured(cost, process, False), Footage(made, scratch / "made-store", "k400", _MADE)


def _disk(
    store: Store, options: PlanOptions, measured: _Measured | None, span_s: float | None, to_fetch: int
) -> list[Figure]:
    """The size of a stored clip, from the best that there is, and of all that would be fetched."""
    overhead = 0.0
    if (size := stored_clip_bytes(store)) is not None:
        each = Figure("a stored clip", size, "bytes", STORE, f"mean of those in {store.media_folder}")
    elif measured is not None and measured.is_own and measured.cost.clip_bytes:
        cost = measured.cost
        note = f"mean of {counted(cost.num_clips, 'clip')}, give or take {cost.clip_bytes_error / cost.clip_bytes:.0%}"
        each, overhead = Figure("a stored clip", cost.clip_bytes, "bytes", MEASURED, note), cost.overhead_bytes
    else:
        share = (span_s or _EXPECTED_S) / _EXPECTED_S
        expected = CODECS[options.profile.codec].expected_bytes * share
        note = "the profile's usual size, by the clips' length"
        each = Figure("a stored clip", expected, "bytes", ASSUMED, note)
    assert each.value is not None
    total = to_fetch * (each.value + overhead)
    disk = [each, Figure("disk", total, "bytes", COMPUTED, f"profile {options.profile.folder}")]
    if options.prices.disk_month is not None:
        money = total / 1e12 * options.prices.disk_month
        disk.append(Figure("money for the disk", money, "money a month", COMPUTED, "at your price of a TB"))
    return disk


def _time(
    options: PlanOptions, found: Estimate | None, measured: _Measured | None, span_s: float | None, to_fetch: int
) -> list[Figure]:
    """Core-hours and hours: of encoding, of the download, and of both."""
    cores, stated = (num_cores(), False) if options.cores is None else (options.cores, True)
    on_cores = Figure("cores", cores, "cores", STATED if stated else MEASURED, "" if stated else "this machine's")
    download = _download(options, found)
    wait = _download_time(options, download)
    if not to_fetch:
        return [on_cores, Figure("time of a fetch", 0, "s", COMPUTED, "nothing is missing")]
    if measured is None:
        settled = "leave --no-measure out, and some clips are encoded here"
        rest = [unknown("encoding a clip", "s", settled), download, *wait, unknown("time of a fetch", "s", settled)]
        return [on_cores, *rest]
    cost, share = measured.cost, 1.0
    note = f"of one core; {counted(cost.num_clips, 'clip')} of your folder"
    if not measured.is_own:
        share = (span_s or MADE_S) / MADE_S
        note = f"of one core; {_MADE}" + (f", by the length of yours, {seconds(span_s)} s" if span_s else "")
    each_s = cost.clip_core_s * share
    start = Spent(cost.start.wall_s + measured.process.wall_s, cost.start.core_s + measured.process.core_s)
    core_s = start.core_s + to_fetch * each_s
    encode_s = start.wall_s + to_fetch * each_s / cores
    figures = [
        on_cores,
        Figure("encoding a clip", each_s, "s", MEASURED, note),
        Figure("start of a fetch", start.wall_s, "s", MEASURED),
        Figure("core time of a fetch", core_s / 3600, "core-hours", COMPUTED),
        Figure("time to encode", encode_s, "s", COMPUTED, f"all of {counted(cores, 'core')} at work"),
        download,
        *wait,
        _whole_time(encode_s, download, wait),
    ]
    if options.prices.core_hour is not None:
        money = core_s / 3600 * options.prices.core_hour
        figures.append(Figure("money for the cores", money, "money", COMPUTED, "at your price of a core-hour"))
    return figures


def _download(options: PlanOptions, found: Estimate | None) -> Figure:
    if options.download_bytes is not None:
        return Figure("download", options.download_bytes, "bytes", STATED)
    settled = "--from cvdf asks the servers for the size of the archives; --download-gb states it"
    if found is None:
        return unknown("download", "bytes", settled)
    if any(name.partition(":")[0] == "youtube" for name, clips, _, _ in found.stages if clips):
        return unknown("download", "bytes", "YouTube tells no sizes beforehand; --download-gb states it")
    sizes = [size for *_, size in found.stages]
    if any(size is None for size in sizes):
        return unknown("download", "bytes", "a server does not say its sizes; --download-gb states it")
    return Figure("download", float(sum(size or 0 for size in sizes)), "bytes", ORIGIN, "what the origins say")


def _download_time(options: PlanOptions, download: Figure) -> list[Figure]:
    if download.value == 0:
        return []
    if download.value is None:
        return [unknown("time to download", "s", "see download")]
    if options.bandwidth is None:
        return [unknown("time to download", "s", "--bandwidth states how many MB/s come in")]
    note = f"at your {options.bandwidth / 1e6:g} MB/s"
    return [Figure("time to download", download.value / options.bandwidth, "s", COMPUTED, note)]


def _whole_time(encode_s: float, download: Figure, wait: list[Figure]) -> Figure:
    if download.value == 0:
        return Figure("time of a fetch", encode_s, "s", COMPUTED)
    if wait[0].value is None:
        return unknown("time of a fetch", "s", "at least the time to encode; see time to download")
    return Figure("time of a fetch", max(encode_s, wait[0].value), "s", ASSUMED, "both at the same time")
