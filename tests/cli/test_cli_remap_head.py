"""`k710 remap-head` and `k710 inspect` as a user meets them: what is printed, exit codes, and files whole or absent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from k710.storage import storage
from tests.helpers.checkpoints import huggingface, training, uniformerv2
from tests.helpers.published_checkpoints import write_published


@pytest.fixture
def released(tmp_path: Path) -> Path:
    path = tmp_path / "k710_uniformerv2_b16_8x224.pyth"
    torch.save(uniformerv2(710), path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_remap_says_what_it_recognised_and_what_it_did(k710, released: Path):
    result = k710("remap-head", released, "--to", "k400")
    assert result.exit_code == 0, result.output
    out = released.with_name("k710_uniformerv2_b16_8x224.k400.pyth")
    assert result.stdout.splitlines() == [
        f"{released}: UniFormerV2 weights (names transformer.temporal_cls_token and others, as a bare state dict)",
        "  head backbone.transformer.proj.2: 710 rows x 4, float32: k710 (uniformerv2)",
        "  label set k710 by its 710 rows",
        "  dialect uniformerv2, proven for UniFormerV2 (label_mixto600.json and label_mixto700.json pick the rows of a "
        "710-row head)",
        "to k400 (canonical): 400 rows, 400 picked",
        f"wrote {out}",
    ]
    assert "the order changes from uniformerv2 to canonical" in result.stderr
    assert "keep the two together" in result.stderr
    assert names(released.parent) == sorted([released.name, out.name, f"{out.name}.k710.json"])
    again = k710("remap-head", out, "--to", "k400", "--from", "k710")
    assert again.exit_code == 1
    assert again.stderr.startswith(f"k710: {out}: remapped already")
    assert again.stderr.count("\n") == 1
    assert k710("remap-head", out, "--to", "k400", "--again", "--to-dialect", "uniformerv2").exit_code == 0
    assert (released.parent / "k710_uniformerv2_b16_8x224.k400.k400-uniformerv2.pyth").exists()


def test_a_dialect_of_the_users_overrides_the_forms(k710, released: Path):
    result = k710("remap-head", released, "--to", "k400", "--dialect", "canonical", "--dry-run")
    assert "dialect canonical as you say" in result.stdout
    assert "no row moves" not in result.stderr
    result = k710("remap-head", released, "--to", "k710", "--to-dialect", "uniformerv2", "--dry-run")
    assert "no row moves" in result.stderr
    assert names(released.parent) == [released.name]


def test_show_prints_a_line_for_each_class_and_flags_the_doubtful(k710, released: Path):
    result = k710("remap-head", released, "--to", "k400", "--show", "--dry-run")
    lines = result.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("row"))
    table = [line for line in lines[start:] if line[:1].isdigit() or line.startswith(" ")]
    assert len(table) == 400
    assert table[0].split() == ["0", "abseiling", "341", "abseiling"]
    assert sum("DOUBTFUL" in line for line in lines) == 4
    assert sum("many to one" in line for line in lines) == 15
    assert names(released.parent) == [released.name]


def test_several_checkpoints_make_one(k710, tmp_path: Path):
    paths = []
    for name, rows in (("k400", 400), ("k600", 600), ("k700", 700)):
        paths.append(tmp_path / f"{name}.pyth")
        torch.save(uniformerv2(rows), paths[-1])
    result = k710("remap-head", *paths, "--to", "k710", "--out", tmp_path / "k710.pyth", "--show")
    assert result.exit_code == 0, result.output
    assert "to k710 (canonical): 710 rows, 102 picked, 608 averaged" in result.stdout
    assert f"the body is that of {paths[0]}" in result.stderr
    assert any("1:" in line and "+ 2:" in line and "mean of 3 rows" in line for line in result.stdout.splitlines())


def test_names_of_no_class_are_told_even_where_new_rows_are_wanted(k710, released: Path):
    names = released.with_name("mine.txt")
    names.write_text("zumba\ntying neckty\n")
    result = k710("remap-head", released, "--to", names, "--new-rows", "zero", "--dry-run")
    assert "note: new row for an unknown label 'tying neckty'; nearest classes: 'tying necktie'" in result.stderr
    assert "1 picked, 1 new (zero)" in result.stdout


def test_what_is_there_is_not_replaced_unasked(k710, released: Path):
    out = released.with_name("out.pyth")
    out.write_bytes(b"mine")
    result = k710("remap-head", released, "--to", "k400", "--out", out)
    assert result.exit_code == 1
    assert "exists; write elsewhere with --out, or replace it with --force" in result.stderr
    assert out.read_bytes() == b"mine"
    assert k710("remap-head", released, "--to", "k400", "--out", out, "--dry-run").stderr == result.stderr
    assert k710("remap-head", released, "--to", "k400", "--out", out, "--force").exit_code == 0
    assert k710("remap-head", released, "--to", "k600", "--out", released, "--force").exit_code == 0
    assert torch.load(released, weights_only=True)["backbone.transformer.proj.2.bias"].shape == (600,)
    folder = huggingface(released.parent, 710)
    options = ("--to", "k400", "--dialect", "videomaev2", "--out", folder)
    assert k710("remap-head", folder, *options).exit_code == 1
    assert k710("remap-head", folder, *options, "--force").exit_code == 0
    assert len(json.loads((folder / "config.json").read_text())["id2label"]) == 400
    result = k710("remap-head", released, "--to", "k600", "--again", "--out", folder, "--force")
    assert (result.exit_code, "is a file, so --out must be one too" in result.stderr) == (2, True)
    assert not [name for name in names(released.parent) if name.startswith(storage.TEMPORARY_PREFIX)]


def test_a_folder_can_be_given_as_the_current_one(k710, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(huggingface(tmp_path, 710))
    assert k710("remap-head", ".", "--to", "k400", "--dialect", "videomaev2").exit_code == 0
    assert names(tmp_path) == ["hub", "hub.k400"]


def test_a_stale_sidecar_does_not_outlive_its_file(k710, released: Path):
    out = released.with_name("out.pyth")
    assert k710("remap-head", released, "--to", "k400", "--out", out).exit_code == 0
    assert out.with_name("out.pyth.k710.json").exists()
    best = training(released.parent, 710)
    assert k710("remap-head", best, "--to", "k400", "--out", out, "--force").exit_code == 0
    assert not out.with_name("out.pyth.k710.json").exists()
    assert k710("inspect", out).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["--to", "k500"], 2, "'k500' is neither a label set (k710, k400, k600, k700, k700_2020) nor a file"),
        (["--to", "k400", "--dialect", "alphabetical"], 2, "unknown dialect 'alphabetical'"),
        (["--to", "k400", "--new-rows", "random"], 2, "Invalid value"),
        (
            ["--to", "k400", "--from", "k600"],
            1,
            "head backbone.transformer.proj.2 has 710 rows, and k600 has 600 classes",
        ),
        (["--to", "k400", "--head", "fc"], 1, "no tensor fc.weight"),
        ([], 2, "Missing option '--to'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_message(
    k710, arguments: list[str], exit_code: int, said: str, released: Path
):
    result = k710("remap-head", released, *arguments)
    assert result.exit_code == exit_code
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert names(released.parent) == [released.name]


def test_missing_and_damaged_files(k710, tmp_path: Path):
    for command in (["inspect"], ["remap-head", "--to", "k400"]):
        result = k710(*command, tmp_path / "none.pyth")
        assert (result.exit_code, result.stderr) == (1, f"k710: {tmp_path / 'none.pyth'}: no such file or folder\n")
    assert k710("remap-head", "--to", "k400").exit_code == 2


def test_inspect(k710, released: Path):
    result = k710("inspect", released)
    assert result.exit_code == 0, result.output
    assert "head        backbone.transformer.proj.2: 710 rows x 4, float32" in result.stdout
    assert "labels      k710 (uniformerv2)" in result.stdout
    found = json.loads(k710("inspect", released, "--json").stdout)
    assert found["head"]["rows"] == 710
    out = released.with_name("out.pyth")
    k710("remap-head", released, "--to", "k700_2020", "--out", out)
    result = k710("inspect", out)
    assert "labels      k700_2020 (canonical)" in result.stdout
    assert f"remapped from {released.name}, k710 (uniformerv2)" in result.stdout
    torch.save({"w": torch.zeros(3)}, out.with_name("w.pth"))
    assert "head        none" in k710("inspect", out.with_name("w.pth")).stdout


def test_a_foreign_model_is_inspected_with_its_evidence(k710, tmp_path: Path):
    path = write_published(tmp_path, "umt", 400)
    shown = k710("inspect", path).stdout
    proven = "run_class_finetuning.py keeps rows 0-399 of a 710-row head"
    assert f"published   UMT, OpenGVLab/unmasked_teacher: uniformerv2, proven ({proven})" in shown
    assert f"            dialect uniformerv2, proven for UMT ({proven})" in shown
    assert "to run it   UMT needs its model (OpenGVLab/unmasked_teacher), and as published 8 or 16 sparse" in shown
    found = json.loads(k710("inspect", path, "--json").stdout)
    (model,) = found["published"]
    assert (model["name"], model["order"]["name"], model["order"]["certainty"]) == ("umt", "uniformerv2", "proven")
    result = k710("remap-head", path, "--to", "k400", "--dry-run")
    assert "no row moves" not in result.stderr
    assert "k400 (uniformerv2)" in result.stdout
    assert k710("inspect", path, "--family", "videomae").exit_code == 2


def test_whose_a_head_is_can_be_answered(k710, tmp_path: Path):
    path = write_published(tmp_path, "videomae", 400)
    result = k710("inspect", path)
    assert result.exit_code == 0
    assert (
        "            MVD, ruiwang2021/mvd: canonical, likely but unproven (its list is not published)" in result.stdout
    )
    assert "labels      unknown" in result.stdout
    assert "labels      k400 (canonical)" in k710("inspect", path, "--family", "videomae").stdout
    remap = ("remap-head", path, "--to", "k400")
    assert k710(*remap).exit_code == 1
    result = k710(*remap, "--family", "videomaev2")
    assert result.exit_code == 0
    assert "note: no row moves" in result.stderr
    assert "the order changes" not in result.stderr
    assert k710(*remap, "--family", "umt", "--force").exit_code == 2


def test_a_write_that_fails_leaves_nothing(k710, released: Path, monkeypatch: pytest.MonkeyPatch):
    folder = huggingface(released.parent, 710)
    before = names(released.parent)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for source in (released, folder):
        out = source.with_name("out")
        result = k710("remap-head", source, "--to", "k400", "--dialect", "videomaev2", "--out", out)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == f"k710: {out}: No space left on device"
        assert names(released.parent) == before


def test_a_device_is_not_replaced(k710, released: Path):
    pipe = released.with_name("pipe")
    os.mkfifo(pipe)
    result = k710("remap-head", released, "--to", "k400", "--out", pipe, "--force")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"k710: {pipe}: is a device or a pipe, which a file would replace")
    assert pipe.is_fifo()
    assert k710("inspect", pipe).stderr == f"k710: {pipe}: is a device or a pipe, not a file\n"


def test_a_folder_that_holds_more_than_a_checkpoint_is_not_replaced(k710, tmp_path: Path):
    """Whoever names the wrong folder with --force loses neither what is in it nor the checkpoint itself."""
    folder = huggingface(tmp_path, 710)
    (tmp_path / "thesis.tex").write_text("years")
    remap = ("remap-head", folder, "--to", "k400", "--dialect", "canonical", "--force", "--out")
    (folder / ".git").mkdir()
    for out, lost in ((tmp_path, "hub"), (folder, ".git")):
        before = sorted(tmp_path.rglob("*"))
        result = k710(*remap, out)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].endswith(
            f"--force would remove '{lost}', which is in it; choose another --out"
        )
        assert sorted(tmp_path.rglob("*")) == before
    (folder / ".git").rmdir()
    (folder / "optimizer.pt").write_bytes(b"")
    (folder / "tf_model.h5").write_bytes(b"")
    assert k710(*remap, folder).exit_code == 0
    assert names(folder) == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one(k710, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = huggingface(tmp_path, 710)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rename = Path.rename

    def stopped(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stopped)
    assert k710("remap-head", folder, "--to", "k400", "--dialect", "canonical", "--force", "--out", folder).exit_code
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
from k710.cli import main
main(sys.argv[1:], prog_name="k710")
"""

