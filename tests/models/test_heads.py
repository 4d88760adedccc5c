"""Heads by class name: every pair of label sets and dialects, what is inferred, what is refused, and why."""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import CheckpointError, K710Error, LabelError, UsageError
from k710.lists.labels import DIALECTS, class_names, label_list_sha256, row_map
from k710.models.checkpoints.checkpoint import open_checkpoint, sidecar
from k710.models.describe import describe
from k710.models.heads.head_labels import Labels, labels_of_set, read_label_file, source_labels
from k710.models.heads.heads import find_head
from k710.models.heads.remap import Remap, Rows, Source, fill, find_rows, mapping, new_head, plan_remap
from k710.models.heads.remap_write import default_out, write_remap
from tests.helpers.checkpoints import FORMS, ROWS, WIDTH, adam_state, huggingface, own, training, uniformerv2, with_head

SETS = tuple(ROWS)


def first_column(path: Path) -> list[float]:
    """What stands in each row of a checkpoint's head; its bias must say the same."""
    checkpoint = open_checkpoint(path)
    head = find_head(checkpoint)
    weight = checkpoint.tensor(head.weight)
    assert head.bias
    assert torch.equal(weight, checkpoint.tensor(head.bias)[:, None].expand_as(weight))
    return weight[:, 0].tolist()


@functools.cache
def wanted_rows(source: str, target: str, dialect: str, to_dialect: str) -> tuple[Labels, Rows]:
    """The target's labels, and the rows that the label maps themselves say."""
    rows = row_map(source, target, source_dialect=dialect, target_dialect=to_dialect)
    return labels_of_set(target, to_dialect), tuple(() if row is None else ((0, row),) for row in rows)


@functools.cache
def wanted_values(source: str, target: str, dialect: str, to_dialect: str) -> torch.Tensor:
    rows = row_map(source, target, source_dialect=dialect, target_dialect=to_dialect)
    return torch.tensor([float(row or 0) for row in rows])


def plan(path: Path, **options: object) -> Remap:
    return plan_remap([path], **options)  # type: ignore[arg-type]


def write_bare(folder: Path, rows: int, name: str = "weights.pyth") -> Path:
    path = folder / name
    torch.save(uniformerv2(rows), path)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.slow
def test_rows_follow_their_classes_between_all_label_sets_and_dialects(form: str, tmp_path: Path):
    write, name, _ = FORMS[form]
    orders = list(itertools.product(DIALECTS, DIALECTS))
    for number, (source, target) in enumerate(itertools.product(SETS, SETS)):
        folder = tmp_path / f"{source}-{target}"
        folder.mkdir()
        path = write(folder, ROWS[source])
        checkpoint = open_checkpoint(path)
        checkpoint.record = None  # the head of k710's own form says its dialect itself
        head = find_head(checkpoint)
        for dialect, to_dialect in orders:
            labels, _ = source_labels(checkpoint, head, dialect=dialect)
            remap = Remap(
                (Source(checkpoint, head, labels, ()),), *wanted_rows(source, target, dialect, to_dialect), "zero"
            )
            assert find_rows([labels], remap.target) == remap.rows
            tensors = new_head(remap)
            expected = wanted_values(source, target, dialect, to_dialect)
            assert torch.equal(tensors[head.weight].float(), expected[:, None].expand(-1, WIDTH))
            assert torch.equal(tensors[f"{head.name}.bias"].float(), expected)
        if name != "k710":  # and one of the nine pairs of dialects through files
            dialect, to_dialect = orders[number % 9]
            remap = plan(path, to=target, dialects=[dialect], to_dialect=to_dialect, new_rows="zero")
            out, _ = write_remap(remap)
            assert first_column(out) == wanted_values(source, target, dialect, to_dialect).tolist()


@pytest.fixture(scope="module")
def published() -> Path:
    lists = os.environ.get("K710_TEST_LISTS")
    folder = Path(lists or ".").parent / "labels"
    if not lists or not folder.is_dir():
        pytest.skip("the published row lists do not stand beside K710_TEST_LISTS")
    return folder


@pytest.mark.parametrize("target", ["k400", "k600", "k700"])
def test_rows_are_those_of_the_published_row_lists(target: str, published: Path, tmp_path: Path):
    path = tmp_path / "vit.pth"
    FORMS["videomaev2 module"][0](tmp_path, 710).rename(path)
    out, _ = write_remap(plan(path, to=target, to_dialect="videomaev2"))
    assert first_column(out) == json.loads((published / f"rows_k710_to_{target}_opengvlab.json").read_text())


