"""An origin as the user writes it, parsed once."""

from __future__ import annotations

from pathlib import Path

from k710.errors import UsageError
from k710.fetch.origins.cvdf import CvdfOrigin
from k710.fetch.origins.local import LocalOrigin
from k710.fetch.origins.youtube.origin import YouTubeOrigin
from k710.storage.storage import local_folder

Origin = LocalOrigin | CvdfOrigin | YouTubeOrigin


def parse_origin(text: str) -> Origin:
    """`local:DIR`, `cvdf`, `cvdf:BASE_URL`, `youtube` or `youtube:URL` as an origin. Raises UsageError for others."""
    kind, _, where = text.partition(":")
    if kind == "local" and where:
        folder = Path(where)
        if not folder.is_dir():
            local_folder(where, "folder of clips")  # raises for a URL, which is another mistake than a missing folder
        return LocalOrigin(folder)
    if kind == "cvdf":
        return CvdfOrigin(where).checked() if where else CvdfOrigin()
    if kind == "youtube":
        return YouTubeOrigin(where).checked()
    raise UsageError(
        f"unknown origin {text!r}; known: local:DIR, cvdf, cvdf:URL, youtube, youtube:URL (a comma in a name "
        f"is written \\,)"
    )
