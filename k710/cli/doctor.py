"""`k710 doctor`: is this machine fit for the work?"""

from __future__ import annotations

import click

from k710.cli.common import FOLDER_OR_URL, print_json, steps
from k710.storage.storage import Location


@click.command("doctor")
@click.option("--store", type=FOLDER_OR_URL, help="Look at this store too: its room, or whether it answers.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(store: Location | None, as_json: bool) -> None:
    """Look for what is missing on this machine.

    A line each: ok, warning or missing, what was found, and what to do. Ends with exit code 1 where something is
    missing or broken that k710 cannot do without.

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
