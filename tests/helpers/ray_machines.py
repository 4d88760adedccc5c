"""A real Ray cluster on this machine: each of its nodes in processes of its own, as `ray start` makes them.

Each node has one CPU and a small object store. Nothing outside this machine is asked for anything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests.fetch.test_killed_fetch import LIMIT_S, marked, until

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1", "OMP_NUM_THREADS": "1"}
QUIET |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@dataclass
class Node:
    """A node: everything that it started carries its mark."""

    process: subprocess.Popen[bytes]
    mark: str

    def pids(self, what: str = "") -> list[int]:
        return marked(self.mark, what)

    def kill(self, what: str) -> None:
        """SIGKILL to what its command line says, such as raylet/raylet."""
        found = self.pids(what)
        assert found, what
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        for pid in (self.process.pid, *self.pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: not self.pids())


@dataclass
class Machines:
    """The cluster. `environment` is that of its nodes."""

    environment: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="k710-ray-"))  # short, since sockets stand in it
        with contextlib.closing(socket.socket()) as once:
            once.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{once.getsockname()[1]}"

    def __enter__(self) -> Machines:
        port = self.address.rpartition(":")[2]
        try:
            self._start("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.folder}")
            self.add()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for node in reversed(self.nodes):
            node.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, *before: str) -> Node:
        """Another node; `before` is what its command begins with."""
        return self._start(f"--address={self.address}", before=before)

    def _start(self, *options: str, before: tuple[str, ...] = ()) -> Node:
        mark = uuid.uuid4().hex
        ray = shutil.which("ray", path=str(Path(sys.executable).parent))
        assert ray is not None
        command = [*before, ray, "start", *options, "--num-cpus=1", "--object-store-memory=100000000"]
        environment = {**os.environ, **QUIET, **self.environment, "K710_TEST_MARK": mark}
        said = self.folder / f"said-{len(self.nodes)}"
        with said.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--node-ip-address=127.0.0.1", "--disable-usage-stats", "--block"],
                stdout=file, stderr=file, env=environment, start_new_session=True, cwd=self.folder,
            )  # fmt: skip
        node = Node(process, mark)
        self.nodes.append(node)
        end_s = time.monotonic() + 2 * LIMIT_S
        while b"will now block forever" not in said.read_bytes():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < end_s, said.read_text()
            time.sleep(0.1)
        return node
