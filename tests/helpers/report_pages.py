"""What the tests of reports share: the tables of a page, a browser, and a manifest whose every text is an attack."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet
import pytest

from k710.fetch.encode.jobs import Made
from k710.fetch.encode.measured import Measured
from k710.fetch.scratch import scratch_folder
from k710.fetch.store_unit import StoreUnit
from k710.lists.labels import class_names
from k710.manifest.pairs import PAIRS_SCHEMA, write_pairs
from k710.manifest.read import Manifest
from k710.manifest.schema import CLIPS_SCHEMA
from k710.manifest.write import write_manifest
from k710.store.store import Store
from tests.helpers.small_stores import about, made_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
ATTACKS = (
    "<script>window.hacked=1</script>",
    '"onerror="window.hacked=1',
    "</script><script>window.hacked=1</script>",
    "javascript:window.hacked=1",
    "<img src=x onerror=window.hacked=1>",
    "</style></title></textarea><svg onload=window.hacked=1>",
    "{{ 7 * 7 }}{% raw %}",
    "<a href='https://example.org/'>here</a><b>bold</b>",
)
IDS = ('"><script>a', "</script><i", "<img src=x>", "javascript:", "'onerror=1;")  # YouTube IDs have 11 characters


class _Tables(HTMLParser):
    """The tables of a page: caption, columns and rows, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str], list[list[str]]]] = []
        self._in: str | None = None
        self._body = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "table":
            self.found.append(("", [], []))
            self._body = False
        elif tag == "tbody":
            self._body = True
        elif tag == "tr" and self._body:
            self.found[-1][2].append([])
        elif tag in ("th", "td"):
            self._in = tag
            (self.found[-1][2][-1] if self._body else self.found[-1][1]).append("")
        elif tag == "caption":
            self._in = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._in:
            self._in = None

    def handle_data(self, data: str) -> None:
        caption, columns, rows = self.found[-1] if self.found else ("", [], [])
        if self._in == "caption":
            self.found[-1] = (caption + data, columns, rows)
        elif self._in:
            (rows[-1] if self._body else columns)[-1] += data


def tables_of(page: str) -> dict[str, tuple[list[str], list[list[str]]]]:
    """The tables of a page by their captions."""
    parser = _Tables()
    parser.feed(page)
    return {caption: (columns, rows) for caption, columns, rows in parser.found}


