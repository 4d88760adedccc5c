"""The sources that a table can be about, with the union: a value that whoever reads or makes a table is given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from k710.errors import UsageError
from k710.sources.source import FRACTIONAL, Archives, Source, Union

# A clip's lists are the bits of one number: three for each source.
MAX_SOURCES = 21


@dataclass(frozen=True)
class Catalogue:
    """The union, and the sources by name in the order of their columns: those of Kinetics first."""

    union: Union
    sources: Mapping[str, Source]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.sources)

    @property
    def views(self) -> tuple[str, ...]:
        """What can be asked of a manifest: the curated union, or a source as published."""
        return (self.union.name, *self.sources)

    @property
    def precedence(self) -> tuple[str, ...]:
        """All sources: those of the union as it says, then the others."""
        return (*self.union.precedence, *(name for name in self.sources if name not in self.union.precedence))

    @property
    def own(self) -> tuple[Source, ...]:
        """The sources that the manifest itself describes."""
        return tuple(source for source in self.sources.values() if source.is_own)

    @property
    def members(self) -> tuple[str, ...]:
        """The sources that the union can be made of, in the order of their columns."""
        return tuple(name for name in self.sources if self.in_union(name))

    def in_union(self, name: str) -> bool:
        """Whether the classes of a source are classes of the union, so that curation may take its clips."""
        return name in self.union.members if self.union.is_own else self.sources[name].in_k710

    def is_own(self, view: str) -> bool:
        """Whether the manifest itself holds the classes of a view; they have one order."""
        if view == self.union.name:
            return self.union.is_own
        return view in self.sources and self.sources[view].is_own

    def listing(self, view: str) -> str:
        """How `manifest/listings.py` calls a view: a source by its name, the union with nothing."""
        return "" if view == self.union.name else view

    def held_out(self, splits: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """The lists, (source, split), that train must not meet: these splits of all members, and what the union adds
        to them."""
        of_members = [(name, split) for name in self.members for split in splits]
        more = [(name, split) for name, of_source in self.union.holdout.items() for split in of_source]
        return tuple(dict.fromkeys((*of_members, *more)))

    @property
    def has_fractions(self) -> bool:
        return any(source.spans == FRACTIONAL for source in self.sources.values())

    def __getitem__(self, name: str) -> Source:
        return self.sources[name]

    def and_own(self, own: Iterable[Source]) -> Catalogue:
        """This catalogue with more sources. Raises UsageError for a name that is taken, and for too many."""
        sources = dict(self.sources)
        for source in own:
            if self.is_data_set(source.name) or source.name in sources:
                raise UsageError(f"a source of one's own cannot be called {source.name!r}; that is the name of another")
            sources[source.name] = source
        if len(sources) > MAX_SOURCES:
            raise UsageError(f"{len(sources)} sources; a manifest holds at most {MAX_SOURCES}")
        return Catalogue(self.union, sources)

    def with_union(self, union: Union) -> Catalogue:
        """This catalogue with a user's own union. Raises UsageError for a name that is taken, and for one that names
        sources which are not here."""
        if self.is_data_set(union.name) or union.name in self.sources:
            raise UsageError(f"a union cannot be called {union.name!r}; that is the name of another data set")
        named = {*union.members, *union.precedence, *union.class_maps, *union.holdout, *union.all_clips}
        if unknown := sorted(named - set(self.sources)):
            raise UsageError(f"the union {union.name} names {unknown[0]!r}; known: {', '.join(self.names)}")
        return Catalogue(union, self.sources)

    def archives(self) -> tuple[Archives, ...]:
        """All public archives in the order in which they are asked: a clip's home is the first source that hosts it."""
        return tuple(one for name in self.precedence for one in self.sources[name].archives)

    def citations(self, sources: Iterable[str]) -> list[str]:
        """BibTeX entries: the papers of these sources, then those of the union."""
        return [*(cited for source in sources if (cited := self.sources[source].citation)), *self.union.citations]

    def source_named(self, name: str) -> str:
        """The source that a name means in any of its spellings; else the name itself."""
        found = (each.name for each in self.sources.values() if re.fullmatch(each.name_pattern, name, re.I))
        return next(found, name)

    def is_data_set(self, name: str) -> bool:
        """Whether a name means a source or the union, in any spelling."""
        return self.source_named(name) in self.sources or bool(re.fullmatch(self.union.name_pattern, name, re.I))

    def check_sources(self, names: Iterable[str]) -> tuple[str, ...]:
        """The sources that `names` mean, in the order of their columns, without repeats.

        Any spelling will do (`K400`, `kinetics-400`). Raises UsageError for an unknown or empty selection.
        """
        return checked_names(tuple(map(self.source_named, names)), self.names, "source")

    def check_view(self, name: str | None) -> str:
        """The name itself; without one, that of the union. Raises UsageError for an unknown view."""
        if name is None:
            return self.union.name
        if name not in self.views:
            raise UsageError(f"unknown view {name!r}; known: {', '.join(self.views)}")
        return name


def checked_names(names: tuple[str, ...], known: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The names in the order of the known ones, without repeats. Raises UsageError for an unknown one or for none."""
    for name in names:
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    if not names:
        raise UsageError(f"no {what} given; known: {', '.join(known)}")
    return tuple(name for name in known if name in names)
