"""What only shows at size: memory over thousands of opens, and 650,000 clips in one dataset."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers import CHECKOUT
from tests.helpers.numbered_stores import make_numbered

BENCHMARKS = CHECKOUT / "benchmarks"
OPENS = 2000


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, k710):
    folder = tmp_path_factory.mktemp("numbered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K710_CACHE", str(folder / "cache"))
        yield make_numbered(folder, k710, ("h264", "frames"))


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "decoder"), [("h264", "pyav"), ("h264", "decord"), ("frames", "pyav")])
def test_memory_stays_flat_over_two_thousand_opens(numbered, profile, decoder):
    command = [sys.executable, BENCHMARKS / "memory_curve.py", numbered.manifest.path, profile, str(OPENS), decoder]
    curve = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(curve) == 20
    assert max(curve[10:]) - max(curve[:10]) < 8, f"{curve} MiB"


@pytest.mark.slow
def test_six_hundred_and_fifty_thousand_clips(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    from large_dataset import rows_report

    for profile in ("h264", "frames"):
        kept = rows_report(tmp_path / profile, profile, 650_000)["index kept"]
        assert kept["first batch, s"] < 2
        assert kept["held after 100,000 rows were looked up, MiB"] < 300
