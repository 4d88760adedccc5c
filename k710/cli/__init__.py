"""The command line. Each command is a file that is loaded when called. Errors become a message and an exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from k710.cli.output import ShownStream, shown_streams
from k710.cli.project_file import PROJECT_FILE, from_project_file, project_options
from k710.errors import K710Error
from k710.text import os_error_text, printable
from k710.version import __version__

# The commands, in the parts of the documentation. Each is `command` in the module of its name, with underscores for
# dashes.
SECTIONS = {
    "The dataset": (
        *("build", "audit", "identify", "explain", "diff", "near-duplicates", "doubts", "labels", "versions", "prune"),
        *("stats", "report", "card", "export", "push"),
    ),
    "The clips": ("plan", "fetch", "status", "verify", "ledger", "pack", "unpack", "show"),
    "Training": ("recipes", "train", "eval", "predict", "features", "compare", "remap-head", "convert", "inspect"),
    "This machine": ("doctor", "completion"),
}
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)


class Failure(click.ClickException):
    """An error as the user sees it: `k710: ` and the message, on stderr."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        # Later lines are indented, so that a line inside a name cannot look like a message of k710.
        first, *rest = self.message.split("\n")
        lines = [f"k710: {first}", *(line if line.startswith("  ") else f"  {line}" for line in rest)]
        click.echo("\n".join(lines), err=True, file=file)


class Commands(click.Group):
    """Loads the module of a command only when it is called, and turns library errors into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every command with its help in a line, in sections."""
        name_width = max(map(len, COMMANDS))
        width = formatter.width - name_width - 6
        for title, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                # Names of one width, so that the helps stand in one column in all sections.
                rows = [(name.ljust(name_width), one.get_short_help_str(width)) for name, one in commands if one]
                formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"k710.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        if not any(parameter.name == "debug" for parameter in command.params):
            command.params += [_debug_option(), _quiet_option()]
            for parameter in command.params:
                _add_variable(cmd_name, parameter)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name.lower().replace("_", "-"), COMMANDS, n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else " `k710 --help` lists the commands."
            ctx.fail(f"No such command {name!r}.{hint}")
        found, command, rest = super().resolve_command(ctx, args)
        if command is not None and PROJECT_FILE.exists() and not ctx.resilient_parsing:
            ctx.default_map = {str(found): project_options(command, COMMANDS)}
        return found, command, rest

    def main(self, *args: Any, **extra: Any) -> Any:
        with shown_streams():
            try:
                return super().main(*args, **extra)
            except OSError as error:  # the help or a message cannot be written
                sys.exit(f"k710: {os_error_text(error)}")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            Path.cwd()
        except FileNotFoundError:  # some libraries crash later because of it
            raise Failure("the current folder is there no more; change to another", 1) from None
        try:
            return super().invoke(ctx)
        except click.BadParameter as error:
            raise _with_its_place(error) from None
        except K710Error as error:
            self._fail(ctx, error, str(error), error.exit_code)
        except BrokenPipeError:
            raise  # click ends without a message when the reader of a pipe is gone
        except OSError as error:
            where = f"{printable(os.fsdecode(error.filename))}: " if error.filename else ""
            self._fail(ctx, error, f"{where}{os_error_text(error)}", 1)
        finally:
            _mute_stderr(False)  # errors are shown after this

    @staticmethod
    def _fail(ctx: click.Context, error: Exception, message: str, exit_code: int) -> NoReturn:
        if ctx.meta.get("k710.debug"):
            raise error
        raise Failure(message, exit_code) from None


def _add_variable(command: str, parameter: click.Parameter) -> None:
    """Let an environment variable of the command's and the option's name give it: `--from` of fetch is K710_FETCH_FROM.

    click's own `auto_envvar_prefix` takes the name of the function's parameter, which no user knows.
    """
    if isinstance(parameter, click.Option):
        option = max(parameter.opts, key=len).lstrip("-")
        own = f"K710_{command}_{option}".upper().replace("-", "_")
        given = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or ())
        parameter.envvar = [own, *given]


def _debug_option() -> click.Option:
    def remember(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        ctx.meta["k710.debug"] = value  # `meta` is shared with the context of the group, which handles the error

    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=remember, help="Show the traceback of an error."
    )


def _quiet_option() -> click.Option:
    """The last parameter of a command, so that it sees where the others come from."""

    def mute(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        if ctx.resilient_parsing:
            return
        if value:
            _mute_stderr(True)
        elif PROJECT_FILE.exists() and (given := from_project_file(ctx)):
            click.echo(f"from {PROJECT_FILE}: {', '.join(given)}", err=True)

    return click.Option(
        ["--quiet"], is_flag=True, expose_value=False, callback=mute, help="No progress and no notes, only errors."
    )


def _mute_stderr(muted: bool) -> None:
    if isinstance(sys.stderr, ShownStream):
        sys.stderr.muted = muted


def _with_its_place(error: click.BadParameter) -> click.BadParameter:
    """The error of a value that is not on the command line, with the place where it is."""
    if error.ctx is None or error.param is None:
        return error
    places = {
        click.core.ParameterSource.DEFAULT_MAP: str(PROJECT_FILE),
        click.core.ParameterSource.ENVIRONMENT: "the environment",
    }
    place = places.get(error.ctx.get_parameter_source(str(error.param.name)))  # type: ignore[arg-type]
    if place is None:
        return error
    return click.BadParameter(f"{error.message} (from {place})", error.ctx, error.param, error.param_hint)


@click.command(
    cls=Commands,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="k710")
def main() -> None:
    """Make Kinetics-710 reproducibly from the official annotation lists, with a reason for every row.

    \b
    A first look, on an embedded sample, offline:
      k710 build --sources k400,k600,k700 --annotations sample --out manifests/sample
      k710 audit manifests/sample
    """
