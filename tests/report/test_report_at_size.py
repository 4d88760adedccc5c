"""The report of a tenth of Kinetics-710, by the benchmark's own means: the whole of it runs in benchmarks/report.py."""

from __future__ import annotations

import pytest

from tests.helpers import CHECKOUT

BENCHMARKS = CHECKOUT / "benchmarks"


@pytest.mark.slow
def test_a_large_report_is_small_and_quick(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    from report import TARGETS, report_of_size

    found = report_of_size(tmp_path, 0.1)
    assert found["clips"] > 80_000
    assert found["seconds"] < TARGETS["seconds"]
    assert found["megabytes"] < TARGETS["megabytes"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img src=") > 700
    assert 'class="missing"' not in page