def test_uniformerv2_k400_heads_are_the_first_400_rows_as_they_stand(tmp_path: Path):
    out, _ = write_remap(plan(write_bare(tmp_path, 710), to="k400", to_dialect="uniformerv2"))
    assert first_column(out) == list(range(400))


def test_the_published_name_file_is_recognised_and_not_believed(published: Path, tmp_path: Path):
    names = (published / "k710_opengvlab_published.txt").read_text().splitlines()
    folder = huggingface(tmp_path, 710, labels=tuple(names))
    remap = plan(folder, to="k600", to_dialect="videomaev2")
    assert remap.sources[0].labels == labels_of_set("k710", "videomaev2")
    (said,) = remap.sources[0].messages
    assert "309 of 710" in said
    assert "6 provably" in said
    assert "row 708 is 'chopping vegetables'" in said
    out, _ = write_remap(remap)
    assert first_column(out) == json.loads((published / "rows_k710_to_k600_opengvlab.json").read_text())


def test_names_that_follow_a_published_order_with_unprovable_errors_are_not_settled(tmp_path: Path):
    names = list(class_names("k600", "uniformerv2"))
    shared = [row for row, name in enumerate(names) if name in class_names("k400") and name in class_names("k700")]
    names[shared[0]], names[shared[1]] = names[shared[1]], names[shared[0]]
    folder = huggingface(tmp_path, 600, labels=tuple(names))
    with pytest.raises(CheckpointError, match="but for 2 of 600 rows, and either may be wrong"):
        plan(folder, to="k400", new_rows="zero")
    assert plan(folder, to="k400", dialects=["uniformerv2"], new_rows="zero").sources[0].labels.dialect == "uniformerv2"


@pytest.mark.parametrize(("label_set", "dialect"), [*itertools.product(SETS, DIALECTS)])
def test_class_names_in_a_file_tell_label_set_and_dialect(label_set: str, dialect: str, tmp_path: Path):
    folder = huggingface(tmp_path, ROWS[label_set], labels=class_names(label_set, dialect))
    labels = plan(folder, to=label_set).sources[0].labels
    assert labels.keys == labels_of_set(label_set, dialect).keys
    assert labels.label_set == label_set


def test_names_in_an_order_of_their_own_are_believed(tmp_path: Path):
    names = tuple(reversed(class_names("k400")))
    remap = plan(huggingface(tmp_path, 400, labels=names), to="k400")
    assert remap.sources[0].labels.dialect == "own order"
    assert [origins[0][1] for origins in remap.rows] == list(range(399, -1, -1))


def test_two_dialects_of_one_model_name_the_same_classes(tmp_path: Path):
    """The same weights in two index orders, remapped to one order, answer the same for the same input."""
    generator = torch.Generator().manual_seed(3)
    weight, features = torch.randn(710, WIDTH, generator=generator), torch.randn(50, WIDTH, generator=generator)
    answers = []
    for number, dialect in enumerate(("canonical", "uniformerv2")):
        order = row_map("k710", "k710", target_dialect=dialect)
        state = uniformerv2(710)
        state["backbone.transformer.proj.2.weight"] = weight[list(order)]  # type: ignore[arg-type]
        state["backbone.transformer.proj.2.bias"] = weight[list(order), 0]  # type: ignore[arg-type]
        path = tmp_path / f"{number}.pyth"
        torch.save(state, path)
        for target in ("k710", "k400", "k700"):
            out, _ = write_remap(plan(path, to=target, dialects=[dialect]))
            new = torch.load(out, weights_only=True)
            key = "backbone.transformer.proj.2"
            best = (features @ new[f"{key}.weight"].T + new[f"{key}.bias"]).argmax(1).tolist()
            answers.append((target, [class_names(target)[row] for row in best]))
    assert answers[:3] == answers[3:]


@pytest.mark.parametrize(("there", "back"), [*itertools.permutations(DIALECTS, 2)])
def test_there_and_back_is_the_same_head(there: str, back: str, tmp_path: Path):
    path = write_bare(tmp_path, 700)
    out, _ = write_remap(plan(path, to="k700", dialects=[back], to_dialect=there))
    again, _ = write_remap(plan(out, to="k700", to_dialect=back, again=True))
    assert first_column(again) == list(range(700))


