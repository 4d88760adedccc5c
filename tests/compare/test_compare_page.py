"""`k710 compare` on the command line, and its page: the same numbers, every text as text."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from pathlib import Path

import pytest

from k710.compare.compare import compare
from k710.report.compare_page import compare_page
from tests.cli.test_bad_input import assert_refused
from tests.compare.test_compare import K400, clip, together, write
from tests.helpers.report_pages import ATTACKS, tables_of
from tests.helpers.small_stores import clips_of, manifest_of


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Three CSVs of 200 clips: the second is better in 30 of them, and lacks ten; the third is as the first."""
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for name, wrong, number in (("a", 50, 200), ("b", 20, 190), ("c", 50, 200)):
        rows = [(clip(n), K400[5] if n < wrong else K400[n % 4], K400[n % 4]) for n in range(number)]
        made.append(write(folder / f"{name}.csv", "clip,prediction,label", rows))
    return made


def test_it_prints_what_it_found(k710, files):
    result = k710("compare", *files, "--view", "k400", "--in-list", 210, "--top", 2)
    assert result.exit_code == 0, result.output
    assert "On the 190 clips of all 3" in result.stdout
    assert "and 2 classes more (--json has all)" in result.stdout
    assert f"{files[1]} is better than {files[0]} on the common clips, p below 0.0001 (adjusted for 2" in result.stdout
    assert "The 20 clips that are not common could turn it" not in result.stdout
    assert "cannot turn this: whatever they are, the sign is the same on the whole list." in result.stdout
    assert f"{files[2]} and {files[0]} have the same 190 clips right and wrong." in result.stdout
    assert "4 classes differ at p < 0.05" in result.stdout


def test_json_has_the_numbers(k710, files):
    result = k710("compare", *files, "--view", "k400", "--in-list", 210, "--seed", 4, "--resamples", 500, "--json")
    data = json.loads(result.stdout)
    found = compare(together(*files, num_in_list=210), seed=4, resamples=500)
    assert (data["num_common"], data["seed"], data["resamples"]) == (190, 4, 500)
    assert [pair["difference"] for pair in data["pairs"]] == [30 / 190, 0]
    assert [pair["interval"] for pair in data["pairs"]] == [list(pair.interval) for pair in found.pairs]
    assert [row["label"] for row in data["classes"]] == [row.label for row in found.classes]
    assert data["sides"][1]["full"] == [170 / 210, 190 / 210]
    assert data["common_sha256"] == found.common_sha256


def test_the_page_has_the_numbers_of_the_command(k710, files, tmp_path):
    result = k710("compare", *files[:2], "--view", "k400", "--html", tmp_path / "c.html")
    assert result.exit_code == 0, result.output
    tables = tables_of((tmp_path / "c.html").read_text())
    columns, rows = tables["On the 190 clips of all 2"]
    assert columns[:3] == ["evaluation", "clips", "top-1"]
    assert [row[:3] for row in rows] == [[str(files[0]), "200", "73.68%"], [str(files[1]), "190", "89.47%"]]
    assert tables[f"Against {files[0]}"][1][0][1] == "+15.79"
    found = compare(together(*files[:2]))
    of_classes = [row[0] for row in tables[f"Classes, {files[1]} against the first"][1]]
    assert of_classes == [row.label for row in found.classes]
    assert set(of_classes[:2]) == set(K400[:2]), "8 of the 30 clips each, the others 7"


def test_what_files_say_stays_text(files):
    found = compare(together(*files[:2]))
    attack = ATTACKS[0]
    odd = Path(attack)
    hostile = replace(
        found,
        notes=(attack,),
        view=attack,
        sides=tuple(replace(side, path=odd) for side in found.sides),
        pairs=tuple(replace(pair, other=odd) for pair in found.pairs),
        classes=tuple(replace(row, label=attack, other=odd) for row in found.classes),
    )
    page = compare_page(hostile)
    body = page[page.index("<main") :]
    assert attack not in body
    assert html.escape(attack) in body or html.escape(attack).replace("&quot;", "&#34;") in body


def test_choices_that_cannot_be(k710, files, tmp_path):
    view = ("--view", "k400")
    assert_refused(k710("compare", *files, *view, "--dialect", "no.csv=canonical"), "is no RUN of this", exit_code=2)
    assert_refused(k710("compare", files[0], *view), "nothing to be compared with", exit_code=2)
    assert_refused(k710("compare", tmp_path / "no.csv", files[0], *view), "no.csv: No such file or directory")
    assert_refused(k710("compare", tmp_path, files[0], *view), "no such file; `k710 eval")
    manifest = manifest_of(k710, tmp_path, clips_of(4, "val"))
    page = ("--manifest", manifest, "--html", manifest / "c.html")
    assert_refused(k710("compare", *files, *view, *page), "which must not hold other files", exit_code=2)
