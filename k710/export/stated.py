"""What only the publisher of a dataset knows: its creators, address, date and version, and responsible-AI fields."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from k710.errors import UsageError
from k710.export.responsible_ai import RAI_FIELDS
from k710.recipes import YAML_ERRORS, recipe_text
from k710.text import os_error_text

_TEXTS = ("url", "version", "datePublished")
_AGENTS = ("creator", "publisher")
_KINDS = ("Person", "Organization")
_AGENT_KEYS = ("type", "name", "url", "email")


@dataclass(frozen=True)
class Stated:
    """Properties of a Croissant file as a user states them, and values of RAI fields, by name."""

    properties: dict[str, Any] = field(default_factory=dict)
    rai: dict[str, list[str]] = field(default_factory=dict)


def read_stated(path: Path) -> Stated:
    """Read a YAML file with the keys url, version, datePublished, creator, publisher and rai (docs/card.md).

    Raises UsageError for a file that cannot be read, an unknown key, or a value of the wrong kind.
    """
    try:
        content = yaml.safe_load(recipe_text(path))
    except OSError as error:
        raise UsageError(f"{path}: {os_error_text(error)}") from None
    except YAML_ERRORS as error:
        raise UsageError(f"{path}: is no YAML: {error}") from None
    found = _mapping(path, "the file", content, (*_TEXTS, *_AGENTS, "rai"))
    properties: dict[str, Any] = {name: _text(path, name, found[name]) for name in _TEXTS if name in found}
    for name in _AGENTS:
        if name in found:
            properties[name] = [_agent(path, name, one) for one in _several(found[name])]
    rai = _mapping(path, "rai", found.get("rai", {}), tuple(RAI_FIELDS))
    values = {name: [_text(path, name, one) for one in _several(value)] for name, value in rai.items()}
    return Stated(properties, values)


def _mapping(path: Path, what: str, value: Any, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {what} holds {value!r}, not keys and values")
    for key in value:
        if key not in known:
            raise UsageError(f"{path}: {what} has the unknown key {key!r}; known: {', '.join(known)}")
    return value


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(path: Path, name: str, value: Any) -> str:
    if isinstance(value, datetime.date):  # YAML makes one of 2026-11-29
        return value.isoformat()
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{path}: {name} is {value!r}, not a text; write it in quotes")
    return value.strip()


def _agent(path: Path, name: str, value: Any) -> dict[str, str]:
    found = _mapping(path, name, value, _AGENT_KEYS)
    if "name" not in found or found.get("type") not in _KINDS:
        raise UsageError(f"{path}: each {name} needs a name, and a type: {' or '.join(_KINDS)}")
    texts = {key: _text(path, f"{name}'s {key}", found[key]) for key in _AGENT_KEYS[1:] if key in found}
    return {"@type": f"sc:{found['type']}", **texts}
