"""Which class each row of a head means: by a record, by the user, by names in the file, or by rows and form."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import CheckpointError, LabelError, UsageError
from k710.lists.annotation_rows import is_utf8
from k710.lists.labels import (
    DIALECTS,
    LABEL_SETS,
    Alignment,
    class_names,
    k710_classes_of,
    label_key,
    label_list_sha256,
)
from k710.lists.orders import partial_orders
from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.heads.heads import Head, class_counts, likely_cause
from k710.models.heads.published_order import (
    PublishedOrder,
    chosen_models,
    compared_with_known_rows,
    published_order,
    question,
)
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS, UNION
from k710.text import counted

# The order of a list that is no published one.
OWN_ORDER = "own order"

# An OpenGVLab order is shuffled, so names in another order agree with it in hardly any row; a list that agrees with it
# in this share of rows and not in all was made for that order, with errors.
_MEANT_FOR = 0.3


@dataclass(frozen=True)
class Labels:
    """The classes of a head's rows, in order. `label_set` is k400 … k710 or the name of a list of the user's own.

    `keys` are what is compared: the canonical K710 index of a class, or the folded name of one outside the 710.
    """

    label_set: str
    dialect: str
    names: tuple[str, ...]
    keys: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.label_set} ({self.dialect})"

    @property
    def sha256(self) -> str:
        return label_list_sha256(self.names)


def labels_of_set(label_set: str, dialect: str) -> Labels:
    return Labels(label_set, dialect, class_names(label_set, dialect), k710_classes_of(label_set, dialect))


def labels_of_view(view: str, sources: Catalogue = KINETICS) -> Labels:
    """The classes of a view in the order of a manifest. `sources`: the manifest's catalogue."""
    if sources.is_own(view):
        return labels_of_names(view, class_names(view, sources=sources))
    return labels_of_set(view, "canonical")


def labels_of_names(label_set: str, names: Sequence[str]) -> Labels:
    alignment = Alignment()
    found = (alignment.find(name) for name in names)
    keys = tuple(label_key(name) if index is None else index for name, index in zip(names, found, strict=True))
    return Labels(label_set, OWN_ORDER, tuple(names), keys)


