"""Made-up lists of all releases in small, and the manifest of them: what copies are made of and compared with."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from k710.identify.reference import Reference, reference_of_manifest
from k710.manifest.read import open_manifest
from k710.sources.video_ids import clip_id_of
from tests.helpers import CHECKOUT

sys.path.append(str(CHECKOUT / "benchmarks"))  # behind everything else: one of its files is called build

from full_size_lists import write_lists


@dataclass(frozen=True)
class Planted:
    lists: Path
    manifest: Path
    reference: Reference

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of one list, such as k400_val."""
        with (self.lists / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def clips(self, name: str) -> list[str]:
        return [
            clip_id_of(row["youtube_id"], (int(row["time_start"]), int(row["time_end"]))) for row in self.rows(name)
        ]


@pytest.fixture(scope="session")
def planted(tmp_path_factory, k710) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    write_lists(folder / "lists", scale=0.01)
    result = k710(
        "build", "--annotations", folder / "lists", "--splits", "train,val,test", "--out", folder / "manifest"
    )
    assert result.exit_code == 0, result.output
    reference = reference_of_manifest(open_manifest(folder / "manifest"))
    return Planted(folder / "lists", folder / "manifest", reference)
