"""A union of a release with a user's own lists, from its file to a trained model: everything works by its name.

K400 and `kitchen` are its members; `bench` stands beside it and its val is held out. One K400 train video shows what a
val video of the kitchen shows, and one what a video of the bench shows.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from k710.doubts.find import find_doubts
from k710.evaluation.files import read_predictions
from k710.export.card import card
from k710.export.croissant import manifest_croissant
from k710.export.stated import Stated
from k710.lists.labels import class_names
from k710.loading.dataset import open_dataset
from k710.loading.stream import open_stream
from k710.manifest.read import open_manifest
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.sample.copies import COPIES, Copy
from k710.sample.footage import write_video
from k710.sample.textures import textured_frames
from tests.compare.test_compare import of_k710
from tests.helpers.checkpoints import uniformerv2
from tests.helpers.planted_copies import LOOK
from tests.helpers.union_lists import write_union

SECONDS = 4
K400 = {
    # ID: split, label, what it shows, how
    "copy-00-abc": ("train", "archery", "oven", Copy()),
    "copy-01-abc": ("train", "abseiling", "bench video", COPIES["encoded anew, crf 32"]),
    "stranger-00": ("train", "abseiling", "stranger 0", Copy()),
    "stranger-01": ("train", "archery", "stranger 1", Copy()),
    "held-out-00": ("val", "archery", "held out", Copy()),
}
KITCHEN = {
    "cam_01": ("train", "cutting", "knife"),
    "cam_02": ("train", "archery", "arrow"),
    "cam_07": ("val", "cutting", "oven"),
}
BENCH = {"lab_1": ("val", "task", "bench video")}
UNION = """
name: mix
title: Kitchen & K400
members: [k400, kitchen: kitchen/source.yaml]
beside: [bench: bench.csv]
synonyms: names.csv
holdout: {bench: val}
"""
NAMES = "member,name,label,new\nkitchen,archery,archery,\nkitchen,cutting,cutting food,yes\n"


def write_clip(path: Path, shows: str, copy: Copy = Copy()) -> None:  # noqa: B008
    path.parent.mkdir(parents=True, exist_ok=True)
    look = copy.look(LOOK)
    frames = itertools.islice(textured_frames(shows, SECONDS * LOOK.fps, LOOK), None)
    write_video(path, copy.frames(frames, look), look)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    for split in ("train", "val"):
        rows = [f"{label},{name},0,{SECONDS},{split}" for name, (of, label, *_) in K400.items() if of == split]
        (folder / f"k400_{split}.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]))
    for name, (_, _, shows, copy) in K400.items():
        write_clip(folder / "clips" / f"{name}_000000_{SECONDS:06d}.mp4", shows, copy)
    (folder / "kitchen").mkdir()
    for path, rows in ((folder / "kitchen" / "list.csv", KITCHEN), (folder / "bench.csv", BENCH)):
        lines = [f"{name},{label},{split}" for name, (split, label, _) in rows.items()]
        path.write_text("\n".join(["id,label,split", *lines]))
        for name, (_, _, shows) in rows.items():
            write_clip(folder / "clips" / f"{name}.mp4", shows)
    (folder / "kitchen" / "source.yaml").write_text("title: Our kitchen\nlists: list.csv\ncolour: '#446688'\n")
    write_union(folder, UNION, names__csv=NAMES)
    return folder


@pytest.fixture(scope="module")
def built(folder, k710):
    result = k710("build", "--union", folder / "union.yaml", "--annotations", folder, "--out", folder / "m")
    assert result.exit_code == 0, result.output
    assert "Kitchen & K400: 6 train and 2 val clips of 3 of its 401 classes" in result.stdout
    return open_manifest(folder / "m")


@pytest.fixture(scope="module")
def fetched(built, folder, k710):
    result = k710("fetch", built.path, "--from", f"local:{folder / 'clips'}", "--splits", "train,val")
    assert result.exit_code == 0, result.output
    return built


def test_what_the_manifest_says_of_it(built):
    union = built.catalogue.union
    assert (union.name, union.title, union.members) == ("mix", "Kitchen & K400", ("k400", "kitchen"))
    assert built.catalogue.views == ("mix", "k400", "k600", "k700", "k700_2020", "kitchen", "bench")
    assert len(built.labels) == 401
    assert "cutting food" in built.labels
    assert built.about["synonyms"] == {}
    assert [one["file"] for one in built.about["union_files"]] == ["union.yaml", "names.csv"]
    built.verify()


def test_its_view_is_the_default_and_its_indices_are_its_own(fetched, k710, tmp_path):
    dataset = open_dataset(fetched)
    assert (dataset.view, len(dataset), dataset.labels) == ("mix", 6, fetched.labels)
    assert {dataset.labels[n] for n in dataset.index.class_ids} == {"abseiling", "archery", "cutting food"}
    of_member = open_dataset(fetched, view="kitchen")
    assert of_member.labels == ("archery", "cutting")
    with pytest.raises(ValueError, match="unknown view 'k710'; known: mix, k400"):
        open_dataset(fetched, view="k710")
    lines = json.loads(k710("status", fetched.path, "--json").stdout)["h264"]
    assert {(line["view"], line["split"]): line["fetched"] for line in lines}["mix", "train"] == 6
    packed = k710("pack", fetched.path, "--out", tmp_path / "shards")
    assert packed.exit_code == 0, packed.output
    assert open_stream(fetched, tmp_path / "shards").labels == fetched.labels
    sheet = k710("show", fetched.path, "--clips", 2, "--frames", 2, "--out", tmp_path / "sheet.png")
    assert sheet.exit_code == 0, sheet.output


def test_it_is_exported_with_its_own_indices(built, k710, tmp_path):
    for form in ("slowfast", "parquet", "hf", "fiftyone"):
        result = k710("export", built.path, "--format", form, "--out", tmp_path / form)
        assert result.exit_code == 0, result.output
    lines = (tmp_path / "slowfast" / "train.csv").read_text().splitlines()
    assert f"kitchen~cam_01.mp4 {built.labels.index('cutting food')}" in lines
    result = k710("export", built.path, "--format", "slowfast", "--dialect", "uniformerv2", "--out", tmp_path / "no")
    assert result.exit_code == 2
    assert "the classes of mix have one order, canonical" in result.stderr


def test_explain_card_stats_and_diff_say_its_name(built, folder, k710, tmp_path):
    told = k710("explain", "--manifest", built.path, "cam_07").stdout
    assert "  Kitchen & K400: in val as 'cutting food'" in told
    told = k710("explain", "--manifest", built.path, "lab_1").stdout
    assert "the classes of this source are none of Kitchen & K400's" in told
    text = card(built)
    assert "pretty_name: Kitchen & K400" in text
    assert "# Kitchen &amp; K400" in text
    assert "k710 build --union mix.yaml --annotations LISTS" in text
    assert "holdout val, and val of bench" in text
    assert "K710" not in text
    assert "Kinetics-710" not in text
    croissant = manifest_croissant(built, Stated())
    about = json.loads(croissant)
    assert about["name"] == "Kitchen & K400"
    assert "classes-mix" in {one["@id"] for one in about["recordSet"]}
    assert "and val of bench" in croissant
    assert "K710" not in croissant.replace("K710_", "")
    assert "Kinetics-710" not in croissant
    figures = json.loads(k710("stats", built.path, "--json").stdout)
    assert figures["classes"]["splits"][:2] == ["Kitchen & K400 train", "Kitchen & K400 val"]
    assert figures["manifest"]["union"]["members"] == ["k400", "kitchen"]
    assert figures["attrition"]["why_it_differs"] == (
        "This is a union of one's own, so there are no printed counts to compare with."
    )
    other = k710("build", "--annotations", folder, "--sources", "k400", "--out", tmp_path / "alone")
    assert other.exit_code == 0, other.output
    same = k710("diff", built.path, tmp_path / "alone", "--view", "k400")
    assert "No clip differs in view k400" in same.stdout
    assert "union's names.csv" in same.stdout
    refused = k710("diff", built.path, tmp_path / "alone")
    assert refused.exit_code == 2
    assert f"{tmp_path / 'alone'}: unknown view 'mix'; known: k710, k400" in refused.stderr


def test_near_duplicates_know_what_it_holds_out_and_apply_keeps_it(fetched, folder, k710, tmp_path):
    found = k710("near-duplicates", fetched.path, "--workers", 1, "--json")
    assert found.exit_code == 0, found.output
    pairs = json.loads(found.stdout)["pairs"]
    drops = {pair["drop_clip_id"]: {pair["clip_id"], pair["other_clip_id"]} for pair in pairs if pair["drop_clip_id"]}
    oven, bench = f"copy-00-abc_000000_{SECONDS:06d}", f"copy-01-abc_000000_{SECONDS:06d}"
    assert drops == {oven: {oven, "kitchen~cam_07"}, bench: {bench, "bench~lab_1"}}
    refused = k710("near-duplicates", fetched.path, "--view", "k400", "--apply")
    assert "--apply changes only view mix; view k400 stays as published" in refused.stderr
    applied = k710("near-duplicates", fetched.path, "--workers", 1, "--apply")
    assert applied.exit_code == 0, applied.output
    after = open_manifest(fetched.path)
    assert after.catalogue.union == fetched.catalogue.union
    kept = {row["clip_id"]: row["split"] for row in after.clips.to_pylist()}
    assert (kept[oven], kept[bench], kept["kitchen~cam_07"], kept["bench~lab_1"]) == (None, None, "val", None)
    assert sum(split == "train" for split in kept.values()) == 4
    assert (fetched.path / "classes.txt").read_text().splitlines() == list(after.labels)
    told = k710("explain", "--manifest", fetched.path, "copy-01-abc").stdout
    assert "its pictures repeat bench~lab_1, which is held out (bench val)" in told
    # As it was, for the tests beside this one.
    again = ("build", "--union", folder / "union.yaml", "--annotations", folder, "--out", folder / "m", "--force")
    assert k710(*again).exit_code == 0
    assert open_manifest(fetched.path).content_hash == fetched.content_hash


def test_another_build_in_its_place_takes_the_classes_file_away(folder, k710, tmp_path):
    build = ("build", "--annotations", folder, "--out", tmp_path / "m")
    assert k710(*build, "--union", folder / "union.yaml").exit_code == 0
    assert (tmp_path / "m" / "classes.txt").exists()
    assert k710(*build, "--sources", "k400", "--force").exit_code == 0
    assert not (tmp_path / "m" / "classes.txt").exists()


def test_answers_in_the_classes_of_a_member_contradict_the_union_s_labels(built, tmp_path):
    """The indices of K400 are not the union's: every one is translated."""
    names = class_names("k400")
    zumba, archery = names.index("zumba"), names.index("archery")
    clip, other = (f"{name}_000000_{SECONDS:06d}" for name in ("held-out-00", "stranger-00"))
    # A class counts once the model is right of a clip that is labelled so.
    run = of_k710(tmp_path / "run.parquet", {clip: (zumba, archery), other: (zumba, zumba)})
    found = find_doubts(built, [(run, read_predictions(run))]).found
    (doubt,) = [one for one in found if "model" in one.kinds]
    assert (doubt.clip_id, doubt.label, doubt.suggested) == (clip, "archery", ("zumba",))


