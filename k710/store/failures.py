"""The classes of failure of a clip, and what each one means for the next run."""

from __future__ import annotations

from collections.abc import Iterable

from k710.errors import UsageError

# Failures of the file: recorded, and the clip is tried from another origin.
OF_THE_FILE = {
    "not_video": "the file is no video: it is empty, a web page, a playlist or an image",
    "undecodable": "a video file without a picture that can be decoded, or one that crashes or hangs the decoder",
    "corrupt": "a part of the file is missing or damaged",
    "short": "fewer than 8 frames or less than one second of the span",
    "mismatch": "the file lasts longer than the span and is not the whole video",
    "ambiguous": "a file named only by the video, which could be any of several spans",
    "unreadable": "the disk cannot read the file: it was removed, or access is denied; every run tries it again",
}
ASKED_AGAIN = frozenset({"unreadable"})  # also without --retry, because it says nothing about the clip
# Failures of the video: recorded, and only tried again with --retry.
OF_THE_VIDEO = {
    "gone": "removed, or its account closed; confirmed by a second answer an hour later",
    "gone_unconfirmed": "answered once as gone; asked for again after an hour",
    "private": "private",
    "age": "for signed-in adults only",
    "geo": "not available in this country",
    "restricted": "hidden by an administrator of this network or account; another network may show it",
    "members": "for members of its channel, or for a payment",
    "not_yet": "a live stream or a premiere that is not over, or a video still being processed",
    "too_large": "larger than --youtube-max-megabytes",
}
FAILURES = {**OF_THE_FILE, **OF_THE_VIDEO}


class ClipError(Exception):
    """A clip that could not be made from one file; `failure` is a key of FAILURES."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        assert failure in FAILURES
        self.failure = failure


def check_failures(names: Iterable[str]) -> frozenset[str]:
    """`names` as a set; raises UsageError for an unknown class of failure."""
    for name in names:
        if name not in FAILURES:
            raise UsageError(f"unknown class of failure {name!r}; known: {', '.join(FAILURES)}")
    return frozenset(names)
