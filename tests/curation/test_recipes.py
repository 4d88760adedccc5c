"""Recipes: what comes with k710 is complete and explained; what is wrong in a user's own is named."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from k710 import open_manifest
from k710.curation.build import CurationRecipe
from k710.errors import RecipeError, UsageError
from k710.recipes import as_dict, make_recipe, read_recipe, recipe_files
from tests.cli.test_bad_input import assert_refused, files_of

GIVEN = recipe_files("curation")
KEYS = [field.name for field in dataclasses.fields(CurationRecipe)]


def recipe(folder: Path, content: str | bytes) -> CurationRecipe:
    path = folder / "own.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_recipe("curation", str(path), CurationRecipe)


def test_the_three_recipes():
    assert list(GIVEN) == ["k710", "k710-strict", "k710-val-purge"]
    k710, strict, val_purge = (read_recipe("curation", name, CurationRecipe).checked() for name in GIVEN)
    assert (k710.leak_policy, k710.holdout, k710.splits) == ("train-purge", ("val",), ("train", "val"))
    assert (strict.leak_policy, strict.holdout, strict.splits) == (
        "train-purge", ("val", "test"), ("train", "val", "test"),
    )  # fmt: skip
    assert (val_purge.leak_policy, val_purge.holdout, val_purge.splits) == ("val-purge", ("val",), ("train", "val"))
    for each in (k710, strict, val_purge):
        assert each.sources == ("k400", "k600", "k700")
        assert each.precedence == ("k700_2020", "k700", "k600", "k400")


@pytest.mark.parametrize("name", GIVEN)
def test_every_value_stands_there_with_its_source(name):
    """A recipe that leaves a choice to a default could not be defended by showing it."""
    text = GIVEN[name].read_text(encoding="utf-8")
    assert list(yaml.safe_load(text)) == KEYS
    for line in text.splitlines():
        assert not re.match(r"\w", line) or "  # " in line, f"no source: {line}"
    assert text.startswith("# "), "no sentence of what it is"


def test_the_recipe_named_k710_is_the_default():
    assert read_recipe("curation", "k710", CurationRecipe).checked() == CurationRecipe().checked()


def test_a_recipe_may_leave_out_what_it_does_not_change(tmp_path):
    own = recipe(tmp_path, "\ufeffleak_policy: val-purge\r\nsources: [k700, k400]  # mine\r\n")
    assert own == CurationRecipe(leak_policy="val-purge", sources=("k700", "k400"))
    assert own.checked().sources == ("k400", "k700")
    assert recipe(tmp_path, "{}") == CurationRecipe()


def test_there_and_back(tmp_path):
    own = CurationRecipe(("k600",), ("train", "val", "test"), "train-purge", ("val", "test"), ("k600",))
    assert recipe(tmp_path, yaml.safe_dump(as_dict(own))) == own
    assert make_recipe(as_dict(own), CurationRecipe, where=tmp_path) == own


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("leek_policy: val-purge", "unknown key 'leek_policy'; did you mean 'leak_policy'? Known: sources, spl"),
        ("Sources: [k400]", "unknown key 'Sources'; did you mean 'sources'?"),
        ("leak-policy: val-purge", "unknown key 'leak-policy'; did you mean 'leak_policy'?"),
        ("'': x", "unknown key ''; did you mean "),
        ("1: x", "unknown key 1; did you mean "),
        ("~: x", "unknown key None; did you mean "),
        ("[a, b]: x", "line 1: not YAML: found unhashable key"),
        ("? !!python/tuple [a]\n: x", "line 1: not YAML: could not determine a constructor"),
        ("sources: k400", "sources must be a list of names, such as [train, val], not 'k400'"),
        ("sources: k400,k600", "sources must be a list of names"),
        ("sources:", "sources must be a list of names, such as [train, val], not None"),
        ("sources: {k400: 1}", "sources must be a list of names"),
        ("splits: [train, 1]", "splits must be a list of names, such as [train, val], not ['train', 1]"),
        ("splits: [on]", "splits must be a list of names, such as [train, val], not [True]"),
        ("holdout: [[val]]", "holdout must be a list of names"),
        ("leak_policy: [val-purge]", "leak_policy must be str, not ['val-purge']"),
        ("leak_policy: no", "leak_policy must be str, not False"),
        ("leak_policy:", "leak_policy must be str, not None"),
        ("sources: [k400]\nsplits: [val]\nsources: [k600]", "key 'sources' appears twice"),
        ("", "a recipe maps keys to values, such as `splits: [train, val]`; this one does not"),
        ("# nothing", "a recipe maps keys to values"),
        ("k710", "a recipe maps keys to values"),
        ("- sources: [k400]", "a recipe maps keys to values"),
        ("splits: [val]\nsources: [k400", "line 2: not YAML: expected ',' or ']'"),
        ("a: b\n---\nc: d\n", "line 2: not YAML: but found another document"),
        ("a: b: c", "line 1: not YAML: mapping values are not allowed here"),
        ("\tsources: [k400]", "line 1: not YAML: found character '\\t'"),
        ("sources: *nothing", "line 1: not YAML: found undefined alias"),
        ("sources: [k400]\n\x00", "not YAML: unacceptable character"),
        (b"sources: [caf\xe9]", "not YAML: 'utf-8' codec can't decode byte 0xe9"),
        ("sources: [k400]".encode("utf-16"), "not YAML: 'utf-8' codec can't decode byte 0xff"),
        ("sources: 2026-99-99", "not YAML: month must be in 1..12"),
        ("sources: !!timestamp x", "not YAML: "),
        ("sources: !!int x", "not YAML: "),
        ("sources: !!bool x", "not YAML: "),
        ("sources: !!float ''", "not YAML: "),
        ("sources: " + "[" * 10_000, "not YAML: "),
        ("<<: [1]\n", "line 1: not YAML: expected a mapping"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_bad_recipes(k710, tmp_path, content, message):
    with pytest.raises(RecipeError, match=re.escape(f"{tmp_path / 'own.yaml'}: {message}")):
        recipe(tmp_path, content)
    before = files_of(tmp_path)
    result = k710("build", "--recipe", tmp_path / "own.yaml", "--annotations", "sample", "--out", tmp_path / "m")
    assert_refused(result, f"{tmp_path / 'own.yaml'}: {message}")
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        "sources: !!python/object/apply:os.mkdir ['{}']",
        "!!python/object/apply:os.mkdir ['{}']",
        "!!python/object/new:os.mkdir ['{}']: x",
        "sources: !!python/object/apply:subprocess.check_call [[mkdir, '{}']]",
        "sources: !!python/name:os.mkdir '{}'",
    ],
)
def test_a_recipe_runs_no_code(tmp_path, content):
    with pytest.raises(RecipeError, match="not YAML: could not determine a constructor for the tag"):
        recipe(tmp_path, content.format(tmp_path / "made"))
    assert not (tmp_path / "made").exists()


def test_a_few_lines_cannot_fill_the_memory(tmp_path):
    """Each line holds the one above ten times: written out, the last has a thousand million words."""
    lines = ["a: &a [x]"] + [
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    for content in ("\n".join([*lines, "sources: *i"]), "\n".join(["sources: &a [[x]]", *lines[1:]])):
        with pytest.raises(RecipeError) as caught:
            recipe(tmp_path, content)
        assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sources: []", "no source given"),
        ("sources: [k800]", "unknown source 'k800'"),
        ("splits: [evaluate]", "unknown split 'evaluate'"),
        ("leak_policy: none", "unknown leak policy 'none'"),
        ("holdout: []", "no split given"),
        ("holdout: [test]", "holdout must be val or val,test"),
        ("splits: [train]", "without holding out val"),
        ("precedence: [k400, k400]", "precedence names each release at most once"),
    ],
)
def test_choices_that_make_no_sense(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        recipe(tmp_path, content).checked()


def test_names_that_are_no_recipe(tmp_path):
    for name in ("nope", "", ".", str(tmp_path), str(tmp_path / "own.yaml"), "k710\0", "../curation/k710"):
        with pytest.raises(RecipeError, match=r"no recipe '.*'; known: k710, k710-strict, k710-val-purge, or the path"):
            read_recipe("curation", name, CurationRecipe)


def test_flags_override_a_recipe(k710, tmp_path):
    (tmp_path / "own.yaml").write_text("sources: [k400, k600]\nleak_policy: val-purge\nprecedence: [k400]\n")
    result = k710(
        *("build", "--annotations", "sample", "--out", tmp_path / "m", "--recipe", tmp_path / "own.yaml"),
        *("--leak-policy", "train-purge", "--holdout", "val,test", "--sources", "k700,k600"),
    )
    assert result.exit_code == 0, result.output
    assert open_manifest(tmp_path / "m").about["recipe"] == {
        "sources": ["k600", "k700"],
        "splits": ["train", "val", "test"],
        "leak_policy": "train-purge",
        "holdout": ["val", "test"],
        "precedence": ["k400"],
    }


def test_the_command_prints_a_recipe_as_it_is(k710):
    listed = k710("recipes").stdout
    for name, path in GIVEN.items():
        assert f"\n  {name} " in listed
        assert k710("recipes", name).stdout == path.read_text(encoding="utf-8")
