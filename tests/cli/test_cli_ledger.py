"""`k710 ledger`: what stores know, shared without media or paths, and what a fetch and a report make of it."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from k710.ledger.ledger import read_ledger
from k710.maintenance import ledger_of_store
from k710.store.store import Store
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put
from tests.ledger.test_ledger import ONE, TWO

CLIPS = [*clips_of(6), *clips_of(1, "val", first=6)]
IDS = [clip.clip_id for clip in CLIPS]


def store_of(root: Path, answers: dict[str, str]) -> None:
    """A store with one clip of a local folder, and YouTube's answers about others: clip → failure, or `had`."""
    store = Store(root, "h264")
    put(store, {IDS[0]: fake_media(IDS[0])}, origin="local:/home/somebody/secret")
    youtube = {clip: fake_media(clip) if answer == "had" else answer for clip, answer in answers.items()}
    put(store, youtube, name="youtube", origin="youtube")


@pytest.fixture
def manifest(k710, tmp_path) -> Path:
    made = manifest_of(k710, tmp_path, CLIPS)
    store_of(made / "store", {IDS[1]: "had", IDS[2]: "gone", IDS[3]: "geo"})
    return made


def export(k710, manifest: Path, out: Path, *options: object) -> Path:
    result = k710("ledger", "export", manifest, "--out", out, *options)
    assert result.exit_code == 0, result.output
    return out


def test_an_export_has_every_answer_and_nothing_personal(k710, manifest, tmp_path):
    out = export(k710, manifest, tmp_path / "l.parquet")
    rows = read_ledger(out).to_pylist()
    found = {(row["clip_id"], row["origin"], row["answer"]) for row in rows}
    assert found == {
        (IDS[0], "local", "had"),
        (IDS[1], "youtube", "had"),
        (IDS[2], "youtube", "gone"),
        (IDS[3], "youtube", "geo"),
    }
    raw = out.read_bytes()
    assert b"secret" not in raw
    assert b"somebody" not in raw
    assert len({row["witness"] for row in rows}) == 1
    again = read_ledger(export(k710, manifest, tmp_path / "again.parquet"))
    assert again.equals(read_ledger(out))  # the store keeps its number


def test_clips_whose_ids_may_be_file_names_are_left_out(k710, tmp_path):
    (tmp_path / "mine.csv").write_text("id,label,split\nbirthday of anna,archery,train\n2,archery,val\n")
    lists = f"mine={tmp_path / 'mine.csv'}"
    made = tmp_path / "own"
    built = k710("build", "--sources", lists, "--out", made)
    assert built.exit_code == 0, built.output
    put(Store(made / "store", "h264"), {"mine~birthday~20of~20anna": fake_media("x")})
    result = k710("ledger", "export", made, "--out", tmp_path / "l.parquet")
    assert result.exit_code == 0, result.output
    assert "1 clip is left out: the IDs are not YouTube's and may be file names" in result.stderr
    assert read_ledger(tmp_path / "l.parquet").num_rows == 0


def test_merged_ledgers_and_a_fetch_that_believes_them(k710, manifest, tmp_path):
    mine = export(k710, manifest, tmp_path / "mine.parquet", "--witness", ONE)
    theirs = export(k710, manifest, tmp_path / "theirs.parquet", "--witness", TWO)
    both, turned = tmp_path / "both.parquet", tmp_path / "turned.parquet"
    merged = k710("ledger", "merge", mine, theirs, "--out", both)
    assert merged.exit_code == 0, merged.output
    assert "The latest answers, of 2 witnesses" in merged.stdout
    assert "1 video gone or private by 2 answers or more" in merged.stdout
    assert k710("ledger", "merge", theirs, mine, mine, "--out", turned).exit_code == 0
    assert both.read_bytes() == turned.read_bytes()

    def asked(*options: object) -> tuple[int, str]:
        shutil.rmtree(manifest / "store", ignore_errors=True)
        result = k710("fetch", manifest, "--from", "youtube", "--dry-run", "--json", *options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["stages"][0]["clips"], result.stderr

    assert asked() == (7, asked()[1])
    count, notes = asked("--ledger", both)
    assert count == 6
    assert "youtube: 1 clip is not asked for: by the ledger, others found their videos gone or private twice" in notes
    assert asked("--ledger", both, "--retry", "gone")[0] == 7
    assert asked("--ledger", mine)[0] == 7  # one answer is not believed


def test_show_and_json(k710, manifest, tmp_path):
    mine = export(k710, manifest, tmp_path / "mine.parquet")
    shown = k710("ledger", "show", mine)
    assert shown.exit_code == 0
    assert "youtube       3     1      1     1          0" in shown.stdout
    found = json.loads(k710("ledger", "show", mine, "--json").stdout)
    assert found["rows"] == 4
    assert found["gone_for_everybody"] == []
    assert [month["asked"] for month in found["decay"]] == [3]


def test_the_report_and_the_stats_show_it(k710, manifest, tmp_path):
    rows = read_ledger(export(k710, manifest, tmp_path / "mine.parquet")).to_pylist()
    for row in rows:
        row["first_day"] = row["first_day"].replace(year=2020)
    mine = pa.parquet.read_table(tmp_path / "mine.parquet")
    pa.parquet.write_table(pa.Table.from_pylist(rows, schema=mine.schema), tmp_path / "mine.parquet")
    result = k710(
        "report", manifest, "--ledger", tmp_path / "mine.parquet", "--gallery", 0, "--out", tmp_path / "r.html"
    )
    assert result.exit_code == 0, result.output
    page = (tmp_path / "r.html").read_text()
    assert "Share of the clips that YouTube still had" in page
    assert "Availability" not in k710("stats", manifest).stdout
    assert "Clips that YouTube was asked for" in k710("stats", manifest, "--ledger", tmp_path / "mine.parquet").stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("export", "m", "n", "--out", "l"), "export takes one MANIFEST"),
        (("export", "m"), "export needs --out FILE"),
        (("show", "l", "--out", "k"), "show writes nothing"),
        (("merge", "l", "--out", "k", "--witness", ONE), "go with export"),
        (("merge", "s3://bucket/l", "--out", "k"), "is a file of this machine"),
        (("export", "m", "--out", "l", "--witness", "ME"), "want 16 hexadecimal digits"),
    ],
)
def test_wrong_usage(k710, arguments, text):
    result = k710("ledger", *arguments)
    assert result.exit_code == 2
    assert text in result.stderr


def test_a_fetch_with_a_ledger_needs_youtube(k710, manifest, tmp_path):
    result = k710("fetch", manifest, "--from", "cvdf", "--ledger", tmp_path / "l.parquet", "--dry-run")
    assert result.exit_code == 2
    assert "it needs the origin youtube" in result.stderr


def test_a_read_only_store_takes_a_number_of_ones_own(k710, manifest, tmp_path, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(ledger_of_store, "replacing", refuse)
    refused = k710("ledger", "export", manifest, "--out", tmp_path / "l.parquet")
    assert refused.exit_code == 1
    assert "--witness takes 16 hexadecimal digits" in refused.stderr
    export(k710, manifest, tmp_path / "l.parquet", "--witness", ONE)


def test_a_damaged_number_of_a_store_is_named(k710, manifest, tmp_path):
    (manifest / "store" / "witness").write_text("me\n")
    result = k710("ledger", "export", manifest, "--out", tmp_path / "l.parquet")
    assert result.exit_code == 1
    assert "'me': want 16 hexadecimal digits" in result.stderr
