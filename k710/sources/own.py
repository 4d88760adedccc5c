"""A user's own sources as plain data: what a manifest's dataset.json says of them, checked when it is read back."""

from __future__ import annotations

import re
from typing import Any

from k710.sources.source import ID_RULES, SPAN_RULES, Source
from k710.sources.video_ids import SOURCE_NAME

DEFAULT_COLOUR = "#b0567a"
MAX_CLASSES = 32_767  # class indices are numbers of 16 bits
_RESERVED = ("other",)  # its columns would be called like others
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a terminal may obey them
MIN_FRAMES_PER_S, MAX_FRAMES_PER_S = 0.1, 240
_FRAMES = "frames_per_s"
_TEXTS = ("name", "title", "citation", "licence", "colour", "ids", "spans", "id_space")


def name_problem(name: str) -> str | None:
    """Why a source cannot be called so; None for a good name."""
    if not re.fullmatch(SOURCE_NAME, name) or name in _RESERVED or "~" in name:
        return (
            f"a source cannot be called {name!r}; want lower-case letters, digits and _, at most 31, a letter first, "
            f"and not {' or '.join(_RESERVED)}"
        )
    return None


def as_plain(source: Source) -> dict[str, Any]:
    """What dataset.json says of an own source."""
    texts = {field: getattr(source, field) for field in _TEXTS}
    texts |= {_FRAMES: source.frames_per_s} if source.frames_per_s else {}
    return texts | {"classes": list(source.classes), "union_classes": list(source.union_classes)}


def from_plain(plain: Any, num_union_classes: int) -> Source:
    """The source that `as_plain` wrote; its classes are among so many of the union. Raises ValueError that says what is
    wrong."""
    if not isinstance(plain, dict) or set(plain) - {_FRAMES} != {*_TEXTS, "classes", "union_classes"}:
        raise ValueError(f"an own source has {', '.join((*_TEXTS, 'classes', 'union_classes'))}")
    texts, classes, union_classes = {field: plain[field] for field in _TEXTS}, plain["classes"], plain["union_classes"]
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("a value of an own source is not text")
    if any(CONTROL.search(text.replace("\n", "")) for text in texts.values()) or "\n" in texts["title"]:
        raise ValueError("a value of an own source has control characters")
    if problem := name_problem(texts["name"]):
        raise ValueError(problem)
    if texts["id_space"] and (problem := name_problem(texts["id_space"])):
        raise ValueError(problem)
    if texts["ids"] not in ID_RULES or texts["spans"] not in SPAN_RULES:
        raise ValueError(f"ids {texts['ids']!r}, spans {texts['spans']!r}")
    if not re.fullmatch("#[0-9a-fA-F]{6}", texts["colour"]):
        raise ValueError(f"colour {texts['colour']!r} is not of the form #RRGGBB")
    if not (isinstance(classes, list) and 0 < len(classes) <= MAX_CLASSES and all(type(one) is str for one in classes)):
        raise ValueError("classes is not a list of names")
    if any(CONTROL.search(one) for one in classes):
        raise ValueError("a class has control characters in its name")
    if not (isinstance(union_classes, list) and [type(one) for one in union_classes] == [int] * len(classes)):
        raise ValueError("union_classes is not a list of one number for each class")
    if set(union_classes) != {-1} and not all(0 <= one < num_union_classes for one in union_classes):
        raise ValueError(f"union_classes is not -1 for all, or from 0 to {num_union_classes - 1} for all")
    if problem := frame_rate_problem(frames_per_s := plain.get(_FRAMES, 0.0)):
        raise ValueError(problem)
    return own_source(**texts, frames_per_s=frames_per_s, classes=tuple(classes), union_classes=tuple(union_classes))


def frame_rate_problem(frames_per_s: Any) -> str | None:
    """Why the clips of a source cannot have so many frames to a second; None for a good number, 0 for video files."""
    is_number = type(frames_per_s) in (int, float)
    if is_number and (frames_per_s == 0 or MIN_FRAMES_PER_S <= frames_per_s <= MAX_FRAMES_PER_S):
        return None
    return f"{_FRAMES} is {frames_per_s!r}; want a number from {MIN_FRAMES_PER_S} to {MAX_FRAMES_PER_S}"


def own_source(
    *,
    name: str,
    classes: tuple[str, ...],
    union_classes: tuple[int, ...] = (),
    title: str = "",
    citation: str = "",
    licence: str = "",
    colour: str = DEFAULT_COLOUR,
    ids: str,
    spans: str,
    id_space: str = "",
    frames_per_s: float = 0.0,
) -> Source:
    """A source that a manifest describes. Its class names are its label set."""
    return Source(
        name=name,
        title=title or name,
        name_pattern=re.escape(name),
        label_set=name,
        citation=citation,
        licence=licence,
        colour=colour,
        ids=ids,
        spans=spans,
        id_space=id_space,
        frames_per_s=frames_per_s,
        classes=classes,
        union_classes=union_classes or (-1,) * len(classes),
    )
