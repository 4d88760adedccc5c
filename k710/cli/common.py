"""Parts that several commands share: options, comma lists, tables, and the places of lists."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from k710.errors import UsageError
from k710.storage.remote import RemotePath
from k710.storage.storage import Location, local_folder, location
from k710.text import printable

if TYPE_CHECKING:
    from k710.engine.engine import OpenEngine
    from k710.lists.annotations import ListFile
    from k710.loading.clip_source import Media
    from k710.progress import Steps
    from k710.store.store import Store

DEFAULT_MANIFEST = Path("manifests/k710")


class OfThisMachine(click.Path):
    """A path of this machine. A URL is refused, because it would become a folder named `s3:` here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = location(value)
        if isinstance(found, RemotePath):
            which = "this" if param is None else param.get_error_hint(ctx)
            raise UsageError(f"{found}: {which} must be a path of this machine; mount it, or copy it here")
        return super().convert(found, param, ctx)


ANY_PATH = OfThisMachine(path_type=Path)  # the library reports what is wrong with a file
FILE = OfThisMachine(path_type=Path, dir_okay=False)
FOLDER = OfThisMachine(path_type=Path, file_okay=False)

CLIP_WEIGHTS = click.option(
    "--clip-weights",
    metavar="FILE|NAME",
    help="The CLIP image tower of a checkpoint that leaves it out, as EVL's.",
)


def comma_parts(text: str) -> list[str]:
    """The names of `a,b`. In a name a comma is written `\\,`; any other backslash is one."""
    return [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text)]


class CommaList(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """`a,b` as a tuple; see `comma_parts`. The library checks the items."""

    name = "a,b,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        parts = value if isinstance(value, tuple) else tuple(part.strip() for part in comma_parts(value))
        if "" in parts:
            self.fail(f"{value!r} has an empty name; separate names by single commas", param, ctx)
        return parts

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]  # at commas alone: a path may hold spaces


def one_list(ctx: click.Context, param: click.Parameter, values: tuple[tuple[str, ...], ...]) -> tuple[str, ...] | None:
    """The lists of an option that may be given several times, as one; None where it was not given."""
    return tuple(name for value in values for name in value) or None


class Spelled(click.ParamType):  # type: ignore[type-arg]
    """A split or a view in any of its spellings: `validation`, `K400`. The library refuses unknown ones."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from k710.sources.known import source_named
        from k710.sources.source import SPLIT_SPELLINGS

        named = source_named if self.name == "view" else lambda text: SPLIT_SPELLINGS.get(text.lower(), text)
        return tuple(map(named, value)) if isinstance(value, tuple) else named(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from k710.sources.known import VIEWS
        from k710.sources.source import SPLITS

        return _beginning(VIEWS if self.name == "view" else SPLITS, incomplete)


class RecipeName(click.ParamType):  # type: ignore[type-arg]
    """The name of a recipe of one kind, or a file. The library reads it and says what is wrong with it."""

    name = "name|file"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from k710.recipes import recipe_files

        return [*_beginning(recipe_files(self._kind), incomplete), CompletionItem(incomplete, type="file")]


def _beginning(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class SplitList(CommaList):
    """Splits, each in any of its spellings."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return tuple(SPLIT.convert(super().convert(value, param, ctx), param, ctx))


class OrUrl(click.ParamType):  # type: ignore[type-arg]
    """The place of a manifest or a store: a path of this machine, or a URL that fsspec reads."""

    name = "folder or URL"

    def __init__(self, path: click.Path) -> None:
        self._path = path

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        found = location(value)
        if str(found).startswith("memory://"):
            raise UsageError(f"{found}: is lost when this command ends; give a folder or a bucket")
        return Path(str(self._path.convert(found, param, ctx))) if isinstance(found, Path) else found

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self._path.shell_complete(ctx, param, incomplete)


COMMA_LIST = CommaList()
SPLIT, VIEW = Spelled("split"), Spelled("view")
SPLIT_LIST = SplitList()
SCRATCH = click.option("--scratch", type=FOLDER, help="Working folder, for a store at a URL.  [the cache folder]")
CACHE = click.option("--cache", type=FOLDER, help="Keep clips of a store at a URL in this folder.")
FEATURES = click.option("--features", type=FOLDER, help="Features of `k710 features`, in place of the clips.")
CACHE_GB = click.option(
    "--cache-gb",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="Largest size of the cache, in GB.",
)


