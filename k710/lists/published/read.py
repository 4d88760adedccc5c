"""The official lists of other data sets, as they were published: files in a folder -> rows by view and split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from k710.errors import ListError, UsageError
from k710.lists.labels import Synonym
from k710.lists.own_lists import OwnLists, read_own, read_rows
from k710.lists.own_source import OwnSpec, own_spec, parse_own
from k710.lists.published.activitynet import activitynet, hacs, hacs_clips
from k710.lists.published.files import MissingError, View
from k710.lists.published.hmdb51 import hmdb51
from k710.lists.published.moments import mit
from k710.lists.published.something import ssv1, ssv2
from k710.lists.published.ucf101 import ucf101
from k710.sources.others import OTHERS, Published


def read_published(name: str, folder: Path) -> list[OwnLists]:
    """The views of a data set of OTHERS from the official lists in `folder`, or in `folder/NAME`.

    Raises ListError that says where the lists come from where they are not there, and with file and line for a row that
    the published form does not have.
    """
    one = OTHERS[name]
    folder = folder / name if (folder / name).is_dir() else folder
    try:
        views = _READERS[name](folder)
    except MissingError as missing:
        raise ListError(f"{folder}: {missing} is missing for {one.name}; put there {one.origin}") from None
    return [_source(one, view, title, views[view]) for view, title in one.views.items() if view in views]


def read_sources(
    given: Iterable[str], annotations: Path | None, synonyms: Sequence[Synonym] = ()
) -> tuple[tuple[str, ...], list[OwnLists]]:
    """The names of all sources that `--sources` gives, and the lists of those that are none of Kinetics.

    `NAME=PATH` is a source of the user's own, or a data set of OTHERS with its lists in PATH; the name of such a data
    set alone, or of one of its views, has its lists in `annotations`. Raises UsageError and ListError.
    """
    names: list[str] = []
    own: list[OwnLists] = []
    for text in given:
        parsed = parse_own(text)
        name = parsed[0] if parsed else text.lower()
        data_set = next((one for one in OTHERS.values() if name in (one.name, *one.views)), None)
        if data_set is not None:
            folder = parsed[1] if parsed else annotations
            if folder is None:
                raise UsageError(
                    f"the lists of {data_set.name} are not downloaded; name a folder with --annotations DIR or "
                    f"{data_set.name}=DIR, and put there {data_set.origin}"
                )
            views = [one for one in read_published(data_set.name, folder) if name in (data_set.name, one.source.name)]
            own += views
            names += [one.source.name for one in views]
        elif parsed is not None:
            own.append(read_own(own_spec(*parsed), synonyms))
            names.append(name)
        else:
            names.append(text)
    return tuple(names), own


def _source(one: Published, view: str, title: str, found: View) -> OwnLists:
    spec = OwnSpec(
        name=view,
        where=found.named_in,
        lists={},
        ids=one.ids,
        spans=one.spans,
        classes=found.named_in,
        title=title,
        licence=one.licence,
        citation=one.citation,
        colour=one.colour,
        id_space=one.name if len(one.views) > 1 else "",
        frames_per_s=one.frames_per_s,
    )
    return read_rows(spec, found.lists, found.classes, tolerated_share=found.malformed_share)


_READERS: dict[str, Callable[[Path], dict[str, View]]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "ssv2": ssv2,
    "ssv1": ssv1,
    "mit": mit,
    "activitynet": activitynet,
    "hacs": hacs,
    "hacs_clips": hacs_clips,
}
