"""CLIP's towers into the model: every form gives the same start, and what does not fit is refused by name."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from k710.errors import CheckpointError, UsageError
from k710.models.checkpoints.torchscript_files import is_torchscript, read_torchscript
from k710.models.clip_towers import DROPPED, OPENAI_TOWERS, inflate, load_clip, open_tower
from k710.models.uniformerv2.config import preset
from k710.models.uniformerv2.model import UniFormerV2
from k710.models.weights import resize_positions
from tests.helpers.clip_files import (
    FORMS,
    UNTOLD,
    bare,
    config,
    huggingface,
    huggingface_names,
    huggingface_vision,
    openai,
    openclip,
    openclip_folder,
    tower,
    whole,
)

TINY = preset("tiny", num_classes=10)


def refusal(model: UniFormerV2, source: Path | str, **options) -> str:
    """The message of a load that is refused and leaves the model as it was."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_clip(model, source, **options)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("downsample", [False, True])
@pytest.mark.slow
def test_every_form_gives_the_same_start(form: str, downsample: bool, tmp_path: Path):
    vision = tower()
    model = UniFormerV2(replace(TINY, local="double" if downsample else "none", temporal_downsample=downsample))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loaded = load_clip(model, FORMS[form](tmp_path, vision), activation="quick_gelu" if form in UNTOLD else None)
    state = model.state_dict()
    for name in before.keys() - set(loaded.loaded):
        assert torch.equal(state[name], before[name]), "what CLIP does not have keeps its initialisation"
    expected = {name: tensor.float() for name, tensor in vision.items() if name not in DROPPED}
    assert set(loaded.loaded) == expected.keys()
    assert len(loaded.loaded) == 5 + 12 * 4
    kernel = expected.pop("conv1.weight")
    assert torch.equal(state["conv1.weight"][:, :, 1 if downsample else 0], kernel)
    assert state["conv1.weight"].count_nonzero() == kernel.count_nonzero()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    assert not loaded.missing + loaded.unexpected + loaded.misshapen + loaded.interpolated


def test_what_is_dropped_is_what_the_release_drops(tmp_path: Path):
    assert load_clip(UniFormerV2(TINY), openai(tmp_path, tower())).dropped == ("proj", "ln_post.weight", "ln_post.bias")


def test_the_start_computes_what_clip_computes(tmp_path: Path):
    """The class token after the last block, against torch's own transformer layers with the same weights."""
    vision = {name: tensor.float() for name, tensor in tower().items()}
    model = UniFormerV2(TINY).eval()
    load_clip(model, openclip(tmp_path, vision), activation="quick_gelu")
    clip = torch.randn(1, 3, 1, 32, 32)
    x = torch.nn.functional.conv2d(clip[:, :, 0], vision["conv1.weight"], stride=8).flatten(2).transpose(1, 2)
    x = torch.cat([vision["class_embedding"].expand(1, 1, -1), x], 1) + vision["positional_embedding"]
    x = torch.nn.functional.layer_norm(x, (64,), vision["ln_pre.weight"], vision["ln_pre.bias"])
    for number in range(4):
        names = {"attn.in_proj_weight": "self_attn.in_proj_weight", "attn.in_proj_bias": "self_attn.in_proj_bias"}
        parts = {"attn.out_proj": "self_attn.out_proj", "ln_1": "norm1", "ln_2": "norm2"}
        parts |= {"mlp.c_fc": "linear1", "mlp.c_proj": "linear2"}
        names |= {f"{a}.{kind}": f"{b}.{kind}" for a, b in parts.items() for kind in ("weight", "bias")}
        layer = torch.nn.TransformerEncoderLayer(
            64, 2, 256, 0.0, lambda x: x * torch.sigmoid(1.702 * x), batch_first=True, norm_first=True
        )
        block = f"transformer.resblocks.{number}."
        layer.load_state_dict({theirs: vision[block + ours] for ours, theirs in names.items()})
        x = layer(x)
    seen = []
    model.transformer.resblocks[-1].register_forward_hook(lambda *args: seen.append(args[-1]))
    model(clip)
    torch.testing.assert_close(seen[0], x, rtol=1e-4, atol=1e-5)


