"""The command line as a whole: one program under three names, cheap to start, helpful and documented."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import click
import pytest

from k710 import __version__
from k710.cli import COMMANDS, main
from k710.ledger.ledger import merge, write_ledger
from k710.models.videomaev2.pretrain import MaskedVideoMAEV2
from k710.models.videomaev2.pretrain_config import PRESETS
from k710.sample.footage import sample_clips, write_footage
from k710.sample.motions import LOOKS
from k710.store.store import Store
from tests.helpers import CHECKOUT
from tests.helpers.checkpoints import uniformerv2
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put
from tests.helpers.tiny_models import released, tiny_state

HEAVY = {
    "av",
    "fsspec",
    "jinja2",
    "numpy",
    "pandas",
    "plotly",
    "pyarrow",
    "rapidfuzz",
    "requests",
    "rich",
    "simplejpeg",
    "torch",
    "urllib3",
    "yaml",
    "yt_dlp",
}


def run(*arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, **options)


def imported_by(*arguments) -> set[str]:
    """Top-level modules that a command has loaded when it ends."""
    code = (
        "import json, sys\nfrom k710.cli import main\ntry:\n main(sys.argv[1:], prog_name='k710')\n"
        "finally:\n print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    result = run(sys.executable, "-c", code, *arguments)
    return set(json.loads(result.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS), ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    assert not imported_by(*arguments) & HEAVY


def test_the_check_above_can_fail():
    assert imported_by("labels", "archery") & {"rich", "numpy", "pyarrow", "pandas"} == set()
    assert "rich" in imported_by("labels")


def test_what_only_reads_tables_loads_nothing_that_takes_longer(k710, tmp_path):
    """A fetch with nothing to do, too: pandas, PyTorch and the libraries of each origin come when they are needed."""
    clips = [*clips_of(4), *clips_of(4, "val", first=50)]
    manifest = manifest_of(k710, tmp_path, clips)
    put(Store(manifest / "store", "h264"), {clip.clip_id: fake_media(clip.clip_id) for clip in clips})
    for words in (["status"], ["fetch", "--from", f"local:{tmp_path}"], ["stats"]):
        loaded = imported_by(words[0], str(manifest), *words[1:])
        assert "pyarrow" in loaded
        needless = {"av", "fsspec", "pandas", "plotly", "rapidfuzz", "requests", "simplejpeg", "torch", "yt_dlp"}
        assert not loaded & needless, words


def test_a_table_still_becomes_a_data_frame_in_a_command():
    code = (
        "import sys; import k710.cli.manifests, pyarrow as pa\nassert 'pandas' not in sys.modules\n"
        "print(pa.table({'a': pa.array([1, None, 3])}).to_pandas()['a'].sum(), pa.array([1])[0])"
    )
    assert run(sys.executable, "-c", code).stdout == "4.0 1\n"


def test_importing_the_package_costs_nothing():
    code = "import sys, k710; print(sorted({n.partition('.')[0] for n in sys.modules}))"
    assert not {name for name in HEAVY if f"'{name}'" in run(sys.executable, "-c", code).stdout}


@pytest.mark.parametrize(
    "program", [["cli.py"], ["-m", "k710"], ["-c", "from k710.cli import main; main(prog_name='k710')"]]
)
def test_one_program_under_three_names(program):
    result = run(sys.executable, *program, "--version", cwd=CHECKOUT)
    assert result.stdout == f"k710, version {__version__}\n"
    refused = run(sys.executable, *program, "explain", cwd=CHECKOUT)
    assert refused.returncode == 2
    assert refused.stderr.startswith("Usage: k710 explain")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_an_example_and_documentation(name):
    command = main.get_command(click.Context(main), name)
    sentence, _, rest = command.help.partition("\n")
    assert len(sentence) <= 45, "longer first lines are cut in `k710 --help`"
    assert f"k710 {name}" in rest, "no example"
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{option.name} has no help"
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "docs").glob("*.md"))
    assert f"k710 {name}" in pages, "no page of docs/ shows it"
    for option in command.params:
        for spelled in option.opts:
            if spelled.startswith("--") and spelled not in ("--debug", "--help"):
                assert re.search(rf"(^|[\s`]){spelled}\b", pages), f"docs/ does not mention {spelled}"


@pytest.mark.slow
def test_examples_of_help_run(k710, tmp_path, monkeypatch):
    """Every example that the help shows, on the sample, in the order of the commands; last those that need clips."""
    import torch

    monkeypatch.chdir(tmp_path)
    for name, rows in (("k710_uniformerv2_b16_8x224", 710), ("k400", 400), ("k600", 600), ("k700", 700)):
        torch.save(uniformerv2(rows), f"{name}.pyth")
    released(Path("uniformerv2_k710.pyth"), "uniformerv2", tiny_state("uniformerv2"))
    write_ledger(Path("theirs.parquet"), merge([]))
    Path("runs/pretrain").mkdir(parents=True)
    torch.save({"model": MaskedVideoMAEV2(PRESETS["tiny"]).state_dict()}, "runs/pretrain/best.pt")
    Path("my_train.txt").write_text("sample-0001\n")
    Path("my_val.csv").write_text("sample-0002_000010_000020.mp4 3\n")
    for name in ("mine", "theirs"):
        Path(f"{name}.csv").write_text("clip,prediction,label\nsample-0002.mp4,archery,abseiling\n")
    Path("my_clips.csv").write_text("id,label,split\n1,rope climb,train\n")
    Path("union.yaml").write_text("name: mine\nmembers: [k710, clips: my_clips.csv]\n")
    assert k710("build", "--annotations", "sample").exit_code == 0  # manifests/k710
    write_footage(Path("clips"), sample_clips("k400"), look=LOOKS["tiny"])
    need_clips = ("near-duplicates", "stats", "report", "doubts")
    for name in sorted(COMMANDS, key=lambda name: name in need_clips):
        command = main.get_command(click.Context(main), name)
        for example in re.findall(rf"^ +k710 ({name}\b.*)$", command.help, re.MULTILINE):
            words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', example.partition(" > ")[0])]
            result = k710(*words)
            assert result.exit_code == 0, f"{example}: {result.output}"


def test_an_error_is_one_message_and_a_traceback_only_on_request(k710, tmp_path):
    result = k710("audit", tmp_path / "nothing")
    assert result.exit_code == 1
    assert result.stderr == (
        f"k710: {tmp_path / 'nothing'}: no manifest there (no dataset.json); "
        f"`k710 build --out {tmp_path / 'nothing'}` makes one\n"
    )
    debugged = run(sys.executable, "-m", "k710", "audit", tmp_path / "nothing", "--debug")
    assert debugged.returncode == 1
    assert "Traceback" in debugged.stderr


def test_a_reader_that_goes_away_is_no_error(sample):
    program = subprocess.Popen(
        [sys.executable, "-m", "k710", "labels"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    program.stdout.readline()
    program.stdout.close()
    stderr = program.stderr.read()
    program.stderr.close()
    program.wait(timeout=30)
    assert "Traceback" not in stderr


@pytest.mark.parametrize("arguments", [["build", "--help"], ["stats", "{sample}"]])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1251"])
@pytest.mark.slow
def test_terminals_that_do_not_know_every_character(arguments, encoding, sample):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    words = [word.format(sample=sample.path) for word in arguments]
    result = run(sys.executable, "-m", "k710", *words, env=environment, encoding=encoding)
    messages = [line for line in result.stderr.splitlines() if not line.startswith("reading the manifest ")]
    assert (result.returncode, messages) == (0, []), "a slow machine shows the step"


def test_names_that_are_not_utf_8(k710, tmp_path):
    """Arrow opens no such folder; a file's name is shown as well as it can be."""
    result = k710("build", "--annotations", "sample", "--out", tmp_path / "caf\udce9")
    assert result.exit_code == 2
    assert result.stderr.endswith("caf\\udce9': the name is not UTF-8; rename it\n")
    lists = [sys.executable, "-m", "k710", "recipes", "no\udce9"]
    refused = run(*lists, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"})
    assert refused.stderr.startswith("k710: no recipe 'no\\udce9'; known: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, as on macOS")
def test_help_that_cannot_be_written():
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "k710", "--help"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (result.returncode, result.stderr) == (1, "k710: No space left on device\n")


def test_a_current_folder_that_is_gone(tmp_path):
    """torch ends the process there, without a word that helps."""
    code = "import os, sys\nfrom k710.cli import main\nos.rmdir(os.getcwd())\nmain(sys.argv[1:], prog_name='k710')"
    for arguments in (["doctor"], ["train", "--recipe", "tiny-k710", "--manifest", "m"]):
        (tmp_path / "gone").mkdir()
        result = run(sys.executable, "-c", code, *arguments, cwd=tmp_path / "gone")
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "k710: the current folder is there no more; change to another\n"


@pytest.mark.parametrize(("term", "columns"), [("xterm", 40), ("xterm", 200), ("dumb", 40)])
def test_progress_fits_the_terminal(term, columns):
    """A line that the terminal breaks is not written over; a dumb one writes nothing over."""
    code = (
        "import types\nfrom k710.progress import clip_progress\n"
        "with clip_progress('clips', every_s=0) as (planned, told):\n"
        "    planned(10**6)\n"
        "    told(types.SimpleNamespace(settled=1000, bytes_stored=10**9, failed={'undecodable': 7, 'corrupt': 3}))\n"
    )
    code = code.replace("    told", "    import time; time.sleep(0.3)\n    told")
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    subprocess.run([sys.executable, "-c", code], stderr=there, env=os.environ | {"TERM": term}, timeout=60, check=True)
    os.close(there)
    shown = os.read(here, 10_000).decode()
    os.close(here)
    lines = re.split(r"\r\x1b\[K|\r\n", shown)
    assert max(map(len, lines)) < columns or term == "dumb"
    assert "1,000 of 1,000,000 clips, 3 corrupt" in shown
    assert ("\x1b" in shown) == (term == "xterm")


# Help, hints and completion.


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_h_is_help(k710, name):
    words = [name] if name else []
    short, long = k710(*words, "-h"), k710(*words, "--help")
    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert short.stdout.startswith("Usage: k710")


def test_an_id_that_begins_with_h_is_no_call_for_help(k710, sample):
    """IDs may begin with a dash and any letter; `-h` is help only where it stands alone."""
    result = k710("explain", "-hxxxxxxxxx", "--manifest", sample.path)
    assert "Usage" not in result.stdout
    assert "-hxxxxxxxxx" in result.output


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("bild", "build"), ("near_duplicates", "near-duplicates"), ("Train", "train"), ("stat", "stats")],
)
def test_a_mistyped_command_is_told_what_was_meant(k710, typed, meant):
    result = k710(typed, "x")
    assert result.exit_code == 2
    assert f"No such command '{typed}'. Did you mean {meant}" in result.stderr