def test_k400_into_k710_and_back(tmp_path: Path):
    path = write_bare(tmp_path, 400)
    out, _ = write_remap(plan(path, to="k710", new_rows="mean"))
    assert first_column(out)[-1] == pytest.approx(sum(range(400)) / 400)  # only in K600: a new row
    again, _ = write_remap(plan(out, to="k400", to_dialect="uniformerv2", again=True))
    assert first_column(again) == list(range(400))


def test_three_heads_make_one_of_710_classes_averaged_where_they_meet(tmp_path: Path):
    paths = [write_bare(tmp_path, ROWS[name], f"{name}.pyth") for name in ("k400", "k600", "k700")]
    remap = plan_remap(paths, to="k710", dialects=["canonical"])
    out, _ = write_remap(remap, tmp_path / "k710.pyth")
    values = dict(zip(class_names("k710"), first_column(out), strict=True))
    rows = {name: {label: row for row, label in enumerate(class_names(name))} for name in ("k400", "k600", "k700")}
    assert values["abseiling"] == 0
    assert values["vault"] == rows["k400"]["vault"]
    assert values["chopping vegetables"] == rows["k600"]["chopping vegetables"]
    assert values["zumba"] == torch.tensor((399 + 599 + 699) / 3).item()
    meeting = rows["k400"]["picking fruit"], rows["k600"]["picking fruit"], rows["k700"]["picking apples"]
    assert values["picking apples"] == torch.tensor(sum(meeting) / 3).item()
    record = open_checkpoint(out).record
    assert record
    assert [source["label_set"] for source in record["remapped_from"]] == ["k400", "k600", "k700"]


def test_heads_of_other_models_cannot_be_combined(tmp_path: Path):
    first = write_bare(tmp_path, 400)
    wider = tmp_path / "wider.pyth"
    state = uniformerv2(600)
    state["backbone.transformer.proj.2.weight"] = torch.zeros(600, WIDTH + 1)
    torch.save(state, wider)
    with pytest.raises(CheckpointError, match="width 5, not 4"):
        plan_remap([first, wider], to="k710", new_rows="zero")
    torch.save(uniformerv2(600, dtype=torch.float16), wider)
    with pytest.raises(CheckpointError, match="dtype float16, not float32"):
        plan_remap([first, wider], to="k710", new_rows="zero")
    with pytest.raises(UsageError, match="--from stands 3 times for 2 checkpoints"):
        plan_remap([first, wider], to="k710", label_sets=["k400", "k600", "k700"])


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (401, {}, "one of your own, or a background class"),
        (401, {"label_sets": ["k710"]}, "has 401 rows, and k710 has 710 classes"),
        (400, {"label_sets": ["k710"]}, "a head of k400: say --from k400, or leave --from out"),
        (174, {}, "Something-Something"),
        (174, {"label_sets": ["k400"]}, "Something-Something"),
        (399, {}, "k400 without 1 class: labels that were counted from a list"),
        (705, {}, "k710 without 5 classes"),
        (602, {}, "600 Kinetics classes and 2 of your own"),
        (512, {}, "CLIP's projection"),
        (768, {"label_sets": ["k710"]}, "CLIP's projection"),
        (333, {}, "--from LABELFILE"),
    ],
)
def test_a_wrong_number_of_rows_is_refused_with_its_likely_cause(rows: int, options: dict, said: str, tmp_path: Path):
    path = write_bare(tmp_path, rows)
    with pytest.raises(CheckpointError) as caught:
        plan(path, to="k400", **options)
    assert said in str(caught.value)
    assert f"{rows} rows" in str(caught.value)


def test_classes_that_the_source_lacks_need_leave(tmp_path: Path):
    path = write_bare(tmp_path, 400)
    with pytest.raises(CheckpointError, match=r"200|218 of the 600 classes of k600 are not in k400"):
        plan(path, to="k600")
    out, _ = write_remap(plan(path, to="k600", new_rows="zero", dialects=["canonical"]))
    wanted = row_map("k400", "k600")
    assert first_column(out) == [row or 0.0 for row in wanted]
    assert wanted.count(None) == 600 - 382
    with pytest.raises(UsageError, match="unknown way"):
        plan(path, to="k600", new_rows="random")


