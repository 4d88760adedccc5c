"""The machines of a Ray cluster as an engine (see engine.py): which they are, and whether they are fit for the work."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from k710.engine.engine import Engine, Stop, units_at_a_time
from k710.errors import EngineError, UsageError
from k710.storage.storage import new_folder
from k710.text import os_error_text
from k710.version import __version__

_ABORT_S = 5.0
_CONNECT_S = 10.0
_HEALTH_S = 90.0  # Ray itself asks for 40 s
_FOUND_BY_RAY = "auto"
_DEAD_S = 60.0  # after which Ray has long struck a dead machine off its list


@contextmanager
def ray_engine(
    opens: Callable[[Stop, int], AbstractContextManager[Any]],
    *,
    workers: int,
    stop: Stop,
    address: str | None = None,
    most_workers: int | None = None,
    shared: Sequence[Path] = (),
    parallel: Callable[[int], int] = units_at_a_time,
    on_message: Callable[[str], None] = lambda text: None,
) -> Iterator[Engine[Any]]:
    """Every machine of the cluster at `address` (default: the one that runs here), each with as many processes as it
    has CPUs for Ray, or `most_workers`. `workers`, those of this machine, do not count.

    `on_message` gets a message for each machine that is lost; `parallel` is as for `local_engine`. All must see the
    `shared` paths as this one does: files, and folders, into which it puts a file for the moment. Raises UsageError
    without Ray, EngineError where there is no cluster, where a machine has another k710, does not see what is shared,
    or has no CPUs free.
    """
    ray = _ray()
    from k710.engine.ray_cluster import ANSWER_S, Cluster

    with _connected(ray, address):
        with contextlib.ExitStack() as stack:
            nodes = _fit_nodes(ray, {path: stack.enter_context(_file_of(path)) for path in shared})
        cluster = Cluster(opens, stop, most_workers, on_message, parallel)
        try:
            cluster.start(nodes)
            yield cluster
        except BaseException:
            cluster.end(_ABORT_S, at_once=True)
            raise
        cluster.end(ANSWER_S, at_once=False)


def _ray() -> Any:
    # Messages that Ray holds back so that they appear once would come on stdout, at the end of the program.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # The first error is raised; of those of other machines Ray would print tracebacks.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"the engine ray needs Ray ({error}): pip install 'k710[ray]'") from None
    return ray


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """For the time of the block this process is a driver of the cluster, unless it is one already."""
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or _FOUND_BY_RAY
    if address != _FOUND_BY_RAY:
        _check_address(address)
    in_main_thread = threading.current_thread() is threading.main_thread()
    # Ray puts a handler of its own in the place of ours, which asks for an orderly end.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = "this machine" if address == _FOUND_BY_RAY else address
        reason = str(error).strip().splitlines()[0][:300]
        raise EngineError(f"no Ray cluster at {where}: {reason}; `ray start --head` starts one") from None
    finally:
        if in_main_thread:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where stdout is for data, Ray prints messages about deaths
            yield
            ray.shutdown()
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise UsageError for what is no HOST:PORT, EngineError where nobody listens, for which Ray would wait minutes, or
    another than Ray's head, such as its dashboard, for which it would wait for ever."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"{address}: a Ray cluster is HOST:PORT; run this command on a machine of the cluster")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise EngineError(f"no Ray cluster at {address}: {os_error_text(error)}") from None
    asks = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(asks, stdin=subprocess.DEVNULL, capture_output=True, timeout=_HEALTH_S, check=False)  # noqa: S603
        answered = done.returncode == 0
    except subprocess.TimeoutExpired:
        answered = False
    if not answered:
        raise EngineError(
            f"no Ray cluster at {address}: whoever listens there is no head of one; its port is that of "
            f"`ray start --head --port`, 6379 where none was given"
        )


class _GoneError(EngineError):
    """A machine that does not answer."""


def _fit_nodes(ray: Any, files: Mapping[Path, Path]) -> list[dict[str, Any]]:
    """The machines of the cluster, after `_check_nodes`. One that has just died is on Ray's list for a while."""
    end_s = time.monotonic() + _DEAD_S
    while True:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        if not nodes:
            raise EngineError("no machine of this Ray cluster has a CPU for Ray")
        try:
            _check_nodes(ray, nodes, files)
        except _GoneError:
            if time.monotonic() > end_s:
                raise
            time.sleep(1)
        else:
            return nodes


def _check_nodes(ray: Any, nodes: Sequence[dict[str, Any]], files: Mapping[Path, Path]) -> None:
    """Raise EngineError where a machine has another k710 or does not see one of `files`, each of a shared path."""
    from k710.engine.ray_cluster import ANSWER_S, first_line, name_of, pinned

    facts, paths = _facts(), [str(file) for file in files.values()]
    _, my_code, mine = facts(paths)
    asked = ray.remote(num_cpus=0, max_retries=0)(facts)
    refs = [asked.options(scheduling_strategy=pinned(node)).remote(paths) for node in nodes]
    for node, ref in zip(nodes, refs, strict=True):
        try:
            version, code, found = ray.get(ref, timeout=ANSWER_S)
        except ray.exceptions.RayError as error:
            raise _GoneError(f"{name_of(node)}: it does not answer: {first_line(error)}") from None
        if version != __version__ or code != my_code:
            which = (
                f"{version}, here {__version__}" if version != __version__ else f"{version} with other code than here"
            )
            raise EngineError(f"{name_of(node)}: k710 there is {which}; install the same on all machines")
        for path, file in files.items():
            if (there := found[str(file)]) != (here := mine[str(file)]):
                why = "another file is there" if len(there) == len(here) else there
                raise EngineError(
                    f"{name_of(node)}: does not see {path} as this machine does ({why}); "
                    f"all machines need it under the same name"
                )


def _facts() -> Callable[[list[str]], tuple[str, str, dict[str, str]]]:
    """A function that says of the machine on which it runs: k710's version, a hash of its code, and of each path a hash
    of the file's beginning, or why there is none. Ray sends a function defined inside another one as it is, so this
    runs where there is no k710, too."""

    def facts(paths: list[str]) -> tuple[str, str, dict[str, str]]:
        import hashlib
        from pathlib import Path

        code, found = hashlib.sha256(), {}
        try:
            import k710

            version = k710.__version__
            for module in sorted(Path(k710.__file__).parent.rglob("*.py")):
                code.update(module.read_bytes())
        except ImportError:
            version = "missing"
        for path in paths:
            try:
                with Path(path).open("rb") as file:
                    found[path] = hashlib.sha256(file.read(65536)).hexdigest()
            except OSError as error:
                found[path] = str(error.strerror)
        return version, code.hexdigest(), found

    return facts


@contextmanager
def _file_of(path: Path) -> Iterator[Path]:
    """The file itself, or for the time of the block a file that nobody else can have in that folder."""
    if path.is_file():
        yield path
        return
    with new_folder(path), tempfile.TemporaryDirectory(prefix=".new-", dir=path) as folder:
        file = Path(folder) / "seen"
        file.write_text(secrets.token_hex(32))
        yield file
