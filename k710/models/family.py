"""A published model as one value: what training, evaluation, inspection and cost need to know of it.

A new model is a folder beside this file and a row in `families.py`. Training and evaluation name no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, get_type_hints

from torch import Tensor, nn

from k710.errors import UsageError
from k710.models.checkpoints.checkpoint import Checkpoint
from k710.random_key import RandomKey

# Starts that every family has: a checkpoint of the family, and random weights.
FROM_CHECKPOINT, FROM_NOTHING = "checkpoint", "nothing"

# Fields of every configuration that a recipe gives by its section `data`, or that follow from it.
_GIVEN_BY_DATA = ("size_px", "num_frames", "num_classes")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of one clip, one view: by part for a forward pass, and in all for a step of training."""

    forward: Mapping[str, int]
    training: int


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip a model sees: `method` and `stride` of k710.loading.sampling.FrameSampling.

    `strides` has other strides by number of frames.
    """

    method: str = "sparse"
    stride: int | None = None
    strides: Mapping[int, int] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """As the options of a dataset and of FrameSampling."""
        return {"method": self.method, "stride": self.stride}

    def of(self, num_frames: int) -> Sampling:
        """With the stride for so many frames."""
        return Sampling(self.method, self.strides.get(num_frames, self.stride))

    def changed(self, method: str | None, stride: int | None) -> Sampling:
        """With what a recipe's section `data` says, where it says something: a method with its stride, or a stride."""
        if method is not None:
            return Sampling(method, stride)
        return self if stride is None else replace(self, stride=stride)


@dataclass(frozen=True)
class Start:
    """Something other than a checkpoint of the family that a model can start from, such as a CLIP image tower.

    `load(model, source, interpolate_positions, options)` puts the weights into the model and returns messages on what
    it loaded; `options` are those of the recipe's section `model`, for what the file does not tell. It raises
    CheckpointError or DownloadError, and then leaves the model as it was. `title` says what `source` is; `wants` also
    says with which option it is given. `names` are the sources that k710 itself knows where to get.
    """

    load: Callable[[nn.Module, str | Path, bool, Mapping[str, Any]], list[str]]
    title: str
    wants: str
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Frozen:
    """The part of a model that training leaves as it is. What it sees of clips can be computed once and kept.

    `is_frozen(config)` says whether it is. `see(model, clips)` gives what it sees of clips (B, 3, T, S, S): tensors
    (B, …) by name, which the model takes in place of clips. `shapes(config)` are those of one clip. `told_by` names the
    fields of the configuration that they depend on, beside the weights that are not trained. `drop(model)` takes the
    part out of a model that is given nothing but tensors, if no checkpoint has it.
    """

    is_frozen: Callable[[Any], bool]
    see: Callable[[nn.Module, Tensor], dict[str, Tensor]]
    shapes: Callable[[Any], dict[str, tuple[int, ...]]]
    told_by: tuple[str, ...]
    drop: Callable[[nn.Module], None] | None = None


@dataclass(frozen=True)
class Encoder:
    """What a checkpoint that was pretrained without classes has for a classifier.

    `names` maps the model's names to the file's. `left` are the beginnings of the file's other names, `new` those of
    the model's names that the file has nothing for.
    """

    names: Mapping[str, str]
    left: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True)
class Reconstruction:
    """Clips as a model sees them and as it reconstructs them: (B, 3, T, H, W) each, pixels in 0 to 1.

    `losses`: (B,) its own loss in all that was hidden from it.
    """

    seen: Tensor
    found: Tensor
    losses: Tensor


class Config(Protocol):
    """What every family's configuration has; it is a frozen dataclass. `title` is the model in words. A family with
    classes has `num_classes` too."""

    @property
    def size_px(self) -> int: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def title(self) -> str: ...