def test_positions_of_another_size_are_resized_on_request_alone(tmp_path: Path):
    path = openai(tmp_path, tower(grid=6))
    model = UniFormerV2(TINY)
    message = refusal(model, path)
    assert "1 misshapen: positional_embedding (37, 64), want (17, 64)" in message
    assert "interpolate_positions=True" in message
    loaded = load_clip(model, path, interpolate_positions=True)
    assert loaded.interpolated == ("positional_embedding",)
    expected = resize_positions(tower(grid=6)["positional_embedding"], 4, "test").float()
    assert torch.equal(model.positional_embedding, expected)
    # None is resized where none has to be.
    loaded = load_clip(model, bare(tmp_path, tower()), interpolate_positions=True, activation="quick_gelu")
    assert loaded.interpolated == ()


@pytest.mark.parametrize(("small", "large"), [(16, 24), (8, 12)])
def test_resized_positions_keep_their_meaning(small: int, large: int):
    """224 and 336 px are 16 and 24 patches of 14: a smooth embedding is the same surface on either grid."""

    def surface(grid: int) -> Tensor:
        at = (torch.arange(grid) + 0.5) / grid
        rows, columns = torch.meshgrid(at, at, indexing="ij")
        waves = torch.stack([rows, columns, (2 * rows).sin(), (rows * columns).cos()], -1).flatten(0, 1)
        return torch.cat([torch.full((1, 4), 7.0), waves])

    for first, second in ((small, large), (large, small)):
        resized = resize_positions(surface(first), second, "test")
        assert resized.shape == (second**2 + 1, 4)
        assert torch.equal(resized[0], torch.full((4,), 7.0)), "the class token has no place"
        # At the rim there is nothing to interpolate with.
        inner = (resized - surface(second))[1:].view(second, second, 4)[2:-2, 2:-2]
        assert inner.abs().amax() < 0.01


def test_no_square_no_resize():
    with pytest.raises(CheckpointError, match=r"a position embedding of \(18, 4\) is no class token and a square"):
        resize_positions(torch.zeros(18, 4), 3, "file")


def test_inflation_is_of_the_middle_frame():
    weight = torch.randn(2, 3, 4, 4)
    assert torch.equal(inflate(weight, 3)[:, :, 1], weight)
    assert inflate(weight, 3)[:, :, [0, 2]].count_nonzero() == 0
    assert torch.equal(inflate(weight, 1), weight[:, :, None])


def test_missing_unexpected_and_misshapen_are_listed_and_let_through_on_request(tmp_path: Path):
    vision = tower()
    del vision["ln_pre.bias"]
    vision["transformer.resblocks.0.ls_1.gamma"] = torch.ones(64)
    vision["class_embedding"] = torch.zeros(63)
    path = bare(tmp_path, vision)
    model = UniFormerV2(TINY)
    message = refusal(model, path, activation="quick_gelu")
    assert str(path) in message
    assert "1 missing: ln_pre.bias" in message
    assert "1 unexpected: transformer.resblocks.0.ls_1.gamma" in message
    assert "1 misshapen: class_embedding (63,), want (64,)" in message
    assert "allow=['missing', 'unexpected', 'misshapen']" in message
    assert "missing" in refusal(model, path, allow=("unexpected", "misshapen", "activation"))
    before = model.class_embedding.clone()
    loaded = load_clip(model, path, allow=("missing", "unexpected", "misshapen"), activation="quick_gelu")
    assert (loaded.missing, loaded.misshapen) == (("ln_pre.bias",), ("class_embedding",))
    assert loaded.unexpected == ("transformer.resblocks.0.ls_1.gamma",)
    assert torch.equal(model.class_embedding, before)
    assert "class_embedding" not in loaded.loaded
    with pytest.raises(UsageError, match="want some of missing, unexpected, misshapen, activation"):
        load_clip(model, path, allow=("anything",))


def test_a_tower_of_another_size_is_refused(tmp_path: Path):
    message = refusal(UniFormerV2(TINY), bare(tmp_path, tower(layers=6)), activation="quick_gelu")
    assert "24 unexpected: transformer.resblocks.4.attn.in_proj_weight" in message
    assert "and 16 more" in message
    assert "does not fit UniFormerV2-tiny at 32 px, 10 classes" in message


