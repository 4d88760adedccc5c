"""`k710 completion`: the script that lets a shell complete k710's commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    With it, the Tab key completes commands, options and names. The file is read when a shell starts, so open a new one.

    \b
    Examples:
      k710 completion bash > ~/.local/share/bash-completion/completions/k710
      k710 completion fish > ~/.config/fish/completions/k710.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    click.echo(kind(ctx.find_root().command, {}, "k710", "_K710_COMPLETE").source())
