"""The log of a run: lines of progress, a JSON line for each step, and TensorBoard if it is asked for."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch

from k710.errors import UsageError
from k710.storage.storage import replacing
from k710.text import counted, duration
from k710.train.run import Progress
from k710.train.run_folder import LOG


@dataclass(frozen=True)
class Step:
    """One optimiser step, over all processes: its number (from 1), and where in which epoch it ended.

    `drawn`: of a mix, how many of its clips are of each member.
    """

    step: int
    epoch: int
    consumed: int
    loss: float
    measures: dict[str, float]
    lr: float
    grad_norm: float
    clips: int
    seconds: float
    waited_s: float
    drawn: dict[str, int] = field(default_factory=dict)


@dataclass
class RunLog:
    """Writes log.jsonl in `run` and lines of progress every `every` steps. Only the first process has one."""

    run: Path
    num_steps: int
    measures: Mapping[str, str]  # the objective's: a format string for each name
    every: int = 20
    tensorboard: bool = False
    say: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    _recent: list[Step] = field(default_factory=list)
    _log: TextIO | None = None
    _writer: Any = None

    @contextlib.contextmanager
    def opened(self, progress: Progress, *, here: bool = True) -> Iterator[None]:
        """Open the log, if it is kept `here`. Lines after `progress` are cut off, since a resume writes them again.

        Raises UsageError for TensorBoard where it is not installed.
        """
        if not here:
            yield
            return
        path = self.run / LOG
        kept = [line for line in read_log(path) if _is_before(line, progress)] if path.exists() else []
        with replacing(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        if self.tensorboard:
            self._writer = check_tensorboard()(str(self.run / "tensorboard"), purge_step=progress.step + 1)
        with path.open("a", encoding="utf-8") as self._log:
            try:
                yield
            finally:
                if self._writer is not None:
                    self._writer.close()

    def step(self, step: Step) -> None:
        line: dict[str, Any] = {"kind": "step"}
        for name, value in asdict(step).items():
            if name != "drawn" or value:
                line |= value if name == "measures" else {name: value}
        self._write(line)
        self._recent.append(step)
        if len(self._recent) >= self.every or step.step == self.num_steps:
            self._say_progress()

    def validation(self, step: int, epoch: int, scores: dict[str, float], best: bool, failed: dict[str, str]) -> None:
        """The scores of val, and the clips of it that could not be read."""
        self._write({"kind": "validation", "step": step, "epoch": epoch, **scores, "best": best, "failed": failed})
        is_best = ", the best so far" if best else ""
        self.say(f"validation after epoch {epoch}: {scores_text(scores, self.measures)}{is_best}")
        if failed:
            self.say(f"validation after epoch {epoch}: {_unread(failed)}")
        self._scalars(step, {f"val/{name}": value for name, value in scores.items()})

    def failed(self, step: int, epoch: int, clips: dict[str, str]) -> None:
        """Clips of an epoch that could not be read; the log has all of them."""
        self._write({"kind": "failed", "step": step, "epoch": epoch, "clips": clips})
        self.say(f"epoch {epoch + 1}: {_unread(clips)}")

    def _say_progress(self) -> None:
        steps, self._recent = self._recent, []
        last, seconds = steps[-1], sum(step.seconds for step in steps)
        clips = sum(step.clips for step in steps)
        rate = clips / max(seconds, 1e-9)
        loss = sum(step.loss for step in steps) / len(steps)
        measured = {name: sum(step.measures[name] for step in steps) / len(steps) for name in self.measures}
        shown = "".join(f"{self.measures[name].format(value)}, " for name, value in measured.items())
        waited = sum(step.waited_s for step in steps) / max(seconds, 1e-9)
        left_s = (self.num_steps - last.step) * seconds / len(steps)
        self.say(
            f"step {last.step:,} of {self.num_steps:,} (epoch {last.epoch + 1}): loss {loss:.4f}, "
            f"{shown}lr {last.lr:.3g}, {rate:.1f} clips/s, "
            f"{waited:.0%} waiting for data, {_memory()}, {duration(left_s)} left{_shares(steps)}"
        )
        norm = sum(step.grad_norm for step in steps) / len(steps)
        scalars = {"loss": loss, **measured, "lr": last.lr, "grad_norm": norm, "clips_per_s": rate, "data_wait": waited}
        self._scalars(last.step, {f"train/{name}": value for name, value in scalars.items()})

    def _write(self, line: dict[str, Any]) -> None:
        assert self._log is not None
        # JSON has no NaN and no infinity, such as the first norms under a gradient scaler.
        known = {key: _or_none(value) if isinstance(value, float) else value for key, value in line.items()}
        self._log.write(json.dumps(known) + "\n")
        self._log.flush()

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)


def scores_text(scores: Mapping[str, float], measures: Mapping[str, str]) -> str:
    """The scores of a validation in words: the loss, what the objective measures in its own format, others in %."""
    formats = {"loss": "loss {:.4f}", **measures}
    return ", ".join(formats.get(name, f"{name} {{:.2%}}").format(value) for name, value in scores.items())


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.jsonl; a line that a kill cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and "kind" in line and "step" in line]


def _is_before(line: dict[str, Any], progress: Progress) -> bool:
    """Whether a resume from `progress` does not write the line again."""
    is_settled = line["kind"] != "validation" or line["epoch"] <= progress.settled_epochs
    return bool(line["step"] <= progress.step and is_settled)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _unread(clips: dict[str, str]) -> str:
    named = "; ".join(list(clips.values())[:3])
    more = f"; and {len(clips) - 3} more, see {LOG}" if len(clips) > 3 else ""
    return f"{counted(len(clips), 'clip')} could not be read and counted for nothing: {named}{more}"


def check_tensorboard() -> Any:
    """TensorBoard's writer class. Raises UsageError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("--tensorboard needs TensorBoard: pip install 'k710[tensorboard]'") from None
    return SummaryWriter


def _shares(steps: list[Step]) -> str:
    """The share of each member of a mix in the clips of some steps."""
    totals: dict[str, int] = {}
    for step in steps:
        totals |= {name: totals.get(name, 0) + number for name, number in step.drawn.items()}
    clips = max(sum(totals.values()), 1)
    return (
        "; drawn: " + ", ".join(f"{name} {number / clips:.0%}" for name, number in totals.items())
        if len(totals) > 1
        else ""
    )


def _memory() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak * (1 if sys.platform == 'darwin' else 1024) / 2**30:.1f} GiB"
