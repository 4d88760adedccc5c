"""`k710 doctor`: check this machine."""

from __future__ import annotations

import click

from k710.cli.common import FOLDER_OR_URL, print_json, steps
from k710.storage.storage import Location


@click.command("doctor")
@click.option("--store", type=FOLDER_OR_URL, help="Check this store too: its free space, or whether its URL answers.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(store: Location | None, as_json: bool) -> None:
    """Check what is missing on this machine.

    Prints one line per check: ok, warning or missing, what was found, and what to do. The exit code is 1 if something
    that k710 needs is missing or broken.

    \b
    Example:
      k710 doctor
    """
    from k710.doctor import MISSING, Here, examine
    from k710.errors import MachineError

    step = steps()
    findings = examine(Here(store), on_waiting=lambda names: step(f"looking at {', '.join(names)}") if names else None)
    step.end()
    broken = [finding.name for finding in findings if finding.needed and finding.mark == MISSING]
    if as_json:
        print_json({"fit": not broken, "findings": [vars(finding) for finding in findings]})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            advice = f" -> {finding.advice}" if finding.advice else ""
            click.echo(f"{finding.mark:<8} {finding.name:<{width}}  {finding.found}{advice}")
    if broken:
        raise MachineError(f"needed, and missing or broken here: {', '.join(broken)}")
