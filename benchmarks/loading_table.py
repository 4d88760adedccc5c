"""Of loading.py: its results as the tables of docs/performance.md. Each function is given all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

KINDS = ("source", "h264", "frames")
WORKERS = ("1 worker", "2 workers")
NOTHING = "No result is recorded yet."
GROUPS = ("1 process", "2 processes", "2 threads")


def peers_table(result: dict[str, Any]) -> str:
    """Clips/s of every side up to the same batches."""
    kinds = result.get("same batches", {})
    rows = []
    for name in _names(kinds):
        rows.append([name, *(_rate(kinds[kind].get(name, {})) for kind in KINDS)])
    return _markdown(["up to the same batch, clips/s of one core (lowest to highest)", *KINDS], rows)


def _rate(of: dict[str, Any]) -> str:
    if "clips/s" not in of:
        return ""
    note = "" if of.get("counts", True) else ", other pixels"
    return f"{_short(of['clips/s'])} ({_short(of['lowest'])} to {_short(of['highest'])}{note})"


def targets_table(result: dict[str, Any]) -> str:
    """What is wanted beside the peers."""
    targets = result.get("targets", {})
    rows = [
        [title + (f" ({of['best']})" if "best" in of else ""), f"{of['wanted']}", f"{of['measured']}", _met(of)]
        for title, of in targets.items()
    ]
    return _markdown(["target", "at least", "measured", ""], rows)


def _met(of: dict[str, Any]) -> str:
    return "met" if of["met"] else "not met"


def published_table(result: dict[str, Any]) -> str:
    """Clips/s beside the published pipeline, up to each one's own batches."""
    published = result["rates"]["published"]["clips/s"]
    rows = [
        [name, _short(of["clips/s"]), f"{of['clips/s'] / published:.1f}", str(result["wanted"].get(name, ""))]
        for name, of in result["rates"].items()
    ]
    return _markdown(["up to its own batch", "clips/s of one core", "times the published pipeline", "wanted"], rows)


def reads_table(result: dict[str, Any]) -> str:
    """What every side reads."""
    kinds = result.get("same batches", {})
    rows = []
    for name in _names(kinds):
        rows.append([name, *(_read(kinds[kind].get(name, {})) for kind in KINDS)])
    return _markdown(["KiB read per clip, in so many requests", *KINDS], rows)


def _read(of: dict[str, Any]) -> str:
    return f"{of['KiB read per clip']:.0f} in {of['reads per clip']:.1f}" if "reads per clip" in of else ""


def workers_table(result: dict[str, Any]) -> str:
    """One worker and two, through the loaders."""
    workers = result.get("workers", {})
    rows = []
    for name, of in workers.items():
        rates = [_short(of["clips/s"][column]) for column in WORKERS]
        per_cpu = [_short(of["clips per CPU second"][column]) for column in WORKERS]
        rows.append([name, *rates, f"{of['times as fast with 2']:.2f}", " / ".join(per_cpu)])
    return _markdown(["loader, files", *WORKERS, "times as fast", "per CPU second, 1 / 2 workers"], rows)


def threads_table(result: dict[str, Any]) -> str:
    """Threads against processes."""
    groups = result.get("threads and processes", {})
    rows = []
    for kind, of in groups.items():
        rates = [f"{_short(of['clips/s'][name])}" for name in GROUPS]
        waiting = " / ".join(f"{of['waiting'][name]:.0%}" for name in GROUPS)
        waits = " / ".join(f"{of['waits per clip'][name]:.1f}" for name in GROUPS)
        rows.append([kind, *rates, f"{of['2 threads / 2 processes']:.2f}", waiting, waits])
    return _markdown(["clips/s", *GROUPS, "threads / processes", "time spent waiting", "waits per clip"], rows)


def absent_table(result: dict[str, Any]) -> str:
    """Why sides are missing, as a list."""
    kinds = result.get("same batches", {})
    if not kinds:
        return NOTHING
    lines = []
    for name in _names(kinds, timed=False):
        reasons: dict[str, list[str]] = {}
        for kind in KINDS:
            if reason := kinds.get(kind, {}).get(name, {}).get("absent"):
                reasons.setdefault(reason, []).append(kind)
        lines += [f"- {name}, {', '.join(where)}: {reason}" for reason, where in reasons.items()]
    return "\n".join(lines or ["- none"])


def _names(kinds: dict[str, Any], *, timed: bool = True) -> list[str]:
    names = dict.fromkeys(name for of in kinds.values() for name in of)
    ours = [name for name in names if name.startswith("k710")]
    found = ours + [name for name in names if name not in ours]
    return [name for name in found if not timed or any("clips/s" in of.get(name, {}) for of in kinds.values())]


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return NOTHING
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
