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
@click.option("--like", type=ANY_PATH, help="A checkpoint of the same model, whose order is known: compare the rows.")
@click.option(
    "--known-files",
    type=ANY_PATH,
    multiple=True,
    envvar="K710_KNOWN_FILES",
    help="A CSV file of checkpoints that you know, beside the published ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    checkpoint: Path,
    head: str | None,
    family: str | None,
    like: Path | None,
    known_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Say what a checkpoint is.

    Its form, model, head, classes and their order, how that is known, what to do where it is not, and what the model
    was trained on, as far as the file tells.

    \b
    Example:
      k710 inspect k710_uniformerv2_b16_8x224.pyth
    """
    from k710.errors import CheckpointError
    from k710.models.checkpoints.known_files import identify, read_known_files
    from k710.models.describe import describe

    own = [row for path in known_files for row in read_known_files(path)]
    identity = identify(checkpoint, own) if checkpoint.is_file() else None
    try:
        found = describe(checkpoint, head=head, family=family)
    except CheckpointError as error:  # a size that differs says why
        raise CheckpointError(f"{error}. {identity.sentence}" if identity else str(error)) from None
    found["known_file"] = identity.as_dict() if identity else None
    if like is not None:
        from k710.models.compare_heads import compare_heads

        found["like"] = {"path": str(like), **compare_heads(checkpoint, like, head=head, family=family).as_dict()}
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
        *_known(found),
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
    lines += _like(found.get("like"))
    traces = found["trained_on"] or ["the file does not tell"]
    lines += [("trained on" if number == 0 else "", trace) for number, trace in enumerate(traces)]
    if found["needs"]:
        lines.append(("to run it", found["needs"]))
    if found["other_entries"]:
        lines.append(("holds too", ", ".join(found["other_entries"])))
    return lines


def _known(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of the file itself, and whether its head is said to be another than it looks like."""
    row = found["known_file"]
    if row is None:
        return []
    lines = [("known", row["sentence"])]
    says = (row["label_set"], row["order"])
    if row["known_by"] == "sha256" and all(says) and found["label_set"] and not _are_one_order(says, found):
        labels = f"{found['label_set']} ({found['dialect']})"
        lines.append(("", f"its head would be {labels} by what follows: say which counts with --dialect"))
    return lines


def _are_one_order(says: tuple[str, str], found: dict[str, Any]) -> bool:
    from k710.lists.labels import DIALECTS, k710_classes_of

    (label_set, order), dialect = says, found["dialect"]
    if label_set != found["label_set"] or order not in DIALECTS or dialect not in DIALECTS:
        return says == (found["label_set"], dialect)
    return k710_classes_of(label_set, order) == k710_classes_of(label_set, dialect)


def _like(like: dict[str, Any] | None) -> list[tuple[str, str]]:
    if like is None:
        return []
    partners = f"{like['pairs']} of {len(like['rows'])} rows have a partner, median cosine {like['median_cosine']:.2f}"
    if like["label_set"] is None:
        known = ", ".join(f"{' = '.join(vote['names'])} {vote['share']:.0%}" for vote in like["votes"])
        found = (
            f"an order that is none of the known ones ({known or 'none has so many rows'}); --json lists its classes"
        )
    else:
        first = like["votes"][0]
        found = (
            f"{like['label_set']} ({' = '.join(like['dialects'])}): explains {first['share']:.0%} of "
            f"{counted(like['telling_pairs'], 'telling pair')}, {like['margin']:.0%} more than the next order"
        )
    beside = f"{like['path']}, {like['beside']['label_set']} ({like['beside']['dialect']})"
    lines = [("like", found), ("", f"beside {beside}: {partners}")]
    lines += [("", f"there: {sentence}") for sentence in like["beside"]["known_by"]]
    if like["contradicts_the_file"]:
        lines.append(("", "the file says another order (labels, above); the rows are the better evidence"))
    return lines


def _published_lines(models: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """A line for each published model that the checkpoint can be of, with what is known of the order of its rows."""
    lines: list[tuple[str, str]] = []
    for model in models:
        order = f": {model['order']['known']}" if model["order"] else ""
        lines.append(("" if lines else "published", f"{model['title']}, {model['repository']}{order}"))
    return lines