def test_nothing_tells_the_order_of_an_unknown_form(tmp_path: Path):
    path = tmp_path / "own.pth"
    torch.save({"state_dict": with_head({}, "classes", 600)}, path)
    with pytest.raises(CheckpointError, match=r"say it with --dialect canonical\|uniformerv2\|videomaev2"):
        plan(path, to="k400")
    with pytest.raises(UsageError, match="unknown dialect 'alphabetical'"):
        plan(path, to="k400", dialects=["alphabetical"])
    with pytest.raises(UsageError, match="unknown dialect"):
        plan(path, to="k400", dialects=["canonical"], to_dialect="x")


@pytest.mark.parametrize("form", FORMS)
def test_a_second_remap_is_refused_with_the_reason(form: str, tmp_path: Path):
    write, name, dialect = FORMS[form]
    path = write(tmp_path, 710)
    out, _ = write_remap(plan(path, to="k400", dialects=() if dialect or name == "k710" else ["videomaev2"]))
    with pytest.raises(CheckpointError, match=r"remapped already.*k400 \(canonical\).*k710"):
        plan(out, to="k400", label_sets=["k710"])
    record = open_checkpoint(out).record
    assert record
    assert record["labels"] == list(class_names("k400"))
    assert record["label_sha256"] == label_list_sha256(class_names("k400"))
    (source,) = record["remapped_from"]
    assert source["label_set"] == "k710"
    assert source["dialect"] == (dialect or ("canonical" if name == "k710" else "videomaev2"))
    assert source["sha256"] == open_checkpoint(path).sha256()
    again = plan(out, to="k600", new_rows="zero", again=True)
    assert again.sources[0].labels == labels_of_set("k400", "canonical")
    with pytest.raises(CheckpointError, match="its record says that the head is k400"):
        plan(out, to="k400", label_sets=["k710"], again=True)


def test_a_remapped_file_is_known_without_its_sidecar_where_it_has_room(tmp_path: Path):
    out, _ = write_remap(plan(write_bare(tmp_path, 710), to="k400"))
    sidecar(out).unlink()
    with pytest.raises(CheckpointError, match="remapped already"):
        plan(out, to="k400")


def test_a_sidecar_must_fit_its_file(tmp_path: Path):
    path = FORMS["videomaev2 bare"][0](tmp_path, 710)
    out, notes = write_remap(plan(path, to="k400"))
    assert sidecar(out).name == "vit.k400.pth.k710.json"
    assert any(sidecar(out).name in note for note in notes)
    out.write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="describes another file"):
        plan(out, to="k400")
    record = json.loads(sidecar(out).read_text())
    write_remap(plan(path, to="k400"), out, force=True)
    record["labels"][0] = "something else"
    record["file_sha256"] = json.loads(sidecar(out).read_text())["file_sha256"]
    sidecar(out).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="was edited"):
        plan(out, to="k400")


def test_a_record_must_fit_its_head(tmp_path: Path):
    path = own(tmp_path, 710)
    payload = torch.load(path, weights_only=True)
    payload["model"] = uniformerv2(600, prefix="")
    torch.save(payload, path)
    with pytest.raises(CheckpointError, match="has 600 rows"):
        plan(path, to="k400")
    for head in ({}, [], {"labels": ["a"]}, {"labels": ["a"], "label_sha256": label_list_sha256(["a"])}):
        torch.save({**payload, "head": head}, path)
        with pytest.raises(CheckpointError, match="its record of the head"):
            plan(path, to="k400")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"remapped_from": "k710.pyth"}, "remapped_from is no list of sources"),
        ({"remapped_from": [1]}, "remapped_from is no list of sources"),
        ({"remapped_from": [{"file": "k710.pyth"}]}, "remapped_from is no list of sources"),
        ({"labels": ["\ud800"] * 400}, "has no list of labels"),
    ],
)
def test_a_record_edited_by_hand_is_refused(change: dict, said: str, tmp_path: Path):
    out, _ = write_remap(plan(FORMS["videomaev2 bare"][0](tmp_path, 710), to="k400"))
    sidecar(out).write_text(json.dumps({**json.loads(sidecar(out).read_text()), **change}))
    with pytest.raises(CheckpointError, match=said):
        plan(out, to="k400")
    with pytest.raises(CheckpointError, match=said):
        describe(out)


