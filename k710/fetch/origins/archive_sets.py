"""The public archives of CVDF: which set holds which clips, in what order they are asked, what was seen in them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from k710.errors import DownloadError, FetchError, StoreError, UsageError
from k710.fetch.wanted import in_splits
from k710.sources.kinetics import CVDF as CVDF_HOST
from k710.sources.known import archives
from k710.storage.download import cached, forget
from k710.storage.http_reader import FileVersion, Options, head, is_web_address, without_password
from k710.storage.storage import Location
from k710.store.store import MENDED, NewerStoreError, unit_metadata

CVDF = CVDF_HOST.base_url
_ORIGINAL = re.compile(CVDF_HOST.address_pattern)
MAX_LIST_BYTES = 4 << 20  # the longest list, of a few hundred addresses, has some 50 kB
MAX_LIST_S = 600.0


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
        """The addresses of its archives, from the published list, which is downloaded once. A mirror's copy of the list
        names the original host: those addresses are read as the mirror's own. Raises DownloadError, or FetchError for a
        list with something else in it."""
        base_url = base_url.rstrip("/")
        url = f"{base_url}/{self.address}"
        if not url.endswith(".txt"):
            return [url]
        read = partial(_listed, url=url)
        limits: Options = {"max_bytes": MAX_LIST_BYTES, "max_seconds": MAX_LIST_S}
        try:
            found = read(cached(url, check=read, **limits).path)
        except FetchError:
            forget(url)  # what an older version put into the cache was not looked at
            found = read(cached(url, check=read, **limits).path)
        return list(dict.fromkeys(_rebased(each, base_url) for each in found))


def _listed(path: Path, *, url: str) -> list[str]:
    """The lines of a list of archives."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    found = list(dict.fromkeys(line for line in lines if line))
    for line in found:
        if not is_web_address(line):
            raise FetchError(f"{url}: what the server sent is no list of archives: it holds {line[:100]!r}")
    if not found:
        raise FetchError(f"{url}: the list is empty")
    return found


def _rebased(url: str, base_url: str) -> str:
    """The address on the mirror of an archive that its list names on the original host."""
    inside = _ORIGINAL.sub("", url, count=1)
    return url if inside == url else f"{base_url}/{inside}"


def check_base_url(where: str) -> None:
    """Raise UsageError for an address, behind `cvdf:`, that is none of a mirror."""
    if not is_web_address(where) or urlsplit(where).username:
        shown = without_password(where)
        raise UsageError(f"cvdf:{shown}: a mirror's address is http(s)://HOST/…; a password goes into ~/.netrc")


# In the order in which they are asked. A clip's home is the newest release that hosts it; later sets are asked for what
# the earlier ones lacked.
ARCHIVE_SETS: tuple[ArchiveSet, ...] = tuple(
    ArchiveSet(one.name, one.address, partial(in_splits, listings=one.sources, splits=one.splits)) for one in archives()
)


@dataclass(frozen=True)
class SeenArchive:
    """What the store knows of an archive, and the clips that were seen in it.

    `damaged`: no reading came to its end. `settled`: one did, or two readings of the same version met the same damage,
    so that it is the file on the server and not the transfer that is damaged. `versions` are those of such a damage,
    `readings` the fingerprints of all readings that met one.
    """

    url: str
    members: frozenset[str]
    damaged: bool = False
    settled: bool = True
    versions: tuple[FileVersion, ...] = ()
    readings: frozenset[str] = frozenset()


def fingerprint(archive: dict[str, Any]) -> str | None:
    """A hash that distinguishes one damaged reading of an archive from another. None where the server did not give the
    version and the size of the file. `archive` is the unit's record of it."""
    version = archive.get("etag") or archive.get("last_modified")
    if not (version and archive.get("bytes") and archive.get("damage") and archive.get("members")):
        return None
    facts = [version, archive["bytes"], archive["damage"], sorted(archive["members"])]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def seen_archives(media_files: Iterable[Location]) -> dict[str, SeenArchive]:
    """What the units of all profiles say of the archives that they read, by address."""
    readings: dict[str, list[dict[str, Any]]] = {}
    for file in media_files:
        if not file.name.startswith("cvdf-"):
            continue
        try:
            archive = unit_metadata(file)["archive"]
            _ = bool(archive["complete"]), frozenset(archive["members"])
            readings.setdefault(str(archive["url"]), []).append(archive)
        except NewerStoreError:
            raise
        except StoreError as error:
            raise StoreError(f"{error}; {MENDED}") from None
        except (KeyError, TypeError) as error:
            raise StoreError(f"{file}: damaged: it does not say of which archive it is ({error!r})") from None
    found = {url: _seen(url, archives) for url, archives in readings.items()}
    return {url: seen for url, seen in found.items() if seen.settled or seen.readings}


def _seen(url: str, readings: list[dict[str, Any]]) -> SeenArchive:
    whole = [archive for archive in readings if archive["complete"] and not archive.get("damage")]
    confirmed = [archive for archive in readings if archive["complete"] and archive.get("confirmed")]
    return SeenArchive(
        url,
        frozenset().union(*(archive["members"] for archive in whole or confirmed)),
        damaged=not whole,
        settled=bool(whole or confirmed),
        versions=tuple(_version(archive) for archive in confirmed),
        readings=frozenset(filter(None, map(fingerprint, readings))),
    )


def _version(archive: dict[str, Any]) -> FileVersion:
    return FileVersion(archive.get("etag"), archive.get("last_modified"), archive.get("bytes"))


def doubtful_units(media_files: Iterable[Location]) -> frozenset[str]:
    """The units of archives whose damage is not settled. What they say of clips that failed is no verdict;
    older versions wrote such rows."""
    found = set()
    for file in media_files:
        if file.name.startswith("cvdf-"):
            try:
                archive = unit_metadata(file).get("archive")
            except NewerStoreError:
                raise
            except StoreError as error:
                raise StoreError(f"{error}; {MENDED}") from None
            if isinstance(archive, dict) and archive.get("damage") and not archive.get("confirmed"):
                found.add(file.stem)
    return frozenset(found)


def is_replaced(seen: SeenArchive) -> bool:
    """Whether the server has another version of an archive than those that were found damaged. False where it does not
    answer."""
    try:
        now = head(seen.url)
    except DownloadError:
        return False
    return not any(version.continues(now, partial=False) for version in seen.versions)


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
