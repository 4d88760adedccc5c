"""All figures of a report, gathered once: `k710 stats` and `k710 report` show these and count nothing themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.curation.attrition import policy_words
from k710.curation.own_labels import OWN_CONFLICTS
from k710.errors import StoreError
from k710.ledger.ledger import read_ledger
from k710.manifest.read import Manifest
from k710.report.figures.availability import availability_figures
from k710.report.figures.classes import class_figures
from k710.report.figures.conflicts import conflict_figures
from k710.report.figures.doubts import doubt_figures
from k710.report.figures.lists import attrition_figures, overlap_figures
from k710.report.figures.media import media_figures, media_of
from k710.report.figures.near_duplicates import near_duplicate_figures
from k710.report.figures.runs import run_figures
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.store.store import Store, fetch_command, profiles_in
from k710.text import counted


@dataclass(frozen=True)
class Figures:
    """The figures of each section, plain data. None: there is nothing to count (no store, no pairs, no runs)."""

    manifest: dict[str, Any]
    attrition: dict[str, Any] | None
    overlap: dict[str, Any]
    conflicts: dict[str, Any]
    classes: dict[str, Any]
    media: dict[str, Any] | None
    near_duplicates: dict[str, Any] | None
    runs: dict[str, Any] | None
    availability: dict[str, Any] | None = None
    doubts: dict[str, Any] | None = None


def gather(
    manifest: Manifest,
    *,
    store: Store | None,
    runs: Sequence[Path] = (),
    ledger: Path | None = None,
    predictions: Sequence[Path] = (),
    on_step: Callable[[str], None] = lambda what: None,
) -> Figures:
    """Count everything. `on_step` hears what is done now. Raises ManifestError, StoreError or ReportError for what
    cannot be read."""
    on_step("reading the manifest and the runs")
    clips, union, counts = manifest.clips, manifest.catalogue.union, manifest.about.get("counts") or {}
    run_counts = run_figures(runs) if runs else None  # first: a wrong folder is said at once
    answers = None if ledger is None else availability_figures(manifest, read_ledger(ledger))
    doubts = doubt_figures(manifest, predictions)
    on_step("reading the store's rows")
    media = None if store is None else media_of(manifest, store)
    on_step(f"counting rows, overlaps, conflicts and classes of {counted(len(clips), 'clip')}")
    return Figures(
        manifest=_manifest(manifest),
        attrition=attrition_figures(manifest),
        overlap=overlap_figures(clips, counts.get("leaked_rows"), manifest.catalogue),
        conflicts=conflict_figures(clips, manifest.labels, counts.get(OWN_CONFLICTS, ()))
        | ({"union": union.short_title} if union.is_own else {}),
        classes=class_figures(clips, manifest.labels, media, manifest.catalogue),
        media=None if store is None or media is None else media_figures(manifest, store, media),
        near_duplicates=near_duplicate_figures(manifest),
        runs=run_counts,
        availability=answers,
        doubts=doubts if doubts["shown"] or predictions else None,
    )


def find_store(manifest: Manifest, root: Location | None, profile: str | None) -> Store | None:
    """The store `root` (default: MANIFEST/store) with its usual or only profile; None where none was named and none is
    there. Raises StoreError for a store or a profile that was named and is not there."""
    folder = manifest.path / "store" if root is None else root
    there = list(profiles_in(folder))
    if not there and root is None and profile is None:
        return None
    if not there:
        raise StoreError(
            f"{folder}: no store there; `{fetch_command(manifest.path, Store(folder, DEFAULT_PROFILE))}` makes one"
        )
    if profile is not None and profile not in there:
        raise StoreError(f"{folder}: has no profile {profile!r}; it has {', '.join(there)}")
    return Store(folder, profile or (DEFAULT_PROFILE if DEFAULT_PROFILE in there else there[0]))


def _manifest(manifest: Manifest) -> dict[str, Any]:
    about, counts = manifest.about, manifest.about.get("counts") or {}
    return {
        "name": manifest.path.name or manifest.path.resolve().name,
        "content_hash": manifest.checked_content_hash(),
        "recipe": about["recipe"],
        "clips": len(manifest.clips),
        **{key: counts.get(key) for key in ("rows", "videos", "train", "val", "classes")},
        **({"own_sources": own} if (own := _own_sources(manifest)) else {}),
        **({"union": union} if (union := _own_union(manifest)) else {}),
        "sources": [
            {key: entry.get(key) for key in ("source", "split", "file", "rows", "sha256")} for entry in about["sources"]
        ],
    }


def _own_union(manifest: Manifest) -> dict[str, Any] | None:
    """What the report says of a union that the manifest itself describes."""
    union = manifest.catalogue.union
    if not union.is_own:
        return None
    return {
        "name": union.name,
        "title": union.title,
        "members": list(union.members),
        "classes": len(union.classes),
        "policy": policy_words(manifest.about["recipe"], union),
    }


def _own_sources(manifest: Manifest) -> list[dict[str, Any]]:
    """What the report says of sources that the manifest itself describes."""
    return [
        {
            "source": source.name,
            "title": source.title,
            "colour": source.colour,
            "licence": source.licence,
            "classes": len(source.classes),
            "in_k710": manifest.catalogue.in_union(source.name),
        }
        for source in manifest.catalogue.own
    ]