class NamesWithDash(click.Command):
    """A command whose arguments may begin with a dash, as YouTube IDs do: `-h` means help only if it is alone."""

    def __init__(self, name: str | None, **options: Any) -> None:
        settings = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
        super().__init__(name, **(options | {"context_settings": settings}))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*("--help" if arg == "-h" else arg for arg in args[:end]), *args[end:]])


ENGINE = click.option(
    "--engine",
    default="local",
    show_default=True,
    help="Who does the work: local (this machine) or ray (a Ray cluster).",
)
RAY_ADDRESS = click.option(
    "--ray-address", metavar="HOST:PORT", help="Address of the Ray cluster.  [the one on this machine]"
)
FOLDER_OR_URL = OrUrl(FOLDER)
PATH_OR_URL = OrUrl(ANY_PATH)


def annotation_files(annotations: str | None, sources: Iterable[str], splits: Iterable[str]) -> list[ListFile]:
    """The lists of `--annotations`: a folder, `sample` for the embedded miniature, or None for the public lists."""
    from k710.lists.annotations import find_lists

    if annotations is None:
        from k710.lists.public_lists import download_lists

        return download_lists(sources, splits)
    if annotations == "sample":
        from k710.sample import LISTS

        return find_lists(LISTS, sources, splits)
    return find_lists(local_folder(annotations, "folder of lists"), sources, splits)


def engine_of(name: str, ray_address: str | None, *, workers: int | None) -> OpenEngine:
    """The engine of that name; `workers` is the number per machine, if given."""
    from functools import partial

    from k710.engine.engine import local_engine
    from k710.engine.ray_engine import ray_engine

    on_ray = partial(ray_engine, address=ray_address, most_workers=workers, on_message=partial(click.echo, err=True))
    engines: dict[str, OpenEngine] = {"local": local_engine, "ray": on_ray}
    if name not in engines:
        raise UsageError(f"unknown engine {name!r}; known: {', '.join(engines)}")
    if ray_address is not None and name != "ray":
        raise UsageError("--ray-address needs --engine ray")
    return engines[name]


def named_store(root: Location, profile: str) -> Store:
    """The store that the user gave. Raises StoreError if it is not a store or does not have this profile."""
    from k710.errors import StoreError
    from k710.store.store import Store, profiles_in

    known = list(profiles_in(root))
    if profile in known:
        return Store(root, profile)
    has = f"has no profile {profile}; it has {', '.join(known)}" if known else "no store there"
    raise StoreError(f"{root}: {has}")


def media_of(
    store: Location | None,
    profile: str,
    folder: Path | None,
    cache: Path | None,
    cache_gb: float,
    features: Path | None = None,
) -> Media:
    """Where the clips are, as the options of a command give it."""
    from k710.loading.clip_source import Media

    return Media(store, profile, folder, cache, int(cache_gb * 1e9), features)


@contextlib.contextmanager
def one_message() -> Iterator[None]:
    """Of the processes of torchrun, one prints the error that stops them all; the others end with the same code."""
    from k710.errors import K710Error

    try:
        yield
    except K710Error as error:
        if "RANK" in os.environ:
            from k710.engine.torch_process import prints_error

            if not prints_error(error):
                sys.exit(error.exit_code)
        raise


def steps() -> Steps:
    """Shows the current step of the command if it takes longer than a second; ends with the command."""
    from k710.progress import Steps

    shown = Steps()
    click.get_current_context().call_on_close(shown.close)
    return shown


def print_json(data: Any) -> None:
    """Print data as JSON on stdout."""
    from k710.cli.output import json_text

    click.echo(json_text(json.dumps(data, indent=1, ensure_ascii=False)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
    """Print a plain table: numbers right-aligned with thousands separators, text left-aligned, None empty, a list one
    item per line."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    rows = [list(row) for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="")
    for number, column in enumerate(columns):
        is_number = any(isinstance(row[number], int) for row in rows)
        table.add_column(column, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    # A pipe has no width, and a table must not be cut there.
    console = Console(width=1000, highlight=False, markup=False, emoji=False, color_system=None)
    with console.capture() as capture:
        console.print(table)
    if title:
        click.echo(title)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())
    click.echo()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(printable(str(line)) for line in value)
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
