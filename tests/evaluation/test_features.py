"""What a frozen part sees is what the model would see, whatever it is; and features of anything else are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from k710.engine.torch_process import Process
from k710.errors import LoadError, TrainError, UsageError
from k710.evaluation import features as computing
from k710.evaluation.features import (
    FeatureOptions,
    compute_features,
    drop_frozen,
    features_for,
    open_for,
    reader_for,
    see,
)
from k710.loading import kept_features
from k710.loading.augment.augment import Augment
from k710.loading.dataset import open_dataset
from k710.loading.kept_features import ABOUT, open_features, reader_of
from k710.loading.load_clip import ClipOptions
from k710.loading.loader import ClipLoader
from k710.models.evl.config import PRESETS as EVL_PRESETS
from k710.models.families import FAMILIES
from k710.models.family import Sampling
from k710.models.left_out import frozen_sha256, left_out_sha256
from k710.models.uniformerv2.config import PRESETS as UNIFORMERV2_PRESETS
from tests.helpers.one_thread import one_thread  # noqa: F401  # a fixture for every test here

pytest_plugins = ("tests.helpers.run_fixtures",)

FROZEN = {
    "evl": replace(EVL_PRESETS["tiny"], decoder_layers=2, num_classes=10),
    "uniformerv2": replace(UNIFORMERV2_PRESETS["tiny"], frozen=True, local="none", num_classes=10),
}
HERE = Process(torch.device("cpu"))
OPTIONS = FeatureOptions(batch_size=3)


def model_of(config, seed: int = 0):
    family = next(one for one in FAMILIES.values() if isinstance(config, one.config_class))
    torch.manual_seed(seed)
    model = family.build(config).eval()
    with torch.no_grad():  # what begins at zero hides what stands before it
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.normal_(std=0.02)
    return family, model


@pytest.fixture
def val(experiment):
    """`val(num_clips, num_crops)`: the val clips in so many views."""
    manifest, clips = experiment

    def open_val(num_clips: int = 1, num_crops: int = 1, folder: Path = clips):
        options = ClipOptions(num_clips=num_clips, num_crops=num_crops, on_error="zero_weight")
        return open_dataset(manifest, view="k710", split="val", folder=folder, options=options)

    return open_val


def kept(folder: Path, dataset, config=FROZEN["evl"], dtype: str = "float32", **options):
    """The features of a dataset, computed and kept."""
    family, model = model_of(config)
    found = features_for(family, model, Sampling(), folder, precision="fp32", dtype=dtype)
    found.begin()
    return found, compute_features(family, model, dataset, found, HERE, options=OPTIONS, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "config",
    [
        *FROZEN.values(),
        replace(FROZEN["evl"], temporal_attention=False),
        replace(FROZEN["uniformerv2"], balance=False),
        replace(FROZEN["uniformerv2"], global_after=()),
        replace(FROZEN["uniformerv2"], temporal_downsample=True),
    ],
)
def test_a_model_gives_the_same_of_clips_and_of_what_it_sees_of_them(config, dtype):
    family, model = model_of(config)
    clips = torch.randn(2, 3, config.num_frames, config.size_px, config.size_px)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        seen = see(family, model, clips)
        assert {name: tuple(tensor.shape[1:]) for name, tensor in seen.items()} == family.frozen.shapes(config)
        assert all(tensor.dtype == dtype for tensor in seen.values()), "kept so, nothing is rounded"
        assert not any(tensor.requires_grad for tensor in seen.values())
        wanted = model(clips)
        assert torch.equal(model({name: tensor.clone() for name, tensor in seen.items()}), wanted)
        nothing = {name: torch.zeros_like(tensor) for name, tensor in seen.items()}
        assert not torch.equal(model(nothing), wanted)


def test_the_sha256_is_of_what_is_not_trained():
    _, evl = model_of(FROZEN["evl"])
    assert frozen_sha256(evl) == left_out_sha256(evl)
    _, with_tower_kept = model_of(replace(FROZEN["evl"], keeps_backbone=True))
    assert frozen_sha256(with_tower_kept) == frozen_sha256(evl)
    with torch.no_grad():
        evl.proj[2].weight.add_(1)
    assert frozen_sha256(evl) == frozen_sha256(with_tower_kept)
    with torch.no_grad():
        evl.backbone.pos_embed[0, 0] += 1
    assert frozen_sha256(evl) != frozen_sha256(with_tower_kept)


def test_a_tower_leaves_a_model_only_where_no_checkpoint_has_it():
    family, evl = model_of(FROZEN["evl"])
    drop_frozen(family, evl)
    assert all(parameter.requires_grad for parameter in evl.parameters())
    assert evl.train().decoder.training
    for config in (replace(FROZEN["evl"], keeps_backbone=True), FROZEN["uniformerv2"]):
        family, model = model_of(config)
        before = model.state_dict().keys()
        drop_frozen(family, model)
        assert model.state_dict().keys() == before


def test_what_is_computed_is_what_the_tower_sees_of_each_view(val, tmp_path):
    dataset = val(2, 3)
    family, model = model_of(FROZEN["evl"])
    found, done = kept(tmp_path / "kept", dataset)
    assert (done.num_views, done.rounding) == (len(dataset) * 6, 0)
    reader = reader_for(family, model, found, dataset)
    crops = Augment(**family.crops(32))
    pixels = ClipLoader(dataset, batch_size=4, augment=crops)
    features = ClipLoader(dataset, batch_size=4, augment=crops, features=reader)
    for one, other in zip(pixels, features, strict=True):
        assert (one.clip_ids, one.samples) == (other.clip_ids, other.samples)
        assert torch.equal(one.class_ids, other.class_ids)
        for name, tensor in see(family, model, one.pixels).items():
            torch.testing.assert_close(other.seen[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "at_most"), [("float16", 5e-4), ("bfloat16", 4e-3)])
def test_the_rounding_is_measured(dtype, at_most, val, tmp_path):
    _, done = kept(tmp_path / "kept", val(), dtype=dtype)
    assert at_most / 10 < done.rounding < at_most


def test_an_interrupted_computation_goes_on_and_loses_nothing(val, tmp_path, monkeypatch):
    dataset = val()
    assert len(dataset) == 10

    def stop(done: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path / "kept", dataset, on_progress=stop)
    found = open_features(tmp_path / "kept")
    assert len(reader_of(found, dataset, found.shapes).missing) == 4
    before = found.files()
    _, done = kept(tmp_path / "kept", dataset)
    assert done.num_views == 4
    assert set(before) < set(found.files())
    _, again = kept(tmp_path / "kept", dataset)
    assert again.num_views == 0
    # Files of a few views each are as good as one.
    monkeypatch.setattr(computing, "_FILE_BYTES", 1)
    _, done = kept(tmp_path / "small", dataset)
    assert (done.num_views, len(open_features(tmp_path / "small").files())) == (10, 4)


def test_a_full_disk_is_told_and_what_was_written_stays(val, tmp_path, monkeypatch):
    monkeypatch.setattr(computing, "_FILE_BYTES", 1)
    real, written = kept_features.named_by_hash, []

    def full(folder, pattern):
        if len(written) == 2:
            raise OSError(28, "No space left on device", str(folder))
        written.append(1)
        return real(folder, pattern)

    monkeypatch.setattr(kept_features, "named_by_hash", full)
    with pytest.raises(LoadError, match=r"kept: cannot be written: No space left .* stays, and the same command goes"):
        kept(tmp_path / "kept", val())
    assert len(open_features(tmp_path / "kept").files()) == 2
    monkeypatch.undo()
    _, done = kept(tmp_path / "kept", val())
    assert done.num_views == 4


def test_too_little_room_is_known_before(val, tmp_path, monkeypatch):
    family, model = model_of(FROZEN["evl"])
    found = features_for(family, model, Sampling(), tmp_path / "new" / "kept", precision="fp32", dtype="float16")
    computing.check_room(found, 10)
    with pytest.raises(LoadError, match=r"the features need .* TB, and the disk has .* free; make room, or take"):
        computing.check_room(found, 10**10)


def test_numbers_that_a_type_cannot_hold_are_refused(val, tmp_path):
    family, model = model_of(FROZEN["evl"])
    with torch.no_grad():
        model.backbone.blocks[3].mlp.fc2.bias.fill_(1e5)
    found = features_for(family, model, Sampling(), tmp_path / "kept", precision="fp32", dtype="float16")
    found.begin()
    with pytest.raises(TrainError, match=r"block03\.tokens is not finite in float16; bfloat16 and float32 .* --dtype"):
        compute_features(family, model, val(), found, HERE, options=OPTIONS)


def test_features_of_more_layers_serve_a_model_of_fewer(val, tmp_path):
    dataset = val()
    found, _ = kept(tmp_path / "kept", dataset, replace(FROZEN["evl"], decoder_layers=4))
    for config in (FROZEN["evl"], replace(FROZEN["evl"], decoder_layers=4, temporal_attention=False)):
        family, model = model_of(config)
        model.backbone.load_state_dict(model_of(replace(FROZEN["evl"], decoder_layers=4))[1].backbone.state_dict())
        reader = reader_for(family, model, open_for(family, model, Sampling(), found.folder), dataset)
        assert set(reader.read([(0, 0)])) == family.frozen.shapes(config).keys()
    family, model = model_of(FROZEN["evl"])
    less, _ = kept(tmp_path / "less", dataset)
    deep = family.build(replace(FROZEN["evl"], decoder_layers=3))
    deep.backbone.load_state_dict(model.backbone.state_dict())
    with pytest.raises(UsageError, match=r"they lack block01\.tokens, block01\.before, block01\.after"):
        open_for(family, deep, Sampling(), less.folder)


def test_features_of_anything_else_are_refused(val, tmp_path):
    found, _ = kept(tmp_path / "kept", val())
    family, model = model_of(FROZEN["evl"])
    assert open_for(family, model, Sampling(), found.folder)
    with pytest.raises(UsageError, match=r"something else than EVL-tiny.*frozen_sha256 '[0-9a-f]{64}', not '"):
        open_for(*model_of(FROZEN["evl"], seed=1), Sampling(), found.folder)
    with pytest.raises(UsageError, match=r"sampling \{'method': 'sparse', 'stride': None\}, not \{'method': 'dense'"):
        open_for(family, model, Sampling("dense", 2), found.folder)
    with pytest.raises(UsageError, match=r"family 'evl', not 'uniformerv2'"):
        open_for(*model_of(FROZEN["uniformerv2"]), Sampling(), found.folder)
    with pytest.raises(UsageError, match=r"activation 'quick_gelu', not 'gelu'"):
        open_for(*model_of(replace(FROZEN["evl"], activation="gelu")), Sampling(), found.folder)
    with pytest.raises(
        UsageError, match=r"has no frozen part, so that no features of it can be kept; .* uniformerv2, evl"
    ):
        open_for(*model_of(replace(FROZEN["evl"], frozen=False)), Sampling(), found.folder)
    other = features_for(family, model, Sampling(), found.folder, precision="bf16", dtype="float32")
    with pytest.raises(LoadError, match=r"holds other features: precision 'fp32', not 'bf16'"):
        other.begin()
    (tmp_path / "kept" / ABOUT).unlink()
    with pytest.raises(LoadError, match=r"about\.json: No such file or directory; `k710 features` makes it"):
        open_features(found.folder)
    with pytest.raises(LoadError, match="holds something else than features"):
        other.begin()
