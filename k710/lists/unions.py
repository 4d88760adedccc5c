"""A user's own union, read: the lists of its members, and its classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from k710.errors import UsageError
from k710.lists.labels import class_names, k710_classes_of
from k710.lists.own_lists import OwnLists, read_own
from k710.lists.own_source import own_spec
from k710.lists.published.read import read_published
from k710.lists.union_classes import UnionSynonym, read_union_synonyms, union_classes
from k710.lists.union_spec import Member, UnionSpec
from k710.sources.known import KNOWN_SOURCES, UNION
from k710.sources.others import OTHERS
from k710.sources.source import SPLITS, Union
from k710.sources.unions import own_union


@dataclass(frozen=True)
class UnionLists:
    """An own union, and the lists of its sources that are no releases of Kinetics.

    `released` are the lists, (source, splits), that it needs of the others. `notes` are what the user should know;
    `files` the names and the SHA-256 of the files that say what the union is.
    """

    union: Union
    own: tuple[OwnLists, ...]
    released: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]
    files: tuple[dict[str, str], ...]


def read_union(spec: UnionSpec, annotations: Path | None) -> UnionLists:
    """Read the members of a union and align their classes. `annotations`: the folder with the lists of published data
    sets that have no path of their own. Raises ListError, LabelError and UsageError."""
    own = tuple(_own_lists(spec, annotations))
    names, maps, notes = _aligned(spec, {one.source.name: one.source.classes for one in own})
    union = own_union(
        name=spec.name,
        title=spec.title,
        members=spec.sources,
        precedence=spec.ranked,
        classes=names,
        class_maps=maps,
        holdout=spec.held,
        all_clips=spec.kept_whole,
    )
    of_lists = [note for one in own for note in one.notes]
    return UnionLists(union, own, tuple(_released(spec)), (*of_lists, *notes), tuple(_files(spec)))


def members_of(spec: UnionSpec, annotations: Path | None) -> list[tuple[str, tuple[str, ...]]]:
    """The members of a union with the names of their classes, in index order. Raises as `read_union`."""
    classes_of = {one.source.name: one.source.classes for one in _own_lists(spec, annotations)}
    return [(member.name, _classes_of(member, classes_of)[0]) for member in spec.members]


def synonyms_of(spec: UnionSpec) -> tuple[UnionSynonym, ...]:
    return read_union_synonyms(spec.synonyms) if spec.synonyms else ()


def _own_lists(spec: UnionSpec, annotations: Path | None) -> Iterator[OwnLists]:
    """The lists of the sources that are no releases of Kinetics, each once."""
    read: dict[tuple[str, Path], list[OwnLists]] = {}
    places: dict[str, Path | None] = {}
    for member in spec.all_members:
        if member.is_k710 or member.name in KNOWN_SOURCES:
            continue
        if member.name in places:
            if places[member.name] != member.path:
                raise UsageError(f"{spec.where}: two unions name {member.name}, with other lists; want the same")
            continue
        places[member.name] = member.path
        if member.is_own:
            assert member.path is not None, "read_union_spec asks for one"
            yield read_own(own_spec(member.name, member.path))
            continue
        data_set = next(one for one in OTHERS.values() if member.name in one.views)
        folder = member.path or annotations
        if folder is None:
            raise UsageError(
                f"the lists of {data_set.name} are not downloaded; name a folder with --annotations DIR, or write "
                f"`{member.name}: DIR` in {spec.where}, and put there {data_set.origin}"
            )
        key = data_set.name, folder
        if key not in read:
            read[key] = read_published(*key)
        yield from (one for one in read[key] if one.source.name == member.name)


Maps = dict[str, tuple[int, ...]]  # for each source, the union's class of each of its classes


def _aligned(
    spec: UnionSpec, classes_of: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], Maps, tuple[str, ...]]:
    """The classes of a union, those of its sources, and notes; a member that is a union is aligned first."""
    members: list[tuple[str, tuple[str, ...]]] = []
    inside: dict[str, Maps] = {}
    notes: list[str] = []
    for member in spec.members:
        names, inside[member.name], more = _classes_of(member, classes_of)
        members.append((member.name, names))
        notes += more
    found = union_classes(members, synonyms_of(spec), same_names=spec.same_names, where=spec.where)
    maps = {
        source: tuple(found.maps[name][index] for index in indices)
        for name, of_sources in inside.items()
        for source, indices in of_sources.items()
    }
    return found.names, maps, (*notes, *found.notes)


def _classes_of(
    member: Member, classes_of: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], Maps, Sequence[str]]:
    """The classes of a member, for each of its sources the member's class of each of its classes, and notes."""
    if member.union:
        return _aligned(member.union, classes_of)
    if member.is_k710:
        maps = {source: k710_classes_of(KNOWN_SOURCES[source].label_set) for source in member.sources}
        return class_names(UNION.name), maps, ()
    names = classes_of[member.name] if member.name in classes_of else class_names(member.name)
    return names, {member.name: tuple(range(len(names)))}, ()


def _released(spec: UnionSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The lists of the releases of Kinetics that a union needs: train and val of members, and what is held out."""
    held = spec.held
    for source in KNOWN_SOURCES:
        is_member = source in spec.sources
        if is_member or any(source in one.sources for one in spec.all_members):
            wanted = {*held.get(source, ())} if source in held and not is_member else {"train", "val"}
            wanted |= {*held.get(source, ())} | ({*spec.policy_holdout} if is_member else set())
            yield source, tuple(split for split in SPLITS if split in wanted)


def _files(spec: UnionSpec) -> Iterator[dict[str, str]]:
    for path in filter(None, (spec.where, spec.synonyms)):
        yield {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    for member in spec.members:
        if member.union:
            yield from _files(member.union)