def read_label_file(path: Path) -> Labels:
    """A list of the user's own: text with a name per line, or CSV with a column label or name (and id, if wanted).

    Raises LabelError naming file and line for an empty line, a repeated name, ids that do not count from 0.
    """
    if not path.is_file():
        raise UsageError(f"{str(path)!r} is neither a label set ({', '.join(LABEL_SETS)}) nor a file of class names")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: not text in UTF-8: {error}") from None
    names = _csv_names(path, text) if path.suffix.lower() == ".csv" else [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise LabelError(f"{path}: no class names in it")
    line_of: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        if not label_key(name):
            raise LabelError(f"{path}: name {line}: {name!r} is no class name; every line counts as a row of the head")
        first = line_of.setdefault(label_key(name), line)
        if first != line:
            raise LabelError(f"{path}: name {line}: {name!r} stands at {first} already")
    return labels_of_names(path.name, names)  # with its suffix, so that it is never taken for a label set


def _csv_names(path: Path, text: str) -> list[str]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = reader.fieldnames or []
    name_column = next((column for column in ("label", "name", "class") if column in columns), None)
    if name_column is None:
        raise LabelError(f"{path}: line 1: no column label, name or class; it has {', '.join(columns)}")
    id_column = next((column for column in ("id", "index", "class_id") if column in columns), None)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise LabelError(f"{path}: line {reader.line_num}: not CSV: {error}") from None
    if id_column:
        try:
            rows.sort(key=lambda row: int(row[id_column]))
            counted = [int(row[id_column]) for row in rows] == list(range(len(rows)))
        except (TypeError, ValueError):
            counted = False
        if not counted:
            raise LabelError(f"{path}: column {id_column} does not count the classes from 0 on")
    return [(row[name_column] or "").strip() for row in rows]


def check_dialect(dialect: str) -> str:
    if dialect in partial_orders():
        part = partial_orders()[dialect]
        raise UsageError(
            f"{dialect}: of this order of {part.label_set} only {counted(len(part.names), 'row')} are known "
            f"({part.file}; {part.source}); give the whole list: k710 remap-head --from LABELFILE"
        )
    if dialect not in DIALECTS:
        raise UsageError(f"unknown dialect {dialect!r}; known: {', '.join(DIALECTS)}")
    return dialect


def source_labels(
    checkpoint: Checkpoint,
    head: Head,
    *,
    label_set: str | None = None,
    dialect: str | None = None,
    family: str | None = None,
    again: bool = False,
) -> tuple[Labels, list[str]]:
    """The classes of a head's rows, and the sentences that say how that is known.

    `label_set` (a name or a file), `dialect`, and `family` (by which published model it is) are the user's word. Raises
    CheckpointError where the head cannot be that, where the checkpoint was remapped already (unless `again`), and where
    nothing tells the order; UsageError for a family that does not have these tensors.
    """
    if family is not None:
        chosen_models(checkpoint, family)
    if dialect is not None:
        check_dialect(dialect)
    stale = why_stale(checkpoint, head)
    if checkpoint.record and stale is None:
        return _from_record(checkpoint, head, label_set, dialect, again)
    messages = [stale] if stale else []
    if label_set is not None and label_set not in LABEL_SETS:
        if dialect is not None:
            raise UsageError(f"--dialect {dialect} and the list {label_set}: a list has its own order")
        labels = read_label_file(Path(label_set))
        _check_rows(checkpoint, head, labels.label_set, len(labels.names))
        compared = compared_with_known_rows(checkpoint, labels.names, family=family)
        return labels, [*messages, f"rows named by {label_set}", *compared]
    if label_set is not None:
        _check_rows(checkpoint, head, label_set, len(class_names(label_set)))
    names = config_names(checkpoint, head.rows) if _names_count(checkpoint, head, stale) else None
    if names and dialect is None:
        named = _from_names(checkpoint, names, messages, family)
        if named:
            return named, messages
    return _from_rows(checkpoint, head, label_set, dialect, messages, family)


def current_record(checkpoint: Checkpoint, head: Head) -> dict[str, Any] | None:
    """The record, unless there is none or it is stale."""
    return None if why_stale(checkpoint, head) else checkpoint.record


def why_stale(checkpoint: Checkpoint, head: Head) -> str | None:
    """A sentence where the record is of another head than the file has by now; None where it fits, or there is none.

    Trainers save what they do not know along: a config.json with the record, and a head that has learned other classes.
    k710's own form and a sidecar are written with their head, so a record there is never stale.
    """
    record = checkpoint.record
    if record is None or checkpoint.record_in not in ("config", "weights"):
        return None
    recorded = _recorded(record)
    stale = f"its k710 record, {recorded}, is stale: "
    if len(recorded.names) != head.rows:
        return f"{stale}it names {len(recorded.names)} classes, and the head has {head.rows} rows"
    names = config_names(checkpoint, head.rows)
    if names is None or _are_placeholders(names):
        # Whatever wrote a record into config.json wrote the names too.
        in_config = checkpoint.record_in == "config"
        return f"{stale}config.json no longer names these classes in id2label" if in_config else None
    keys = labels_of_names("own", names).keys
    if keys == recorded.keys or (checkpoint.record_in == "weights" and _were_the_names(record, names, keys)):
        return None
    row = next(row for row, key in enumerate(keys) if key != recorded.keys[row])
    return f"{stale}row {row} is {names[row]!r} by the class names in the file, not {recorded.names[row]!r}"


def _recorded(record: Mapping[str, Any]) -> Labels:
    labels = labels_of_names(record["label_set"], record["labels"])
    return Labels(record["label_set"], record["dialect"], labels.names, labels.keys)


def _names_count(checkpoint: Checkpoint, head: Head, stale: str | None) -> bool:
    """Whether the class names in the file are believed: not where they and a record in the weights contradict."""
    record = checkpoint.record
    return not stale or checkpoint.record_in == "config" or len((record or {})["labels"]) != head.rows


def _were_the_names(record: Mapping[str, Any], names: Sequence[str], keys: tuple[int | str, ...]) -> bool:
    """Whether these are the names of a head before it was remapped: a remap of weights alone leaves them in place."""
    for source in record.get("remapped_from") or ():
        if source.get("label_sha256") == label_list_sha256(names):
            return True
        known = source["label_set"] in LABEL_SETS and source["dialect"] in DIALECTS
        if known and labels_of_set(source["label_set"], source["dialect"]).keys == keys:
            return True
    return False


_PLACEHOLDER = re.compile(r"(?:label|class)?[ _-]?\d+", re.IGNORECASE)


def _are_placeholders(names: Sequence[str]) -> bool:
    """LABEL_0, LABEL_1, …, or numbers: what stands where nobody gave names."""
    return all(_PLACEHOLDER.fullmatch(name.strip()) for name in names)


def _from_rows(
    checkpoint: Checkpoint,
    head: Head,
    label_set: str | None,
    dialect: str | None,
    messages: list[str],
    family: str | None,
) -> tuple[Labels, list[str]]:
    chosen = label_set or class_counts().get(head.rows)
    if chosen is None:
        counts = ", ".join(f"{name} {count}" for count, name in sorted(class_counts().items()))
        raise CheckpointError(
            f"{checkpoint.path}: head {head.name} has {head.rows} rows, as no label set has ({counts})."
            f"{likely_cause(head.rows)} If its classes are your own, name them in their "
            "order: k710 remap-head --from LABELFILE"
        )
    if label_set is None:
        messages.append(f"label set {chosen} by its {head.rows} rows")
    stale = why_stale(checkpoint, head)
    published = published_order(checkpoint, head.rows, chosen, family=family)
    if stale is not None:  # it is no longer what was published
        published = PublishedOrder(head.rows, (), doubt=stale)
    if dialect is not None:
        messages.append(f"dialect {dialect} as you say")
        if published.dialect and k710_classes_of(chosen, dialect) != k710_classes_of(chosen, published.dialect):
            messages.append(f"as it was published, another: {published.evidence[-1]}")
        return labels_of_set(chosen, dialect), messages
    if published.dialect is None:
        raise question(checkpoint, published)
    messages += published.evidence
    return labels_of_set(chosen, published.dialect), messages


def _from_record(
    checkpoint: Checkpoint, head: Head, label_set: str | None, dialect: str | None, again: bool
) -> tuple[Labels, list[str]]:
    record = checkpoint.record or {}
    labels = _recorded(record)
    before = record.get("remapped_from")
    if before and not again:
        sources = ", ".join(f"{x.get('file')}, {x.get('label_set')} ({x.get('dialect')})" for x in before)
        raise CheckpointError(
            f"{checkpoint.path}: remapped already, by k710 {record.get('k710_version')}: its head is {labels} and was "
            f"made from {sources}. A map applied twice mixes the classes up; remap the original, or say --again to "
            f"start from {labels} as recorded"
        )
    _check_rows(checkpoint, head, f"its record ({labels})", len(labels.names))
    if dialect not in (None, labels.dialect) or (
        label_set is not None
        and LABEL_SETS.get(label_set, label_set) != LABEL_SETS.get(labels.label_set, labels.label_set)
    ):
        asked = f"{label_set or labels.label_set} ({dialect or labels.dialect})"
        raise CheckpointError(
            f"{checkpoint.path}: its record says that the head is {labels}, not {asked}{_way_out(checkpoint)}"
        )
    return labels, [f"{labels} by its own record"]


def _way_out(checkpoint: Checkpoint) -> str:
    where = {"config": "remove k710 from config.json", "weights": "have it saved without its k710 record"}
    way = where.get(checkpoint.record_in or "")
    return f"; if the head has learned other classes since, {way}" if way else ""


def _check_rows(checkpoint: Checkpoint, head: Head, wanted: str, num_classes: int) -> None:
    if head.rows != num_classes:
        raise CheckpointError(
            f"{checkpoint.path}: head {head.name} has {head.rows} rows, and {wanted} has {num_classes} classes."
            f"{likely_cause(head.rows)}"
        )


def config_names(checkpoint: Checkpoint, rows: int) -> tuple[str, ...] | None:
    """The class names that the file itself gives: id2label of config.json, or MMAction2's dataset_meta."""
    names = (checkpoint.config or {}).get("id2label")
    if isinstance(names, dict):
        names = [names.get(str(index)) for index in range(len(names))]
    else:
        meta = checkpoint.payload.get("meta")
        dataset = meta.get("dataset_meta") if isinstance(meta, dict) else None
        names = dataset.get("classes") if isinstance(dataset, dict) else None
    if (
        not isinstance(names, list | tuple)
        or len(names) != rows
        or not all(isinstance(name, str) and is_utf8(name) for name in names)
    ):
        return None
    return tuple(names)


def _from_names(
    checkpoint: Checkpoint, names: tuple[str, ...], messages: list[str], family: str | None
) -> Labels | None:
    """Labels by the file's own names where these are Kinetics classes, after a check against the published orders."""
    labels = labels_of_names("own", names)
    if _are_placeholders(names):
        return None
    if sum(isinstance(key, int) for key in labels.keys) < len(names) / 2:
        messages.append("rows named by the file's own class names, which are not those of Kinetics")
        return labels
    label_set = class_counts().get(len(names))
    if label_set is None:
        messages.append("rows named by the file's own class names")
        return labels
    published = published_order(checkpoint, len(names), label_set, family=family).dialect
    # The published model's own dialect first, since several can be one order (canonical and videomaev2 of K400).
    for dialect in dict.fromkeys(filter(None, (published, *DIALECTS))):
        known = labels_of_set(label_set, dialect)
        if known.keys == labels.keys:
            messages.append(f"{known} by its class names")
            if published and k710_classes_of(label_set, published) != known.keys:
                messages.append(f"published in this form, it would be {published}; --dialect overrides the names")
            return known
    meant = _misnamed(checkpoint, label_set, labels, published, messages)
    if meant:
        return meant
    if set(labels.keys) == set(k710_classes_of(label_set)):
        labels = Labels(label_set, OWN_ORDER, labels.names, labels.keys)
    messages.append(f"{labels} by its class names, which are in no published order")
    return labels


def _misnamed(
    checkpoint: Checkpoint, label_set: str, labels: Labels, published: str | None, messages: list[str]
) -> Labels | None:
    """Names made for OpenGVLab's order with errors in them, as in VideoMAE V2's published name file; None for others.

    A name is proved wrong where its class is in other releases than the row is (by the published row lists of K400,
    K600 and K700). Then the order is taken without the names; without such a proof nothing is taken for granted.
    """
    canonical, shuffled = labels_of_set(label_set, "canonical"), labels_of_set(label_set, "uniformerv2")
    rows = range(len(labels.keys))
    telling = [row for row in rows if canonical.keys[row] != shuffled.keys[row]]
    agreeing = sum(labels.keys[row] == shuffled.keys[row] for row in telling)
    if agreeing < _MEANT_FOR * len(telling):
        return None
    wrong = [row for row in rows if labels.keys[row] != shuffled.keys[row]]
    proved = [row for row in wrong if _releases(labels.keys[row]) != _releases(shuffled.keys[row])]
    if not proved:
        raise CheckpointError(
            f"{checkpoint.path}: its class names follow OpenGVLab's order of {label_set} but for {len(wrong)} of "
            f"{len(rows)} rows, and either may be wrong; say the order with --dialect uniformerv2, or stand by the "
            "names with k710 remap-head --from LABELFILE"
        )
    order = (name for name in (published, "videomaev2", "uniformerv2") if name)
    dialect = next(name for name in order if k710_classes_of(label_set, name) == shuffled.keys)
    row = proved[-1]
    messages.append(
        f"{label_set} ({dialect}) by its class names, which are not believed: {len(wrong)} of {len(rows)} contradict "
        f"OpenGVLab's order, as in the name file published with VideoMAE V2, and {len(proved)} provably: row {row} is "
        f"{shuffled.names[row]!r} by the published row lists, not {labels.names[row]!r}"
    )
    return labels_of_set(label_set, dialect)


def _releases(key: int | str) -> tuple[bool, ...]:
    """In which members of the union a class is."""
    return tuple(key in k710_classes_of(name) for name in UNION.members)
