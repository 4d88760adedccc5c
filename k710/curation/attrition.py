"""What became of the rows: counts by list and fate, leaks by pair of lists, conflicts, the papers' counts beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from k710.curation.audit import rows_leaked
from k710.curation.curate import FATES, Curated, codes
from k710.curation.list_identity import misnamed, shortfalls
from k710.curation.overlap import Overlaps, conflicts, overlaps
from k710.curation.own_labels import OWN_CONFLICTS, own_label_conflicts
from k710.manifest.schema import DOUBTFUL_LABEL, OTHER_CLASSES
from k710.sources.known import KNOWN_SOURCES, UNION
from k710.sources.source import SPLITS, Union


@dataclass(frozen=True)
class RowCounts:
    """What the rows of the lists alone tell, as plain data: the rest of a build's counts is in its clips table."""

    lists: list[dict[str, Any]]  # source, split, rows, and the rows of each fate, which sum to them
    fates: dict[str, int]
    videos: int
    leaked_rows: dict[str, int] | None  # see audit.rows_leaked
    own_conflicts: list[dict[str, Any]]  # see own_labels.py


def count_rows(sources: Sequence[dict[str, Any]], curated: Curated, clip_ids: pa.ChunkedArray) -> RowCounts:
    """Count the fates of each list. `sources` are the lists as they stand in dataset.json."""
    rows = curated.rows
    names = rows.sources.names
    sizes = (len(names), len(SPLITS), len(FATES))
    cell = rows.source.astype(np.int32)  # in place, since the memory of a build is at its peak here
    for size, number in zip(sizes[1:], (rows.split, curated.fate), strict=True):
        cell *= size
        cell += number
    table = np.bincount(cell, minlength=math.prod(sizes)).reshape(sizes)
    del cell
    seldom = (OTHER_CLASSES, DOUBTFUL_LABEL)
    fates = tuple(fate for fate in FATES if fate not in seldom or np.any(table[..., FATES.index(fate)]))
    per_list = []
    for source in sources:
        counts = table[names.index(source["source"]), SPLITS.index(source["split"])].tolist()
        of_list = dict(zip(FATES, counts, strict=True)) | {"malformed": len(source["malformed"])}
        of_list = {fate: of_list[fate] for fate in fates}
        per_list.append({**{key: source[key] for key in ("source", "split", "rows")}, **of_list})
    return RowCounts(
        lists=per_list,
        fates={fate: sum(entry[fate] for entry in per_list) for fate in fates},
        videos=rows.num_videos,
        leaked_rows=rows_leaked(rows),
        own_conflicts=own_label_conflicts(rows, clip_ids),
    )


def attrition(of_rows: RowCounts, clips: pa.Table) -> dict[str, Any]:
    """The counts of a build, as they stand in dataset.json."""
    split, class_ids = codes(clips["split"]), clips["class_id"].fill_null(-1).to_numpy()
    conflicting = conflicts(clips).counts()
    conflicting["labels_of_one_clip"] += len(of_rows.own_conflicts)
    not_as_named = misnamed(clips)
    return {
        "lists": of_rows.lists,
        "rows": sum(entry["rows"] for entry in of_rows.lists),
        "fates": of_rows.fates,
        "clips": clips.num_rows,
        "videos": of_rows.videos,
        **{name: int(np.count_nonzero(split == SPLITS.index(name))) for name in ("train", "val")},
        "classes": int(np.count_nonzero(np.bincount(class_ids[split >= 0]))),
        "leaks": leaks_by_pair(overlaps(clips)),
        "conflicts": conflicting,
        # What the clips table alone does not tell, where there is any.
        **({"misnamed": not_as_named} if not_as_named else {}),
        **({"leaked_rows": of_rows.leaked_rows} if of_rows.leaked_rows is not None else {}),
        **({OWN_CONFLICTS: of_rows.own_conflicts} if of_rows.own_conflicts else {}),
    }


def leaks_by_pair(found: Overlaps) -> list[dict[str, Any]]:
    """For each train list and each val or test list, the YouTube IDs that stand in both, before any purge."""
    return [
        {"train": source, "holdout": f"{other} {split}", "ids": int(found.by_id[row, column])}
        for row, (source, side) in enumerate(found.lists)
        if side == "train"
        for column, (other, split) in enumerate(found.lists)
        if split != "train"
    ]


