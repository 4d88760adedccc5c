"""`k710 push`: an exported folder, to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from k710.cli.common import FOLDER, steps
from k710.text import counted, data_size


@click.command("push")
@click.argument("folder", type=FOLDER)
@click.argument("repository", metavar="ORGANISATION/NAME")
@click.option("--public", is_flag=True, help="Make a new repository public.  [private]")
@click.option("--media", is_flag=True, help="Send videos and shards too; you answer for the rights of their owners.")
@click.option("--dry-run", is_flag=True, help="Name the files and send none.")
def command(folder: Path, repository: str, public: bool, media: bool, dry_run: bool) -> None:
    """Send a folder to the Hugging Face Hub.

    FOLDER is what `k710 export` or `k710 pack` wrote, or a manifest. Lists, tables and cards are sent, media only with
    --media: the videos belong to the people who uploaded them. The login is that of huggingface_hub.

    \b
    Example:
      k710 push hf/k710 my-lab/k710 --dry-run
    """
    from k710.export.push import plan_push, push

    plan = plan_push(folder, media=media)
    for name in plan.files if dry_run else ():
        click.echo(name)
    if plan.media:
        click.echo(
            f"left here, because they are media: {counted(len(plan.media), 'file')}; --media sends them", err=True
        )
    what = f"{counted(len(plan.files), 'file')}, {data_size(plan.size_bytes())}"
    if dry_run:
        click.echo(f"{what} for {repository}; nothing was sent")
        return
    step = steps()
    step(f"sending {what}")
    address = push(plan, repository, public=public)
    step.end()
    click.echo(f"{address}: {what}")
