"""docs/unions.md: its example is built as the page says, and prints what the page shows."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields

from k710.lists.union_spec import UnionSpec, read_union_spec
from k710.manifest.read import open_manifest
from tests.helpers import CHECKOUT
from tests.test_docs import transcripts

PAGE = "docs/unions.md"
TEXT = (CHECKOUT / PAGE).read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_the_example(k710, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kitchen, no_names, names = blocks("text")
    (tmp_path / "kitchen.csv").write_text(kitchen)
    (tmp_path / "union.yaml").write_text(blocks("yaml")[0])
    (tmp_path / "names.csv").write_text(no_names)
    shown = [(command, output) for command, output in transcripts(PAGE) if "UNION" not in command]
    assert [command.split()[1] for command, _ in shown] == ["labels", "proposed.csv", "build", "explain"]
    refused = k710(*shlex.split(shown[2][0])[1:])
    assert (refused.exit_code, "1 name is a class of several members" in refused.stderr) == (1, True)
    for command, output in shown:
        if command.startswith("cat"):
            assert (tmp_path / "proposed.csv").read_text().strip() == output.strip()
            (tmp_path / "names.csv").write_text(names)
            continue
        words, _, to_file = command.partition(" > ")
        result = k710(*shlex.split(words)[1:])
        assert result.exit_code == 0, result.output
        if to_file:
            (tmp_path / to_file).write_text(result.stdout)
        else:
            assert result.stdout.startswith(output.strip())
    manifest = open_manifest(tmp_path / "m")
    assert len(manifest.labels) == 711
    assert "stirring soup" in manifest.labels


def test_the_other_example_is_one(tmp_path):
    (tmp_path / "union.yaml").write_text(blocks("yaml")[1])
    spec = read_union_spec(str(tmp_path / "union.yaml"))
    assert spec.held == {"activitynet_videos": ("val", "test")}


def test_every_key_is_in_the_page():
    keys = {field.name for field in fields(UnionSpec)} - {"where", "policy_holdout"}
    assert keys <= set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
