"""A source: one published data set of labelled video clips, and what k710 must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SPLITS = ("train", "val", "test")

# How data sets and crawlers spell a split, in the `split` column and in file names.
SPLIT_SPELLINGS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

YOUTUBE_ID = "[A-Za-z0-9_-]{11}"

# What the video IDs of a source are: those of YouTube, the names of files without folder and suffix, or paths without
# suffix. Two sources may share a YouTube ID, and it is the same video; an ID of another kind belongs to its source.
YOUTUBE, STEM, PATH = "youtube", "stem", "path"
ID_RULES = (YOUTUBE, STEM, PATH)

# The times of a source's clips: whole seconds, seconds with fractions, or none (each clip is a whole file).
WHOLE, FRACTIONAL, NONE = "whole", "fractional", "none"
SPAN_RULES = (WHOLE, FRACTIONAL, NONE)


@dataclass(frozen=True)
class Archives:
    """Public archives of clips that are read together. `address` is below the host's base URL: the address of a list
    of archives (`.txt`), or of the one archive. They hold clips of these sources and splits."""

    name: str
    address: str
    sources: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class ArchiveHost:
    """A public server of archives. `address_pattern` is a regular expression for its base URL in any spelling."""

    base_url: str
    address_pattern: str


@dataclass(frozen=True)
class Source:
    """One published data set.

    `name` is what options and columns call it, `title` what people call it. `name_pattern` is a regular expression,
    without groups, for the spellings of the name in any case; it matches a whole name. `label_set` names the file of
    `labelmaps/` with its classes. `list_urls` gives the public address of each split's list. `published_rows` are the
    rows of each list as first published; `paper_rows` are the clips that UniFormerV2's authors could still get (its
    Table 10). `twin` is a source with nearly the same val list. `archives` are asked in their order. `citation` is
    BibTeX, `licence` a sentence in Markdown, `colour` that of its lines and bars in a report. `id_pattern` is a regular
    expression for its video IDs, without groups. `ids` is one of ID_RULES, `spans` one of SPAN_RULES.
    Sources that are several splits of one data set name the same `id_space`: an ID is the same video in all of them.
    `frames_per_s` is 0 where clips are video files; else each clip is a folder of JPEGs, so many to a second.

    A user's own source has its `classes`, in index order, in its manifest instead of a file of `labelmaps/`, with the
    class of the union that each of them means in `union_classes` (-1: none). A source whose classes mean none of the
    union's stands beside the union: curation leaves its clips out of the union's splits.
    """

    name: str
    title: str
    name_pattern: str
    label_set: str
    citation: str
    licence: str
    colour: str
    list_urls: Mapping[str, str] = field(default_factory=dict)
    published_rows: Mapping[str, int] = field(default_factory=dict)
    paper_rows: Mapping[str, int] = field(default_factory=dict)
    splits: tuple[str, ...] = SPLITS
    archives: tuple[Archives, ...] = ()
    twin: str = ""
    id_pattern: str = YOUTUBE_ID
    ids: str = YOUTUBE
    id_space: str = ""
    spans: str = WHOLE
    frames_per_s: float = 0.0
    classes: tuple[str, ...] = ()
    union_classes: tuple[int, ...] = ()

    @property
    def space(self) -> str:
        """What stands before its IDs where they are not YouTube's."""
        return self.id_space or self.name

    @property
    def is_own(self) -> bool:
        """Whether the manifest itself holds what is known of the source."""
        return bool(self.classes)

    @property
    def in_k710(self) -> bool:
        """Whether its classes are classes of K710, so that curation may take its clips for K710."""
        return not self.classes or any(index >= 0 for index in self.union_classes)


@dataclass(frozen=True)
class Union:
    """A data set that is made of several sources by aligning their labels and removing repeated videos.

    `short_title` is what tables call it. `members` are the sources that it is made of; a manifest of Kinetics-710 may
    have more. `precedence`: when one video is in several sources, the first of these gives the clip and the label.
    `sources` are those of a published union: each has its columns in every clips table, in this order. `synonyms`
    names the file of `labelmaps/` with the class names that mean one class. `paper_rows` are the clips that its authors
    had, `paper_classes` its classes. `citations` are BibTeX.

    A user's own union has its `classes`, in index order, in its manifest, and in `class_maps`, for each member, the
    class of the union that each of the member's classes is. `holdout`: by source, the splits whose lists train must
    not meet, beside those of the policy; the source may be none of the members. `all_clips`: the members of which all
    clips of a video are kept, not one.
    """

    name: str
    title: str
    name_pattern: str
    label_set: str
    members: tuple[str, ...]
    precedence: tuple[str, ...]
    short_title: str = ""
    sources: tuple[str, ...] = ()
    synonyms: str = ""
    paper_rows: Mapping[str, int] = field(default_factory=dict)
    paper_classes: int = 0
    citations: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    class_maps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    holdout: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    all_clips: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether the manifest itself holds what is known of the union."""
        return bool(self.classes)


def bibtex(key: str, title: str, authors: str, year: int, arxiv: str) -> str:
    """The BibTeX entry of a paper on arXiv."""
    fields = {"title": title, "author": authors, "year": str(year), "journal": f"arXiv preprint arXiv:{arxiv}"}
    return "\n".join([f"@article{{{key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"])
