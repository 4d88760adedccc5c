"""A source that k710 does not know, beside Kinetics: IDs of another form, spans with fractions, classes of its own.

It is built, fetched from a folder, loaded, trained on, evaluated and reported like a release, and Kinetics-710 is the
same with it as without it.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from k710.curation.overlap import lists_in
from k710.loading.dataset import open_dataset
from k710.loading.stream import open_stream
from k710.manifest.read import open_manifest
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.sources.own import as_plain, from_plain
from k710.sources.source import FRACTIONAL, STEM
from tests.helpers.tiny_media import clip_file, numbers, write_lists
from tests.helpers.tiny_media import fetched as fetched_bytes

CLASSES = ("back flip", "hand stand", "spin kick")
KINETICS = {
    ("k400", "train"): [("AAAAAAAAAAA", 0, 2), ("BBBBBBBBBBB", 1, 3), ("CCCCCCCCCCC", 5, 7)],
    ("k400", "val"): [("CCCCCCCCCCC", 2, 4)],
}
SPEC = """
title: Stunts-3
lists: list.csv
licence: In the public domain.
colour: '#446688'
"""


def file_name(number: int) -> str:
    return f"v_{CLASSES[number % 3].title().replace(' ', '')}_g{number:02d}"


@pytest.fixture(scope="module")
def stunts(tmp_path_factory):
    """Lists and files of the source: 10 train and 3 val clips of 2.5 s of videos of 4 s; one video has two clips."""
    folder = tmp_path_factory.mktemp("stunts")
    rows = [(file_name(n), CLASSES[n % 3], 1.25, 3.75, "validation" if n > 9 else "train") for n in range(1, 13)]
    rows.append((file_name(3), CLASSES[0], 0, 1.5, "train"))
    lines = ["id,label,start,end,split", *(",".join(map(str, row)) for row in rows)]
    (folder / "list.csv").write_text("\n".join(lines))
    (folder / "source.yaml").write_text(SPEC)
    for number in range(1, 13):
        clip_file(folder / "videos" / f"{file_name(number)}.mp4", seconds=4)
    for clip in ("AAAAAAAAAAA_000000_000002", "BBBBBBBBBBB_000001_000003", "CCCCCCCCCCC_000002_000004"):
        clip_file(folder / "kinetics" / f"{clip}.mp4")
    write_lists(folder / "lists", KINETICS)
    return folder


@pytest.fixture(scope="module")
def built(stunts, k710):
    result = k710(
        "build", "--sources", f"k400,stunts={stunts}", "--annotations", stunts / "lists", "--out", stunts / "m",
        "--fates", stunts / "fates.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return open_manifest(stunts / "m")


@pytest.fixture(scope="module")
def fetched(built, stunts, k710):
    result = k710("fetch", built.path, "--from", f"local:{stunts / 'videos'},local:{stunts / 'kinetics'}")
    assert result.exit_code == 0, result.output
    return built


def test_what_the_manifest_says_of_it(built):
    source = built.catalogue["stunts"]
    assert (source.title, source.ids, source.spans, source.classes) == ("Stunts-3", STEM, FRACTIONAL, CLASSES)
    assert not built.catalogue.in_union("stunts")
    assert from_plain(json.loads(json.dumps(as_plain(source))), 710) == source
    assert built.about["schema_version"] == "3.0", "a k710 that knows no such manifest must not read it"
    assert built.sources == ("k400", "stunts")
    assert built.clips.schema.field("time_start_s").type == pa.float64()
    assert built.clips.column_names[-2:] == ["stunts_split", "stunts_class_id"]
    built.verify()


def test_its_clips_are_named_by_source_id_and_milliseconds(built):
    own = built.clips.filter(pc.is_valid(built.clips["stunts_split"])).to_pylist()
    assert len(own) == 13
    assert [clip["clip_id"] for clip in own[1:3]] == [
        "stunts~v_BackFlip_g03_000001250_000003750",
        "stunts~v_BackFlip_g06_000001250_000003750",
    ]
    assert own[0]["clip_id"] == "stunts~v_BackFlip_g03_000000000_000001500"
    assert {clip["drop_reason"] for clip in own} == {"other_classes"}
    assert {CLASSES[clip["stunts_class_id"]] for clip in own} == set(CLASSES)
    assert {clip["split"] for clip in own} == {None}


def test_every_row_has_a_fate_and_kinetics_is_as_without_it(built, stunts, k710):
    counts = built.about["counts"]
    assert counts["fates"]["other_classes"] == 13
    assert sum(counts["fates"].values()) == counts["rows"] == 17
    fates = [line.split(",") for line in (stunts / "fates.csv").read_text().splitlines()[1:]]
    assert sorted({(fate[0].strip('"'), fate[5].strip('"')) for fate in fates}) == [
        ("k400", "kept"), ("k400", "leaked"), ("stunts", "other_classes"),
    ]  # fmt: skip
    alone = stunts / "alone"
    assert k710("build", "--sources", "k400", "--annotations", stunts / "lists", "--out", alone).exit_code == 0
    columns = ["clip_id", "label", "class_id", "split", "drop_reason", "kept_clip_id", "k400_split", "k400_class_id"]
    of_k400 = built.clips.filter(pc.is_valid(built.clips["k400_split"])).select(columns)
    assert of_k400.to_pylist() == open_manifest(alone).clips.select(columns).to_pylist()


def test_lists_of_all_sources_are_compared(built, k710):
    assert len(lists_in(built.clips)) == 15
    found = json.loads(k710("audit", built.path, "--json").stdout)
    assert found["lists"] == ["k400 train", "k400 val", "stunts train", "stunts val"]
    assert [found["overlap"]["by_clip"][n][n] for n in range(4)] == [3, 1, 10, 3]
    assert found["overlap"]["by_id"][0][1] == 1
    assert found["policies"]["train-purge"]["leaks"] == {"k400 val": 0, "stunts val": 0}


def test_explain_knows_its_ids(built, k710):
    for name in ("v_BackFlip_g03", "stunts~v_BackFlip_g03", "v_BackFlip_g03.mp4"):
        result = k710("explain", "--manifest", built.path, name)
        assert result.exit_code == 0, result.output
        assert "Stunts-3 train: 'back flip' (class 0)" in result.stdout
        assert "from 0 s to 1.5 s" in result.stdout
    result = k710("explain", "--manifest", built.path, "v_Nobody_g01")
    assert (result.exit_code, "or an ID of Stunts-3" in result.stderr) == (2, True)


def test_it_is_fetched_from_a_folder_and_cut_to_the_millisecond(fetched, k710, tmp_path):
    result = k710("status", fetched.path, "--json")
    counts = {(line["view"], line["split"]): line["fetched"] for line in json.loads(result.stdout)["h264"]}
    assert counts["stunts", "train"] == 10
    assert counts["stunts", "val"] == 3
    dataset = open_dataset(fetched, view="stunts")
    assert dataset.labels == CLASSES
    assert dataset[0].clip_id == "stunts~v_BackFlip_g03_000000000_000001500"
    exported = k710("export", fetched.path, "--view", "stunts", "--format", "slowfast", "--out", tmp_path / "lists")
    assert exported.exit_code == 0, exported.output
    first = (tmp_path / "lists" / "val.csv").read_text().splitlines()[0]
    assert first == "stunts~v_BackFlip_g12_000001250_000003750.mp4 0"
    packed = k710("pack", fetched.path, "--view", "stunts", "--out", tmp_path / "shards")
    assert packed.exit_code == 0, packed.output
    stream = open_stream(fetched, tmp_path / "shards")
    assert stream.labels == CLASSES
    assert sum(stream.shards.values()) == 10


def test_its_clips_load_from_a_plain_folder_too(built, stunts):
    dataset = open_dataset(built, view="stunts", split="val", folder=stunts / "videos")
    assert sorted(dataset.index[n].clip_id for n in range(len(dataset))) == [
        f"stunts~{name}_000001250_000003750" for name in sorted(map(file_name, (10, 11, 12)))
    ]


def test_the_span_is_cut_out_of_the_video(fetched):
    frames = numbers(fetched_bytes(fetched.path / "store")["stunts~v_HandStand_g01_000001250_000003750"])
    assert frames[0] in (12, 13)
    assert len(frames) == 25


@pytest.mark.slow  # a training and an evaluation, some 15 s
def test_it_is_trained_on_evaluated_and_reported_beside_kinetics(fetched, k710, tmp_path):
    changes = ["view=stunts", "epochs=2", "warmup_epochs=1", "batch_size=5", "gpu_batch_size=5", "every_epochs=1"]
    words = [word for change in changes for word in ("--set", change)]
    run = tmp_path / "run"
    given = ("--recipe", "tiny-k710", "--manifest", fetched.path, "--workers", 0, *words)
    dry = k710("train", *given, "--dry-run")
    assert dry.exit_code == 0, dry.output
    result = k710("train", *given, "--out", run)
    assert result.exit_code == 0, result.output
    assert open_checkpoint(run / "best.pt").payload["head"]["labels"] == list(CLASSES)
    evaluated = k710("eval", "--checkpoint", run / "best.pt", "--manifest", fetched.path, "--view", "stunts",
                     "--split", "val", "--json")  # fmt: skip
    assert evaluated.exit_code == 0, evaluated.output
    found = json.loads(evaluated.stdout)
    assert sum(found["counts"].values()) >= 3
    # Its answers can be kept, and it can teach, itself or by them.
    view = ("--manifest", fetched.path, "--view", "stunts", "--split", "train")
    kept = k710("predict", "--checkpoint", run / "best.pt", *view, "--clips", 1, "--crops", 1,
                "--logits", tmp_path / "kept.parquet")  # fmt: skip
    assert kept.exit_code == 0, kept.output
    for teacher in (run / "best.pt", tmp_path / "kept.parquet"):
        lessons = k710("train", "--recipe", "tiny-videomae-distill", *given[2:], "--set", "mixup_alpha=0", "--set",
                       "cutmix_alpha=0", "--set", "num_repeats=1", "--teacher", teacher, "--dry-run")  # fmt: skip
        assert lessons.exit_code == 0, lessons.output
        assert "the teacher" in lessons.output
    report = k710("report", fetched.path, "--runs", run, "--out", tmp_path / "report.html")
    assert report.exit_code == 0, report.output
    page = (tmp_path / "report.html").read_text()
    assert "#446688" in page
    assert "Classes of Stunts-3" in page
    card = k710("card", fetched.path, "--out", tmp_path / "card.md")
    assert card.exit_code == 0, card.output
    text = (tmp_path / "card.md").read_text()
    assert "Stunts-3: In the public domain." in text
    assert "k400,stunts=PATH" in text
