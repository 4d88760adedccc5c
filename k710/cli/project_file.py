"""`k710.toml`: a project's usual options, read from the current folder. The command line and `K710_*` win over it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from k710.errors import UsageError

PROJECT_FILE = Path("k710.toml")

# Options that mean the same in every command that has them. Others stand in the section of their command.
SHARED = (
    *("manifest", "store", "profile", "folder", "annotations", "synonyms"),
    *("cache", "cache-gb", "scratch", "workers", "clip-weights", "engine", "ray-address"),
    *("quiet", "debug"),
)


def project_options(command: click.Command, commands: Sequence[str]) -> dict[str, Any]:
    """The options that `k710.toml` gives to one command: parameter name to value.

    Raises UsageError, with the file and the key, for a file that is no TOML, an unknown section or option, or a value
    that no option takes.
    """
    tables = _read(commands)
    of_command = tables.pop(command.name or "", {})
    known = {_key(parameter): parameter for parameter in command.params}
    values: dict[str, Any] = {}
    for key, value in tables.items():
        if key in known:
            values[str(known[key].name)] = _value(key, value, known[key])
    for key, value in of_command.items():
        if key not in known:
            where = f"[{command.name}] {key}"
            raise UsageError(f"{PROJECT_FILE}: {where}: `k710 {command.name}` has no such option{_near(key, known)}")
        values[str(known[key].name)] = _value(f"[{command.name}] {key}", value, known[key])
    return values


def from_project_file(ctx: click.Context) -> list[str]:
    """The options of a command that came from `k710.toml`, as they are written on the command line."""
    given = click.core.ParameterSource.DEFAULT_MAP
    shown = [parameter for parameter in ctx.command.params if ctx.get_parameter_source(str(parameter.name)) is given]
    return [_written(parameter) for parameter in shown]


def _read(commands: Sequence[str]) -> dict[str, Any]:
    """Shared options and a table for each section; {} without a file."""
    try:
        text = PROJECT_FILE.read_bytes().decode()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{PROJECT_FILE}: {error}") from error
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{PROJECT_FILE}: not TOML: {error}") from error
    for key, value in found.items():
        if isinstance(value, dict) and key not in commands:
            raise UsageError(f"{PROJECT_FILE}: [{key}] is no command{_near(key, commands)}")
        if not isinstance(value, dict) and key not in SHARED:
            raise UsageError(
                f"{PROJECT_FILE}: {key}: only these options may stand outside a command's section: {', '.join(SHARED)}"
            )
    return found


def _value(key: str, value: Any, parameter: click.Parameter) -> Any:
    """A TOML value as click takes it from a command line: text, a number, a switch, or several of them."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)):
        raise UsageError(f"{PROJECT_FILE}: {key}: a table is no value of an option")
    from k710.cli.common import CommaList

    is_switch = isinstance(parameter, click.Option) and parameter.is_flag
    if is_switch != isinstance(value, bool):
        wanted = "true or false" if is_switch else f"a value for {_written(parameter)}, not {str(value).lower()}"
        raise UsageError(f"{PROJECT_FILE}: {key}: must be {wanted}")
    several = parameter.nargs != 1 or getattr(parameter, "multiple", False)
    if isinstance(value, list):
        if not several and not isinstance(parameter.type, CommaList):
            raise UsageError(f"{PROJECT_FILE}: {key}: {_written(parameter)} takes one value, not a list")
        return tuple(value)
    return (value,) if several else value


def _key(parameter: click.Parameter) -> str:
    return _written(parameter).lstrip("-")


def _written(parameter: click.Parameter) -> str:
    """`--cache-gb` of an option, `manifest` of an argument."""
    if isinstance(parameter, click.Argument):
        return str(parameter.name)
    return max(parameter.opts, key=len)


def _near(key: str, known: Any) -> str:
    near = difflib.get_close_matches(key.replace("_", "-"), list(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known)}"
