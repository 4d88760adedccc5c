"""What a dataset card says, as numbers and names: everything that is in a manifest, checked, and nothing else."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.attrition import list_warnings
from k710.curation.build import CurationRecipe, recipe_of
from k710.errors import ManifestError
from k710.lists.labels import Synonym, class_names, published_synonyms, union_classes_of
from k710.manifest.listings import class_id_name, class_ids_of, is_in, split_name
from k710.manifest.read import Manifest
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS, KNOWN_SOURCES
from k710.sources.source import SPLITS

# What `k710 build` itself drops clips for; whatever else stands in the column was decided by a later step.
_REASONS_OF_BUILD = ("duplicate_id", "leaked", "unlabelled", "other_classes")
_REASONS = {
    "duplicate_id": "another clip of the same video was kept",
    "leaked": "the video stands on the other side of train and holdout",
    "unlabelled": "in test lists alone, which never enter {union}",
    "other_classes": "in lists of a source whose classes are none of {union}'s",
    "doubtful_label": "its label was reviewed, and the clip left out (`k710 doubts --apply`)",
    "near_duplicate": "repeats what a clip of another video shows, which was kept (`k710 near-duplicates --apply`)",
}


@dataclass(frozen=True)
class ListFacts:
    """One annotation list that the dataset was built from."""

    name: str  # `k400 train`
    rows: int
    malformed: int
    sha256: str
    origin: str  # its public address, or the name of the file


@dataclass(frozen=True)
class DoubtFacts:
    """A published synonym whose meaning may differ, and the union's clips that got their label by it."""

    synonym: Synonym
    release: str
    clips: int


@dataclass(frozen=True)
class CardFacts:
    """All that a card tells of a manifest."""

    content_hash: str
    rows: int
    counts: dict[str, dict[str, int]]  # view, split: clips
    classes: int  # of the union's clips
    reasons: dict[str, tuple[int, str]]  # drop reason: clips, and what it means
    lists: tuple[ListFacts, ...]
    list_warnings: tuple[str, ...]  # lists that are not whole, or another release's
    recipe: CurationRecipe
    synonyms: dict[str, str]  # the user's own
    tools: dict[str, str]
    doubts: tuple[DoubtFacts, ...]
    clips_files: tuple[str, ...]
    catalogue: Catalogue = KINETICS
    union_files: dict[str, str] = field(default_factory=dict)  # of an own union: its files, and their SHA-256

    @property
    def is_as_built(self) -> bool:
        """Whether nothing but a build decided on the clips, as far as their drop reasons tell."""
        return set(self.reasons) <= set(_REASONS_OF_BUILD)

    @property
    def lists_are_public(self) -> bool:
        """Whether every list was downloaded from its public address."""
        own = {source.name for source in self.catalogue.own}
        return all("://" in one.origin for one in self.lists if one.name.split(" ")[0] not in own)

    def build_command(self, out: str = "manifests/k710") -> str:
        """The command that makes the same rows of the same lists."""
        recipe, union = self.recipe, self.catalogue.union
        if union.is_own:
            return f"k710 build --union {union.name}.yaml --annotations LISTS --out {shlex.quote(out)}"
        options = {
            "--sources": ",".join(f"{name}=PATH" if self.catalogue[name].is_own else name for name in recipe.sources),
            "--splits": ",".join(recipe.splits),
            "--leak-policy": recipe.leak_policy,
            "--holdout": ",".join(recipe.holdout),
            "--precedence": ",".join(recipe.precedence),
        }
        if not self.lists_are_public:
            options["--annotations"] = "LISTS"
        if self.synonyms:
            options["--synonyms"] = "synonyms.csv"
        words = [f"{name} {shlex.quote(value)}" for name, value in options.items()]
        return " ".join(["k710 build", *words, "--out", shlex.quote(out)])


def card_facts(manifest: Manifest) -> CardFacts:
    """Read a manifest's facts. Raises ManifestError or RecipeError where dataset.json does not hold what a build
    writes."""
    about, catalogue = manifest.about, manifest.catalogue
    recipe = recipe_of(manifest)
    try:
        lists = tuple(_list_facts(entry) for entry in about["sources"])
        not_as_named = (about.get("counts") or {}).get("misnamed", {})
        warnings = tuple(list_warnings(about["sources"], not_as_named).values())
        synonyms = {str(name): str(label) for name, label in about.get("synonyms", {}).items()}
        tools = {str(name): str(version) for name, version in about.get("tools", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ManifestError(f"{manifest.path}: dataset.json is damaged: {error!r}") from None
    columns = ["class_id", "split", "drop_reason"]
    columns += [name for source in recipe.sources for name in (split_name(source), class_id_name(source))]
    clips = manifest.read_clips(columns)
    reasons, views = _value_counts(clips["drop_reason"]), (catalogue.union.name, *recipe.sources)
    return CardFacts(
        content_hash=manifest.checked_content_hash(),
        rows=clips.num_rows,
        counts={view: _split_counts(clips, catalogue.listing(view)) for view in views},
        classes=pc.count_distinct(clips["class_id"].filter(pc.is_valid(clips["split"]))).as_py(),
        reasons={name: (reasons[name], _reason(name, catalogue)) for name in sorted(reasons)},
        lists=lists,
        list_warnings=warnings,
        recipe=recipe,
        synonyms=synonyms,
        tools=tools,
        doubts=tuple(_doubts(clips, recipe, catalogue)),
        clips_files=tuple(entry["file"] for entry in about["clips"]),
        catalogue=catalogue,
        union_files={str(one["file"]): str(one["sha256"]) for one in about.get("union_files", ())},
    )


def _reason(name: str, catalogue: Catalogue) -> str:
    return _REASONS.get(name, "decided after the build").format(union=catalogue.union.short_title)


def _list_facts(entry: dict[str, Any]) -> ListFacts:
    return ListFacts(
        f"{entry['source']} {entry['split']}",
        int(entry["rows"]),
        len(entry["malformed"]),
        str(entry["sha256"]),
        str(entry.get("url") or entry["file"]),
    )


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(column.cast(pa.string())).to_pylist()
    return {entry["values"]: entry["counts"] for entry in counted if entry["values"] is not None}


def _split_counts(clips: pa.Table, listing: str) -> dict[str, int]:
    counts = {split: int(np.count_nonzero(is_in(clips, (listing,), (split,)))) for split in SPLITS}
    return {split: count for split, count in counts.items() if count}


def _doubts(clips: pa.Table, recipe: CurationRecipe, catalogue: Catalogue) -> list[DoubtFacts]:
    """The doubtful synonyms by which clips of the union got their label."""
    found, union_names = [], class_names(catalogue.union.name, sources=catalogue)
    for synonym in published_synonyms():
        for source in (name for name in recipe.sources if synonym.doubt and name in KNOWN_SOURCES):
            names, to_union = class_names(source), union_classes_of(KNOWN_SOURCES[source], catalogue)
            index = to_union[names.index(synonym.name)] if synonym.name in names else -1
            if index >= 0 and union_names[index] == synonym.label:
                own = pc.equal(class_ids_of(clips, source), names.index(synonym.name))
                clips_of_it = pc.sum(pc.and_kleene(own, pc.is_valid(clips["split"]))).as_py() or 0
                found.append(DoubtFacts(synonym, KNOWN_SOURCES[source].title, clips_of_it))
    return found
