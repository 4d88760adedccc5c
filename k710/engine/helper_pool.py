"""A pool of helper processes that read clips, and what happens when one of them crashes or hangs."""

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
from typing import IO, Any, Generic, Protocol, TypeVar

from k710.engine.helper_process import GRACE_S, READY
from k710.errors import EngineError

WAIT_S = 10  # beyond the process's own limits


class StoppedError(Exception):
    """The pool was asked to stop at once."""


class Job(Protocol):
    """What a process is asked to do with a clip: a line of JSON, with a time limit."""

    @property
    def clip_id(self) -> str: ...
    @property
    def limit_s(self) -> float: ...
    def as_json(self) -> dict[str, Any]: ...


AnswerT = TypeVar("AnswerT", covariant=True)


class AnswerType(Protocol[AnswerT]):
    """The class of the answers. It is called with the clip's ID, a class of failure and a message where the process
    died and gave no answer."""

    def __call__(self, clip_id: str, failure: str, message: str, /) -> AnswerT: ...
    def from_json(self, plain: dict[str, Any], /) -> AnswerT: ...


class HelperPool(Generic[AnswerT]):
    """Does jobs in `num_processes` processes. `submit` gives a Future of an answer, whatever happens to the process.

    `module` is what the processes run, by `python -m` (helper_process.serve is their loop); `answer` is the class of
    their answers.
    """

    def __init__(self, num_processes: int, *, module: str, answer: AnswerType[AnswerT]) -> None:
        self.num_processes, self._answer = num_processes, answer
        self._idle: queue.LifoQueue[_HelperProcess] = queue.LifoQueue()  # so those that are started get the jobs
        self._stopped = threading.Event()
        self._all = [_HelperProcess(self._stopped, module) for _ in range(num_processes)]
        for process in self._all:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(num_processes, thread_name_prefix="clip")

    def __enter__(self) -> HelperPool[AnswerT]:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._all:
            process.let_go()
        for process in self._all:  # which end at the same time
            process.end()

    def start(self, num_jobs: int) -> None:
        """Start the processes that so many jobs need, without waiting for them. Otherwise each starts with a job."""
        for _ in range(min(num_jobs, self.num_processes)):
            self._threads.submit(self._start_one)

    def submit(self, job: Job) -> Future[AnswerT]:
        return self._threads.submit(self._run, job)

    def kill(self) -> None:
        """End all processes now; the jobs in hand fail with StoppedError."""
        self._stopped.set()
        for process in self._all:
            process.kill()

    def _start_one(self) -> None:
        process = self._idle.get()
        try:
            process.start()
        finally:
            self._idle.put(process)

    def _run(self, job: Job) -> AnswerT:
        process = self._idle.get()
        try:
            return self._with_second_try(process, job)
        finally:
            self._idle.put(process)

    def _with_second_try(self, process: _HelperProcess, job: Job) -> AnswerT:
        """A crash may be the machine's fault, as when memory runs out, so the clip gets a second process."""
        for is_last in (False, True):
            if self._stopped.is_set():
                raise StoppedError
            try:
                return self._answer.from_json(process.ask(job))
            except ProcessDiedError as death:
                if self._stopped.is_set():
                    raise StoppedError from None
                if is_last or death.hung:
                    return self._answer(job.clip_id, "undecodable", str(death))
        raise AssertionError


class ProcessDiedError(Exception):
    """The process crashed, or `hung` and had to be killed; the text says which."""

    def __init__(self, text: str, *, hung: bool = False) -> None:
        super().__init__(text)
        self.hung = hung


class _HelperProcess:
    """One process, started when it is first needed, and again after each death."""

    def __init__(self, stopped: threading.Event, module: str) -> None:
        self._stopped, self._module = stopped, module
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[bytes] | None = None
        self._hung = False

    def start(self) -> None:
        """Start the process. Where that fails, the first job tries again and says why."""
        with contextlib.suppress(EngineError, OSError):
            self._running()

    def ask(self, job: Job) -> dict[str, Any]:
        """The process's answer to a job. Raises ProcessDiedError."""
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
        """End the process and its ffmpeg, which are a process group of their own.

        The ffmpeg of a dead process lives on and would write on. Until the process is waited for, no other group can
        have its number.
        """
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def let_go(self) -> None:
        """Let it end by itself, which it does once there is nothing more to read."""
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def end(self) -> None:
        """Wait until it has ended by itself."""
        if self._process is None:
            return
        assert self._process.stdout is not None
        self.let_go()
        try:
            self._process.wait(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process = None
        if self._stderr is not None:
            self._stderr.close()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._stderr, self._hung = tempfile.TemporaryFile(), False  # noqa: SIM115  # closed with the process
            command = [sys.executable, "-m", self._module]
            self._process = subprocess.Popen(  # noqa: S603
                command,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                # Each has a core: NumPy would start a thread for every core of the machine in every process.
                env={"OPENBLAS_NUM_THREADS": "1", **os.environ},
                # A session of its own: the terminal's Ctrl-C does not reach it, and its ffmpeg dies with it.
                start_new_session=True,
            )
            if self._stopped.is_set():  # it may have come too late for HelperPool.kill
                self.kill()
            assert self._process.stdout is not None
            if self._process.stdout.readline().strip() != READY and not self._hung:
                # No clip is to blame for an installation that does not work.
                raise EngineError(f"the process {self._module} does not start: {self._death()}")
        return self._process

    def _death(self) -> ProcessDiedError:
        """Why the process died; the next job gets a new one."""
        assert self._process is not None
        assert self._stderr is not None
        self.kill()
        code = self._process.wait()
        self._stderr.seek(0)
        messages = self._stderr.read().decode(errors="replace").strip().splitlines()
        self.end()
        if self._hung or -code == signal.SIGALRM:
            return ProcessDiedError("the decoder hung and was killed", hung=True)
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return ProcessDiedError(f"the decoder crashed: {how}" + (f": {messages[-1][-200:]}" if messages else ""))
