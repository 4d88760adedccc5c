"""Encode profiles: how a clip is stored. A YAML each in `pipelines/encode/`; a user adds their own."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import RecipeError
from k710.fetch.encode.codecs import CODECS, DEFAULT_CODEC
from k710.store.profile_names import profile_folder

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
TUNES = ("none", "fastdecode", "film", "grain", "animation", "stillimage")
# How the settings are carried out, recorded with each unit of the store; units without it are of 1. It is no setting:
# stores of both are read and continued alike. 2: the file of a clip is kept from its first picture to its last, spans
# are cut by the pictures' own times, and matrix and range of the colours are named.
ENCODING_VERSION = 2
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")


@dataclass(frozen=True)
class Profile:
    """The keys of `pipelines/encode/*.yaml`; docs/fetch.md explains each. The store keeps a folder per profile.

    `audio` is set by `--audio`, not by the YAML: it makes another profile of the same settings.
    """

    codec: str = DEFAULT_CODEC
    short_side_px: int = 320  # 0: as the source
    crf: int = 23
    preset: str = "veryfast"
    gop_frames: int = 16
    b_frames: int = 0
    tune: str = "fastdecode"
    ip_ratio: float = 1.4  # x264's: how much finer key frames are quantised than the others
    stored_frames: int = 64  # codec frames: spread evenly over the clip; all of them where it has fewer
    jpeg_qscale: int = 3  # codec frames: FFmpeg's scale of JPEG, 2 (best) to 31
    restart_markers: bool = False  # codec frames: between blocks, so that a part of a frame can be decoded
    audio: bool = False
    name: str = ""

    @property
    def folder(self) -> str:
        """The name of the profile's folders in the store."""
        return profile_folder(self.name, audio=self.audio)

    def settings(self) -> dict[str, Any]:
        """What decides how a clip looks: everything but the name. Two profiles of one name must agree on it."""
        settings = dataclasses.asdict(self)
        del settings["name"]
        return settings

    def checked(self, where: Path) -> Profile:
        """The profile itself. Raises RecipeError, naming the file, for a value that x264 or the store cannot take."""
        choices = {"codec": tuple(CODECS), "preset": PRESETS, "tune": TUNES}
        ranges = {"crf": (0, 51), "gop_frames": (1, 1000), "b_frames": (0, 16)}
        ranges |= {"stored_frames": (1, 10_000), "jpeg_qscale": (2, 31)}
        for key, allowed in choices.items():
            if (value := getattr(self, key)) not in allowed:
                raise RecipeError(f"{where}: {key} must be one of {', '.join(allowed)}, not {value!r}")
        for key, (low, high) in ranges.items():
            if not low <= (value := getattr(self, key)) <= high:
                raise RecipeError(f"{where}: {key} must lie between {low} and {high}, not {value}")
        if not 0.5 <= self.ip_ratio <= 3:
            raise RecipeError(f"{where}: ip_ratio must lie between 0.5 and 3, not {self.ip_ratio}")
        if self.short_side_px and not 16 <= self.short_side_px <= 4320:
            raise RecipeError(f"{where}: short_side_px must be 0 or between 16 and 4320, not {self.short_side_px}")
        if self.audio and not CODECS[self.codec].keeps_audio:
            raise RecipeError(f"{where}: codec {self.codec} keeps no sound; use --audio with another profile")
        if not _NAME.fullmatch(self.name):
            raise RecipeError(f"{where}: a profile is named by its file, in small letters, digits, - and _")
        return self


def read_profile(name_or_file: str, *, audio: bool = False) -> Profile:
    """The profile of that name, or in that YAML file. Raises RecipeError for what is none, naming the file."""
    from k710.recipes import read_recipe, recipe_path  # a process that encodes is given its profile

    path = recipe_path("encode", name_or_file)
    profile = read_recipe("encode", name_or_file, Profile)
    if profile.name or profile.audio:
        raise RecipeError(
            f"{path}: name and audio are no keys of a profile: its file names it, --audio keeps the sound"
        )
    return dataclasses.replace(profile, name=path.stem, audio=audio).checked(path)