@dataclass(frozen=True)
class PrintedCount:
    """One number of this build beside what was printed of it; None where nothing was."""

    what: str
    here: int
    published: int | None  # rows of the list as its release first published it
    paper: int | None  # UniFormerV2, Table 10

    @property
    def difference(self) -> int | None:
        return None if self.paper is None else self.here - self.paper


def policy_words(recipe: dict[str, Any], union: Union = UNION) -> str:
    """The leak policy and what is held out, with the lists that an own union adds."""
    more = "".join(f", {name} {' and '.join(splits)}" for name, splits in union.holdout.items())
    return f"{recipe['leak_policy']}, holdout {','.join(recipe['holdout'])}{more}"


_MINIATURE = "These lists are a miniature of the releases'; a build of real lists shows the paper's counts here."
_NO_RELEASE = "No list is one of a Kinetics release, so there are no printed counts to compare with."
_OWN_UNION = "This is a union of one's own, so there are no printed counts to compare with."


def why_not_compared(counts: dict[str, Any], union: Union = UNION) -> str:
    """Why the paper's counts beside these lists would say nothing: no list of a release has a hundredth of the rows
    that were first published, or there is no such list, or the union is another. Empty where they say something."""
    if union.is_own:
        return _OWN_UNION
    of_releases = [entry for entry in counts["lists"] if entry["source"] in KNOWN_SOURCES]
    for entry in of_releases:
        published = KNOWN_SOURCES[entry["source"]].published_rows.get(entry["split"])
        if published is None or entry["rows"] >= published / 100:
            return ""
    return _MINIATURE if of_releases else _NO_RELEASE


def beside_the_printed(counts: dict[str, Any]) -> list[PrintedCount]:
    """Every list's rows, and K710's own counts, beside the releases' and the paper's."""
    printed = []
    for entry in counts["lists"]:
        release, split = KNOWN_SOURCES.get(entry["source"]), entry["split"]
        if release is None:  # nothing was printed of a user's own source
            printed.append(PrintedCount(f"{entry['source']} {split}", entry["rows"], None, None))
            continue
        published, paper = release.published_rows.get(split), release.paper_rows.get(split)
        printed.append(PrintedCount(f"{release.name} {split}", entry["rows"], published, paper))
    # A build without train lists says nothing about K710's train.
    sides = [split for split in ("train", "val") if any(entry["split"] == split for entry in counts["lists"])]
    printed += [PrintedCount(f"K710 {split}", counts[split], None, UNION.paper_rows[split]) for split in sides]
    return [*printed, PrintedCount("K710 classes", counts["classes"], None, UNION.paper_classes)]


def list_warnings(lists: Sequence[dict[str, Any]], not_as_named: dict[str, str]) -> dict[str, str]:
    """What is wrong with lists that are not the ones that their releases published, by list (`k600 val`).

    `lists` and `not_as_named`: the parts `lists` and `misnamed` of a build's counts. Which list is whose is known of
    val and test lists alone, how many rows a list lacks of most (list_identity.py).
    """
    found = {}
    for name, other in not_as_named.items():
        release, _, split = other.rpartition(" ")
        title, its_title = KNOWN_SOURCES[name.split(" ")[0]].title, KNOWN_SOURCES[release].title
        found[name] = (
            f"{name}: the videos of this list are those of the {split} list of {its_title}. Put the list "
            f"of {title} in its place, or name the file {release}_{split} and build with --sources "
            f"{release}."
        )
    for one in shortfalls(lists):
        found.setdefault(f"{one.source} {one.split}", str(one))
    return found


def why_it_differs(recipe: dict[str, Any], doubtful: Iterable[str] = ()) -> str:
    """The sentence that explains the difference between a build and the paper's counts. `doubtful`: the lists that
    `list_warnings` names."""
    if recipe["leak_policy"] == "val-purge":
        return (
            "The paper's counts fit train-purge. val-purge removes from val every video that some train list has, "
            "which most of K400's val is, so its val is far smaller: it reproduces no published list."
        )
    if names := ", ".join(doubtful):
        return (
            f"Not every list is the one that its release published ({names}), so these counts are not those that the "
            "releases' whole lists give."
        )
    sentence = (
        "The paper counts the clips that its authors could still get from YouTube and counts no vanished one; this "
        "build counts every row of the lists, so its numbers are the upper bound of what can be had."
    )
    if "test" in recipe["holdout"]:
        sentence += " Holding out the test lists too, which the paper does not say it did, makes train smaller."
    if set(recipe["sources"]) != set(UNION.members):
        *first, last = UNION.members
        sentence += f" The paper's K710 is made of {', '.join(first)} and {last}; this build is not."
    return sentence
