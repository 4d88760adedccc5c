"""What `k710 near-duplicates --against` prints: pairs of a clip of one dataset and a clip of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import print_json, print_table
from k710.text import counted

if TYPE_CHECKING:
    from k710.manifest.read import Manifest
    from k710.near_duplicates.find import Found

_SHOWN = 20


def print_across(
    found: Found, manifests: tuple[Manifest, Manifest], failures: dict[str, str], pairs: Path | None, *, as_json: bool
) -> None:
    """Write the pairs to a file where one is named, and print them, or everything as JSON."""
    from k710.storage.result_files import write_table

    if pairs is not None:
        write_table(pairs, found.pairs)
    if as_json:
        places = {"manifest": str(manifests[0].path), "against": str(manifests[1].path)}
        print_json({**places, **found.about, "failures": failures, "pairs": found.pairs.to_pylist()})
        return
    counts = found.about["counts"]
    for manifest, clips, in_store, compared in zip(
        manifests, counts["clips"], counts["in_store"], counts["compared"], strict=True
    ):
        click.echo(f"{manifest.path}: {counted(clips, 'clip')}, {in_store:,} in the store, {compared:,} compared")
    click.echo()
    _print_pairs(found)
    if counts["same_videos"]:
        click.echo(
            f"{counted(counts['same_videos'], 'YouTube video is', 'YouTube videos are')} in both; their clips are not "
            f"compared. `k710 audit` shows them."
        )
    if counts["common_frames"]:
        frames = counted(counts["common_frames"], "frame")
        clips = counted(counts["common_clips"], "clip is", "clips are")
        examples = ", ".join(counts["common_examples"])
        click.echo(f"{frames} of {clips} too common to be compared (title cards, intros), as in {examples}.")
    if pairs is not None:
        click.echo(f"All pairs: {pairs}")


def _print_pairs(found: Found) -> None:
    pairs, counts = found.pairs, found.about["counts"]
    if not pairs.num_rows:
        click.echo("No clip of one shows the footage of the other.")
        return
    rows = [[splits, *number.values()] for splits, number in counts["by_split"].items()]
    print_table(["", "pairs", "clips here", "clips there"], rows, title="Clips with the same footage, by their splits")
    nearest = pairs.slice(0, _SHOWN).to_pylist()
    print_table(
        ["clip", "", "shows the same as", "", "bits", "shift, s", "mirrored"],
        [_shown(row) for row in nearest],
        title=f"The nearest {len(nearest):,} of {pairs.num_rows:,}",
    )
    if counts["same_bytes"]:
        click.echo(f"{counted(counts['same_bytes'], 'pair')} of equal bytes (one SHA-256 under two IDs) among them.")


def _shown(row: dict[str, Any]) -> list[Any]:
    bits, shift = f"{row['distance']:.1f}", f"{row['shift_s']:+.2f}"
    mirrored = "yes" if row["mirrored"] else None
    return [row["clip_id"], row["split"], row["other_clip_id"], row["other_split"], bits, shift, mirrored]
