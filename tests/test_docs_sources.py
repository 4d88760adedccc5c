"""docs/sources.md: its example is built as the page says, and prints what the page shows."""

from __future__ import annotations

import re
import shlex

import pytest

from k710.lists.own_source import OwnSpec
from k710.sources.others import OTHERS
from tests.helpers import CHECKOUT
from tests.test_docs import transcripts

PAGE = "docs/sources.md"
TEXT = (CHECKOUT / PAGE).read_text(encoding="utf-8")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    for name, language in (("list.csv", "text"), ("source.yaml", "yaml")):
        block = re.search(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
        assert block
        (tmp_path / "mine" / name).write_text(block[1])
    monkeypatch.chdir(tmp_path)


def test_the_example(k710, mine, tmp_path):
    shown = [(command, output) for command, output in transcripts(PAGE) if not re.search("=PATH|ssv1| m --", command)]
    assert [command.split()[:2] for command, _ in shown] == [
        ["k710", "build"], ["k710", "explain"], ["k710", "labels"], ["cat", "names.csv"],
    ]  # fmt: skip
    for command, output in shown:
        if command.startswith("cat"):
            assert (tmp_path / "names.csv").read_text().strip() == output.strip()
            continue
        words, _, to_file = command.partition(" > ")
        result = k710(*shlex.split(words)[1:])
        assert result.exit_code == 0, result.output
        if to_file:
            (tmp_path / to_file).write_text(result.stdout)
        else:
            assert result.stdout.startswith(output.strip())


def test_every_key_and_every_data_set_is_in_the_page():
    assert set(re.findall(r"`(\w+)`", TEXT)) >= {*OwnSpec.__dataclass_fields__} - {"name", "where", "id_space"}
    for one in OTHERS.values():
        assert f"| `{one.name}` |" in TEXT
        assert all(f"`{view}`" in TEXT for view in one.views)
