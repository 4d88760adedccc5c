"""How profiles are named, and their folders in a store. This file is light: the command line reads it for its help."""

from __future__ import annotations

DEFAULT_PROFILE = "h264"
_AUDIO = "-audio"


def profile_folder(name: str, *, audio: bool) -> str:
    """The name of a profile's folders in a store. With sound it is another profile of the same settings."""
    return f"{name}{_AUDIO}" if audio else name


def name_and_audio(folder: str) -> tuple[str, bool]:
    """The profile of a folder, and whether it has sound."""
    return folder.removesuffix(_AUDIO), folder.endswith(_AUDIO)
