"""Every example runs as a stranger would run it, on clips that were fetched from files."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.small_stores import clips_of, film, manifest_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLIPS = [*clips_of(8), *clips_of(5, "val", first=8)]


@pytest.fixture(scope="session")
def fetched(tmp_path_factory, k710) -> Path:
    """A manifest of eight train and five val clips, all in its store."""
    folder = tmp_path_factory.mktemp("examples")
    manifest = manifest_of(k710, folder, CLIPS)
    film(folder / "clips", CLIPS)
    result = k710("fetch", manifest, "--from", f"local:{folder / 'clips'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    return manifest


def run(cwd: Path, *command: object) -> str:
    """What it prints. A warning of k710 fails the test: whoever copies an example copies its faults."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "RepeatedEpochWarning" not in done.stderr
    return done.stdout


@pytest.mark.slow
def test_plain_pytorch(fetched, tmp_path):
    shown = run(tmp_path, EXAMPLES / "plain_pytorch.py", fetched, "k400")
    assert re.findall(r"epoch (\d): loss [\d.]+, \d of 5 val clips correct", shown) == ["0", "1"]
    lines = (EXAMPLES / "plain_pytorch.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 30


@pytest.mark.slow
def test_torchrun_on_two_processes(fetched, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    shown = run(tmp_path, *torchrun, EXAMPLES / "torchrun_ddp.py", fetched, "k400")
    assert re.findall(r"epoch (\d): \d of 5 val clips correct on 2 processes", shown) == ["0", "1"]
    assert (tmp_path / "checkpoint.pt").exists()


@pytest.mark.slow
def test_lightning(fetched, tmp_path):
    pytest.importorskip("lightning", reason="not installed: the example was not run")
    shown = run(tmp_path, EXAMPLES / "with_lightning.py", fetched, "k400")
    assert re.search(r"val accuracy [\d.]+ after 2 epochs", shown)


@pytest.mark.slow
def test_transformers_trainer(fetched, tmp_path):
    pytest.importorskip("transformers", reason="not installed: the example was not run")
    pytest.importorskip("accelerate", reason="not installed: the example was not run")
    shown = run(tmp_path, EXAMPLES / "hf_trainer_videomae.py", fetched, "k400")
    *_, last = shown.splitlines()
    result = ast.literal_eval(last)
    assert result["epoch"] == 2.0
    assert result["eval_accuracy"] in [n / 5 for n in range(6)]


@pytest.mark.slow
@pytest.mark.parametrize("library", ["duckdb", "polars"])
def test_queries(k710, sample, tmp_path, library):
    pytest.importorskip(library, reason="not installed: the example was not run")
    shown = run(tmp_path, EXAMPLES / f"query_with_{library}.py", sample.path)
    clips = sample.to_pandas()
    train = clips[clips["split"] == "train"].groupby("label", observed=True).size()
    assert re.search(rf"\b{train.idxmax()}\b.*\b{train.max()}\b", shown)
    for reason, count in clips.groupby("drop_reason", observed=True).size().items():
        assert re.search(rf"\b{reason}\b.*\b{count}\b", shown)
    leaks = clips[(clips["k700_split"] == "train") & (clips["k400_split"] == "val")]
    assert len(leaks)
    assert leaks["clip_id"].iloc[0] in shown


def test_the_notebook(fetched, monkeypatch, capsys):
    """Its cells in their order; the last expression of each is shown, as a notebook shows it."""
    monkeypatch.setenv("K710_MANIFEST", str(fetched))
    notebook = json.loads((EXAMPLES / "look_at_a_dataset.ipynb").read_bytes())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    names: dict[str, object] = {}
    shown = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "no output is kept"
            *statements, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(statements, []), cell["id"], "exec"), names)
            assert isinstance(last, ast.Expr)
            shown[cell["id"]] = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
    assert dict(shown["counts"]) == {"train": 8, "val": 5}
    assert shown["dataset"].loaded == 5
    assert shown["frames"].size == (8 * (64 * 128 // 48), 128)
    assert CLIPS[8].clip_id in capsys.readouterr().out


def test_the_page_names_every_example():
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert set(re.findall(r"\]\((\w+\.(?:py|ipynb))\)", page)) == files
