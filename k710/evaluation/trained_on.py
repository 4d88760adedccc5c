"""Which of the clips that a checkpoint is evaluated on it was trained on, by the records of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from k710.errors import ManifestError, UsageError
from k710.evaluation.evaluate import Evaluation
from k710.evaluation.scores import accuracies, without_nan
from k710.manifest.read import Manifest, open_manifest
from k710.manifest.views import split_of, view, view_columns
from k710.recipes import recorded_section
from k710.sources.video_ids import video_of


@dataclass(frozen=True)
class Overlap:
    """The evaluated clips whose videos are among those that a run was trained on.

    `view` and `content_hash` are of the run's train split. `num_clips` is None where the manifest is not at hand, so
    that nothing is known. `others` are the scores on the labelled clips of other videos.
    """

    view: str
    content_hash: str
    num_clips: int | None
    others: dict[str, float | None]

    def summary(self) -> dict[str, Any]:
        """In plain values, for summary.json."""
        found = {"view": self.view, "manifest": self.content_hash, "clips": self.num_clips}
        return {**found, "scores_of_others": self.others}


def overlaps(runs: tuple[dict[str, Any], ...], manifest: Manifest, evaluation: Evaluation) -> list[Overlap]:
    """What each run shares with the clips of an evaluation on `manifest`, by video.

    The train split of the run's view is taken whole, fetched or not. A run on another version of the manifest is looked
    up among the versions that the folder keeps.
    """
    found = evaluation.predictions
    videos = np.array([video_of(clip_id) for clip_id in found.clip_ids])
    shared: dict[tuple[str, str], Overlap] = {}
    for of_view, content_hash in (one for run in runs for one in _views_and_hashes(run)):
        if (of_view, content_hash) in shared:
            continue
        trained = _train_videos(manifest, content_hash, of_view)
        if trained is None:
            shared[of_view, content_hash] = Overlap(of_view, content_hash, None, {})
            continue
        seen = np.isin(videos, trained)
        rest = ~seen & evaluation.labelled
        scores = without_nan(accuracies(found.scores[rest], found.class_ids[rest]))
        shared[of_view, content_hash] = Overlap(of_view, content_hash, int(seen.sum()), scores)
    return list(shared.values())


def overlap_notes(shared: list[Overlap], num_clips: int) -> list[str]:
    """Notes for the user on these overlaps; none where no clip is shared."""
    notes = []
    for one in shared:
        trained = (
            f"the train split of {one.view} that the checkpoint's own record names (manifest {one.content_hash[:16]})"
        )
        if one.num_clips is None:
            notes.append(
                f"the checkpoint was trained on {one.view} of manifest {one.content_hash[:16]}, which is not this one "
                "nor a version that it keeps: whether it was trained on these clips is not known"
            )
        elif one.num_clips:
            clips = f"{one.num_clips:,} of {num_clips:,} evaluated {'clip is' if num_clips == 1 else 'clips are'}"
            top1 = one.others["top1"]
            rest = (
                "no labelled clip of another video is left to score"
                if top1 is None
                else f"top-1 on the others is {top1:.2%}"
            )
            notes.append(f"{clips} of videos in {trained}: it may have seen them in training; {rest}")
    return notes


def unrecorded(runs: tuple[dict[str, Any], ...]) -> list[str]:
    """The checkpoint that the first recorded run started from, where what that was trained on is not recorded; and the
    folders of videos that a run was trained on."""
    start = runs[-1].get("start") if runs else None
    init = start.get("init") if isinstance(start, dict) else None
    mixes = [run["mix"] for run in runs if isinstance(run.get("mix"), list)]
    members = [one for mix in mixes for one in mix if isinstance(one, dict) and "manifest" not in one]
    folders = [
        f"it was trained on a folder of videos ({one.get('name')}); whether these clips are among them is not known"
        for one in members
    ]
    return [*([f"it started from {init}; what that was trained on is not recorded"] if init else []), *folders]


def _views_and_hashes(run: dict[str, Any]) -> list[tuple[str, str]]:
    """View and content hash of each manifest that a run was trained on; none where the record does not tell both."""
    mix = run.get("mix")
    if isinstance(mix, list):
        found = [(one.get("view"), one.get("manifest")) for one in mix if isinstance(one, dict)]
    else:
        manifest = run.get("manifest")
        content_hash = manifest.get("content_hash") if isinstance(manifest, dict) else None
        found = [(recorded_section(run.get("recipe"), "data").get("view"), content_hash)]
    return [(view, content) for view, content in found if isinstance(view, str) and isinstance(content, str)]


def _train_videos(manifest: Manifest, content_hash: str, of_view: str) -> list[str] | None:
    try:
        trained = manifest if content_hash == manifest.content_hash else None
        opened = trained or open_manifest(manifest.path, version=content_hash)
        opened.catalogue.check_view(of_view)
        table = split_of(
            view(opened.read_clips(view_columns(of_view, opened.catalogue)), of_view, opened.catalogue), "train"
        )
    except (ManifestError, UsageError):
        return None
    return list(pc.unique(table["youtube_id"]).to_pylist())