_KILLED = """
import os, signal, sys
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
from k710.cli import main
main(sys.argv[1:], prog_name="k710")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits and signals of POSIX")
@pytest.mark.parametrize("form", ["file", "folder"])
@pytest.mark.parametrize("program", [_LIMITED, _KILLED], ids=["disk full", "killed"])
@pytest.mark.slow
def test_a_file_that_cannot_be_finished_never_takes_its_name(program: str, form: str, released: Path):
    source = released if form == "file" else huggingface(released.parent, 710)
    command = [
        "remap-head",
        str(source),
        "--to",
        "k400",
        "--dialect",
        "canonical",
        "--out",
        str(source.with_name("out")),
    ]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=False)
    assert not source.with_name("out").exists()
    assert not source.with_name("out.k710.json").exists()
    if program == _KILLED:
        assert done.returncode == -signal.SIGKILL
    else:
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"k710: {source.with_name('out')}: ")
        assert "Traceback" not in done.stderr
        assert not [name for name in names(released.parent) if name.startswith(storage.TEMPORARY_PREFIX)]


def test_help_costs_neither_torch_nor_numpy():
    program = (
        "import sys; from k710.cli import main\n"
        "for command in ('remap-head', 'inspect'): main([command, '--help'], standalone_mode=False)\n"
        "sys.exit(' '.join({'torch', 'numpy', 'safetensors'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall("Examples?:", done.stdout)) == 2