def test_a_huggingface_layer_without_its_keys_is_missing_and_unexpected(tmp_path: Path):
    state = huggingface_names(tower())
    del state["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
    torch.save(state, tmp_path / "w.bin")
    message = refusal(UniFormerV2(TINY), tmp_path / "w.bin", activation="quick_gelu")
    assert "1 missing: transformer.resblocks.1.attn.in_proj_weight" in message
    assert "2 unexpected: encoder.layers.1.self_attn." in message


@pytest.mark.parametrize(("activation", "told"), [("gelu", "gelu"), ("quick_gelu", "quick_gelu"), (None, "quick_gelu")])
def test_the_activation_is_the_towers(activation: str | None, told: str, tmp_path: Path):
    path = huggingface(tmp_path, tower(), activation=activation)
    for ours in ("quick_gelu", "gelu"):
        model = UniFormerV2(replace(TINY, activation=ours))
        if ours == told:
            load_clip(model, path)
        else:
            message = refusal(model, path)
            assert f"trained with {told} (" in message
            assert f"and this model has {ours}" in message
            assert f"--set activation={told}" in message
            load_clip(model, path, allow=["activation"])


@pytest.mark.parametrize(
    ("write", "options", "told"),
    [
        (huggingface_vision, {"activation": "gelu"}, "gelu"),
        (openclip_folder, {"quick_gelu": True}, "quick_gelu"),
        (openclip_folder, {"quick_gelu": False}, "gelu"),
        (openclip_folder, {"quick_gelu": None}, "gelu"),
    ],
)
def test_the_activation_is_what_stands_beside_the_tower(write, options: dict, told: str, tmp_path: Path):
    folder = write(tmp_path, tower(), **options)
    (weights,) = folder.glob("*.safetensors")
    for path in (folder, weights):
        assert open_tower(path).activation == told
        other = "gelu" if told == "quick_gelu" else "quick_gelu"
        assert f"--set activation={told}" in refusal(UniFormerV2(replace(TINY, activation=other)), path)
        load_clip(UniFormerV2(replace(TINY, activation=told)), path)
        # The user's word is for files that tell nothing: it does not overrule one that tells.
        assert "was trained with" in refusal(UniFormerV2(replace(TINY, activation=other)), path, activation=other)


def test_an_activation_that_nothing_tells_is_asked_for(tmp_path: Path):
    for form in UNTOLD:
        path = FORMS[form](tmp_path, tower())
        message = refusal(UniFormerV2(TINY), path)
        assert "--set activation=quick_gelu or --set activation=gelu" in message
        assert "was trained with gelu, and this model has quick_gelu" in refusal(
            UniFormerV2(TINY), path, activation="gelu"
        )
        load_clip(UniFormerV2(replace(TINY, activation="gelu")), path, activation="gelu")


def test_an_activation_that_the_model_lacks_is_refused(tmp_path: Path):
    path = huggingface(tmp_path, tower(), activation="gelu_pytorch_tanh")
    message = refusal(UniFormerV2(TINY), path)
    assert (
        "trained with gelu_pytorch_tanh (hidden_act of config.json), and the model has quick_gelu and gelu alone"
        in message
    )


def test_published_file_names_tell_the_activation_if_their_hash_fits(tmp_path: Path):
    path = bare(tmp_path, tower())
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    for name, told in (
        ("vit_b16.pth", "quick_gelu"),
        ("l14_fullcc2.5b.pt", "quick_gelu"),
        (f"vit_b_16-laion400m_e32-{digits}.pt", "gelu"),
        ("vit_b_16-laion400m_e32-00000000.pt", None),
        (f"vit-base-p16-res224_clip-rgb_20221219-{digits}.pth", "quick_gelu"),
        ("ViT-B-16-quickgelu.pt", "quick_gelu"),
        ("mine.pt", None),
    ):
        assert open_tower(path.rename(tmp_path / name)).activation == told
        path = tmp_path / name


def test_an_openclip_repository_by_id(tmp_path: Path, loopback, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", loopback.url(""))
    monkeypatch.chdir(tmp_path)
    folder = openclip_folder(tmp_path, tower(), quick_gelu=None)
    for path in folder.iterdir():
        loopback.serve(f"/owner/open/resolve/main/{path.name}", path.read_bytes())
    assert "trained with gelu (open_clip_config.json)" in refusal(UniFormerV2(TINY), "owner/open", cache="cache")


def test_another_backbone_is_not_advised_to_resize(tmp_path: Path):
    """A tower of 32 px patches has fewer positions, and no resizing makes it one of 16 px."""
    vision = tower(grid=2)
    vision["conv1.weight"] = torch.zeros(64, 3, 16, 16)
    path = bare(tmp_path, vision)
    for resize in (False, True):
        message = refusal(UniFormerV2(TINY), path, activation="quick_gelu", interpolate_positions=resize)
        assert "--interpolate-positions" not in message
        assert "another backbone: width 64 and patches of 16 px, where the model has 64 and 8 px" in message


def test_the_activation_of_openai_is_known_and_of_openclip_is_not(tmp_path: Path):
    assert open_tower(openai(tmp_path, tower())).activation == "quick_gelu"
    assert open_tower(openclip(tmp_path, tower())).activation is None


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"visual.trunk.blocks.0.norm1.weight": torch.zeros(3)}, "from timm"),
        ({"visual.layer1.0.conv1.weight": torch.zeros(3)}, "no ViT image tower of CLIP"),
        ({"transformer.resblocks.0.ln_1.weight": torch.zeros(3), "text_projection": torch.zeros(2)}, "no ViT image"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(3)}, "it holds blocks.0.attn.qkv.weight, …"),
    ],
)
def test_what_is_no_tower(state: dict[str, Tensor], said: str, tmp_path: Path):
    torch.save(state, tmp_path / "w.pt")
    assert said in refusal(UniFormerV2(TINY), tmp_path / "w.pt")


