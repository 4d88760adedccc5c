"""Both sides of the benchmark of `k710 identify` say the same of small lists, in every form."""

from __future__ import annotations

import sys

import pytest

from tests.helpers import CHECKOUT

sys.path.append(str(CHECKOUT / "benchmarks"))  # behind everything else: one of its files is called build

import full_size_lists
import identify


@pytest.fixture(scope="module")
def lists(tmp_path_factory, k710):
    folder = tmp_path_factory.mktemp("benchmark") / "lists"
    full_size_lists.write_lists(folder, scale=0.005)
    manifest = folder.parent / "manifest"
    result = k710("build", "--annotations", folder, "--splits", "train,val,test", "--out", manifest)
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize("form", identify.FORMS)
def test_the_sides_agree(lists, tmp_path, form):
    reference = identify.read_lists(lists)
    things = {}
    for name in {"trainer", form}:
        things[name] = tmp_path / f"{name}.{'parquet' if name == 'parquet' else 'csv' if name == 'csv' else 'txt'}"
        identify.write_thing(things[name], name, reference, 3_000)
    plain = identify.pandas_side(lists, things["trainer"])
    found = identify.identify_side(lists, things[form])
    if form != "urls":  # which have no spans
        assert {name: found[name] for name in plain} == plain
    assert sum(plain["here"].values()) > 100
    leaks = identify.audit_side(lists, things[form])
    assert leaks == identify.audit_side(lists, things["trainer"])
    assert leaks["leaked_videos"] > 10
