"""Lists -> manifest. Reads like the paper's own paragraph: merge, align, hold out, deduplicate, write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from k710.curation.attrition import attrition, count_rows
from k710.curation.clips import clips_table
from k710.curation.curate import FATES, Curated, Policy, align, curate
from k710.errors import UsageError
from k710.lists.annotations import AnnotationList, ListFile, read_list
from k710.lists.labels import Alignment, Synonym, class_names
from k710.manifest.read import OWN_SOURCES, OWN_UNION, Manifest
from k710.manifest.write import check_output, write_manifest
from k710.recipes import as_dict, make_recipe
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS, UNION, check_splits, source_named
from k710.sources.own import as_plain
from k710.sources.source import SPLITS
from k710.sources.unions import as_plain as plain_union
from k710.storage.result_files import write_table
from k710.storage.storage import Location

if TYPE_CHECKING:
    from k710.lists.own_lists import OwnLists
    from k710.lists.union_spec import UnionSpec
    from k710.lists.unions import UnionLists

# Official lists are not the user's to mend: a few bad rows are dropped and reported instead of stopping the build.
TOLERATED_SHARE = 0.001


@dataclass(frozen=True)
class CurationRecipe:
    """The keys of `pipelines/curation/*.yaml`; see docs/build.md for what each one does."""

    sources: tuple[str, ...] = UNION.members
    splits: tuple[str, ...] = ()  # empty: train, val and the holdout
    leak_policy: str = "train-purge"
    holdout: tuple[str, ...] = ("val",)
    precedence: tuple[str, ...] = UNION.precedence

    def checked(self, sources: Catalogue = KINETICS) -> CurationRecipe:
        """The recipe with everything in its canonical order. `sources`: those that it may name. Raises UsageError for
        choices that make no sense."""
        policy = self.policy
        if any(name not in sources.sources for name in policy.precedence):
            raise UsageError(f"precedence names each release at most once, of {', '.join(sources.names)}")
        splits = check_splits(self.splits or ("train", "val", *policy.holdout))
        unread = [split for split in policy.holdout if split not in splits]
        if "train" in splits and unread:
            raise UsageError(
                f"train would be built without holding out {' and '.join(unread)}, since those lists are not read; "
                f"add {','.join(unread)} to --splits"
            )
        chosen = sources.check_sources(self.sources)
        return CurationRecipe(chosen, splits, self.leak_policy, policy.holdout, policy.precedence)

    @property
    def policy(self) -> Policy:
        return Policy(self.leak_policy, check_splits(self.holdout), tuple(map(source_named, self.precedence)))


def recipe_of_union(spec: UnionSpec) -> CurationRecipe:
    """The recipe that a union.yaml stands for."""
    beside = tuple(source for one in spec.all_members for source in one.sources if source not in spec.sources)
    splits = {"train", "val", *spec.policy_holdout, *(split for held in spec.held.values() for split in held)}
    return CurationRecipe(
        sources=(*spec.sources, *dict.fromkeys(beside)),
        splits=check_splits(tuple(splits)),
        leak_policy=spec.policy,
        holdout=spec.policy_holdout,
        precedence=spec.ranked,
    )


def recipe_of(manifest: Manifest) -> CurationRecipe:
    """The recipe of a manifest, checked. Raises RecipeError or UsageError for one that this k710 would not write."""
    recipe = make_recipe(manifest.about["recipe"], CurationRecipe, where=str(manifest.path))
    return recipe.checked(manifest.catalogue)


def build(
    recipe: CurationRecipe,
    files: Iterable[ListFile],
    out: Location,
    *,
    synonyms: Sequence[Synonym] = (),
    strict: bool = False,
    force: bool = False,
    fates: Path | None = None,
    own: Sequence[OwnLists] = (),
    union: UnionLists | None = None,
) -> Manifest:
    """Build the manifest `out` from annotation lists; see docs/build.md.

    `files` are the lists of the recipe's sources and splits (`annotations.find_lists` finds them in a folder), `own`
    those of a user's own sources, which the recipe names too. `union`: a user's own instead of Kinetics-710, with the
    lists of its own sources. With `strict` a bad row stops the build in downloaded lists too. `fates` names a CSV or
    Parquet file for the fate of every row. Raises ListError, LabelError, ManifestError or UsageError; then `out` is as
    it was before.
    """
    own = (*own, *(union.own if union else ()))
    sources = KINETICS.and_own(one.source for one in own)
    sources = sources.with_union(union.union) if union else sources
    recipe, files = recipe.checked(sources), tuple(files)
    check_output(out, force=force)
    if fates is not None and fates.resolve() in {file.path.resolve() for file in files}:
        raise UsageError(f"{fates}: is one of the lists that are read; choose another place for the fates")
    if fates is not None and out.resolve() in fates.resolve().parents:
        raise UsageError(f"{fates}: lies inside the manifest {out}, which holds nothing else; choose another place")
    alignment = Alignment(synonyms)
    rows, read = _merge(files, alignment, sources, own, strict=strict)
    pa.default_memory_pool().release_unused()  # what reading the lists took; a quarter of the peak
    curated = curate(rows, recipe.policy, sources)
    del rows
    pa.default_memory_pool().release_unused()
    clips = clips_table(curated)
    pa.default_memory_pool().release_unused()
    if fates is not None:
        write_table(fates, fates_table(curated, clips))
    of_rows = count_rows(read, curated, clips["clip_id"])
    del curated
    pa.default_memory_pool().release_unused()
    details = {
        "recipe": as_dict(recipe),
        "sources": read,
        **({OWN_SOURCES: [as_plain(one.source) for one in own]} if own else {}),
        **({OWN_UNION: plain_union(union.union), "union_files": list(union.files)} if union else {}),
        "synonyms": {synonym.name: synonym.label for synonym in synonyms},
    }
    with ThreadPoolExecutor(1) as pool:
        counts = pool.submit(attrition, of_rows, clips)
        return write_manifest(out, clips, details, force=force, counts=counts.result)


def _merge(
    files: Iterable[ListFile], alignment: Alignment, sources: Catalogue, own: Sequence[OwnLists], *, strict: bool
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """All rows of all lists, aligned, and what dataset.json says of each list; the lists themselves are let go."""

    def read(file: ListFile) -> AnnotationList:
        return read_list(file, tolerated_share=0.0 if strict or file.url is None else TOLERATED_SHARE)

    with ThreadPoolExecutor(2) as pool:  # parsing and hashing do not hold the interpreter; more would hold more files
        lists = [*pool.map(read, files), *(annotation_list for one in own for annotation_list in one.lists)]
    return align(lists, alignment, sources), [_provenance(annotation_list) for annotation_list in lists]


def _provenance(annotation_list: AnnotationList) -> dict[str, Any]:
    file = annotation_list.file
    entry: dict[str, Any] = {"source": file.source, "split": file.split, "file": file.path.name}
    if file.url:
        entry["url"] = file.url
    malformed = [{"line": bad.line, "reason": bad.reason} for bad in annotation_list.malformed]
    return entry | {"sha256": annotation_list.sha256, "rows": annotation_list.num_rows, "malformed": malformed}


def fates_table(curated: Curated, clips: pa.Table) -> pa.Table:
    """One row per list row that could be read: source, split, line, clip_id, label, fate, kept_clip_id.

    In clip_id order. `label` is the class that the row itself names: of K710, or of its source where that stands beside
    K710. `kept_clip_id` is given where a row lost.
    """
    rows = curated.rows
    clip_id = clips["clip_id"].combine_chunks()
    fate = pa.DictionaryArray.from_arrays(pa.array(curated.fate), list(FATES))
    lost = np.isin(curated.fate, [FATES.index("duplicate_id"), FATES.index("leaked")])
    kept = curated.kept_of_video[rows.video]
    return pa.table(
        {
            "source": pa.DictionaryArray.from_arrays(pa.array(rows.source), list(rows.sources.names)),
            "split": pa.DictionaryArray.from_arrays(pa.array(rows.split), list(SPLITS)),
            "line": rows.table["line"].take(pa.array(rows.order)),
            "clip_id": clip_id.take(pa.array(rows.clip)),
            "label": _labels(curated, clips["label"].combine_chunks().dictionary),
            "fate": fate,
            "kept_clip_id": clip_id.take(pa.array(kept, mask=~lost | (kept < 0))),
        }
    )


def _labels(curated: Curated, names: pa.Array) -> pa.Array:
    """The label of each row. `names` are the classes of the union."""
    rows, all_names = curated.rows, [names]
    labels = rows.class_id.astype(np.int32)
    for number, source in enumerate(rows.sources.names):
        if not rows.sources.in_union(source):
            of_source = (rows.source == number) & (rows.release_class_id >= 0)
            labels[of_source] = sum(map(len, all_names)) + rows.release_class_id[of_source]
            all_names.append(pa.array(class_names(source, sources=rows.sources), names.type))
    found = pa.DictionaryArray.from_arrays(pa.array(labels, mask=labels < 0), pa.concat_arrays(all_names))
    return found if len(all_names) == 1 else found.cast(pa.string()).dictionary_encode()
