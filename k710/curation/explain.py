"""One clip's whole story in words: what each source says of it, what the union made of it, and by which rule."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.build import CurationRecipe, recipe_of
from k710.curation.clips import list_rows
from k710.curation.curate import FATES, Curated, curate
from k710.curation.own_labels import OWN_CONFLICTS
from k710.errors import ManifestError
from k710.lists.clip_names import ClipName
from k710.lists.labels import class_names, union_classes_of
from k710.manifest.listings import class_id_name, lists_of, split_name
from k710.manifest.read import Manifest
from k710.manifest.schema import DOUBTFUL_LABEL, NEAR_DUPLICATE, OTHER_CLASSES
from k710.sources.catalogue import Catalogue
from k710.sources.source import SPLITS
from k710.sources.video_ids import raw_id
from k710.text import seconds


def explain(manifest: Manifest, name: ClipName) -> list[str]:
    """The story of a clip, or of every clip of a video, as lines of text.

    Curation decides video by video, so the fates of this video's rows are found by curating them alone. Raises
    ManifestError where the manifest knows no such video or clip.
    """
    of_video = manifest.clips.filter(pc.equal(manifest.clips["youtube_id"], name.youtube_id))
    lists = sorted({f"{entry['source']} {entry['split']}" for entry in manifest.about["sources"]})
    if not of_video.num_rows:
        raise ManifestError(f"{manifest.path}: no clip of video {name.youtube_id} in its lists ({', '.join(lists)})")
    if name.span_s and not pc.any(pc.equal(of_video["clip_id"], str(name))).as_py():
        spans = ", ".join(of_video["clip_id"].to_pylist())
        raise ManifestError(f"{manifest.path}: no clip {name}; of this video it has {spans}")
    recipe, sources = recipe_of(manifest), manifest.catalogue
    curated = curate(list_rows(of_video, sources), recipe.policy, sources)
    near = near_duplicates_of(manifest, of_video)
    lines = [f"Video {name.youtube_id}: {_where_it_is(name.youtube_id, sources)}"]
    clips = of_video.to_pylist()
    for number, clip in enumerate(clips):
        kept = next((other for other in clips if other["clip_id"] == clip["kept_clip_id"]), None)
        if name.span_s is None or str(name) == clip["clip_id"]:
            lines += ["", *_clip_story(clip, kept, number, curated, recipe, near), *_in_one_list(clip, manifest)]
    others = of_video.num_rows - 1
    if name.span_s and others:
        # An ID may begin with a dash: it stands behind the options, after `--`.
        where = shlex.quote(str(manifest.path))
        command = f"k710 explain --manifest {where} -- {name.youtube_id}"
        lines += ["", f"The video has {others} more clip{'s' * (others > 1)}: {command}"]
    return lines


def near_duplicates_of(manifest: Manifest, clips: pa.Table) -> dict[str, str]:
    """Of those of `clips` that were left out as near-duplicates, by clip id: whose pictures they repeat, and how."""
    near = {row["clip_id"]: row["kept_clip_id"] for row in clips.to_pylist() if row["drop_reason"] == NEAR_DUPLICATE}
    if not near:
        return {}
    kept = manifest.clips.filter(pc.is_in(manifest.clips["clip_id"], pa.array(sorted(set(near.values())), pa.string())))
    where = {row["clip_id"]: _where(row, manifest.catalogue) for row in kept.to_pylist()}
    found = _pairs(manifest)
    return {clip: f"{other}, which is {where[other]}{found.get((clip, other), '')}" for clip, other in near.items()}


def _where_it_is(video: str, sources: Catalogue) -> str:
    source, raw = raw_id(video)
    if not source:
        return f"https://www.youtube.com/watch?v={video}"
    titles = dict.fromkeys(one.title for one in sources.own if one.space == source)
    return f"{raw!r} of {', '.join(titles) or source}"


def _where(clip: dict[str, Any], sources: Catalogue) -> str:
    if clip["split"] == "train":
        return "in train"
    lists = [f"{sources[source].title} {split}" for source, split in lists_of(clip)]
    return f"held out ({', '.join(lists)})"


def _pairs(manifest: Manifest) -> dict[tuple[str, str], str]:
    """How near two clips are, in words, both ways round; nothing where that is not on record any more."""
    from k710.manifest.pairs import read_pairs

    try:
        pairs = read_pairs(manifest)
    except ManifestError:
        return {}
    said = {}
    for row in pairs.to_pylist() if pairs else []:
        shifted = f", shifted by {abs(row['shift_s']):g} s" if row["shift_s"] else ""
        words = f" ({row['distance']:.1f} of 256 bits{shifted}{', mirrored' * row['mirrored']})"
        said[row["clip_id"], row["other_clip_id"]] = said[row["other_clip_id"], row["clip_id"]] = words
    return said


def _clip_story(
    clip: dict[str, Any],
    kept: dict[str, Any] | None,
    number: int,
    curated: Curated,
    recipe: CurationRecipe,
    near: dict[str, str],
) -> Iterator[str]:
    """The lines on a clip; `kept` is the clip in whose favour it was left out."""
    start_s, end_s = clip["time_start_s"], clip["time_end_s"]
    span = "a whole file" if start_s is None else f"from {seconds(start_s)} s to {seconds(end_s)} s"
    yield f"{clip['clip_id']}, {span}"
    rows, sources = curated.rows, curated.rows.sources
    for row in np.flatnonzero(rows.clip == number):
        source = sources.names[rows.source[row]]
        fate = FATES[curated.fate[row]]
        if fate == "kept" and clip["clip_id"] in near:
            fate = NEAR_DUPLICATE
        if fate == "kept" and clip["drop_reason"] == DOUBTFUL_LABEL:
            fate = DOUBTFUL_LABEL
        label = int(rows.release_class_id[row])
        says = "without a label" if label < 0 else f"{class_names(source, sources=sources)[label]!r} (class {label})"
        yield f"  {sources[source].title} {SPLITS[rows.split[row]]}: {says}"
        yield f"    {fate}: {_why(fate, clip, kept, recipe, near, sources)}"
    yield f"  {sources.union.short_title}: {_verdict(clip)}"
    yield from _labels_that_lost(clip, recipe, sources)


def _in_one_list(clip: dict[str, Any], manifest: Manifest) -> Iterator[str]:
    """The labels that one list of a source beside the union gives the clip."""
    for one in (manifest.about.get("counts") or {}).get(OWN_CONFLICTS, ()):
        if one["clip_id"] == clip["clip_id"]:
            labels = " and ".join(map(repr, one["labels"]))
            name = f"{one['split']} list of {manifest.catalogue[one['source']].title}"
            yield f"    the {name} labels it {labels}; the first counts"


def _labels_that_lost(clip: dict[str, Any], recipe: CurationRecipe, sources: Catalogue) -> Iterator[str]:
    """Which rule decided against each other label of a clip: precedence between releases, the alphabet within one.

    Of two labels in the lists of one release the clips table keeps the first. So a label that no release has for its
    own is a second label.
    """
    by_release = {
        union_classes_of(release, sources)[clip[class_id_name(name)]]
        for name, release in sources.sources.items()
        if clip[class_id_name(name)] is not None and clip[split_name(name)] != "test"
    }
    names = class_names(sources.union.name, sources=sources)
    lost = {index: repr(names[index]) for index in clip["other_class_ids"] or ()}
    if between := ", ".join(name for index, name in lost.items() if index in by_release):
        yield f"    lists disagree on its label; {between} lost to {clip['label']!r} ({_label_rule(recipe)})"
    if within := ", ".join(name for index, name in lost.items() if index not in by_release):
        yield (
            f"    a release gives it two labels; {within} lost (of two labels in one release, the first alphabetically "
            "counts)"
        )


def _why(
    fate: str,
    clip: dict[str, Any],
    kept_clip: dict[str, Any] | None,
    recipe: CurationRecipe,
    near: dict[str, str],
    sources: Catalogue,
) -> str:
    if fate == "kept":
        return f"this row puts the clip into {clip['split']}"
    if fate == "same_clip":
        return "another row has the same clip and counts for both"
    if fate == NEAR_DUPLICATE:
        return f"its pictures repeat {near[clip['clip_id']]}"
    if fate == DOUBTFUL_LABEL:
        return "a review of its label left it out (`k710 doubts --apply`)"
    if fate == "duplicate_id":
        kept, rule = clip["kept_clip_id"], f"({_clip_rule(clip, kept_clip, recipe, sources)})"
        if kept in near:
            return f"{kept} of the same video was preferred {rule}, and then left out as a near-duplicate"
        if kept_clip and kept_clip["drop_reason"] == DOUBTFUL_LABEL:
            return f"{kept} of the same video was preferred {rule}, and then left out because of its label"
        return f"{kept} of the same video was kept {rule}"
    if fate == OTHER_CLASSES:
        return f"the classes of this source are none of {sources.union.short_title}'s"
    if fate == "unlabelled":
        return f"it stands in test lists alone, which never enter {sources.union.short_title}"
    if recipe.leak_policy == "val-purge":
        return "the video is in a train list, and val-purge removes such videos from val"
    if sources.union.holdout:
        return f"the video is in a list that train must not meet ({_held_out_in(clip, kept_clip, recipe, sources)})"
    return f"the video is in a {' or '.join(recipe.holdout)} list, which train must not meet"


def _held_out_in(
    clip: dict[str, Any], kept_clip: dict[str, Any] | None, recipe: CurationRecipe, sources: Catalogue
) -> str:
    """Those of the held-out lists that hold the clip, or the one in whose favour it was left out."""
    held_out = sources.held_out(recipe.holdout)
    found = [one for of in (clip, kept_clip or {}) for one in lists_of(of) if one in held_out]
    return ", ".join(f"{sources[source].title} {split}" for source, split in dict.fromkeys(found))


def _clip_rule(clip: dict[str, Any], kept: dict[str, Any] | None, recipe: CurationRecipe, sources: Catalogue) -> str:
    """What decided between two clips of a video: precedence, or, in lists of one release, the earliest span."""

    def best(of: dict[str, Any]) -> str | None:
        split = kept and kept["split"]
        named = [name for name in sources.members if of[split_name(name)] == split]
        return min(named, key=lambda name: recipe.policy.rank(name, sources.names), default=None)

    release = best(kept) if kept and kept["split"] else None
    if release and best(clip) == release:
        return f"both are in {sources[release].title}, and the earliest span counts"
    return f"{_label_rule(recipe)}, then the earliest span"


def _label_rule(recipe: CurationRecipe) -> str:
    used = [source for source in recipe.precedence if source in recipe.sources]
    return f"precedence {', '.join(used)}"


def _verdict(clip: dict[str, Any]) -> str:
    if clip["split"]:
        return f"in {clip['split']} as {clip['label']!r} (class {clip['class_id']})"
    favour = clip["kept_clip_id"]
    if clip["drop_reason"] in ("unlabelled", OTHER_CLASSES) or favour is None:
        return f"left out ({clip['drop_reason']})"
    held = "it is held out itself" if favour == clip["clip_id"] else f"in favour of {favour}"
    return f"left out ({clip['drop_reason']}), {held}"