@dataclass(frozen=True)
class Family:
    """A published model with its sizes.

    `config_class` is a frozen dataclass with at least what Config has; `presets` are its published values.
    `build(config)` makes the model, a module with `config` that takes (B, 3, T, H, W) normalised pixels and gives
    (B, classes) logits. `head` is the name of its last linear layer. It is None where a model has no classes and learns
    by reconstructing what is hidden from it. Such a model also has `draw_masks(keys)`, the tensors that it takes beside
    the pixels, drawn by a RandomKey for each clip, `losses(output, pixels, *masks)`, a number for each clip, and
    `features(pixels)`, what it makes of clips of which nothing is hidden: (B, `feature_width` of its configuration).
    `reconstruct(model, pixels, keys)` shows what it reconstructs, with masks that are drawn by the keys.

    `layer_of(name, config)` numbers the layers for layer-wise decay of the learning rate, 0 the stem;
    `num_layers(config)` is the number of the topmost one. `no_decay` names the parameters that have no weight decay,
    in addition to vectors and norms.

    `config_from_shapes(shapes)` is the configuration that tensors belong to, None where they are of another model.
    `preset_name(config)` is the preset whose tensors, but for the head's rows, a model of `config` has.
    `tensor_names(checkpoint)` maps the model's names to the file's. `positions` names the position embedding, if it can
    be resized; `resize_positions(tensor, config, where)` does it.

    `completed_by` is the start that gives the weights which a model's state dict leaves out (k710.models.left_out), if
    it leaves any out. `encoder_of(checkpoint, config)` is the encoder of a checkpoint that was pretrained without
    classes, None for any other; families that are not pretrained so have none.

    `not_in_shapes` are fields of the configuration that change what a model computes but no shape of a tensor. k710's
    own checkpoints record them in their recipe; others are taken to have the default. `of_masks` are those of them that
    a run which starts from a checkpoint may choose anew. `size_in_shapes`: whether shapes tell the size of the frames;
    where they do not, the recipe of a k710 checkpoint does, and others are taken to have the published size.

    `mean` and `std` normalise pixels in 0 to 1, one number a channel; `in_integers` is how the crops of an evaluation
    are rounded (k710.loading.augment.evaluation_crops). `sampling` says which frames of a clip it sees,
    unless a recipe says otherwise. `frozen` is the part that can be kept as it is in training, if there is one.
    """

    name: str
    presets: Mapping[str, Any]
    config_class: type[Any]
    build: Callable[[Any], nn.Module]
    head: str | None
    layer_of: Callable[[str, Any], int]
    num_layers: Callable[[Any], int]
    config_from_shapes: Callable[[Shapes], Any | None]
    preset_name: Callable[[Any], str | None]
    tensor_names: Callable[[Checkpoint], dict[str, str]]
    cost: Callable[[Any], Cost]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    starts: Mapping[str, Start]
    no_decay: frozenset[str] = frozenset()
    sampling: Sampling = Sampling()
    completed_by: str = ""
    not_in_shapes: tuple[str, ...] = ()
    of_masks: tuple[str, ...] = ()
    size_in_shapes: bool = True
    encoder_of: Callable[[Checkpoint, Any], Encoder | None] | None = None
    reconstruct: Callable[[Any, Tensor, Sequence[RandomKey]], Reconstruction] | None = None
    in_integers: bool = False
    positions: str | None = None
    resize_positions: Callable[[Any, Any, str], Any] | None = None
    frozen: Frozen | None = None

    def config(self, preset: str, **changes: Any) -> Any:
        """A published configuration by name, with other values where `changes` says so. Raises UsageError."""
        if preset not in self.presets:
            raise UsageError(f"{self.name} has no preset {preset!r}; there are {', '.join(self.presets)}")
        known = {field.name for field in fields(self.config_class)}
        if unknown := sorted(changes.keys() - known):
            raise UsageError(
                f"{self.config_class.__name__} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )
        return replace(self.presets[preset], **changes)

    def sizes(self, *, size_px: int, num_frames: int, num_classes: int) -> dict[str, int]:
        """The fields of its configuration that are not the recipe's section `model` to choose."""
        sizes = {"size_px": size_px, "num_frames": num_frames}
        return sizes | {"num_classes": num_classes} if self.head is not None else sizes

    def crops(self, size_px: int) -> dict[str, Any]:
        """The size and normalisation of its pixels, as `Augment` and `evaluation_crops` take them."""
        return {"crop_px": size_px, "mean": self.mean, "std": self.std, "in_integers": self.in_integers}

    def option_types(self) -> dict[str, Any]:
        """The keys that a recipe's section `model` may have beside its own, and their types."""
        hints = get_type_hints(self.config_class)
        return {name: kind for name, kind in hints.items() if name not in _GIVEN_BY_DATA}