def test_by_address_kept_in_the_cache_and_checked(tmp_path: Path, loopback):
    data = openai(tmp_path, tower()).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    url = loopback.serve(f"/models/{digest}/ViT-tiny.pt", data)
    for _ in range(2):
        load_clip(UniFormerV2(TINY), url, cache=tmp_path / "cache")
    assert len(loopback.log(f"/models/{digest}/ViT-tiny.pt")) == 1
    wrong = loopback.serve(f"/models/{'0' * 64}/ViT-tiny.pt", data)
    message = refusal(UniFormerV2(TINY), wrong, cache=tmp_path / "cache")
    assert f"its SHA-256 is {digest}, want {'0' * 64}" in message
    plain = loopback.serve("/ViT-tiny.pt", data)
    load_clip(UniFormerV2(TINY), plain, cache=tmp_path / "cache", sha256=digest.upper())
    assert "SHA-256" in refusal(UniFormerV2(TINY), plain, cache=tmp_path / "cache", sha256="1" * 64)
    assert "SHA-256" in refusal(UniFormerV2(TINY), tmp_path / "ViT-tiny.pt", sha256="1" * 64)


def test_by_huggingface_id(tmp_path: Path, loopback, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", loopback.url(""))
    monkeypatch.chdir(tmp_path)
    names = huggingface_names(tower())
    loopback.serve("/owner/clip-tiny/resolve/main/model.safetensors", save(names))
    loopback.serve("/owner/clip-tiny/resolve/main/config.json", config("gelu"))
    message = refusal(UniFormerV2(TINY), "owner/clip-tiny", cache="cache")
    assert "owner/clip-tiny: was trained with gelu (hidden_act of config.json)" in message
    load_clip(UniFormerV2(replace(TINY, activation="gelu")), "owner/clip-tiny", cache="cache")
    # Older repositories have pytorch_model.bin alone.
    torch.save(names, "w.bin")
    loopback.serve("/owner/old/resolve/v1/pytorch_model.bin", Path("w.bin").read_bytes())
    loopback.serve("/owner/old/resolve/v1/config.json", config())
    load_clip(UniFormerV2(TINY), "owner/old@v1", cache="cache")
    message = refusal(UniFormerV2(TINY), "owner/none", cache="cache")
    assert "has none of model.safetensors, pytorch_model.bin" in message
    assert "ViT-B/16" in message


def test_openais_names_carry_their_hashes():
    assert set(OPENAI_TOWERS) == {"ViT-B/16", "ViT-L/14", "ViT-L/14@336px"}
    for url in OPENAI_TOWERS.values():
        assert len(url.split("/")[-2]) == 64


def test_a_missing_file(tmp_path: Path):
    assert refusal(UniFormerV2(TINY), tmp_path / "none.pt").endswith("none.pt: no such file or folder")


# TorchScript archives, read as data


def test_torchscript_tensors_are_those_of_torch(tmp_path: Path):
    path = openai(tmp_path, tower())
    file = read_torchscript(path)
    expected = whole(tower())
    assert file.describe().keys() == expected.keys() | {"input_resolution"}
    for name, tensor in expected.items():
        assert torch.equal(file.tensor(name), tensor)
        assert file.tensor(name).dtype == tensor.dtype


def test_what_is_torchscript(tmp_path: Path):
    assert is_torchscript(openai(tmp_path, tower()))
    assert not is_torchscript(openclip(tmp_path, tower()))
    assert not is_torchscript(tmp_path)
    (tmp_path / "x").write_bytes(b"PK\x03\x04")
    assert not is_torchscript(tmp_path / "x")


def forged(tmp_path: Path, data: bytes, *, keep: bool = True) -> Path:
    """An archive whose data.pkl is `data`."""
    source, path = openai(tmp_path, tower()), tmp_path / "forged.pt"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            if item.filename.endswith("/data.pkl"):
                new.writestr(item.filename, data)
            elif keep:
                new.writestr(item.filename, old.read(item))
    return path


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


def test_no_code_of_an_archive_runs(tmp_path: Path):
    for protocol in (2, 4):
        path = forged(tmp_path, pickle.dumps(Evil(), protocol))
        with pytest.raises(CheckpointError, match="refused or damaged TorchScript archive: "):
            read_torchscript(path)
    assert not Evil.ran
    pickle.loads(pickle.dumps(Evil(), 2))
    assert Evil.ran, "the test would notice"


def test_an_archive_of_other_instructions_is_refused(tmp_path: Path):
    global_call = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
    for data, said in (
        (global_call, "it calls os.system; nothing was run"),
        (b"\x80\x02cos\nsystem\n)\x81.", "it makes an object of"),
        (b"\x80\x02}}b.", "it sets the state of a dict"),
        (b"\x80\x02(i__torch__\nA\n.", "the instruction INST"),
        (b"\x80\x02}", ""),
        (b"\x80\x02}.", "holds no module"),
        (b"", ""),
        (pickle.dumps([1, 2], 2), "holds no module"),
    ):
        with pytest.raises(CheckpointError, match="forged") as caught:
            read_torchscript(forged(tmp_path, data))
        assert said in str(caught.value)


def test_modules_without_end_are_refused(tmp_path: Path):
    """One that holds itself; a thousand in one another; forty of which each holds the next one twice."""
    module, held_twice = b"c__torch__\nM\n)\x81", b"}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ubq\x00"
    held_once = b"}X\x01\x00\x00\x00ah\x00sbq\x00"
    for data, said in (
        (b"\x80\x02" + module + b"q\x00" + held_once + b".", "a module that contains itself"),
        (b"\x80\x02" + module + b"q\x00" + (module + held_once) * 3_000 + b".", "recursion"),
        (b"\x80\x02" + module + b"q\x00" + (module + held_twice) * 40 + b".", "more than 100,000 modules"),
    ):
        with pytest.raises(CheckpointError, match=r"forged\.pt: refused or damaged") as caught:
            read_torchscript(forged(tmp_path, data))
        assert said in str(caught.value)


def test_a_damaged_archive(tmp_path: Path):
    path = openai(tmp_path, tower())
    name = "visual.conv1.weight"
    where = read_torchscript(path).stored[name].storage
    for shorten in (True, False):
        broken = tmp_path / "broken.pt"
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(broken, "w") as new:
            for item in old.infolist():
                if not item.filename.endswith(f"/data/{where}"):
                    new.writestr(item.filename, old.read(item))
                elif shorten:
                    new.writestr(item.filename, old.read(item)[:-2])
        file = read_torchscript(broken)
        with pytest.raises(CheckpointError, match=name):
            file.tensor(name)
        assert name in refusal(UniFormerV2(TINY), broken)


def test_a_tensor_that_reaches_past_its_storage_is_refused(tmp_path: Path):
    path = openai(tmp_path, tower())
    file = read_torchscript(path)
    name = "visual.ln_pre.weight"
    for change in ({"offset": 1}, {"offset": -1}, {"stride": (2,)}, {"stride": (-1,)}, {"num_stored": 65}):
        file.stored[name] = replace(read_torchscript(path).stored[name], **change)
        with pytest.raises(CheckpointError, match="does not fit the bytes"):
            file.tensor(name)


def test_a_copied_archive_under_another_name(tmp_path: Path):
    """The folder inside an archive keeps the name that it was saved under."""
    moved = tmp_path / "clip.bin"
    shutil.move(openai(tmp_path, tower()), moved)
    load_clip(UniFormerV2(TINY), moved)
