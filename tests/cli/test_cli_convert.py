"""`k710 convert` as a user meets it: what is printed, exit codes, and files whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny_models import bits, released, tiny_state


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return released(tmp_path / "uniformerv2_k710.pyth", "uniformerv2", tiny_state("uniformerv2"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_conversion_says_what_it_recognised_and_what_it_did(k710, start: Path):
    result = k710("convert", start, "--to", "mmaction2", "--to-dialect", "canonical")
    assert result.exit_code == 0, result.output
    out = start.with_name("uniformerv2_k710.mmaction2.pth")
    lines = result.stdout.splitlines()
    assert lines.pop(4).startswith("  dialect uniformerv2, proven for UniFormerV2")
    assert lines == [
        f"{start}: UniFormerV2 weights (names transformer.temporal_cls_token and others, as a bare state dict)",
        "  UniFormerV2-tiny at 32 px, 710 classes",
        "  head backbone.transformer.proj.2: 710 rows x 64, float32: k710 (uniformerv2)",
        "  label set k710 by its 710 rows",
        "to MMAction2 checkpoint: 91 tensors, rows in another order: k710 (canonical)",
        f"wrote {out}",
    ]
    assert result.stderr == ""
    back = k710(
        "convert", out, "--to", "uniformerv2", "--to-dialect", "uniformerv2", "--out", out.with_name("back.pyth")
    )
    assert back.exit_code == 0, back.output
    assert "keep the two together" in back.stderr
    assert bits(out.with_name("back.pyth")) == bits(start)


def test_rows_that_stay_in_an_order_of_other_lists_are_pointed_out(k710, start: Path):
    result = k710("convert", start, "--to", "mmaction2", "--dry-run")
    assert "rows in the order they have: k710 (uniformerv2)" in result.stdout
    assert "--to-dialect canonical orders its rows so" in result.stderr
    assert names(start.parent) == [start.name]


def test_what_is_there_is_not_replaced_unasked(k710, start: Path):
    out = start.with_name("out")
    out.write_bytes(b"mine")
    for options in (("--dry-run",), ()):
        result = k710("convert", start, "--to", "k710", "--out", out, *options)
        assert result.exit_code == 1
        assert "exists; write elsewhere with --out, or replace it with --force" in result.stderr
        assert out.read_bytes() == b"mine"
    assert k710("convert", start, "--to", "k710", "--out", out, "--force").exit_code == 0
    video = released(start.with_name("vit.pth"), "videomaev2", tiny_state("videomaev2"))
    result = k710("convert", video, "--to", "huggingface", "--out", out, "--force")
    assert (result.exit_code, "--out must be a folder" in result.stderr) == (2, True)
    folder = start.with_name("folder")
    assert k710("convert", video, "--to", "huggingface", "--out", folder).exit_code == 0
    result = k710("convert", start, "--to", "k710", "--out", folder, "--force")
    assert (result.exit_code, "--out must be a file" in result.stderr) == (2, True)
    assert k710("convert", video, "--to", "huggingface", "--out", folder, "--force").exit_code == 0
    (folder / "thesis.tex").write_text("mine")
    result = k710("convert", video, "--to", "huggingface", "--out", folder, "--force")
    assert (result.exit_code, "--force would remove 'thesis.tex'" in result.stderr) == (1, True)
    assert (folder / "thesis.tex").read_text() == "mine"


def test_a_file_can_be_converted_in_its_place(k710, start: Path):
    before = bits(start)
    assert k710("convert", start, "--to", "uniformerv2", "--out", start, "--force").exit_code == 0
    assert bits(start) == before
    video = released(start.with_name("vit.pth"), "videomaev2", tiny_state("videomaev2"))
    folder = start.with_name("folder")
    assert k710("convert", video, "--to", "huggingface", "--out", folder).exit_code == 0
    kept = bits(folder)
    assert k710("convert", folder, "--to", "huggingface", "--out", folder, "--force").exit_code == 0
    assert bits(folder) == kept


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--to", "onnx"), 2, "unknown form 'onnx'"),
        (("--to", "huggingface"), 2, "has no form 'huggingface'"),
        (("--to", "k710", "--dialect", "klingon"), 2, "unknown dialect 'klingon'"),
        (("--to", "k710", "--to-dialect", "klingon"), 2, "unknown dialect 'klingon'"),
        (("--to", "k710", "--from", "k400"), 1, "710 rows, and k400 has 400 classes"),
        (("--to", "k710", "--from", "absent.txt"), 2, "neither a label set"),
        (("--to", "k710", "--num-frames", "0"), 2, "0 is not in the range"),
        (("--to", "k710", "--num-frames", "16"), 2, "this form has no place for them"),
        ((), 2, "Missing option '--to'"),
    ],
)
def test_bad_choices_end_in_a_message(k710, start: Path, options, code, message):
    result = k710("convert", start, *options)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert names(start.parent) == [start.name]


def test_clips_that_would_fill_the_memory_are_refused(k710, tmp_path: Path):
    video = released(tmp_path / "vit.pth", "videomaev2", tiny_state("videomaev2"))
    for form in ("mmaction2", "huggingface"):
        result = k710("convert", video, "--to", form, "--num-frames", "1000000000")
        assert (result.exit_code, "more than 65,536 are no clip" in result.stderr) == (2, True)
    folder = tmp_path / "folder"
    assert k710("convert", video, "--to", "huggingface", "--out", folder).exit_code == 0
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_frames": 10**9}))
    result = k710("convert", folder, "--to", "mmaction2")
    assert (result.exit_code, "more than 65,536 are no clip" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<html>", "a web page"),
        (b"\x80\x02garbage", "a Python pickle"),
        (b"PK\x03\x04cut", "damaged, or cut short"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "no"),
    ],
)
def test_broken_files_end_in_one_message(k710, tmp_path: Path, content: bytes, message: str):
    (tmp_path / "broken.pth").write_bytes(content)
    result = k710("convert", tmp_path / "broken.pth", "--to", "k710")
    assert (result.exit_code, message in result.stderr) == (1, True), result.stderr
    assert result.stderr.startswith(f"k710: {tmp_path}/broken.pth: ")
    assert names(tmp_path) == ["broken.pth"]


def test_a_cut_file_and_every_byte_changed_in_a_header_end_in_a_message_or_a_whole_file(k710, tmp_path: Path):
    video = released(tmp_path / "vit.pth", "videomaev2", tiny_state("videomaev2"))
    assert k710("convert", video, "--to", "huggingface", "--out", tmp_path / "folder").exit_code == 0
    weights = tmp_path / "folder" / "model.safetensors"
    whole = weights.read_bytes()
    for number, position in enumerate(range(8, 2000, 97)):
        weights.write_bytes(whole[:position] + bytes([whole[position] ^ 5]) + whole[position + 1 :])
        result = k710("convert", tmp_path / "folder", "--to", "k710", "--out", tmp_path / f"{number}.pt")
        assert result.exit_code in (0, 1), result.output
        assert (tmp_path / f"{number}.pt").exists() is (result.exit_code == 0)
    weights.write_bytes(whole[: len(whole) // 2])
    assert "cut short" in k710("convert", tmp_path / "folder", "--to", "k710").stderr


def test_a_file_that_would_run_code_is_refused(k710, tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return Path.write_text, (tmp_path / "ran", "x")

    torch.save({"module": tiny_state("videomaev2"), "extra": Evil()}, tmp_path / "evil.pth")
    result = k710("convert", tmp_path / "evil.pth", "--to", "k710")
    assert (result.exit_code, "refused" in result.stderr) == (1, True)
    assert names(tmp_path) == ["evil.pth"]


def test_names_in_a_files_own_config_reach_no_path(k710, tmp_path: Path):
    video = released(tmp_path / "vit.pth", "videomaev2", tiny_state("videomaev2"))
    assert k710("convert", video, "--to", "huggingface", "--out", tmp_path / "folder").exit_code == 0
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    config["architectures"] = ["../../evil\x1b[31m"]
    config["_name_or_path"] = "../../evil"
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    result = k710("convert", tmp_path / "folder", "--to", "videomaev2")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert names(tmp_path) == ["folder", "folder.videomaev2.pth", "vit.pth"]
