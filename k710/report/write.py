"""A manifest's report as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from k710.errors import ReportError, UsageError
from k710.manifest.read import Manifest
from k710.report.figures.gather import find_store, gather
from k710.report.galleries import make_galleries
from k710.report.page import render_page
from k710.report.sections import sections
from k710.storage.storage import Location, held, replacing


def write_report(
    manifest: Manifest,
    out: Path,
    *,
    store: Location | None = None,
    profile: str | None = None,
    runs: Sequence[Path] = (),
    ledger: Path | None = None,
    predictions: Sequence[Path] = (),
    per_class: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_step: Callable[[str], None] = lambda what: None,
) -> int:
    """Write the report of a manifest, its store and its runs to `out`, whole or not at all; returns its size in bytes.

    `on_progress(done, total)` counts the clips read for pictures; `on_step` gets the name of each step. Raises
    UsageError or ReportError for an invalid `out`; ManifestError, StoreError or ReportError for input that cannot be
    read.
    """
    check_out(manifest, out)
    found = find_store(manifest, store, profile)
    figures = gather(manifest, store=found, runs=runs, ledger=ledger, predictions=predictions, on_step=on_step)
    galleries = {}
    if found is not None and per_class != 0:
        galleries = make_galleries(manifest, found, figures, per_class=per_class, on_progress=on_progress)
    on_step("drawing the charts and writing the page")
    name = figures.manifest["name"]
    subtitle = f"Report of a {manifest.catalogue.union.title} manifest, {figures.manifest['content_hash'][:16]}"
    page = render_page(name, sections(figures, galleries, draw=True), subtitle=subtitle)
    content = page.encode("utf-8", "backslashreplace")
    with held(out), replacing(out) as file:
        file.write(content)
    return len(content)


def check_out(manifest: Manifest, out: Path) -> None:
    """Raise UsageError for a file inside the manifest, ReportError for a missing folder."""
    if manifest.path.resolve() in out.resolve().parents:
        raise UsageError(
            f"{out}: is inside the manifest {manifest.path}, which must not hold other files; choose another place"
        )
    if not out.parent.is_dir():
        raise ReportError(f"{out}: there is no folder {out.parent}; create it, or choose another --out")
