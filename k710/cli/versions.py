"""`k710 versions`: the versions of a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import PATH_OR_URL, print_json, print_table
from k710.storage.storage import Location

if TYPE_CHECKING:
    from k710.manifest.versions import Version


@click.command("versions")
@click.argument("manifest", type=PATH_OR_URL)
@click.option("--json", "as_json", is_flag=True, help="Print the whole dataset.json of each version as JSON.")
def command(manifest: Location, as_json: bool) -> None:
    """List the versions of a manifest.

    Lists the current version and the earlier ones that `k710 prune` has not removed. Every command that reads a
    manifest accepts MANIFEST@VERSION; the first digits of the version are enough.

    \b
    Example:
      k710 versions manifests/k710
    """
    from k710.manifest.versions import versions

    found = versions(manifest)
    if as_json:
        print_json([{"version": one.name, "current": one.is_current, "about": one.about} for one in found])
        return
    columns = ["version", "", "clips", "train", "val", "sources", "policy", "holdout", "k710", "replaced (UTC)"]
    print_table(columns, [_row(one) for one in found])


def _row(version: Version) -> list[Any]:
    first = [version.name, "current" if version.is_current else ""]
    replaced = "" if version.replaced_at is None else f"{version.replaced_at:%Y-%m-%d %H:%M}"
    try:
        about: Any = version.about
        counts, recipe = about["counts"], about["recipe"]
        columns = [counts["clips"], counts["train"], counts["val"], ",".join(recipe["sources"]), recipe["leak_policy"]]
        return [*first, *columns, ",".join(recipe["holdout"]), about["tools"]["k710"], replaced]
    except (KeyError, TypeError):  # damaged, or written by a later k710
        return [*first, *[None] * 7, replaced]
