"""Options that are not on the command line: `k710.toml`, `K710_*`, and what `--quiet` leaves of the messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from k710.cli import COMMANDS, main
from k710.cli.project_file import SHARED, _key, project_options


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes `k710.toml` into the current folder, an empty one."""
    monkeypatch.chdir(tmp_path)
    return (tmp_path / "k710.toml").write_text


def options_of(name: str) -> set[str]:
    command = main.get_command(click.Context(main), name)
    return {_key(parameter) for parameter in command.params}


def test_options_come_from_the_file_and_are_named(k710, project):
    project('annotations = "sample"\nworkers = 2\n[build]\nsources = ["k400", "k600"]\nout = "made"\n')
    result = k710("build")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("made/dataset.json").read_bytes())["recipe"]["sources"] == ["k400", "k600"]
    assert "from k710.toml: --sources, --annotations, --out" in result.stderr


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(k710, project, monkeypatch):
    project('annotations = "sample"\n[build]\nsources = "k400"\nout = "made"\nforce = true\n')

    def sources(*options: str) -> list[str]:
        assert k710("build", *options).exit_code == 0
        return json.loads(Path("made/dataset.json").read_bytes())["recipe"]["sources"]

    assert sources() == ["k400"]
    monkeypatch.setenv("K710_BUILD_SOURCES", "k600")
    assert sources() == ["k600"]
    assert sources("--sources", "k700") == ["k700"]


def test_a_variable_has_the_name_of_its_option(k710, project, monkeypatch):
    """Also where the function's parameter has another: `--from` is `origins` there, `--json` is `as_json`."""
    assert k710("build", "--annotations", "sample", "--out", "made").exit_code == 0
    Path("clips").mkdir()
    Path("clips/sample-0001_000020_000030.mp4").write_bytes(b"")
    monkeypatch.setenv("K710_FETCH_FROM", "local:clips")
    monkeypatch.setenv("K710_FETCH_DRY_RUN", "1")
    monkeypatch.setenv("K710_FETCH_JSON", "1")
    found = json.loads(k710("fetch", "made").stdout)
    assert [stage["origin"] for stage in found["stages"]] == [f"local:{Path('clips').resolve()}"]


def test_an_argument_of_the_file_is_taken(k710, project):
    project('manifest = "made"\n')
    assert k710("build", "--annotations", "sample", "--out", "made").exit_code == 0
    result = k710("versions")
    assert result.exit_code == 0, result.output
    assert "from k710.toml: manifest" in result.stderr


def test_without_a_file_nothing_is_said(k710, project):
    result = k710("recipes")
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[biuld]\nout = 'm'", "[biuld] is no command; did you mean build?"),
        ("[build]\nsourcs = 'k400'", "[build] sourcs: `k710 build` has no such option; did you mean sources?"),
        ("out = 'm'", "out: only these options may stand outside a command's section: manifest"),
        ("[build]\nforce = 'yes'", "[build] force: must be true or false"),
        ("[build]\nout = true", "[build] out: must be a value for --out, not true"),
        ("[build]\nout = ['a', 'b']", "[build] out: --out takes one value, not a list"),
        ("[build.out]\na = 1", "[build] out: a table is no value"),
        ("[build", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(k710, project, text, message):
    project(text)
    result = k710("build", "--annotations", "sample")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("k710: k710.toml: ")
    assert message in result.stderr


def test_a_file_that_is_no_text_is_refused(k710, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("k710.toml").write_bytes(b"\xff\xfe\x00")
    result = k710("recipes")
    assert result.exit_code == 2
    assert "k710.toml: " in result.stderr


def test_a_wrong_value_names_where_it_comes_from(k710, project, monkeypatch):
    project('[fetch]\nworkers = "two"\n')
    assert "(from k710.toml)" in k710("fetch", "m").stderr
    monkeypatch.setenv("K710_FETCH_WORKERS", "three")
    result = k710("fetch", "m")
    assert result.exit_code == 2
    assert "'three'" in result.stderr
    assert "(from the environment)" in result.stderr


def test_each_shared_option_is_one_of_several_commands():
    options = {name: options_of(name) for name in COMMANDS}
    for key in SHARED:
        assert sum(key in known for known in options.values()) > 1, key


def test_a_switch_a_number_and_a_repeated_option_become_what_click_takes(project):
    project('[fetch]\nfrom = ["local:a,b", "cvdf"]\ndry-run = true\nlimit = 7\nsplits = ["train", "val"]\n')
    command = main.get_command(click.Context(main), "fetch")
    found = project_options(command, COMMANDS)
    assert found == {"origins": ("local:a,b", "cvdf"), "dry_run": True, "limit": 7, "splits": ("train", "val")}


def test_quiet_leaves_stdout_and_errors(k710, project):
    project('annotations = "sample"\n')
    result = k710("build", "--quiet", "--out", "made")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "content hash" in result.stdout
    again = k710("build", "--quiet", "--out", "made")
    assert again.exit_code == 1
    assert again.stderr.startswith("k710: ")


def test_after_a_quiet_command_messages_are_shown_again(k710, project):
    project('annotations = "sample"\n')
    assert k710("build", "--quiet", "--out", "one").stderr == ""
    assert "from k710.toml" in k710("build", "--out", "two").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(k710, shell):
    result = k710("completion", shell)
    assert result.exit_code == 0
    assert "_K710_COMPLETE" in result.stdout


def test_the_script_of_bash_completes_commands():
    words = {"COMP_WORDS": "k710 rem", "COMP_CWORD": "1", "_K710_COMPLETE": "bash_complete"}
    code = "from k710.cli import main; main(prog_name='k710')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | words, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["plain,remap-head"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("k710 train --recipe evl-k400-b", "plain,evl-k400-b16"),
        ("k710 fetch m --view k7", "plain,k700"),
        ("k710 fetch m --profile fra", "plain,frames"),
    ],
)
def test_names_are_completed(words, found):
    last = str(len(words.split()) - 1)
    asked = {"COMP_WORDS": words, "COMP_CWORD": last, "_K710_COMPLETE": "bash_complete"}
    code = "from k710.cli import main; main(prog_name='k710')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, timeout=60
    )
    assert found in done.stdout.split()
