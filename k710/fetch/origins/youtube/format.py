"""Which of a video's formats is downloaded: the smallest that covers the profile's short side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Format = Mapping[str, Any]  # as yt-dlp has it

# yt-dlp's own downloaders; the others start programs.
PROTOCOLS = frozenset({"http", "https", "m3u8_native", "http_dash_segments", "http_dash_segments_generator"})
SECTION_PROTOCOLS = frozenset({"http", "https"})


def choose(
    formats: Sequence[Format], *, short_side_px: int, audio: bool = False, max_bytes: float = math.inf, sections: bool
) -> tuple[Format, ...]:
    """The format to download, or a video and an audio format to be merged; nothing where none will do.

    Of those that are at least `short_side_px` (0: as large as can be) the one with the fewest bytes, else the largest.
    Without `audio` one that has only video, where there is one. Formats that are known to be larger than `max_bytes`
    come only where there is no other. `sections`: only what can be cut while it is downloaded (MP4, whose edit lists
    keep the cut exact).
    """
    videos = [found for found in formats if _has_video(found) and _usable(found, sections)]
    if not videos:
        return ()
    sounds = [found for found in formats if not _has_video(found) and _has_audio(found) and _usable(found, sections)]
    sound = min(sounds, key=_sound_rank, default=None) if audio else None
    pairs = [(found,) if sound is None or _has_audio(found) else (found, sound) for found in videos]
    return min(pairs, key=lambda pair: _rank(pair, short_side_px, audio, max_bytes))


def selector(
    *, short_side_px: int, audio: bool, max_bytes: float, sections: bool
) -> Callable[[dict[str, Any]], Iterator[dict[str, Any]]]:
    """`choose` as yt-dlp's parameter `format`."""

    def select(context: dict[str, Any]) -> Iterator[dict[str, Any]]:
        chosen = choose(
            context["formats"], short_side_px=short_side_px, audio=audio, max_bytes=max_bytes, sections=sections
        )
        if len(chosen) == 1:
            yield dict(chosen[0])
        elif chosen:
            yield {
                "format_id": "+".join(str(found["format_id"]) for found in chosen),
                # Matroska takes every codec; MP4 alone keeps the edit lists that make a section exact.
                "ext": "mp4" if sections else "mkv",
                "requested_formats": [dict(found) for found in chosen],
                "protocol": "+".join(str(found["protocol"]) for found in chosen),
            }

    return select


def _rank(pair: tuple[Format, ...], short_side_px: int, audio: bool, max_bytes: float) -> tuple[Any, ...]:
    """Smaller is better. An upscaled or high-range version of a video is another picture than the one uploaded."""
    video = pair[0]
    side_px = _short_side_px(video)
    enough = not short_side_px or side_px is None or side_px >= short_side_px
    size = sum(_size(found) for found in pair)
    has_sound = any(_has_audio(found) for found in pair)
    return (
        size > max_bytes if math.isfinite(size) else False,
        _altered(video),
        not enough,
        # Where none is large enough, and where as large as can be is wanted, the size of the picture comes first.
        0 if enough and short_side_px else -(side_px or 0),
        has_sound != audio,
        size,
        str(video.get("format_id")),
    )


def _sound_rank(found: Format) -> tuple[Any, ...]:
    """The original language, then the fewest bytes."""
    return -(found.get("language_preference") or -1), _size(found), str(found.get("format_id"))


def _usable(found: Format, sections: bool) -> bool:
    if not found.get("url") and not found.get("fragments"):
        return False
    if found.get("has_drm") and found["has_drm"] != "maybe":
        return False
    protocol = found.get("protocol") or ("https" if str(found.get("url")).startswith("https:") else "http")
    if sections:
        return protocol in SECTION_PROTOCOLS and found.get("ext") in ("mp4", "m4a", "mov")
    return protocol in PROTOCOLS


def _has_video(found: Format) -> bool:
    """Also where the codec is not given, as of a plain file. Storyboards have the codec `none`."""
    return found.get("vcodec") != "none" and found.get("ext") != "mhtml"


def _has_audio(found: Format) -> bool:
    return found.get("acodec") not in (None, "none")


def _altered(found: Format) -> bool:
    words = f"{found.get('format_note') or ''} {found.get('format_id') or ''}"
    return "AI-upscaled" in words or (found.get("dynamic_range") or "SDR") != "SDR"


def _short_side_px(found: Format) -> int | None:
    sides = [found.get("width"), found.get("height")]
    return min((int(side) for side in sides if side), default=None)


def _size(found: Format) -> float:
    """Bytes, or what is as good to compare by; unknown is large."""
    return _first((found.get("filesize"), found.get("filesize_approx"), found.get("tbr")))


def _first(values: Iterable[Any]) -> float:
    return float(next((value for value in values if value), math.inf))
