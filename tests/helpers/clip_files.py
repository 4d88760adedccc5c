"""CLIP checkpoints with small towers, in every form in which they are published, text tower included."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

WIDTH, LAYERS, PATCH_PX, OUT = 64, 4, 8, 32


def tower(grid: int = 4, *, width: int = WIDTH, layers: int = LAYERS) -> dict[str, Tensor]:
    """An image tower under OpenAI's names, in float16 as published; for the preset `tiny` where grid is 4."""
    generator = torch.Generator().manual_seed(grid)
    shapes: dict[str, tuple[int, ...]] = {
        "class_embedding": (width,),
        "positional_embedding": (grid**2 + 1, width),
        "proj": (width, OUT),
        "conv1.weight": (width, 3, PATCH_PX, PATCH_PX),
    }
    shapes |= {f"{norm}.{kind}": (width,) for norm in ("ln_pre", "ln_post") for kind in ("weight", "bias")}
    for number in range(layers):
        block = f"transformer.resblocks.{number}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        sizes = {"attn.out_proj": (width, width), "mlp.c_fc": (4 * width, width), "mlp.c_proj": (width, 4 * width)}
        for layer, shape in sizes.items():
            shapes |= {f"{block}.{layer}.weight": shape, f"{block}.{layer}.bias": shape[:1]}
        shapes |= {f"{block}.{norm}.{kind}": (width,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    return {name: (torch.randn(shape, generator=generator) * 0.1).half() for name, shape in shapes.items()}


def whole(vision: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's and OpenCLIP's names of the whole model."""
    text = {
        "positional_embedding": torch.zeros(7, 8),
        "text_projection": torch.zeros(8, OUT),
        "logit_scale": torch.tensor(4.6),
        "token_embedding.weight": torch.zeros(11, 8),
        "transformer.resblocks.0.attn.in_proj_weight": torch.zeros(24, 8),
        "ln_final.weight": torch.ones(8),
    }
    return {**{f"visual.{name}": tensor for name, tensor in vision.items()}, **text}


class _Part(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def openai(folder: Path, vision: dict[str, Tensor]) -> Path:
    """A TorchScript archive, as OpenAI's ViT-B-16.pt is."""
    model = _Part()
    for name, tensor in whole(vision).items():
        *parents, leaf = name.split(".")
        module = model
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, _Part())
            module = module._modules[parent]
        module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    model.register_buffer("input_resolution", torch.tensor(32))
    path = folder / "ViT-tiny.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against TorchScript, which is how these files came to be
        torch.jit.save(torch.jit.script(model), str(path))
    return path


def huggingface_names(vision: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of Hugging Face's CLIPModel."""
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    parts["attn.out_proj"] = "self_attn.out_proj"
    top = {
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "conv1.weight": "embeddings.patch_embedding.weight",
    }
    top |= {f"ln_pre.{kind}": f"pre_layrnorm.{kind}" for kind in ("weight", "bias")}
    top |= {f"ln_post.{kind}": f"post_layernorm.{kind}" for kind in ("weight", "bias")}
    out = {"visual_projection.weight": vision["proj"].T.contiguous()} if "proj" in vision else {}
    out |= {"text_model.embeddings.token_embedding.weight": torch.zeros(11, 8), "logit_scale": torch.tensor(4.6)}
    for name, tensor in vision.items():
        if name in top:
            out[f"vision_model.{top[name]}"] = tensor
        elif name.startswith("transformer.resblocks."):
            number, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
            layer = f"vision_model.encoder.layers.{number}"
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                for each, third in zip("qkv", tensor.chunk(3), strict=True):
                    out[f"{layer}.self_attn.{each}_proj.{kind}"] = third.contiguous()
            else:
                part, _, kind = rest.rpartition(".")
                out[f"{layer}.{parts[part]}.{kind}"] = tensor
    return {**out, "vision_model.embeddings.position_ids": torch.arange(17)[None]}


def config(activation: str | None = "quick_gelu") -> bytes:
    vision = {"hidden_size": WIDTH, **({"hidden_act": activation} if activation else {})}
    return json.dumps({"architectures": ["CLIPModel"], "model_type": "clip", "vision_config": vision}).encode()


def huggingface(folder: Path, vision: dict[str, Tensor], *, activation: str | None = "quick_gelu") -> Path:
    """A folder with model.safetensors and config.json."""
    folder = folder / "clip-vit-tiny"
    folder.mkdir()
    save_file(huggingface_names(vision), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_bytes(config(activation))
    return folder


def huggingface_bin(folder: Path, vision: dict[str, Tensor]) -> Path:
    path = folder / "pytorch_model.bin"
    torch.save(huggingface_names(vision), path)
    (folder / "config.json").write_bytes(config())
    return path


def huggingface_vision(folder: Path, vision: dict[str, Tensor], *, activation: str | None = "quick_gelu") -> Path:
    """A CLIPVisionModel by itself as transformers 5 saves it: without `vision_model.` before its names."""
    folder = folder / "clip-vision-tiny"
    folder.mkdir()
    names = {name.removeprefix("vision_model."): tensor for name, tensor in huggingface_names(vision).items()}
    left_out = ("visual_projection.", "text_model.", "logit_scale", "embeddings.position_ids")
    save_file(
        {name: each for name, each in names.items() if not name.startswith(left_out)}, folder / "model.safetensors"
    )
    described = {"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model", "hidden_act": activation}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def openclip_folder(folder: Path, vision: dict[str, Tensor], *, quick_gelu: bool | None = True) -> Path:
    """A folder as OpenCLIP pushes it to a hub."""
    folder = folder / "CLIP-ViT-tiny"
    folder.mkdir()
    save_file(whole(vision), folder / "open_clip_model.safetensors")
    model: dict = {
        "embed_dim": OUT,
        "vision_cfg": {"layers": LAYERS, "width": WIDTH, "patch_size": PATCH_PX},
        "text_cfg": {},
    }
    model |= {} if quick_gelu is None else {"quick_gelu": quick_gelu}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    return folder


def openclip(folder: Path, vision: dict[str, Tensor]) -> Path:
    path = folder / "open_clip_pytorch_model.bin"
    torch.save(whole(vision), path)
    return path


def openclip_training(folder: Path, vision: dict[str, Tensor]) -> Path:
    path = folder / "epoch_32.pt"
    state = {f"module.{name}": tensor for name, tensor in whole(vision).items()}
    torch.save({"epoch": 32, "name": "run", "state_dict": state, "optimizer": {"state": {}}}, path)
    return path


def openclip_safetensors(folder: Path, vision: dict[str, Tensor]) -> Path:
    path = folder / "open_clip_model.safetensors"
    save_file(whole(vision), path)
    return path


def bare(folder: Path, vision: dict[str, Tensor]) -> Path:
    """The tower alone, as MMAction2 and the release keep it."""
    path = folder / "vit_tiny.pth"
    torch.save({name: tensor for name, tensor in vision.items() if name not in ("proj",)}, path)
    return path


# The forms in which nothing tells the activation.
UNTOLD = ("openclip", "openclip training", "openclip safetensors", "bare")

FORMS: dict[str, Callable[[Path, dict[str, Tensor]], Path]] = {
    "openai": openai,
    "huggingface": huggingface,
    "huggingface bin": huggingface_bin,
    "huggingface vision model": huggingface_vision,
    "openclip folder": openclip_folder,
    "openclip": openclip,
    "openclip training": openclip_training,
    "openclip safetensors": openclip_safetensors,
    "bare": bare,
}