def test_a_record_nested_without_end_is_no_json(tmp_path: Path):
    out, _ = write_remap(plan(FORMS["videomaev2 bare"][0](tmp_path, 710), to="k400"))
    sidecar(out).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"\.k710\.json: not JSON"):
        plan(out, to="k400")


def test_class_names_that_cannot_be_printed_are_no_names(tmp_path: Path):
    folder = huggingface(tmp_path, 710, labels=("\ud800", *class_names("k710")[1:]))
    assert describe(folder)["label_set"] is None


def test_a_file_of_names_is_a_target_and_a_source(tmp_path: Path):
    path = write_bare(tmp_path, 710)
    names = tmp_path / "mine.txt"
    names.write_text("zumba\nTying_Tie\n  smelling feet \n\n", encoding="utf-8")
    remap = plan(path, to=str(names))
    where = class_names("k710", "uniformerv2").index
    assert [origins[0][1] for origins in remap.rows] == [where("zumba"), where("tying necktie"), where("smelling feet")]
    out, _ = write_remap(remap)
    assert out.name == "weights.mine.pyth"
    assert plan(out, to="k400", new_rows="zero", again=True).sources[0].labels.names == (
        "zumba",
        "Tying_Tie",
        "smelling feet",
    )
    three = tmp_path / "three.pyth"
    torch.save(uniformerv2(3), three)
    back = plan(three, to="k400", label_sets=[str(names)], new_rows="zero", head="backbone.transformer.proj.2")
    assert back.rows[-1] == ((0, 0),)
    with pytest.raises(UsageError, match="a list has its own order"):
        plan(path, to=str(names), to_dialect="canonical")
    with pytest.raises(UsageError, match="a list has its own order"):
        plan(three, to="k400", label_sets=[str(names)], dialects=["canonical"])


def test_names_of_no_class_are_suggested_or_made_new(tmp_path: Path):
    path = write_bare(tmp_path, 710)
    names = tmp_path / "mine.txt"
    names.write_text("zumba\ntying neckty\nmy own class\n")
    with pytest.raises(LabelError, match="unknown label 'tying neckty'; nearest classes: 'tying necktie'"):
        plan(path, to=str(names))
    remap = plan(path, to=str(names), new_rows="zero")
    assert [len(origins) for origins in remap.rows] == [1, 0, 0]


