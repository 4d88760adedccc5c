"""The order of a head from its rows: found through noise, drift and training, or refused, and never wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from k710.errors import CheckpointError
from k710.lists.labels import DIALECTS, k710_classes_of, row_map
from k710.models.compare_heads import compare_heads
from k710.models.heads.head_labels import labels_of_set
from k710.models.heads.match_rows import ask_orders, is_an_order, is_decided, margin, pair_rows
from tests.helpers.tiny_models import released, tiny_state

SETS = ("k400", "k600", "k700", "k710")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head_of(label_set: str, dialect: str, classes: Tensor) -> Tensor:
    """Rows for the classes of a label set in an order, from one row for each of the 710 classes."""
    return classes[list(k710_classes_of(label_set, dialect))]


def votes_of(head: Tensor, label_set: str, other: Tensor, known_set: str, known_dialect: str):
    pairs = pair_rows(head, other)
    known = labels_of_set(known_set, known_dialect)
    orders = {dialect: labels_of_set(label_set, dialect) for dialect in DIALECTS}
    return ask_orders(pairs, known, orders), pairs


@settings(max_examples=40)
@given(
    ours=st.sampled_from(SETS),
    theirs=st.sampled_from(SETS),
    dialect=st.sampled_from(DIALECTS),
    known=st.sampled_from(DIALECTS),
    noise=st.floats(0, 12),
    seed=st.integers(0, 1000),
)
def test_an_order_is_found_through_noise_or_refused_and_never_wrong(ours, theirs, dialect, known, noise, seed):
    classes = random(710, 96, seed=seed)
    head = head_of(ours, dialect, classes)
    head = head + noise * random(*head.shape, seed=seed + 1)
    votes, _ = votes_of(head, ours, head_of(theirs, known, classes), theirs, known)
    if is_decided(votes):
        assert votes[0].labels.keys == k710_classes_of(ours, dialect)
        assert dialect in votes[0].names
    assert noise > 0.5 or is_decided(votes)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), rows=st.sampled_from([400, 710]), width=st.sampled_from([4, 64, 768]))
def test_heads_that_have_nothing_to_do_with_each_other_are_refused(seed, rows, width):
    label_set = {400: "k400", 710: "k710"}[rows]
    votes, pairs = votes_of(
        random(rows, width, seed=seed), label_set, random(710, width, seed=seed + 1), "k710", "canonical"
    )
    assert not is_decided(votes)
    assert not is_an_order(pairs, rows)


@settings(max_examples=20)
@given(order=st.permutations(range(710)), noise=st.floats(0, 0.5))
def test_a_planted_permutation_is_found_row_by_row(order, noise):
    classes = random(710, 256)
    pairs = pair_rows(classes[list(order)] + noise * random(710, 256, seed=1), classes)
    assert [(pair.row, pair.other) for pair in pairs] == list(enumerate(order))
    assert is_an_order(pairs, 710)


def trained(features: Tensor, labels: Tensor, num_classes: int, steps: int = 60, seed: int = 0) -> Tensor:
    """The weight of a linear classifier that was trained from nothing on features (N, C)."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(features.shape[1], num_classes)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(layer(features), labels).backward()
        optimizer.step()
    return layer.weight.detach()


@pytest.mark.parametrize("drift", [0.0, 0.3, 1.0])
@pytest.mark.slow
def test_heads_that_were_trained_apart_on_one_body_and_on_one_that_drifted_are_matched(drift):
    """A K710 head, and a K400 head from other random numbers, other clips, and a body that was finetuned since."""
    width, generator = 128, torch.Generator().manual_seed(0)
    centres = torch.randn(710, width, generator=generator)
    classes = torch.arange(710).repeat(4)
    k710 = trained(centres[classes] + 0.7 * torch.randn(len(classes), width, generator=generator), classes, 710)
    body = torch.eye(width) + drift * torch.randn(width, width, generator=generator) / width**0.5
    of_k400 = torch.tensor(k710_classes_of("k400", "uniformerv2"))
    labels = torch.arange(400).repeat(4)
    clips = centres[of_k400[labels]] + 0.7 * torch.randn(len(labels), width, generator=generator)
    k400 = trained(clips @ body.T, labels, 400, seed=1)
    votes, _ = votes_of(k400, "k400", k710, "k710", "canonical")
    assert is_decided(votes)
    assert votes[0].names == ("uniformerv2",)


def test_heads_on_bodies_that_share_nothing_are_refused():
    width = 128
    centres = random(710, width)
    turned = torch.linalg.qr(random(width, width, seed=1))[0]
    votes, pairs = votes_of(head_of("k400", "canonical", centres @ turned), "k400", centres, "k710", "canonical")
    assert not is_decided(votes)
    assert margin(votes) < 0.05
    assert not is_an_order(pairs, 400)


def test_a_head_of_which_a_part_was_moved_is_in_no_known_order():
    classes = random(710, 128)
    head = head_of("k400", "canonical", classes)
    head[:80] = head[:80].roll(1, 0)
    votes, pairs = votes_of(head, "k400", classes, "k710", "canonical")
    assert margin(votes) > 0.5
    assert not is_decided(votes)
    assert is_an_order(pairs, 400)


def test_rows_that_are_equal_or_empty_have_no_partner():
    classes = random(710, 64)
    head = classes.clone()
    head[10] = head[11]
    head[20:30] = 0
    rows = {pair.row for pair in pair_rows(head, classes)}
    assert 10 not in rows
    assert len(rows) >= 690
    assert pair_rows(torch.zeros(5, 4), torch.zeros(5, 4)) == []
    assert pair_rows(torch.ones(1, 4), torch.ones(5, 4)) == []


