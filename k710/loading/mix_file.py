"""The file of a mix: which sources a training without labels draws its clips from, and how much of each.

A section for each member. It may extend one of `pipelines/mix/`, and paths are relative to the file that names them:

    k710:
      manifest: manifests/k710
    own:
      folder: videos          # video files as they are
      weight: 0.5
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import RecipeError
from k710.loading.video_folder import SHORT_SIDE_PX
from k710.recipes import make_recipe, read_recipe_text
from k710.storage.storage import Location, location
from k710.store.profile_names import DEFAULT_PROFILE

KIND = "mix"  # of recipes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PLACES = ("manifest", "store", "folder")
_MOST_WEIGHT = 1000.0


@dataclass(frozen=True)
class MixMember:
    """A source of clips: the train split of a view of a `manifest`, or the video files of a `folder` as they are.

    With a manifest, `store` and `profile`, or a `folder` of clip files, say where its clips are. `weight` is how often
    each clip comes in an epoch. `clips`: only so many of them, the same in every run. `stride`: of the frames, where it
    is not the recipe's. Of a folder of videos, `clip_frames` cuts each into clips of so many frames, and frames are
    scaled down to `short_side_px` (None: never).
    """

    manifest: str | None = None
    view: str = "k710"
    store: str | None = None
    profile: str = DEFAULT_PROFILE
    folder: str | None = None
    weight: float = 1.0
    clips: int | None = None
    stride: int | None = None
    clip_frames: int | None = None
    short_side_px: int | None = SHORT_SIDE_PX

    def place(self, name: str) -> Location | None:
        """`manifest`, `store` or `folder`."""
        value = getattr(self, name)
        return None if value is None else location(value)


@dataclass(frozen=True)
class Mix:
    """The members of a mix by name, in the order of the file. Those of weight 0 are left out."""

    path: Path
    members: dict[str, MixMember]

    def as_dict(self) -> dict[str, Any]:
        """As YAML has it: what differs from the defaults; places are absolute."""
        plain = MixMember()
        return {
            name: {key: value for key, value in dataclasses.asdict(member).items() if value != getattr(plain, key)}
            for name, member in self.members.items()
        }


def read_mix(name_or_file: str) -> Mix:
    """A mix from its YAML file. Raises RecipeError, naming the file and the member, for what cannot be."""
    found = read_recipe_text(KIND, name_or_file)
    members = {}
    for name, content in found.content.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise RecipeError(f"{found.path}: a member is named by letters, digits and . _ -, not {str(name)[:80]!r}")
        member = make_recipe(content, MixMember, where=found.path, section=name)
        files = {key: found.values[f"{name}.{key}"].file for key in _PLACES if key in content}
        _check(member, f"{found.path}: {name}", set(content))
        if member.weight:
            members[name] = _placed(member, files)
    if not members:
        raise RecipeError(f"{found.path}: a mix has at least one member with a weight above 0")
    return Mix(found.path, members)


def mix_of_folder(folder: Path) -> Mix:
    """The mix of one member: the video files of a folder as they are."""
    return Mix(folder, {"videos": MixMember(folder=str(folder.absolute()))})


def _placed(member: MixMember, files: dict[str, Path]) -> MixMember:
    """The member with absolute places: each was relative to its file."""
    places = {}
    for key, file in files.items():
        value = getattr(member, key)
        if value is not None and isinstance(location(value), Path):
            value = str((file.absolute().parent / Path(value).expanduser()).resolve())
        places[key] = value
    return dataclasses.replace(member, **places)


def _check(member: MixMember, where: str, given: set[str]) -> None:
    if not 0 <= member.weight <= _MOST_WEIGHT:  # nor is NaN
        raise RecipeError(f"{where}: weight must lie between 0 and {_MOST_WEIGHT:g}, not {member.weight}")
    for key, least in (("clips", 1), ("stride", 1), ("clip_frames", 1), ("short_side_px", 16)):
        value = getattr(member, key)
        if value is not None and value < least:
            raise RecipeError(f"{where}: {key} must be at least {least}, not {value}")
    if not member.weight:
        return
    if member.manifest is None and member.folder is None:
        raise RecipeError(
            f"{where}: must have a manifest, or a folder of videos; weight: 0 leaves the member out of the mix"
        )
    if member.manifest is None and (strange := sorted(given & {"store", "profile"})):
        raise RecipeError(f"{where}: {strange[0]} belongs to a manifest, and none is given")
    if member.manifest is not None and (strange := sorted(given & {"clip_frames", "short_side_px"})):
        raise RecipeError(
            f"{where}: {strange[0]} is for a folder of videos; a manifest has clips that are made already"
        )
    if member.store is not None and member.folder is not None:
        raise RecipeError(f"{where}: has a store and a folder; its clips are in one of them")
