"""`k710 inspect`: what a checkpoint is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from k710.cli.common import ANY_PATH, print_json
from k710.text import counted


@click.command(name="inspect")
@click.argument("checkpoint", type=ANY_PATH)
@click.option("--head", help="The head's name, where the checkpoint has two.")
@click.option("--family", help="Whose model it is, where several published such tensors.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(checkpoint: Path, head: str | None, family: str | None, as_json: bool) -> None:
    """Say what a checkpoint is.

    Its form, model, head, classes and their order, how that is known, what to do where it is not, and what the model
    was trained on, as far as the file tells.

    \b
    Example:
      k710 inspect k710_uniformerv2_b16_8x224.pyth
    """
    from k710.models.describe import describe

    found = describe(checkpoint, head=head, family=family)
    if as_json:
        print_json(found)
        return
    for name, text in _lines(found):
        click.echo(f"{name:<12}{text}")


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    head = found["head"]
    known = found["label_set"] is not None
    preset = f"; preset {found['preset']}" if found["preset"] else ""
    lines = [
        ("file", f"{found['path']}, {found['size_bytes']:,} bytes in {counted(len(found['files']), 'weight file')}"),
        ("format", f"{found['format']}: {found['why']}"),
        ("model", f"{found['model'] or 'unknown'}{preset}"),
        *_published_lines(found["published"]),
        ("parameters", f"{found['parameters']:,} in {counted(found['tensors'], 'tensor')}"),
        ("dtype", ", ".join(f"{dtype} x {count}" for dtype, count in found["dtypes"].items())),
        ("head", f"{head['name']}: {head['rows']} rows x {head['width']}, {head['dtype']}" if head else "none"),
        *(("", f"{name}: another head of the same classes") for name in found["twin_heads"]),
        ("labels", f"{found['label_set']} ({found['dialect']})" if known else "unknown"),
        *(("", sentence) for sentence in found["known_by"]),
    ]
    for origin in found.get("remapped_from", []):
        lines.append(("", f"remapped from {origin['file']}, {origin['label_set']} ({origin['dialect']})"))
    traces = found["trained_on"] or ["the file does not tell"]
    lines += [("trained on" if number == 0 else "", trace) for number, trace in enumerate(traces)]
    if found["needs"]:
        lines.append(("to run it", found["needs"]))
    if found["other_entries"]:
        lines.append(("holds too", ", ".join(found["other_entries"])))
    return lines


def _published_lines(models: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """A line for each published model that the checkpoint can be of, with what is known of the order of its rows."""
    lines: list[tuple[str, str]] = []
    for model in models:
        order = f": {model['order']['known']}" if model["order"] else ""
        lines.append(("" if lines else "published", f"{model['title']}, {model['repository']}{order}"))
    return lines
