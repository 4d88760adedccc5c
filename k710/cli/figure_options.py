"""What the figures of a manifest are taken from: the options that `k710 report` and `k710 stats` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from k710.cli.common import ANY_PATH, FILE, FOLDER, FOLDER_OR_URL

_OPTIONS = (
    click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]"),
    click.option("--profile", help="Encode profile of the store.  [h264, else the first one]"),
    click.option("--runs", multiple=True, type=FOLDER, help="A training run or a folder of runs; may be repeated."),
    click.option("--ledger", type=FILE, help="Show which clips are still available, from `k710 ledger`."),
    click.option(
        "--predictions",
        multiple=True,
        type=ANY_PATH,
        metavar="RUN",
        help="An evaluation that judges the labels; may repeat.",
    ),
)


def figure_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as store, profile, runs, ledger and predictions."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
