"""Serves the sample's clips like the public archives, on this machine, while one command runs.

    python -m k710.sample.serve k710 fetch manifests/sample --from cvdf:{url}

`{url}` becomes the address. The archives of each release are real `.tar.gz` parts with their list. One is a plain tar
named `.tar.gz`, as one public archive was.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from k710.sample.footage import sample_clips, write_archives, write_footage

# The folder of the public archives of each release, and its name in their lists. K700's archives are not hosted.
FOLDERS = {"k700_2020": "700_2020", "k600": "600", "k400": "400"}
NUM_PARTS = 2


def write_public_archives(folder: Path, base_url: str) -> None:
    """Write the archives of the hosted releases to `folder`, with the layout of the public base URL.

    The sample's K700 clips are in the archives of the 2020 edition, like most of the real ones.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for release, below in FOLDERS.items():
            clips = sample_clips(release) + (sample_clips("k700") if release == "k700_2020" else [])
            files = write_footage(Path(scratch) / release, {clip.clip_id: clip for clip in clips}.values())
            for split in ("train", "val", "test"):
                of_split = [files[clip] for clip in files if clip.split == split]
                write_archives(
                    folder / below / split,
                    of_split,
                    NUM_PARTS,
                    base_url=f"{base_url}/{below}/{split}",
                    list_name=f"{release}_{split}_path.txt",
                    plain_parts=(1,) if split == "val" else (),
                )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of 127.0.0.1; yields the address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def main(command: tuple[str, ...]) -> None:
    """Serve the sample's archives while COMMAND runs; {url} in it becomes their address."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url:
        write_public_archives(Path(folder), url)
        # The lists of archives are cached by address, and this address exists only for a moment.
        cache = {"K710_CACHE": str(Path(folder) / ".cache"), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        done = subprocess.run([part.replace("{url}", url) for part in command], env=os.environ | cache, check=False)  # noqa: S603
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
