"""A command leaves pandas out, and what needs it still finds it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from k710.cli.arrow import import_arrow_without_pandas
import_arrow_without_pandas()
import pyarrow as pa
table = pa.table({"a": [1, 2]})
assert pa.array(["x"]).to_pylist() == ["x"] and "pandas" not in sys.modules
assert not any("_WithoutPandas" in str(finder) for finder in sys.meta_path)
assert table.to_pandas()["a"].sum() == 3
import pandas as pd
assert pa.array(pd.Series([1.0, float("nan")])).null_count == 1
"""

BUILD = """
import sys
from k710.cli import main
try:
    main(["build", "--annotations", "sample", "--out", sys.argv[1]], prog_name="k710")
except SystemExit as end:
    assert not end.code
assert "pandas" not in sys.modules and "pyarrow" in sys.modules
"""


def test_pandas_is_found_when_it_is_needed():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


def test_a_build_does_without_pandas(tmp_path):
    subprocess.run([sys.executable, "-c", BUILD, tmp_path / "manifest"], check=True, stdout=subprocess.DEVNULL)
