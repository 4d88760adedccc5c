"""The direction of the imports: a room uses the rooms above it in this list and no other; no circle among files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter

from tests.helpers import CHECKOUT

# From the ground up: each may import those before it. CONTRIBUTING.md says what each is.
ROOMS = (
    "version", "errors", "random_key", "text", "progress", "recipes", "storage", "sources", "lists", "store",
    "manifest", "engine", "loading", "models", "evaluation", "compare", "train", "curation", "doubts", "ledger",
    "fetch", "maintenance", "near_duplicates", "doctor", "diff", "export", "report", "identify", "sample", "plan",
    "cli", "__main__",
)  # fmt: skip

PACKAGE = CHECKOUT / "k710"
MODULES = {
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports(name: str) -> Iterator[str]:
    """The modules of k710 that a module imports, anywhere in it; what only type checkers read does not count."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    unread = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    skipped = {id(inner) for node in unread for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "k710":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


GRAPH = {name: set(imports(name)) - {name} for name in MODULES}


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def test_every_room_is_in_the_list():
    assert {room(name) for name in MODULES} - {""} == set(ROOMS)


def test_no_import_runs_upward():
    upward = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if room(name) and room(other) and ROOMS.index(room(other)) > ROOMS.index(room(name))
    ]
    assert upward == []


def test_no_files_import_each_other_in_a_circle():
    TopologicalSorter({name: others - {"k710"} for name, others in GRAPH.items()}).prepare()  # raises CycleError


def test_few_files_stand_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= 12
