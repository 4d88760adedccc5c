"""The public archives of CVDF: which set holds which clips, in what order they are asked, what was seen in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import pyarrow as pa

from k710.download import cached
from k710.errors import FetchError, StoreError, UsageError
from k710.fetch.wanted import in_splits
from k710.http_reader import is_web_address, without_password
from k710.releases import SPLITS
from k710.storage import Location
from k710.store import MENDED, NewerStoreError, unit_metadata

CVDF = "https://s3.amazonaws.com/kinetics"


@dataclass(frozen=True)
class ArchiveSet:
    """The archives of one release and split. `hosts` says of each row of a clips table whether it should be there.

    `address` is below the base URL: of a list of archives, or of the one archive.
    """

    name: str
    address: str
    hosts: Callable[[pa.Table], pa.ChunkedArray]

    @property
    def origin(self) -> str:
        """What media rows call it."""
        return f"cvdf:{self.name}"

    def archives(self, base_url: str) -> list[str]:
        """The addresses of its archives, from the published list, which is downloaded once. Raises DownloadError, or
        FetchError for a list with something else in it."""
        url = f"{base_url.rstrip('/')}/{self.address}"
        if not url.endswith(".txt"):
            return [url]
        path = cached(url).path
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        found = list(dict.fromkeys(line for line in lines if line))
        for line in found:
            if not is_web_address(line):
                raise FetchError(f"{url}: a line is no address of an archive: {line[:100]!r} ({path} is the copy)")
        if not found:
            raise FetchError(f"{url}: the list is empty ({path} is the copy)")
        return found


def check_base_url(where: str) -> None:
    """Raise UsageError for an address, behind `cvdf:`, that is none of a mirror."""
    if not is_web_address(where) or urlsplit(where).username:
        shown = without_password(where)
        raise UsageError(f"cvdf:{shown}: a mirror's address is http(s)://HOST/…; a password goes into ~/.netrc")


def _parts(release: str, folder: str, sources: tuple[str, ...]) -> tuple[ArchiveSet, ...]:
    columns = tuple(f"{source}_split" for source in sources)
    return tuple(
        ArchiveSet(
            f"{release}/{split}",
            f"{folder}/{split}/{release}_{split}_path.txt",
            partial(in_splits, columns=columns, splits=(split,)),
        )
        for split in ("val", "train", "test")  # what evaluation needs is small, and early useful
    )


# In the order in which they are asked. A clip's home is the newest release that hosts it; later sets are asked for what
# the earlier ones lacked. Videos of Kinetics-700 are hosted as those of its 2020 edition. K400's replacements come
# before the damaged originals.
ARCHIVE_SETS: tuple[ArchiveSet, ...] = (
    *_parts("k700_2020", "700_2020", ("k700_2020", "k700")),
    *_parts("k600", "600", ("k600",)),
    ArchiveSet(
        "k400/replacement",
        "400/replacement_for_corrupted_k400.tgz",
        partial(in_splits, columns=("k400_split",), splits=SPLITS),
    ),
    *_parts("k400", "400", ("k400",)),
)


@dataclass(frozen=True)
class SeenArchive:
    """An archive that was read to its end, whatever that end was, and the clips that it held. `damaged`: it never was
    read whole."""

    url: str
    members: frozenset[str]
    damaged: bool = False


def seen_archives(media_files: Iterable[Location]) -> dict[str, SeenArchive]:
    """What the units of all profiles say of the archives that they read, by address."""
    found: dict[str, SeenArchive] = {}
    for file in media_files:
        if not file.name.startswith("cvdf-"):
            continue
        try:
            archive = unit_metadata(file)["archive"]
            url, complete, members = str(archive["url"]), bool(archive["complete"]), archive["members"]
        except NewerStoreError:
            raise
        except StoreError as error:
            raise StoreError(f"{error}; {MENDED}") from None
        except (KeyError, TypeError) as error:
            raise StoreError(f"{file}: damaged: it does not say of which archive it is ({error!r})") from None
        if complete:
            before = found.get(url, SeenArchive(url, frozenset(), damaged=True))
            damaged = before.damaged and bool(archive.get("damage"))
            found[url] = SeenArchive(url, before.members | frozenset(members), damaged)
    return found


def archives_to_read(
    archives: Iterable[str], wanted: frozenset[str], seen: dict[str, SeenArchive]
) -> tuple[list[str], frozenset[str]]:
    """Of a set's archives those worth reading for the `wanted` clips, and the clips that none of them can hold: an
    archive that was seen whole is read again only for a clip that it held."""
    unseen = [url for url in archives if url not in seen]
    worth = [url for url in archives if url not in seen or seen[url].members & wanted] if wanted else []
    if unseen:
        return worth, frozenset()
    held = frozenset().union(*(seen[url].members for url in archives))
    return worth, wanted - held


def left_to_others(others: Iterable[str], clip_ids: frozenset[str], seen: dict[str, SeenArchive]) -> frozenset[str]:
    """Of the clips that a set lacks those that the archives of `others`, the other parts', may still bring: all, while
    one of them was not seen, else what they are known to hold."""
    held: set[str] = set()
    for url in others:
        if url not in seen:
            return clip_ids
        held |= seen[url].members
    return clip_ids & held


def unit_prefix(archive_set: ArchiveSet, url: str) -> str:
    """The beginning of the name of a unit that read this archive."""
    last = urlsplit(url).path.rsplit("/", 1)[-1]
    for suffix in (".tar.gz", ".tgz", ".tar"):
        last = last.removesuffix(suffix)
    part = re.sub(r"[^A-Za-z0-9._-]", "_", last)[-60:]
    return f"cvdf-{archive_set.name.replace('/', '-')}-{part}"