def start_browser() -> Iterator[Any]:
    """A headless browser. Skips where there is none, and fails where one was promised (K710_REQUIRE_BROWSER)."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        reason = "no chromium with playwright here: pages were not tried in a browser"
        if os.environ.get("K710_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


def hostile_manifest(folder: Path) -> Manifest:
    """A manifest, store, pairs and runs in `folder` in which every text that can be chosen is an attack."""
    ids = sorted(f"{youtube_id}_{10:06d}_{20:06d}" for youtube_id in IDS)
    rows = []
    for number, clip_id in enumerate(ids):
        row: dict[str, Any] = dict.fromkeys(CLIPS_SCHEMA.names)
        row |= {"clip_id": clip_id, "youtube_id": clip_id[:11], "time_start_s": 10, "time_end_s": 20}
        row |= {"label": ATTACKS[number], "class_id": number, "other_class_ids": [number + 1], "split": "train"}
        row |= {"k400_split": "train", "k400_class_id": number}
        rows.append(row)
    details = {
        "recipe": {"sources": ["k400"], "splits": ["train", "val"], "leak_policy": ATTACKS[0], "holdout": [ATTACKS[1]]},
        "sources": [
            {"source": "k400", "split": "train", "file": ATTACKS[2], "rows": 5, "sha256": ATTACKS[4], "malformed": [
                {"line": 3, "reason": attack} for attack in ATTACKS
            ]}
        ],
        "counts": _counts(len(ids)),
    }  # fmt: skip
    manifest = write_manifest(folder / "m", pa.Table.from_pylist(rows, schema=CLIPS_SCHEMA), details)
    store = Store(folder / "m" / "store", "h264")
    with scratch_folder(store.root) as scratch:
        unit = StoreUnit(store, "local", scratch)
        measured = Measured(64, 48, 8.0, 16, 2.0, ATTACKS[0])
        harmless = next(clip_id for clip_id in ids if "/" not in clip_id)
        made = dataclasses.replace(made_of(scratch, harmless, b"no video at all", measured), flags=(ATTACKS[4],))
        unit.add(made, origin="local:x", came_from="x")
        for number, clip_id in enumerate(clip_id for clip_id in ids if clip_id != harmless):
            made = Made(clip_id, ATTACKS[number], "\n".join(ATTACKS))
            unit.add(made, origin=ATTACKS[0], came_from=ATTACKS[1])
        unit.commit(about())
    pairs = {name: [] for name in PAIRS_SCHEMA.names} | {
        "clip_id": ids[:2], "other_clip_id": ids[1:3], "distance": [0.1, 0.2], "shift_s": [0.0, 1.0],
        "mirrored": [True, False], "group": [1, 1], "drop_clip_id": [ids[0], None], "kept_clip_id": [ids[1], None],
    }  # fmt: skip
    said = {"parameters": dict.fromkeys(("view", "threshold_bits"), ATTACKS[0]), "counts": {"clips": 5, "compared": 3}}
    write_pairs(manifest, pa.table(pairs, schema=PAIRS_SCHEMA), said, [manifest.content_hash])
    write_run(folder / "runs" / ATTACKS[4], names=ATTACKS)
    return manifest


def ids_unchecked() -> Any:
    """A block in which a clips table is opened whatever its IDs are: a page must escape them all the same."""
    return mock.patch("k710.manifest.read.table_problem", return_value=None)


def _counts(rows: int) -> dict[str, Any]:
    fates = {"kept": rows, "same_clip": 0, "duplicate_id": 0, "leaked": 0, "unlabelled": 0, "malformed": len(ATTACKS)}
    entry = {"source": "k400", "split": "train", "rows": rows + len(ATTACKS), **fates}
    totals = {"rows": entry["rows"], "clips": rows, "videos": rows, "train": rows, "val": 0, "classes": rows}
    return {"lists": [entry], "fates": fates, **totals}


def write_run(folder: Path, *, names: tuple[str, ...] = ("archery", "abseiling"), log: str = "") -> Path:
    """A run with an evaluation inside, as `k710 train` and `k710 eval --out` leave them."""
    (folder / "eval").mkdir(parents=True)
    facts = {"recipe": {"view": names[0]}, "clips": {"train": {"loaded": 3}}, "manifest": {"content_hash": "abc"}}
    (folder / "run.json").write_text(json.dumps(facts))
    lines = [
        {"kind": "step", "step": step, "epoch": 0, "loss": 4 / step, "accuracy": step / 10, "lr": 0.1}
        for step in range(1, 6)
    ]
    scores = {"top1": 0.5, "top5": 0.75, "mean_class": 0.25}
    lines.append({"kind": "validation", "step": 5, "epoch": 1, **scores, "best": True})
    lines.append({"kind": "validation", "step": 5, "epoch": 2, **scores, "top1": 0.4, "best": False})
    lines.append({"kind": "failed", "step": 5, "epoch": 0, "clips": dict.fromkeys(names, names[0])})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + log)
    summary = {"view": "k400", "split": "val", "num_clips": 4, "num_crops": 3, "scores": scores}
    summary |= {"counts": {"evaluated": 4, "in_split": 5}, "fingerprint": "f" * 64}
    (folder / "eval" / "summary.json").write_text(json.dumps(summary))
    classes = "\n".join(f"{n},{_quoted(name)},2,0.5,1.0" for n, name in enumerate(names))
    (folder / "eval" / "classes.csv").write_text(f"class_id,label,num_clips,top1,top5\n{classes}\n")
    pair = f"0,{_quoted(names[0])},1,{_quoted(names[1])},2"
    (folder / "eval" / "confusions.csv").write_text(f"class_id,label,taken_for,taken_for_label,num_clips\n{pair}\n")
    return folder


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


assert all(name not in class_names("k710") for name in ATTACKS)