def test_a_command_that_resembles_none(k710):
    assert "`k710 --help` lists the commands." in k710("zzzzzz").stderr


@pytest.mark.parametrize(
    ("typed", "found"),
    [("k710 near", "plain,near-duplicates"), ("k710 stats ma", "dir,ma"), ("k710 pack --sh", "plain,--shard-clips")],
)
def test_the_shell_completes(typed, found):
    words = typed.split()
    environment = os.environ | {
        "_K710_COMPLETE": "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    code = "from k710.cli import main; main(prog_name='k710')"
    result = run(sys.executable, "-c", code, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert found in result.stdout.splitlines()


# The Makefile.


def make_commands(target: str, tmp_path: Path) -> list[str]:
    """What make would run for a target in a checkout without .venv."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((CHECKOUT / name).read_bytes())
    # Tests run under `make test`: a make that knows of it says which folder it enters.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    result = run("make", "-n", target, cwd=tmp_path, env=alone)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_the_demo_needs_no_packages_for_development(tmp_path):
    lines = make_commands("demo", tmp_path)
    (install,) = [line for line in lines if "pip install" in line]
    assert install.endswith("-e .")
    assert "--quiet" not in install, "pip says what it downloads"
    assert lines[0].startswith('echo "# Setting up .venv')


@pytest.mark.parametrize("target", ["test", "check", "bench"])
def test_tests_and_checks_have_them(target, tmp_path):
    installs = [line for line in make_commands(target, tmp_path) if "pip install" in line]
    assert [line.rpartition("-e ")[2] for line in installs] == [".", '".[dev]"']


def test_the_demo_says_what_its_long_commands_are_for(tmp_path):
    """Shortly before every command that decodes, encodes or trains, which may take longer than ten seconds."""
    lines = make_commands("demo", tmp_path)
    slow = re.compile(r"k710 (fetch|train|verify|pack|eval|report)|sample\.(footage|serve|experiment)")
    found = [number for number, line in enumerate(lines) if slow.search(line)]
    assert len(found) >= 10
    for number in found:
        assert any(line.startswith("echo") for line in lines[number - 3 : number]), (
            f"{lines[number]}: nothing before it"
        )
