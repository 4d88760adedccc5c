"""`k710 versions`: what a manifest was before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import PATH_OR_URL, print_json, print_table
from k710.storage.storage import Location

if TYPE_CHECKING:
    from k710.manifest.versions import Version


@click.command("versions")
@click.argument("manifest", type=PATH_OR_URL)
@click.option("--json", "as_json", is_flag=True, help="The whole dataset.json of each, for machines.")
def command(manifest: Location, as_json: bool) -> None:
    """List the versions of a manifest.

    The current one and those before it, until `k710 prune`. Wherever a manifest is read, MANIFEST@VERSION opens one of
    them; the first few digits are enough.

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
        said = [counts["clips"], counts["train"], counts["val"], ",".join(recipe["sources"]), recipe["leak_policy"]]
        return [*first, *said, ",".join(recipe["holdout"]), about["tools"]["k710"], replaced]
    except (KeyError, TypeError):  # damaged, or of a k710 to come
        return [*first, *[None] * 7, replaced]
