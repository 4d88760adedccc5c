"""The pool of helper processes: when they start, which of them gets a job, how they end."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import Any

import pytest

from k710.engine import helper_pool
from k710.engine.helper_pool import HelperPool
from k710.errors import EngineError

LIMIT_S = 60.0
# A helper process that answers a job with its own number, and takes a second to end by itself.
MODULE = """\
import os, sys, time
print("ready", flush=True)
for line in sys.stdin:
    print('{"clip_id": "clip", "failure": null, "message": "%d"}' % os.getpid(), flush=True)
time.sleep(1)
"""


@dataclass(frozen=True)
class Answer:
    clip_id: str
    failure: str | None
    message: str

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Answer:
        return cls(**plain)


@dataclass(frozen=True)
class Ask:
    clip_id: str = "clip"
    limit_s: float = 10.0

    def as_json(self) -> dict[str, Any]:
        return {"clip_id": self.clip_id, "limit_s": self.limit_s}


@pytest.fixture
def pool_of(tmp_path, monkeypatch):
    """Makes a pool of processes that run MODULE; `pool.started` are those that were started."""
    (tmp_path / "answers_its_number.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    really, started = subprocess.Popen, []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        process = really(*arguments, **options)
        started.append(process)
        return process

    monkeypatch.setattr(helper_pool.subprocess, "Popen", start)

    def make(num_processes: int, module: str = "answers_its_number") -> HelperPool[Answer]:
        pool = HelperPool(num_processes, module=module, answer=Answer)
        pool.started = started
        return pool

    return make


def until_started(pool: Any, number: int) -> None:
    end_s = time.monotonic() + LIMIT_S
    while len(pool.started) < number or pool._idle.qsize() < pool.num_processes:
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)


def test_a_process_starts_with_its_first_job(pool_of):
    with pool_of(3) as pool:
        assert not pool.started
        numbers = {pool.submit(Ask()).result(timeout=LIMIT_S).message for _ in range(4)}
        assert numbers == {str(pool.started[0].pid)}
        assert len(pool.started) == 1


def test_processes_that_were_started_ahead_get_the_jobs(pool_of):
    with pool_of(4) as pool:
        pool.start(2)
        until_started(pool, 2)
        for _ in range(3):
            answer = pool.submit(Ask()).result(timeout=LIMIT_S)
            assert int(answer.message) in [process.pid for process in pool.started]
        assert len(pool.started) == 2


def test_no_more_processes_are_started_ahead_than_there_are(pool_of):
    with pool_of(2) as pool:
        pool.start(1000)
        until_started(pool, 2)
        assert len(pool.started) == 2


def test_the_processes_end_at_the_same_time(pool_of):
    with pool_of(4) as pool:
        pool.start(4)
        until_started(pool, 4)
        begin_s = time.monotonic()
    assert time.monotonic() - begin_s < 3, "each takes a second"
    assert [process.returncode for process in pool.started] == [0] * 4


def test_a_process_that_cannot_be_started_ahead_fails_with_the_first_job(pool_of):
    with pool_of(2, module="k710.no_such_module") as pool:
        pool.start(2)
        with pytest.raises(EngineError, match=r"the process k710\.no_such_module does not start"):
            pool.submit(Ask()).result(timeout=LIMIT_S)


def test_a_pool_that_is_killed_while_processes_start_ends_at_once(pool_of):
    with pool_of(2) as pool:
        begin_s = time.monotonic()
        pool.start(2)
        pool.kill()
    assert time.monotonic() - begin_s < 10
    assert all(process.returncode is not None for process in pool.started)
