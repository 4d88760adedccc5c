"""The official lists from their public addresses, into a cache, once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from k710.errors import DownloadError, ListError
from k710.lists.annotations import ListFile, read_list
from k710.progress import download_progress
from k710.sources.known import KNOWN_SOURCES
from k710.storage.download import cached

MAX_LIST_BYTES = 256 << 20  # the largest list has 150 MB; see list_bytes.py for one that is unpacked
MAX_LIST_S = 3600.0


def _check(path: Path, *, source: str, split: str, url: str) -> None:
    """Raise ListError for what is no list at all, such as an error page: it must not stay in the cache."""
    try:
        read_list(ListFile(source, split, path, url), tolerated_share=1.0)
    except ListError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise ListError(f"{url}: what the server sent is no list: {said}; the same command asks it again") from None


def download_lists(sources: Iterable[str], splits: Iterable[str]) -> list[ListFile]:
    """The list files of these sources and splits in the cache; what is not there yet is downloaded, with progress.

    Raises DownloadError that names the address and what to do instead.
    """
    files, splits = [], tuple(splits)
    for source in sources:
        for split in splits:
            url = KNOWN_SOURCES[source].list_urls[split]
            try:
                with download_progress(f"{source} {split} list") as progress:
                    check = partial(_check, source=source, split=split, url=url)
                    path = cached(
                        url, progress=progress, check=check, max_bytes=MAX_LIST_BYTES, max_seconds=MAX_LIST_S
                    ).path
            except (DownloadError, ListError) as error:
                raise DownloadError(
                    f"{error}\nGive the lists yourself with --annotations DIR, or leave {source} out with --sources."
                ) from None
            files.append(ListFile(source, split, path, url))
    return files
