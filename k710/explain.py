"""One clip's whole story in words: what each release says of it, what K710 made of it, and by which rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc

from k710.build import CurationRecipe
from k710.clip_names import ClipName
from k710.clips import list_rows
from k710.curate import FATES, Curated, curate
from k710.errors import ManifestError
from k710.labels import class_names
from k710.manifest import Manifest
from k710.recipes import make_recipe
from k710.releases import SOURCES


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
    recipe = make_recipe(manifest.about["recipe"], CurationRecipe, where=str(manifest.path))
    curated = curate(list_rows(of_video), recipe.policy)
    lines = [f"Video {name.youtube_id}: https://www.youtube.com/watch?v={name.youtube_id}"]
    for number, clip in enumerate(of_video.to_pylist()):
        if name.span_s in (None, (clip["time_start_s"], clip["time_end_s"])):
            lines += ["", *_clip_story(clip, number, curated, recipe)]
    others = of_video.num_rows - 1
    if name.span_s and others:
        lines += ["", f"The video has {others} more clip{'s' * (others > 1)}: k710 explain -- {name.youtube_id}"]
    return lines


def _clip_story(clip: dict[str, Any], number: int, curated: Curated, recipe: CurationRecipe) -> Iterator[str]:
    yield f"{clip['clip_id']}, from {clip['time_start_s']} s to {clip['time_end_s']} s"
    rows = curated.rows
    for row in np.flatnonzero(rows.clip == number):
        source = list(SOURCES)[rows.source[row]]
        fate = FATES[curated.fate[row]]
        label = clip[f"{source}_class_id"]
        says = "without a label" if label is None else f"{class_names(source)[label]!r} (class {label})"
        yield f"  {SOURCES[source].title} {clip[f'{source}_split']}: {says}"
        yield f"    {fate}: {_why(fate, clip, recipe)}"
    yield f"  K710: {_verdict(clip)}"
    if clip["other_class_ids"]:
        names = ", ".join(repr(class_names("k710")[index]) for index in clip["other_class_ids"])
        yield f"    lists disagree on its label; {names} lost to {clip['label']!r} ({_label_rule(recipe)})"


def _why(fate: str, clip: dict[str, Any], recipe: CurationRecipe) -> str:
    if fate == "kept":
        return f"this row puts the clip into {clip['split']}"
    if fate == "same_clip":
        return "another row has the same clip and counts for both"
    if fate == "duplicate_id":
        return f"{clip['kept_clip_id']} of the same video was kept ({_label_rule(recipe)}, then the earliest span)"
    if fate == "unlabelled":
        return "it stands in test lists alone, which never enter K710"
    if recipe.leak_policy == "val-purge":
        return "the video is in a train list, and val-purge removes such videos from val"
    return f"the video is in a {' or '.join(recipe.holdout)} list, which train must not meet"


def _label_rule(recipe: CurationRecipe) -> str:
    used = [source for source in recipe.precedence if source in recipe.sources]
    return f"precedence {', '.join(used)}"


def _verdict(clip: dict[str, Any]) -> str:
    if clip["split"]:
        return f"in {clip['split']} as {clip['label']!r} (class {clip['class_id']})"
    favour = clip["kept_clip_id"]
    if clip["drop_reason"] == "unlabelled" or favour is None:
        return f"left out ({clip['drop_reason']})"
    held = "it is held out itself" if favour == clip["clip_id"] else f"in favour of {favour}"
    return f"left out ({clip['drop_reason']}), {held}"