def test_a_head_of_a_release_is_brought_into_its_order(built, k710, tmp_path):
    """Rows are picked by class name; the one class that no release has is refused, or made on request."""
    torch.save(uniformerv2(400), tmp_path / "k400.pyth")
    remap = ("remap-head", tmp_path / "k400.pyth", "--dialect", "canonical", "--to", built.path / "classes.txt",
             "--out", tmp_path / "mix.pyth")  # fmt: skip
    refused = k710(*remap)
    assert (refused.exit_code, "cutting food" in refused.stderr) == (1, True)
    result = k710(*remap, "--new-rows", "mean")
    assert result.exit_code == 0, result.output
    rows = torch.load(tmp_path / "mix.pyth", weights_only=True)
    weight = next(tensor for name, tensor in _flat(rows) if tensor.ndim == 2 and len(tensor) == 401)
    before = next(tensor for name, tensor in _flat(uniformerv2(400)) if tensor.ndim == 2 and len(tensor) == 400)
    for name in ("abseiling", "zumba"):
        assert torch.equal(weight[built.labels.index(name)], before[class_names("k400").index(name)])


def _flat(state, prefix=""):
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value


@pytest.mark.slow  # a training and an evaluation, some 20 s
def test_it_is_trained_on_evaluated_and_reported(fetched, k710, tmp_path):
    words = [word for change in (
        "view=mix", "epochs=2", "warmup_epochs=1", "batch_size=4", "gpu_batch_size=4", "every_epochs=1"
    ) for word in ("--set", change)]  # fmt: skip
    run = tmp_path / "run"
    given = ("--recipe", "tiny-k710", "--manifest", fetched.path, "--workers", 0)
    refused = k710("train", *given, "--dry-run")
    assert refused.exit_code == 2
    assert "unknown view 'k710'; known: mix, k400" in refused.stderr
    result = k710("train", *given, *words, "--out", run)
    assert result.exit_code == 0, result.output
    head = open_checkpoint(run / "best.pt").payload["head"]
    assert (head["label_set"], head["labels"]) == ("mix", list(fetched.labels))
    evaluate = ("eval", "--checkpoint", run / "best.pt", "--manifest", fetched.path, "--split", "val", "--json")
    for view in ("mix", "k400"):  # rows are picked by class name
        evaluated = k710(*evaluate, "--view", view)
        assert evaluated.exit_code == 0, evaluated.output
    mapped = k710("remap-head", run / "best.pt", "--to", fetched.path / "classes.txt", "--out", tmp_path / "same.pt")
    assert mapped.exit_code == 0, mapped.output
    kept = k710("predict", "--checkpoint", run / "best.pt", "--manifest", fetched.path, "--clips", 1, "--crops", 1,
                "--logits", tmp_path / "kept.parquet")  # fmt: skip
    assert kept.exit_code == 0, kept.output
    report = k710("report", fetched.path, "--runs", run, "--out", tmp_path / "report.html")
    assert report.exit_code == 0, report.output
    page = (tmp_path / "report.html").read_text()
    assert "Report of a Kitchen &amp; K400 manifest" in page
    assert "#446688" in page
    assert "Classes of bench, which are none of" in page
