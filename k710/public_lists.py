"""The official lists from their public addresses, into a cache, once."""

from __future__ import annotations

from collections.abc import Iterable

from k710.annotations import ListFile
from k710.download import cached
from k710.errors import DownloadError
from k710.progress import download_progress
from k710.releases import SOURCES


def download_lists(sources: Iterable[str], splits: Iterable[str]) -> list[ListFile]:
    """The list files of these sources and splits in the cache; what is not there yet is downloaded, with progress.

    Raises DownloadError that names the address and what to do instead.
    """
    files, splits = [], tuple(splits)
    for source in sources:
        for split in splits:
            url = SOURCES[source].list_urls[split]
            try:
                with download_progress(f"{source} {split} list") as progress:
                    path = cached(url, progress=progress).path
            except DownloadError as error:
                raise DownloadError(
                    f"{error}\nGive the lists yourself with --annotations DIR, or leave {source} out with --sources."
                ) from None
            files.append(ListFile(source, split, path, url))
    return files
