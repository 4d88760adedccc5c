"""`k710 plan`: where its numbers come from, what it refuses, and that it changes nothing."""

from __future__ import annotations

import json

import pytest
import torch

from k710.errors import UsageError
from k710.fetch.encode.profiles import read_profile
from k710.plan.figures import ASSUMED, COMPUTED, MANIFEST, MEASURED, RECIPE, STATED, STORE, UNKNOWN
from k710.plan.options import PlanOptions, Prices
from k710.store.store import Store
from k710.train.step import cut
from tests.helpers.small_stores import clips_of, film, manifest_of, put

CLIPS = [*clips_of(12), *clips_of(4, "val", first=12)]
TINY = ("--recipe", "tiny-k400", "--set", "batch_size=4")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, k710):
    return manifest_of(k710, tmp_path_factory.mktemp("plan"), CLIPS)


@pytest.fixture
def plan(k710, manifest):
    """What a plan says, as JSON."""

    def run(*options, of=manifest):
        result = k710("plan", of, "--json", *options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def test_without_measuring_it_knows_what_the_manifest_and_the_recipe_say(plan, manifest):
    before = sorted(manifest.rglob("*"))
    found = plan("--no-measure", *TINY)
    fetch, training = found["fetch"], found["training"]
    assert (fetch["clips wanted"]["value"], fetch["clips wanted"]["origin"]) == (16, MANIFEST)
    assert (fetch["clips missing"]["value"], fetch["clips missing"]["origin"]) == (16, STORE)
    assert (fetch["a stored clip"]["value"], fetch["a stored clip"]["origin"]) == (200_000, ASSUMED), "2 s of 10"
    assert (fetch["disk"]["value"], fetch["disk"]["origin"]) == (16 * 200_000, COMPUTED)
    for name in ("encoding a clip", "time of a fetch"):
        assert (fetch[name]["value"], fetch[name]["origin"]) == (None, UNKNOWN)
        assert "--no-measure" in fetch[name]["note"]
    assert "--download-gb" in fetch["download"]["note"]
    # 12 train clips in batches of 4, for five epochs; the 4 val clips after each.
    assert [training[name]["value"] for name in ("steps", "samples", "validated clips")] == [15, 60, 20]
    assert training["steps"]["origin"] == RECIPE
    assert training["views of an evaluation"]["value"] == 4 * 12
    (row,) = found["devices"]
    assert (row["device"], row["time_s"], row["eval_s"]) == ("CPU", None, None)
    assert sorted(manifest.rglob("*")) == before


def test_of_gpus_all_follows_from_the_rate_that_is_stated(plan):
    options = ("--no-measure", *TINY, "--gpus", "1,2,4", "--gpu-rate", "10", "--eval-rate", "20", "--gpu-price", "3")
    found = plan(*options)
    assert found["rates"]["a GPU trains"] == {"value": 10, "unit": "clips/s", "origin": STATED, "note": ""}
    one, two, four = found["devices"]
    assert (one["train_s"], one["validate_s"], one["eval_s"]) == (6, 1, pytest.approx(2.4))
    assert (two["time_s"], four["time_s"]) == (pytest.approx(3.5), pytest.approx(1.75))
    assert [row["money"] for row in (one, two, four)] == [pytest.approx(3 * 7 / 3600)] * 3
    assert [row["piece_size"] for row in (one, two, four)] == [4, 2, 1]
    slower = plan(*options, "--efficiency", "0.5")["devices"]
    assert [row["time_s"] for row in slower] == [pytest.approx(7 / times) for times in (1, 1.5, 2.5)]


def test_without_a_rate_of_gpus_it_says_what_would_settle_it(plan, k710, manifest, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = plan("--no-measure", *TINY, "--gpus", "1,2")
    rate = found["rates"]["a GPU trains"]
    assert rate["value"] is None
    assert "--gpu-rate" in rate["note"]
    assert [row["time_s"] for row in found["devices"]] == [None, None]
    shown = k710("plan", manifest, "--no-measure", *TINY, "--gpus", "1,2").stdout
    assert "unknown" in shown
    assert "assumed: N GPUs are N times as fast as one" in shown


def test_a_rate_from_multiply_adds_is_an_assumption(plan):
    found = plan("--no-measure", *TINY, "--gpus", "1", "--gpu-tflops", "1")
    training = found["training"]["training"]["value"]
    rate = found["rates"]["a GPU trains"]
    assert (rate["origin"], rate["value"]) == (ASSUMED, pytest.approx(1e12 / (2 * training)))
    forward = found["rates"]["a GPU evaluates"]
    assert (forward["origin"], "float32" in forward["note"]) == (ASSUMED, True)
    assert forward["value"] == pytest.approx(1e12 / (2 * found["training"]["forward"]["value"]))


def test_memory_and_what_would_fit(plan, k710, manifest):
    options = ("--no-measure", *TINY, "--gpus", "1", "--gpu-rate", "1")
    (row,) = plan(*options)["devices"]
    assert row["fits"] is None
    just_too_small = str(2 + (row["memory_bytes"] - 1) / 2**30)  # CUDA takes 2 GiB
    assert plan(*options, "--gpu-memory", "80")["devices"][0]["fits"] is True
    shown = k710("plan", manifest, *options, "--gpu-memory", just_too_small).stdout
    assert "4 clips at once do not fit; --set gpu_batch_size=3" in shown


def test_the_slower_of_download_and_encoding_decides(plan):
    found = plan("--no-measure", "--download-gb", "1", "--bandwidth", "10", "--disk-price", "20")["fetch"]
    assert (found["download"]["origin"], found["time to download"]["value"]) == (STATED, 100)
    assert found["time of a fetch"]["value"] is None, "the encoding is unknown"
    assert found["money for the disk"]["value"] == pytest.approx(16 * 200_000 / 1e12 * 20)


def test_the_sizes_of_a_store_with_many_clips_count(k710, plan, tmp_path):
    clips = clips_of(120)
    made = manifest_of(k710, tmp_path, [*clips, *clips_of(4, "val", first=120)])
    put(Store(made / "store", "h264"), {clip.clip_id: b"x" * 5_000 for clip in clips[:100]})
    found = plan("--no-measure", of=made)["fetch"]
    assert (found["clips missing"]["value"], found["a stored clip"]["origin"]) == (24, STORE)
    assert found["disk"]["value"] == 24 * 5_000


def test_a_finished_store_needs_no_fetch(k710, plan, tmp_path):
    made = manifest_of(k710, tmp_path, CLIPS)
    put(Store(made / "store", "h264"), {clip.clip_id: b"x" for clip in CLIPS})
    found = plan("--no-measure", of=made)["fetch"]
    assert (found["time of a fetch"]["value"], found["disk"]["value"]) == (0, 0)


@pytest.mark.slow
def test_measured_on_clips_of_a_folder(plan, tmp_path):
    folder = film(tmp_path / "clips", CLIPS)
    found = plan("--from", f"local:{folder}", *TINY, "--device", "cpu", "--measure-s", "0.2", "--core-price", "1")
    fetch, rates = found["fetch"], found["rates"]
    assert (fetch["clips to fetch"]["value"], fetch["download"]["value"]) == (16, 0)
    measured = ("a stored clip", "encoding a clip", "start of a fetch")
    assert all(fetch[name]["origin"] == MEASURED and fetch[name]["value"] > 0 for name in measured)
    assert 0.5 < fetch["a stored clip"]["value"] / 3_000 < 2
    assert fetch["time of a fetch"]["value"] == fetch["time to encode"]["value"]
    of_rates = ("loading a sample", "a sample of a step", "a forward pass")
    assert all(rates[name]["origin"] == MEASURED for name in of_rates)
    (row,) = found["devices"]
    assert row["time_s"] > row["train_s"] > 15 * 4 * rates["a sample of a step"]["value"]
    assert row["money"] == pytest.approx((row["core_s"]["train"] + row["core_s"]["validate"]) / 3600)


@pytest.mark.slow
def test_measured_on_generated_clips_where_there_are_none(plan):
    found = plan(*TINY, "--device", "cpu", "--measure-s", "0.2")
    encoding = found["fetch"]["encoding a clip"]
    assert encoding["origin"] == MEASURED
    assert "generated clips" in encoding["note"]
    assert "generated clips" in found["rates"]["loading a sample"]["note"]
    assert found["fetch"]["a stored clip"]["origin"] == ASSUMED, "the size of a generated clip says nothing"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--gpus 0", "--gpus must be above 0, not 0"),
        ("--gpus 1,-2", "--gpus must be above 0, not -2"),
        ("--gpus many", "'many' is no number of GPUs"),
        ("--gpus 8", "a batch of 4 does not divide into 8 processes"),
        ("--gpus 1 --gpu-price -1", "--gpu-price must be 0 or above, not -1"),
        ("--core-price nan", "--core-price must be 0 or above, not nan"),
        ("--gpus 1 --gpu-rate 0", "--gpu-rate must be above 0, not 0"),
        ("--gpus 1 --gpu-rate inf", "--gpu-rate must be above 0, not inf"),
        ("--gpus 1 --gpu-rate 1 --gpu-tflops 1", "leave one out"),
        ("--gpu-rate 1", "--gpu-rate is of GPUs; --gpus says of how many"),
        ("--gpus 2 --efficiency 1.5", "--efficiency must lie above 0 and at most at 1, not 1.5"),
        ("--gpus 1 --device cpu", "leave one out"),
        ("--bandwidth 0", "--bandwidth must be above 0"),
        ("--cores 0", "--cores must be above 0"),
        ("--measure-s 0", "--measure-s must be above 0"),
        ("--workers -1", "--workers must be 0 or above"),
        ("--crops 2", "crops"),
        ("--splits test", "has no clip of any release in splits test"),
        ("--view k600", "has no clip of view k600"),
        ("--set batch_size=64", "has 12 k400 train clips, fewer than one batch of 64"),
        ("--set data.view=k600", "fewer than one batch"),
        ("--from nowhere", "unknown origin 'nowhere'"),
    ],
)
def test_options_that_cannot_be(k710, manifest, options, message):
    result = k710("plan", manifest, "--no-measure", *TINY, *options.split())
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stdout == ""


def test_a_recipe_that_is_none(k710, manifest):
    result = k710("plan", manifest, "--no-measure", "--recipe", "nope")
    assert (result.exit_code, "no recipe 'nope'" in result.stderr) == (1, True)
    assert_alone = k710("plan", manifest, "--no-measure", "--set", "lr=1")
    assert (assert_alone.exit_code, "--recipe names one" in assert_alone.stderr) == (2, True)
    missing = k710("plan", manifest.parent / "nothing", "--no-measure")
    assert (missing.exit_code, "no manifest there" in missing.stderr) == (1, True)


def test_the_library_refuses_too():
    profile = read_profile("h264")
    with pytest.raises(UsageError, match="--disk-price"):
        PlanOptions(profile, prices=Prices(disk_month=-1.0)).checked()
    with pytest.raises(UsageError, match="does not divide"):
        cut(256, gpu_batch_size=32, world_size=7)
