"""The tables of the documentation are those of the results."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.helpers import CHECKOUT

BENCHMARKS = CHECKOUT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind everything else: one of its files is called build

import tables  # noqa: E402

PAGE = "Above.\n\n<!-- table: model -->\n{table}<!-- end -->\n\nBelow.\n"


def test_the_documentation_has_the_numbers_of_the_results():
    checked = subprocess.run(
        [sys.executable, BENCHMARKS / "tables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_table_is_written_between_its_marks():
    written = tables.with_tables(PAGE.format(table="| old |\n"))
    assert written.startswith("Above.\n\n<!-- table: model -->\n| configuration, batch |")
    assert written.endswith("|\n<!-- end -->\n\nBelow.\n")
    result = json.loads((BENCHMARKS / "results/model.json").read_text(encoding="utf-8"))
    assert written.count("\n| kinetics_") == 2 * len(result["configurations"])
    assert tables.with_tables(PAGE.format(table="")) == tables.with_tables(written) == written
