"""Who published which heads, and in which index order their rows are: facts, each with its source and its certainty.

Read in public code in November 2026. An order is PROVEN by code, a list file or a printed result, LIKELY by what the
authors say or by the lists they use, UNKNOWN where nothing of the kind was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from k710.models.checkpoints.signatures import Layout, Shape

PROVEN, LIKELY, UNKNOWN = "proven", "likely", "unknown"

_IMAGENET = "mean and deviation of ImageNet"
_SPARSE = "sparse frames as UniFormerV2's"
_SLOWFAST = "mean 0.45, deviation 0.225"


@dataclass(frozen=True)
class Order:
    """The index order of a published head of so many rows.

    `name` is a dialect, an order of which `labelmaps/orders.csv` holds a part, or None; of an UNKNOWN order it is what
    is likely. `source` says how that is known. `widths` are the widths of the models that it is of; empty means all.
    """

    rows: int
    name: str | None
    certainty: str
    source: str
    widths: tuple[int, ...] = ()

    @property
    def verdict(self) -> str:
        """The order and its certainty, without the source."""
        if self.name is None:
            return "unknown"
        return f"{self.name}, {'likely but unproven' if self.certainty == UNKNOWN else self.certainty}"

    def __str__(self) -> str:
        return f"{self.verdict} ({self.source})"


@dataclass(frozen=True)
class PublishedModel:
    """A model whose checkpoints are in the wild.

    `layout` names its row of LAYOUTS, which several may share; `sizes` are the (width, patch) that were published,
    where that tells those apart. `pixels` says what its evaluation feeds it with: frames, normalisation, size, views.
    """

    name: str
    layout: str
    title: str
    repository: str
    pixels: str
    orders: tuple[Order, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()

    def order(self, rows: int, width: int) -> Order | None:
        """The order of its published heads of so many rows; None where it publishes none."""
        found = (order for order in self.orders if order.rows == rows and (not order.widths or width in order.widths))
        return next(found, None)


_MMACTION2_LISTS = "tools/data/kinetics/label_map_k400.txt, label_map_k600.txt, label_map_k700.txt"
_VIDEOMAEV2_ROWS = "misc/label_710to400.json, label_710to600.json, label_710to700.json"
_MIXED = "label_mixto600.json and label_mixto700.json pick the rows of a 710-row head"
_OPENGVLAB_LISTS = "DATASET.md leads to the lists of UniFormerV2"
_CLASSNAMES = "kinetics_classnames.json, which its documentation names"
_NAMELESS = "the published folders name their classes in config.json"

PUBLISHED_MODELS = (
    PublishedModel(
        "uniformerv2",
        "uniformerv2",
        "UniFormerV2",
        "OpenGVLab/UniFormerV2",
        "8 to 64 sparse frames, mean 0.45, deviation 0.225, 224 or 336 px, 4 x 3 views",
        (
            Order(710, "uniformerv2", PROVEN, _MIXED),
            Order(400, "uniformerv2", PROVEN, "UNIFORMERV2.PRETRAIN keeps rows 0-399 of a 710-row head"),
            Order(600, "uniformerv2", PROVEN, _MIXED),
            Order(700, "uniformerv2", PROVEN, _MIXED),
        ),
    ),
    PublishedModel(
        "mmaction2",
        "mmaction2",
        "MMAction2",
        "open-mmlab/mmaction2",
        "what its configuration says",
        (
            Order(710, "canonical", PROVEN, "tools/data/kinetics710/label_map_k710.txt"),
            Order(400, "canonical", PROVEN, _MMACTION2_LISTS),
            Order(600, "canonical", PROVEN, _MMACTION2_LISTS),
            Order(700, "canonical", PROVEN, _MMACTION2_LISTS),
        ),
    ),
    PublishedModel(
        "aim",
        "aim",
        "AIM",
        "taoyang1122/adapt-image-models",
        "8 to 32 frames, its own mean and deviation, 224 px, 3 x 1 views",
        (
            Order(400, "canonical", LIKELY, "its README makes its lists as MMAction2 does"),
            Order(700, "canonical", LIKELY, "its README makes its lists as MMAction2 does"),
        ),
    ),
    PublishedModel(
        "videomaev2",
        "videomaev2",
        "VideoMAE V2",
        "OpenGVLab/VideoMAEv2",
        f"16 frames, stride 4, {_IMAGENET}, 224 px, 5 x 3 views",
        (
            Order(710, "videomaev2", PROVEN, _VIDEOMAEV2_ROWS),
            Order(
                400,
                "videomaev2",
                PROVEN,
                "misc/label_710to400.json, and the five lines of K400 that its DATASET.md prints",
            ),
            Order(600, "videomaev2", PROVEN, _VIDEOMAEV2_ROWS),
            Order(700, "videomaev2", PROVEN, _VIDEOMAEV2_ROWS),
        ),
        ((384, 16), (768, 16), (1024, 16), (1280, 16), (1408, 14)),
    ),
    PublishedModel(
        "videomae",
        "videomaev2",
        "VideoMAE",
        "MCG-NJU/VideoMAE",
        f"16 frames, stride 4, {_IMAGENET}, 224 px, 5 x 3 views",
        (Order(400, "canonical", PROVEN, "MMAction2 tests its weights on an alphabetical list without a mapping"),),
        ((384, 16), (768, 16), (1024, 16), (1280, 16)),
    ),
    PublishedModel(
        "internvideo1",
        "videomaev2",
        "InternVideo1's VideoMAE",
        "OpenGVLab/InternVideo",
        f"16 frames, stride 4, {_IMAGENET}, 224 px, 5 x 3 views",
        (
            Order(710, "uniformerv2", LIKELY, "its scripts name row lists as UniFormerV2 does"),
            Order(400, "canonical", LIKELY, "its list data/k400 is another than that of rows 0-399", (768, 1024)),
            Order(400, "uniformerv2", LIKELY, "ViT-H comes through K710 and keeps its rows 0-399", (1280,)),
            Order(600, "uniformerv2", LIKELY, "its script maps the rows of K710 to the list of the direct training"),
            Order(700, "uniformerv2", LIKELY, "its script maps the rows of K710 to the list of the direct training"),
        ),
        ((768, 16), (1024, 16), (1280, 16)),
    ),
    PublishedModel(
        "mvd",
        "videomaev2",
        "MVD",
        "ruiwang2021/mvd",
        f"16 frames, stride 4, {_IMAGENET}, 224 px, 5 x 3 views",
        (Order(400, "canonical", UNKNOWN, "its list is not published"),),
        ((384, 16), (768, 16), (1024, 16), (1280, 16)),
    ),
    PublishedModel(
        "videomaev2-pretrain",
        "videomaev2_pretrain",
        "VideoMAE V2's masked pretraining",
        "OpenGVLab/VideoMAEv2",
        f"16 frames, stride 4, {_IMAGENET}, 224 px, 90 % of them hidden",
        sizes=((384, 16), (768, 16), (1024, 16), (1280, 16), (1408, 14)),
    ),
    PublishedModel(
        "videomae-pretrain",
        "videomaev2_pretrain",
        "VideoMAE's masked pretraining",
        "MCG-NJU/VideoMAE",
        f"16 frames, stride 4, {_IMAGENET}, 224 px, 90 % of them hidden",
        sizes=((384, 16), (768, 16), (1024, 16), (1280, 16)),
    ),
    PublishedModel(
        "umt",
        "umt",
        "UMT",
        "OpenGVLab/unmasked_teacher",
        f"8 or 16 {_SPARSE}, {_IMAGENET}, 224 px, 4 x 3 views",
        (
            Order(710, "uniformerv2", LIKELY, _OPENGVLAB_LISTS),
            Order(400, "uniformerv2", PROVEN, "run_class_finetuning.py keeps rows 0-399 of a 710-row head"),
            Order(600, "uniformerv2", PROVEN, _MIXED),
            Order(700, "uniformerv2", PROVEN, _MIXED),
        ),
    ),
    PublishedModel(
        "internvideo2",
        "internvideo2",
        "InternVideo2",
        "OpenGVLab/InternVideo",
        f"8 or 16 {_SPARSE}, {_IMAGENET}, 224 px, 4 x 3 views (probes 1 x 3)",
        (
            Order(710, "uniformerv2", LIKELY, _OPENGVLAB_LISTS),
            Order(
                400,
                "uniformerv2",
                PROVEN,
                "run_finetuning.py keeps rows 0-399 of a 710-row head; likely so for its linear probes",
            ),
            Order(600, "uniformerv2", PROVEN, _MIXED),
            Order(700, "uniformerv2", PROVEN, _MIXED),
        ),
    ),
    PublishedModel(
        "videomamba",
        "videomamba",
        "VideoMamba",
        "OpenGVLab/VideoMamba",
        f"8 to 64 {_SPARSE}, {_IMAGENET}, 224 or 384 px, 4 x 3 views",
        (Order(400, "uniformerv2", LIKELY, _OPENGVLAB_LISTS),),
    ),
    PublishedModel(
        "uniformer",
        "uniformer",
        "UniFormer",
        "Sense-X/UniFormer",
        f"16 or 32 frames, stride 4 or 8, {_SLOWFAST}, 224 px, 4 x 1 views (light models 1 x 1)",
        (
            Order(400, "uniformerv2", PROVEN, "data_list/k400/kinetics_400_categroies.txt and val.csv"),
            Order(600, "uniformerv2", PROVEN, "data_list/k600/k600_common_category.list, k600_special_category.list"),
        ),
    ),
    PublishedModel(
        "timesformer",
        "timesformer",
        "TimeSformer",
        "facebookresearch/TimeSformer",
        f"8 to 96 frames, {_SLOWFAST}, 224 or 448 px, 1 x 3 views",
        (
            Order(400, "canonical", LIKELY, "its author in issue 2 names the order of the original data set"),
            Order(600, "canonical", LIKELY, "its author in issue 2 names the order of the original data set"),
        ),
    ),
    PublishedModel(
        "mvit",
        "mvit",
        "MViT",
        "facebookresearch/SlowFast",
        f"16 to 40 frames, stride 3 or 4, {_SLOWFAST}, 224 or 312 px, 5 x 1 views (L 5 x 3)",
        (
            Order(400, "canonical", PROVEN, "MMAction2 tests its weights on an alphabetical list without a mapping"),
            Order(600, None, UNKNOWN, "its list is not published, see issues 542, 95, 134, 226"),
        ),
    ),
    PublishedModel(
        "hiera",
        "hiera",
        "Hiera",
        "facebookresearch/hiera",
        f"16 frames, stride 4, {_SLOWFAST}, 224 px, 5 x 3 views; its outputs are probabilities already",
        (
            Order(
                400, "canonical", PROVEN, "in examples/inference.ipynb, row 363 is training dog and 125 feeding goats"
            ),
        ),
    ),
    PublishedModel(
        "slowfast",
        "slowfast",
        "SlowFast, Slow, C2D, I3D or X3D",
        "facebookresearch/SlowFast",
        f"8 to 32 frames, {_SLOWFAST}, 256 px, 10 x 3 views",
        (
            Order(400, "canonical", LIKELY, _CLASSNAMES),
            Order(600, "slowfast", PROVEN, "issue 95, where luge is row 134 and yoga row 544, as in no other order"),
        ),
    ),
    PublishedModel(
        "pytorchvideo",
        "pytorchvideo",
        "a model of PyTorchVideo's hub",
        "facebookresearch/pytorchvideo",
        f"what its page of the hub says, {_SLOWFAST}",
        (Order(400, "canonical", LIKELY, _CLASSNAMES),),
    ),
    PublishedModel(
        "pytorchvideo-mvit",
        "pytorchvideo-mvit",
        "MViT of PyTorchVideo's hub",
        "facebookresearch/pytorchvideo",
        f"16 or 32 frames, stride 4 or 3, {_SLOWFAST}, 224 px",
        (Order(400, "canonical", LIKELY, _CLASSNAMES),),
    ),
    PublishedModel(
        "evl",
        "evl",
        "EVL",
        "OpenGVLab/efficient-video-recognition",
        "8 to 32 frames, mean and deviation of CLIP, 224 px, 3 x 1 views, and the CLIP tower, which is not in the file",
        (Order(400, "canonical", PROVEN, "data/k400_class_mappings.json"),),
    ),
    PublishedModel(
        "st-adapter",
        "st-adapter",
        "ST-Adapter",
        "linziyi96/st-adapter",
        "8 frames, stride 16, mean and deviation of CLIP, 224 px, 3 x 1 views",
        (Order(400, "canonical", UNKNOWN, "issue 9 asks for its list and is open"),),
    ),
    PublishedModel(
        "vjepa",
        "vjepa-probe",
        "a probe of V-JEPA",
        "facebookresearch/jepa",
        f"16 frames, stride 4, {_IMAGENET}, 224 or 384 px, 8 segments x 3, and the encoder, which is not in the file",
        (Order(400, "vjepa", PROVEN, "issue 18, where a maintainer prints it"),),
    ),
    PublishedModel(
        "vjepa2",
        "vjepa2-probe",
        "a probe of V-JEPA 2",
        "facebookresearch/vjepa2",
        f"16 frames, stride 4, {_IMAGENET}, 256 px, 8 segments x 3, and the encoder, which is not in the file",
    ),
    PublishedModel(
        "omnivore",
        "omnivore",
        "Omnivore",
        "facebookresearch/omnivore",
        f"32 of 160 frames, {_IMAGENET}, 224 px, 4 x 3 views",
        (
            Order(
                400, "canonical", PROVEN, "kinetics_classnames.json, with which issue 76 of Ego4d prints right answers"
            ),
            Order(600, None, UNKNOWN, "its K600 file is not in its list of addresses"),
        ),
    ),
    PublishedModel(
        "xclip",
        "xclip",
        "X-CLIP",
        "microsoft/VideoX",
        f"8 or 16 frames, {_IMAGENET}, 224 or 336 px, and the class names as text: it has no head",
    ),
    PublishedModel(
        "hf-videomae",
        "hf-videomae",
        "VideoMAE of transformers",
        "huggingface/transformers",
        "16 frames, what preprocessor_config.json says; k710 convert --to videomaev2 makes a form that k710 can run",
        (
            Order(
                400,
                "canonical",
                LIKELY,
                _NAMELESS,
            ),
        ),
    ),
    PublishedModel(
        "hf-timesformer",
        "hf-timesformer",
        "TimeSformer of transformers",
        "huggingface/transformers",
        "8 to 96 frames, what preprocessor_config.json says",
        (
            Order(
                400,
                "canonical",
                LIKELY,
                _NAMELESS,
            ),
            Order(
                600,
                "canonical",
                LIKELY,
                _NAMELESS,
            ),
        ),
    ),
    PublishedModel(
        "hf-vivit",
        "hf-vivit",
        "ViViT of transformers",
        "huggingface/transformers",
        "32 frames, pixels from -1 to 1, 224 px",
        (
            Order(
                400,
                "canonical",
                LIKELY,
                "Google's file answers row 116 for eating spaghetti; like any other training's, it names no classes",
            ),
        ),
    ),
    PublishedModel(
        "hf-vjepa2",
        "hf-vjepa2",
        "V-JEPA 2 of transformers",
        "huggingface/transformers",
        f"16 frames or more, {_IMAGENET}, 256 px",
    ),
)


def models_of(layout: Layout | None) -> tuple[PublishedModel, ...]:
    """The published models that have these tensors."""
    return tuple(model for model in PUBLISHED_MODELS if layout and model.layout == layout.name)


def candidates(layout: Layout | None, shapes: Mapping[str, Shape]) -> tuple[PublishedModel, ...]:
    """Those of them that were published in this size; all of them where none was, or where sizes tell nothing."""
    models = models_of(layout)
    published = tuple(model for model in models if not model.sizes or size_of(layout, shapes) in model.sizes)
    return published or models


def size_of(layout: Layout | None, shapes: Mapping[str, Shape]) -> tuple[int, int]:
    """Width and patch of a model, by its stem; zeros where it shows none."""
    shape = shapes.get(layout.stem.tensor, ()) if layout and layout.stem else ()
    return (shape[0], shape[-1]) if shape else (0, 0)
