"""`k710 convert`: a checkpoint in another form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import ANY_PATH
from k710.text import counted

if TYPE_CHECKING:
    from k710.models.convert.plan import Conversion


@click.command(name="convert")
@click.argument("checkpoint", type=ANY_PATH)
@click.option(
    "--to", "form", required=True, metavar="FORM", help="uniformerv2, mmaction2, videomaev2, huggingface or k710."
)
@click.option("--from", "label_set", metavar="LABELS", help="The head's classes; told by its rows if left out.")
@click.option("--dialect", help="Index order of the head; told by the file if left out.")
@click.option("--family", help="Whose model it is, where several published such tensors.")
@click.option("--to-dialect", help="Order the head's rows so: canonical, uniformerv2, videomaev2.  [as they are]")
@click.option("--size-px", type=click.IntRange(min=1), help="Side of a clip, where the form says it.  [as published]")
@click.option(
    "--num-frames", type=click.IntRange(min=1), help="Frames of a clip, where the form says it.  [as published]"
)
@click.option("--out", type=ANY_PATH, help="Where to write.  [NAME.FORM.SUFFIX beside it]")
@click.option("--dry-run", is_flag=True, help="Check and report, and write nothing.")
@click.option("--force", is_flag=True, help="Replace what is there.")
def command(
    checkpoint: Path,
    form: str,
    label_set: str | None,
    dialect: str | None,
    family: str | None,
    to_dialect: str | None,
    size_px: int | None,
    num_frames: int | None,
    out: Path | None,
    dry_run: bool,
    force: bool,
) -> None:
    """Rewrite a checkpoint in another form.

    The same model under the names of another code: no bit of a weight changes. The head's rows keep their order unless
    --to-dialect asks for another, and the new file records their classes.

    \b
    Example:
      k710 convert uniformerv2_k710.pyth --to mmaction2 --to-dialect canonical
    """
    from k710.models.convert.plan import plan_conversion
    from k710.models.convert.write import check_out, write_conversion
    from k710.storage.storage import held

    conversion = plan_conversion(
        checkpoint, to=form, label_set=label_set, dialect=dialect, family=family, to_dialect=to_dialect,
        size_px=size_px, num_frames=num_frames,
    )  # fmt: skip
    _report(conversion)
    target = check_out(conversion, out, force=force)
    if dry_run:
        return
    with held(target):
        path, notes = write_conversion(conversion, out, force=force)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"wrote {path}")


def _report(conversion: Conversion) -> None:
    (source,) = conversion.remap.sources
    head, target = source.head, conversion.remap.target
    click.echo(f"{source.checkpoint.path}: {source.checkpoint.format.title} ({source.checkpoint.why})")
    click.echo(f"  {conversion.config.title}")
    click.echo(f"  head {head.name}: {head.rows} rows x {head.width}, {head.dtype}: {source.labels}")
    for sentence in source.messages:
        click.echo(f"  {sentence}")
    moved = f"rows in another order: {target}" if conversion.moves_rows else f"rows in the order they have: {target}"
    click.echo(f"to {conversion.form.title}: {counted(len(conversion.parts), 'tensor')}, {moved}")
    for note in conversion.notes:
        click.echo(f"note: {note}", err=True)
