"""N processes that touch media, and what happens when one crashes or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Protocol

from k710.errors import FetchError
from k710.fetch.encode.clip_process import GRACE_S, READY
from k710.fetch.encode.jobs import Made

WAIT_S = 10  # beyond the process's own limits


class StoppedError(Exception):
    """The pool was told to stop at once."""


class Job(Protocol):
    """What a process is asked: a line of JSON, with a limit of time."""

    @property
    def clip_id(self) -> str: ...
    @property
    def limit_s(self) -> float: ...
    def as_json(self) -> dict[str, Any]: ...


class ClipPool:
    """Does jobs in `num_processes` processes. `submit` gives a Future of an answer, whatever happens to the process.

    `module` is what the processes run (clip_process.serve is their loop), `answer` the dataclass of what they say.
    """

    def __init__(
        self, num_processes: int, *, module: str = "k710.fetch.encode.clip_process", answer: Any = Made
    ) -> None:
        self.num_processes, self._answer = num_processes, answer
        self._idle: queue.SimpleQueue[_ClipProcess] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._all = [_ClipProcess(self._stopped, module) for _ in range(num_processes)]
        for process in self._all:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(num_processes, thread_name_prefix="clip")

    def __enter__(self) -> ClipPool:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._all:
            process.end()

    def submit(self, job: Job) -> Future[Any]:
        return self._threads.submit(self._run, job)

    def kill(self) -> None:
        """End all processes now; what they were at fails with StoppedError."""
        self._stopped.set()
        for process in self._all:
            process.kill()

    def _run(self, job: Job) -> Any:
        process = self._idle.get()
        try:
            return self._persistently(process, job)
        finally:
            self._idle.put(process)

    def _persistently(self, process: _ClipProcess, job: Job) -> Any:
        """A crash may be the machine's fault, as when memory runs out, so the clip gets a second process."""
        for last in (False, True):
            if self._stopped.is_set():
                raise StoppedError
            try:
                return self._answer.from_json(process.make(job))
            except ProcessDiedError as death:
                if self._stopped.is_set():
                    raise StoppedError from None
                if last or death.hung:
                    return self._answer(job.clip_id, "undecodable", str(death))
        raise AssertionError


class ProcessDiedError(Exception):
    """The process crashed, or `hung` and had to be killed; the text says which."""

    def __init__(self, text: str, *, hung: bool = False) -> None:
        super().__init__(text)
        self.hung = hung


class _ClipProcess:
    """One process, started when it is first needed, and again after each death."""

    def __init__(self, stopped: threading.Event, module: str = "k710.fetch.encode.clip_process") -> None:
        self._stopped, self._module = stopped, module
        self._process: subprocess.Popen[str] | None = None
        self._said: IO[bytes] | None = None
        self._hung = False

    def make(self, job: Job) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(job.limit_s + GRACE_S + WAIT_S, self._time_is_up)
        timer.start()
        try:
            process.stdin.write(json.dumps(job.as_json()) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line.endswith("\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        raise self._death()

    def _time_is_up(self) -> None:
        self._hung = True
        self.kill()

    def kill(self) -> None:
        """The process and its ffmpeg, which are a group of their own. The ffmpeg of a dead process lives on, and would
        write on; until the process is waited for, nobody else's group can have its number."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Let it end by itself, which it does once there is nothing more to read."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process = None
        if self._said is not None:
            self._said.close()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._said, self._hung = tempfile.TemporaryFile(), False  # noqa: SIM115  # closed with the process
            options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._said}
            command = [sys.executable, "-m", self._module]
            # A session of its own: the terminal's Ctrl-C does not reach it, and its ffmpeg dies with it.
            self._process = subprocess.Popen(command, text=True, start_new_session=True, **options)  # noqa: S603
            if self._stopped.is_set():  # it may have come too late for ClipPool.kill
                self.kill()
            assert self._process.stdout is not None
            if self._process.stdout.readline().strip() != READY and not self._hung:
                # No clip is to blame for an installation that does not work.
                raise FetchError(f"the process that makes clips does not start: {self._death()}")
        return self._process

    def _death(self) -> ProcessDiedError:
        """What the dead process died of; the next job gets a new one."""
        assert self._process is not None
        assert self._said is not None
        self.kill()
        code = self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        self.end()
        if self._hung or -code == signal.SIGALRM:
            return ProcessDiedError("the decoder hung and was killed", hung=True)
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return ProcessDiedError(f"the decoder crashed: {how}" + (f": {said[-1][-200:]}" if said else ""))
