"""The numbers of a plan, each with its unit and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from k710.text import counted, data_size, duration

# Where a number comes from. A number of no origin is not shown: it is unknown, and `note` says what would settle it.
MEASURED = "measured here"
STORE = "from the store"
MANIFEST = "from the manifest"
RECIPE = "from the recipe"
ORIGIN = "from the origin"  # the folder or the server that a fetch would read
STATED = "stated by you"
ASSUMED = "assumed"
COMPUTED = "computed"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Figure:
    """A number of a plan. `value` is None where it is unknown. `unit` is one of UNITS; `note` says how it was found, or
    what would settle it."""

    name: str
    value: float | None
    unit: str
    origin: str
    note: str = ""

    def __str__(self) -> str:
        return UNKNOWN if self.value is None else UNITS[self.unit](self.value)

    def as_json(self) -> dict[str, Any]:
        return {"value": self.value, "unit": self.unit, "origin": self.origin, "note": self.note}


def unknown(name: str, unit: str, settled_by: str) -> Figure:
    """A number that nothing gives."""
    return Figure(name, None, unit, UNKNOWN, settled_by)


def time_text(time_s: float) -> str:
    """A time in words; below two minutes in seconds, below a second in milliseconds."""
    if time_s < 0.9995:
        return f"{1000 * time_s:.3g} ms"
    return f"{time_s:.3g} s" if time_s < 120 else duration(time_s)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# How a value of each unit is written.
UNITS: dict[str, Callable[[float], str]] = {
    "clips": lambda value: counted(round(value), "clip"),
    "views": lambda value: counted(round(value), "view"),
    "steps": lambda value: counted(round(value), "step"),
    "parameters": lambda value: f"{value:,.0f}",
    "multiply-adds": lambda value: f"{value / 1e9:,.3g} G" if value < 1e12 else f"{value / 1e9:,.0f} G",
    "bytes": data_size,
    "bytes/s": lambda value: f"{data_size(value)}/s",
    "s": time_text,
    "core-hours": lambda value: f"{_digits(value)} h",
    "gpu-hours": lambda value: f"{_digits(value)} h",
    "cores": lambda value: _digits(value),
    "clips/s": lambda value: f"{_digits(value)} clips/s",
    "views/s": lambda value: f"{_digits(value)} views/s",
    "money": lambda value: f"{value:,.2f}",
    "money a month": lambda value: f"{value:,.2f} a month",
}
