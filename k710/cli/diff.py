"""`k710 diff`: compare two datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import FILE, FOLDER_OR_URL, PATH_OR_URL, VIEW, named_store, print_json, print_table
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted

if TYPE_CHECKING:
    from k710.diff.manifests import Difference
    from k710.manifest.read import Manifest
    from k710.store.store import Store

_COUNTS = ("A", "B", "gained", "lost", "came", "went")


@click.command("diff")
@click.argument("a", type=PATH_OR_URL)
@click.argument("b", type=PATH_OR_URL)
@click.option("--view", type=VIEW, help="The union, or a source as published.  [the union: k710]")
@click.option("--store-a", type=FOLDER_OR_URL, help="Media of A.  [A/store, if it exists]")
@click.option("--store-b", type=FOLDER_OR_URL, help="Media of B.  [B/store, if it exists]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="Encode profile of the stores.")
@click.option("--clips", type=FILE, help="Write every differing clip to this file (.csv or .parquet).")
@click.option("--html", type=FILE, help="Write the comparison to this HTML file.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Largest number of rows per table.")
@click.option("--json", "as_json", is_flag=True, help="Print every count as JSON.")
def command(
    a: Location,
    b: Location,
    view: str | None,
    store_a: Location | None,
    store_b: Location | None,
    profile: str,
    clips: Path | None,
    html: Path | None,
    top: int,
    as_json: bool,
) -> None:
    """Compare two datasets, clip by clip.

    Compares two manifests, or two versions of one (MANIFEST@VERSION). Prints the clips that were gained, lost and
    moved, by reason and by class. If both have stores, also compares their media.

    \b
    Examples:
      k710 diff manifests/k710 manifests/k710 --view k400
      k710 diff manifests/k710 manifests/k710 --json
    """
    from k710.cli.manifests import open_manifest
    from k710.diff.manifests import diff_manifests, settings_that_differ
    from k710.storage.result_files import check_place, check_table_file, write_table, write_text

    one, other = open_manifest(a), open_manifest(b)
    stores = [_store(manifest, given, profile) for manifest, given in ((one, store_a), (other, store_b))]
    folders = [one.path, other.path, *(store.root for store in stores if store)]
    if clips is not None:
        check_table_file(clips, folders)
    if html is not None:
        check_place(html, folders)
    settings = settings_that_differ(one, other)
    found = diff_manifests(one, other, view=view, store_a=stores[0], store_b=stores[1])
    if clips is not None:
        write_table(clips, found.clips)
    if html is not None:
        from k710.report.diff_page import diff_page

        sides = [_side(manifest, store) for manifest, store in zip((one, other), stores, strict=True)]
        write_text(html, diff_page(found, sides, settings))
    if as_json:
        print_json(_plain(found, (one, other), stores, settings))
        return
    _print(found, (one, other), stores, settings, top)
    if clips is not None:
        click.echo(f"{clips}: {counted(found.clips.num_rows, 'clip')}")
    if html is not None:
        click.echo(f"{html}: the page")


def _store(manifest: Manifest, given: Location | None, profile: str) -> Store | None:
    """The given store, or the manifest's own store if it has the profile."""
    from k710.store.store import Store, profiles_in

    if given is not None:
        return named_store(given, profile)
    root = manifest.path / "store"
    return Store(root, profile) if profile in profiles_in(root) else None


def _plain(
    found: Difference, manifests: Sequence[Manifest], stores: Sequence[Store | None], settings: dict[str, Any]
) -> dict[str, Any]:
    import dataclasses

    sides = {
        name: {
            "manifest": str(manifest.path),
            "content_hash": manifest.content_hash,
            "store": None if store is None else str(store.root),
        }
        for name, manifest, store in zip("ab", manifests, stores, strict=True)
    }
    counts = {"view": found.view, "listed": found.listed, "unchanged": found.unchanged, "changes": found.changes}
    tables = {
        name: [dataclasses.asdict(row) for row in getattr(found, name)]
        for name in ("splits", "moves", "classes", "media")
    }
    return {**sides, **counts, **tables, "settings": settings}


def _print(
    found: Difference,
    manifests: Sequence[Manifest],
    stores: Sequence[Store | None],
    settings: dict[str, Any],
    top: int,
) -> None:
    for name, manifest, store in zip("AB", manifests, stores, strict=True):
        click.echo(f"{name}: {_side(manifest, store)}")
    click.echo()
    differing = [[key, _short(one), _short(other)] for key, (one, other) in settings.items()]
    _print_top(["", "A", "B"], differing, top, title="Differences between the recipes and lists of the two builds")
    splits = [[g.split, g.a, g.b, g.gained, g.lost, g.came, g.went] for g in found.splits]
    print_table([found.view, *_COUNTS], splits)
    moves = [[m.change, m.a, m.b, m.clips, m.same_video or None] for m in found.moves]
    _print_top(["change", "in A", "in B", "clips", "same video"], moves, top, title="What became of clips")
    classes = [[g.split, g.label or "(no label)", g.a, g.b, g.gained, g.lost, g.came, g.went] for g in found.classes]
    _print_top(["split", "class", *_COUNTS], classes, top, title="By class, the most changed first")
    media = [[m.split, m.a or "-", m.b or "-", m.clips, m.other_bytes or None] for m in _sorted_media(found)]
    _print_top(["split", "in A", "in B", "clips", "other bytes"], media, top, title="Media of the clips in a split")
    shown = ["clip_id", "change", "a", "b", "label_a", "label_b", *(["media_a", "media_b"] if media else [])]
    few = [[row[name] for name in shown] for row in found.clips.slice(0, top).to_pylist()]
    _print_top(shown, few, top, title="Clips", num_rows=found.clips.num_rows, where="--clips FILE writes all")
    click.echo(_sentence(found, manifests))


def _side(manifest: Manifest, store: Store | None) -> str:
    has = "" if store is None else f", media in {store.root} ({store.profile_folder})"
    return f"{manifest.path}, content hash {manifest.content_hash[:16]}{has}"


def _sentence(found: Difference, manifests: Sequence[Manifest]) -> str:
    if found.clips.num_rows:
        counts = ", ".join(f"{count:,} {change}" for change, count in found.changes.items() if count)
        return f"{found.clips.num_rows:,} of {counted(found.listed, 'clip')} differ: {counts}."
    same = f"No clip differs in view {found.view}: both list the same {found.listed:,}"
    if len({manifest.content_hash for manifest in manifests}) == 1:
        return f"{same}, and the content hashes are equal."
    return (
        f"{same}. The content hashes differ, so another view differs, or labels that no view compares (of clips "
        "outside every split, or labels that lost to another)."
    )


def _sorted_media(found: Difference) -> list[Any]:
    """Changed rows first; rows that are equal on both sides last."""
    return sorted(found.media, key=lambda m: (m.a == m.b and not m.other_bytes, m.a is None, m.b is None, -m.clips))


def _print_top(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    top: int,
    *,
    title: str,
    num_rows: int | None = None,
    where: str = "--json has all",
) -> None:
    """Print the first rows of a table and the number of the others; nothing for an empty table."""
    if rows:
        print_table(columns, rows[:top], title=title)
    if (left := (num_rows or len(rows)) - top) > 0:
        click.echo(f"and {left:,} more ({where})\n")


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return (text if len(text) <= 60 else f"{text[:57]}...") or "none"