def test_label_files(tmp_path: Path):
    path = tmp_path / "classes.csv"
    path.write_text("id,name\n1,zumba\n0,abseiling\n")
    assert read_label_file(path).names == ("abseiling", "zumba")
    path.write_text('label\n"throwing ball"\nzumba\n')
    assert read_label_file(path).names == ("throwing ball", "zumba")
    for text, said in [
        ("id,name\n1,zumba\n2,abseiling\n", "column id does not count"),
        ("id,name\nx,zumba\n", "column id does not count"),
        ("a,b\n1,2\n", "no column label, name or class; it has a, b"),
        ("", "no column"),
        (f'label\nzumba\n"{"a" * 200_000}"\n', "line 2: not CSV: field larger than field limit"),
    ]:
        path.write_text(text)
        with pytest.raises(LabelError, match=said):
            read_label_file(path)
    path = tmp_path / "classes.txt"
    for content, said in [
        (b"", "no class names"),
        (b"zumba\n\nabseiling\n", "name 2: '' is no class name"),
        (b"zumba\nZumba\n", "name 2: 'Zumba' stands at 1 already"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
    ]:
        path.write_bytes(content)
        with pytest.raises(LabelError, match=said):
            read_label_file(path)
    with pytest.raises(UsageError, match="neither a label set"):
        read_label_file(tmp_path / "k500")


def test_the_table_flags_joined_doubtful_and_new_rows(tmp_path: Path):
    path = write_bare(tmp_path, 710)
    table = mapping(plan(path, to="k400"))
    doubtful = [line["label"] for line in table if any("DOUBTFUL" in flag for flag in line["flags"])]
    assert sorted(doubtful) == ["drinking", "picking fruit", "skiing (not slalom or crosscountry)", "sniffing"]
    assert sum(bool(line["flags"]) for line in table) == 15  # every class in which two names meet
    names = tmp_path / "mine.txt"
    names.write_text("picking fruit\npicking apples\nmy own\n")
    table = mapping(plan(path, to=str(names), new_rows="mean"))
    assert [sum("used 2 times" in flag for flag in line["flags"]) for line in table] == [1, 1, 0]
    assert table[2]["flags"] == ["new row: mean"]
    assert not any(line["flags"] for line in mapping(plan(path, to="k710")))


def test_a_name_for_two_rows_of_a_source_averages_them(tmp_path: Path):
    names = ("picking fruit", "picking apples", "zumba")
    remap = plan(huggingface(tmp_path, 3, labels=names), to=str(_list(tmp_path, "picking apples")))
    out, _ = write_remap(remap)
    assert first_column(out) == [0.5]
    assert "many to one: mean of 2 rows" in mapping(remap)[0]["flags"]


def _list(folder: Path, *names: str) -> Path:
    path = folder / "list.txt"
    path.write_text("\n".join(names))
    return path


def test_optimizer_state_is_dropped_or_its_moments_picked_alike(tmp_path: Path):
    path = training(tmp_path, 710)
    remap = plan(path, to="k400")
    dropped, notes = write_remap(remap)
    payload = torch.load(dropped, weights_only=True)
    assert "optimizer_state" not in payload
    assert payload["scaler"] == {"scale": 65536.0}
    assert any("dropped" in note for note in notes)
    kept, _ = write_remap(remap, tmp_path / "kept.pyth", keep_optimizer=True)
    payload = torch.load(kept, weights_only=True)
    expected = adam_state(payload["model_state"])["state"]
    for number, slot in payload["optimizer_state"]["state"].items():
        assert {name: value.tolist() for name, value in slot.items()} == {
            name: value.tolist() for name, value in expected[number].items()
        }


def test_optimizer_state_that_cannot_be_kept_honestly_is_refused(tmp_path: Path):
    path = training(tmp_path, 400)
    for options, said in [
        ({"to": "k600", "new_rows": "zero"}, "some rows are new or averaged"),
        ({"to": "k400"}, None),
    ]:
        remap = plan(path, **options)
        if said:
            with pytest.raises(CheckpointError, match=said):
                write_remap(remap, keep_optimizer=True)
            assert not default_out(remap).exists()
    payload = torch.load(path, weights_only=True)
    payload["optimizer_state"]["state"][0]["exp_avg"] = torch.zeros(400, WIDTH)
    torch.save(payload, path)
    with pytest.raises(CheckpointError, match=r"2 parameters have the shape \[400, 4\]"):
        write_remap(plan(path, to="k400"), keep_optimizer=True)
    torch.save({**payload, "optimizer_state": [1]}, path)
    with pytest.raises(CheckpointError, match=r"not in the form of torch\.optim"):
        write_remap(plan(path, to="k400"), keep_optimizer=True)


def test_a_running_average_of_the_head_is_remapped_with_it(tmp_path: Path):
    path = tmp_path / "vit.pth"
    state = uniformerv2(710, prefix="")
    torch.save({"model": state, "model_ema": {f"module.{key}": value for key, value in state.items()}}, path)
    out, notes = write_remap(plan(path, to="k400"))
    payload = torch.load(out, weights_only=True)
    assert torch.equal(
        payload["model_ema"]["module.transformer.proj.2.bias"], payload["model"]["transformer.proj.2.bias"]
    )
    assert list(payload["model_ema"]) == [f"module.{key}" for key in payload["model"]]
    assert any("model_ema" in note for note in notes)
    both = plan_remap([path, write_bare(tmp_path, 600)], to="k400")
    with pytest.raises(CheckpointError, match="model_ema holds a second copy"):
        write_remap(both, tmp_path / "other.pth")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"decay": 0.999, "shadow": state},
        lambda state: {f"ema_model.{key}": tensor for key, tensor in state.items()},
        lambda state: [{"weights": state}],
    ],
    ids=["in an entry of its own", "under another prefix", "in a list"],
)
def test_a_running_average_is_found_wherever_it_stands(wrap: Callable[[dict], Any], tmp_path: Path):
    """One that is left with its 710 rows beside a head of 400 is what an evaluation of the average would use."""
    path = tmp_path / "x.pth"
    torch.save({"model_state": uniformerv2(710), "ema": wrap(dict(uniformerv2(710))), "other": {"lr": [1]}}, path)
    out, notes = write_remap(plan(path, to="k400"))
    payload = torch.load(out, weights_only=True)
    wanted = payload["model_state"]
    found = json.loads(json.dumps(payload["ema"], default=lambda tensor: tensor.tolist()))
    assert found == json.loads(json.dumps(wrap(dict(wanted)), default=lambda tensor: tensor.tolist()))
    assert payload["other"] == {"lr": [1]}
    assert "the copy of the head in ema is remapped too" in notes