def test_a_shift_of_all_rows_changes_nothing():
    classes = random(710, 64)
    shifted = pair_rows(classes + 100, classes)
    assert [(pair.row, pair.other) for pair in shifted] == [(row, row) for row in range(710)]


def test_full_size_takes_no_time():
    classes = random(710, 768)
    begin = time.perf_counter()
    pairs = pair_rows(classes, classes)
    assert len(pairs) == 710
    assert time.perf_counter() - begin < 2


def heads(tmp_path: Path, *, k400: str, k710: str, noise: float = 0.2) -> tuple[Path, Path]:
    """A K400 and a K710 checkpoint of one body, in the order k400 and k710, though both files say uniformerv2."""
    classes = random(710, 64)
    paths = []
    for label_set, dialect in (("k400", k400), ("k710", k710)):
        head = head_of(label_set, dialect, classes)
        state = tiny_state("uniformerv2", num_classes=len(head))
        state["transformer.proj.2.weight"] = head + noise * random(*head.shape, seed=len(head))
        paths.append(released(tmp_path / f"{label_set}.pyth", "uniformerv2", state))
    return paths[0], paths[1]


def test_a_file_that_says_another_order_than_its_rows_is_found_out(k710, tmp_path):
    ours, theirs = heads(tmp_path, k400="canonical", k710="uniformerv2")
    found = compare_heads(ours, theirs)
    assert found.order.keys == k710_classes_of("k400", "canonical")
    assert found.dialects == ("canonical", "videomaev2")
    assert found.contradicts
    result = k710("inspect", ours, "--like", theirs)
    assert result.exit_code == 0
    assert "like        k400 (canonical = videomaev2): explains" in result.stdout
    assert "the file says another order (labels, above)" in result.stdout
    told = json.loads(k710("inspect", ours, "--like", theirs, "--json").stdout)["like"]
    assert (told["dialects"], told["contradicts_the_file"]) == (["canonical", "videomaev2"], True)
    assert told["rows"][0] == "abseiling"
    assert told["margin"] > 0.9
    assert told["beside"]["dialect"] == "uniformerv2"


def test_an_order_that_the_file_says_too_is_no_contradiction(k710, tmp_path):
    ours, theirs = heads(tmp_path, k400="uniformerv2", k710="uniformerv2")
    result = k710("inspect", ours, "--like", theirs)
    assert "like        k400 (uniformerv2): explains" in result.stdout
    assert "another order" not in result.stdout


def test_a_map_that_was_applied_twice_is_an_order_that_is_none(k710, tmp_path):
    ours, theirs = heads(tmp_path, k400="uniformerv2", k710="uniformerv2")
    state = torch.load(ours, weights_only=True)
    again = list(row_map("k400", "k400", source_dialect="canonical", target_dialect="uniformerv2"))
    name = "backbone.transformer.proj.2.weight"
    torch.save(state | {name: state[name][again]}, ours)
    found = compare_heads(ours, theirs)
    assert (found.order, found.dialects) == (None, ("own order",))
    assert len(found.pairs) > 390
    assert "an order that is none of the known ones" in k710("inspect", ours, "--like", theirs).stdout


def test_a_head_and_its_remapped_head_are_matched_across_forms(k710, tmp_path):
    _, start = heads(tmp_path, k400="canonical", k710="uniformerv2")
    assert k710("convert", start, "--to", "mmaction2", "--to-dialect", "canonical").exit_code == 0
    assert k710("remap-head", start, "--to", "k600", "--out", tmp_path / "k600.pyth").exit_code == 0
    assert compare_heads(tmp_path / "k710.mmaction2.pth", start).dialects == ("canonical",)
    assert compare_heads(tmp_path / "k600.pyth", tmp_path / "k710.mmaction2.pth").dialects == ("canonical",)
    assert not compare_heads(tmp_path / "k600.pyth", start).contradicts


def test_what_cannot_be_compared_is_refused_with_the_reason(k710, tmp_path):
    ours, theirs = heads(tmp_path, k400="canonical", k710="uniformerv2")
    video = released(tmp_path / "vit.pth", "videomaev2", tiny_state("videomaev2"))
    result = k710("inspect", ours, "--like", video)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not the model of" in result.stderr
    assert "comparable on one body alone" in result.stderr
    result = k710("inspect", ours, "--like", ours.parent / "." / ours.name)
    assert (result.exit_code, "is the checkpoint itself" in result.stderr) == (2, True)
    local = released(tmp_path / "local.pyth", "uniformerv2", tiny_state("uniformerv2", local="single"))
    with pytest.raises(CheckpointError, match=r"lmhra1\..* more differ"):
        compare_heads(ours, local)
    torch.save({"fc.weight": torch.zeros(400, 8), "fc.bias": torch.zeros(400)}, tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match=r"rows of 64 numbers, and that of .* of 8"):
        compare_heads(ours, tmp_path / "wide.pth")
    unknown = tiny_state("uniformerv2", num_classes=11)
    odd = released(tmp_path / "odd.pyth", "uniformerv2", unknown)
    with pytest.raises(CheckpointError, match="11 rows, as no label set has"):
        compare_heads(ours, odd)
    unlike = released(tmp_path / "unlike.pyth", "uniformerv2", tiny_state("uniformerv2", seed=9))
    with pytest.raises(CheckpointError, match=r"its rows do not tell their order: of .* telling pairs of rows"):
        compare_heads(unlike, theirs)
    with pytest.raises(CheckpointError, match="11 rows have a partner, no more clearly than chance has it"):
        compare_heads(odd, theirs)
    broken = tiny_state("uniformerv2")
    broken["transformer.proj.2.weight"][3, 3] = float("nan")
    with pytest.raises(CheckpointError, match="holds NaN or infinite numbers"):
        compare_heads(released(tmp_path / "broken.pyth", "uniformerv2", broken), theirs)