def test_other_heads_that_stay_as_they_are_are_named(tmp_path: Path):
    state = uniformerv2(710, prefix="")
    copied = {f"ema.{key}": tensor for key, tensor in state.items() if key.startswith("transformer.proj.2")}
    torch.save({**state, **copied}, tmp_path / "x.pth")
    remap = plan(tmp_path / "x.pth", to="k400", head="transformer.proj.2")
    assert remap.sources[0].messages[-1] == "stays as it is, another head: ema.transformer.proj.2 (710 rows)"


def test_own_checkpoints_say_their_labels_and_keep_saying_them(tmp_path: Path):
    out, _ = write_remap(plan(own(tmp_path, 710), to="k400"))
    payload = torch.load(out, weights_only=True)
    assert payload["head"]["label_set"] == "k400"
    assert payload["k710_format"] == 1
    assert "k710" not in payload
    with pytest.raises(CheckpointError, match="its record says that the head is k710"):
        plan(own(tmp_path, 710), to="k400", dialects=["uniformerv2"])


classes = st.integers(0, 30)


@given(st.lists(st.lists(classes, max_size=12), min_size=1, max_size=3), st.lists(classes, max_size=12, unique=True))
def test_rows_are_found_for_exactly_the_classes_that_a_source_knows(sources: list[list[int]], target: list[int]):
    labelled = [Labels("own", "own order", tuple(map(str, keys)), tuple(keys)) for keys in sources]
    rows = find_rows(labelled, Labels("own", "own order", tuple(map(str, target)), tuple(target)))
    assert len(rows) == len(target)
    for key, origins in zip(target, rows, strict=True):
        assert set(origins) == {
            (n, row) for n, keys in enumerate(sources) for row, other in enumerate(keys) if other == key
        }


@given(st.data())
def test_filled_rows_are_copies_means_or_new(data: st.DataObject):
    heights = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    number = st.integers(0, len(heights) - 1)
    origin = number.flatmap(lambda source: st.tuples(st.just(source), st.integers(0, heights[source] - 1)))
    rows = tuple(
        tuple(origins) for origins in data.draw(st.lists(st.lists(origin, max_size=3), min_size=1, max_size=6))
    )
    new_rows = data.draw(st.sampled_from(["zero", "mean"]))
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(height, 3, generator=generator) for height in heights]
    filled = fill(rows, tensors, new_rows)
    for row, origins in enumerate(rows):
        if len(origins) == 1:
            assert torch.equal(filled[row], tensors[origins[0][0]][origins[0][1]])
        elif origins:
            mean = sum(tensors[source][old] for source, old in origins) / len(origins)
            assert torch.allclose(filled[row], mean, atol=1e-6)
        else:
            mean = torch.cat(tensors).mean(0) if new_rows == "mean" else torch.zeros(3)
            assert torch.allclose(filled[row], mean, atol=1e-6)


def test_copies_keep_even_the_bits_of_a_nan():
    odd = torch.tensor([0x7FC0BEEF, 0x3F800000], dtype=torch.int32).view(torch.float32)
    filled = fill((((0, 0),), ((0, 1),)), [odd])
    assert filled.view(torch.int32).tolist() == [0x7FC0BEEF, 0x3F800000]


@given(st.sampled_from(SETS), st.sampled_from(SETS), st.sampled_from(DIALECTS), st.sampled_from(DIALECTS))
def test_there_and_back_gives_every_shared_class_its_own_row(source: str, target: str, dialect: str, to_dialect: str):
    first, second = labels_of_set(source, dialect), labels_of_set(target, to_dialect)
    there, back = find_rows([first], second), find_rows([second], first)
    for row, origins in enumerate(back):
        assert not origins or there[origins[0][1]] == ((0, row),)


def test_all_errors_are_of_the_projects_kind():
    assert issubclass(CheckpointError, K710Error)
    assert CheckpointError("x").exit_code == 1
