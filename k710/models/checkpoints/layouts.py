"""The sets of tensor names in the wild: a row for each by which a published checkpoint is recognised.

Names are without what wrappers put before them. A layout is recognised if all its tests are true and those of no other
layout are. The tests are redundant on purpose: between any two layouts, at least two tests differ or one size does, so
one tensor more or less never makes one layout out of another (tests/models/test_published.py holds that).

Sources: the public code of each repository of `published_models.py`, and Hugging Face's transformers 4.46 and 5.24.
"""

from __future__ import annotations

from collections.abc import Mapping

from k710.models.checkpoints.signatures import Has, Layout, Shape, Stem


def _head(name: str) -> tuple[Has, Has]:
    return Has(f"{name}.weight", 2), Has(f"{name}.bias", 1)


def _vit(time_px: int) -> tuple[Has, ...]:
    """VideoMAE's ViT, whose patches are `time_px` frames deep."""
    return (
        Has("patch_embed.proj.weight", 5, ((2, time_px),)),
        Has("blocks.0.attn.qkv.weight", 2),
        Has("blocks.0.attn.q_bias", 1),
        Has("blocks.0.attn.v_bias", 1),
        Has("fc_norm.weight", 1),
        *_head("head"),
    )


_ADAPTERS = tuple(
    Has(rf"transformer\.resblocks\.\d+\.{kind}_Adapter\.D_fc1\.weight", 2, pattern=True) for kind in ("MLP", "S", "T")
)
_CLS_HEAD = _head("cls_head.fc_cls")
_POOLED = (
    Has("blocks.0.attn.pool_k.weight", 5),
    Has("blocks.0.attn.pool_v.weight", 5),
    Has("blocks.0.attn.norm_k.weight", 1),
)
_PROBE_BLOCK = tuple(
    Has(f"pooler.blocks.0.{name}.weight", 2) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
)
_BLOCKS = r"blocks\.(\d+)\."
_VIT_SIZES = ((384, "S"), (768, "B"), (1024, "L"), (1280, "H"), (1408, "g"))

LAYOUTS = (
    Layout(
        "mmaction2",
        "MMAction2 checkpoint",
        "names cls_head.fc_cls.*",
        ("cls_head.fc_cls",),
        _CLS_HEAD,
        tuple(Has(test.name, pattern=True) for test in _ADAPTERS),
    ),
    Layout(
        "aim",
        "AIM checkpoint",
        "names cls_head.fc_cls.* and transformer.resblocks.*.T_Adapter.*",
        ("cls_head.fc_cls",),
        (*_CLS_HEAD, *_ADAPTERS),
        stem=Stem("AIM ViT", "conv1.weight", ((768, "B"), (1024, "L")), r"transformer\.resblocks\.(\d+)\."),
    ),
    Layout(
        "uniformerv2",
        "UniFormerV2 weights",
        "names transformer.temporal_cls_token and others",
        ("transformer.proj.2",),
        (
            Has("class_embedding"),
            Has("transformer.temporal_cls_token"),
            Has("conv1.weight", 5),
            Has("transformer.resblocks.0.attn.in_proj_weight"),
            Has("transformer.dec.0.attn.in_proj_weight"),
        ),
        tuple(Has(test.name) for test in _CLS_HEAD),
    ),
    Layout(
        "videomaev2",
        "VideoMAE checkpoint",
        "names patch_embed.proj.* with patches 2 frames deep, blocks.*.attn.q_bias, fc_norm.*",
        ("head",),
        _vit(2),
        (Has("cls_token"),),
        Stem("VideoMAE ViT", "patch_embed.proj.weight", _VIT_SIZES, _BLOCKS),
    ),
    Layout(
        "videomaev2_pretrain",
        "VideoMAE pretraining checkpoint",
        "names mask_token, encoder_to_decoder.*, decoder.head.*, patch_embed.proj.* with patches 2 frames deep",
        (),
        (
            Has("mask_token", 3),
            Has("encoder_to_decoder.weight", 2),
            Has("decoder.head.weight", 2),
            Has("decoder.blocks.0.attn.qkv.weight", 2),
            Has("patch_embed.proj.weight", 5, ((2, 2),)),
            Has("blocks.0.attn.qkv.weight", 2),
        ),
        (Has("head.weight"),),
        Stem("VideoMAE pretraining ViT", "patch_embed.proj.weight", _VIT_SIZES, _BLOCKS),
    ),
    Layout(
        "umt",
        "UMT checkpoint",
        "names patch_embed.proj.* with patches 1 frame deep, blocks.*.attn.q_bias, fc_norm.*",
        ("head",),
        _vit(1),
        (Has("cls_token"),),
        Stem("UMT ViT", "patch_embed.proj.weight", _VIT_SIZES, _BLOCKS),
    ),
    Layout(
        "internvideo2",
        "InternVideo2 checkpoint",
        "names clip_projector.*, blocks.*.ls1.*, blocks.*.attn.q_norm.*, cls_token",
        ("head",),
        (
            Has("patch_embed.proj.weight", 5, ((2, 1),)),
            Has("blocks.0.attn.qkv.weight", 2),
            Has("cls_token", 3),
            Has("clip_projector.cross_attn.q.weight", 2),
            Has(r"blocks\.0\.ls1\.(gamma|weight)", 1, pattern=True),
            Has("blocks.0.attn.q_norm.weight", 1),
            *_head("head"),
        ),
        stem=Stem(
            "InternVideo2",
            "patch_embed.proj.weight",
            ((384, "S"), (768, "B"), (1024, "L"), (1408, "1B"), (3200, "6B")),
            _BLOCKS,
        ),
    ),
    Layout(
        "videomamba",
        "VideoMamba checkpoint",
        "names layers.*.mixer.A_b_log and temporal_pos_embedding",
        ("head",),
        (
            Has("layers.0.mixer.A_log", 2),
            Has("layers.0.mixer.A_b_log", 2),
            Has("temporal_pos_embedding", 3),
            *_head("head"),
        ),
        stem=Stem("VideoMamba", "patch_embed.proj.weight", ((192, "Ti"), (384, "S"), (576, "M")), r"layers\.(\d+)\."),
    ),
    Layout(
        "uniformer",
        "UniFormer checkpoint",
        "names patch_embed4.proj.* and blocks1.*.pos_embed.*",
        ("head", "head_cls"),  # the light models have the second one too
        (
            Has("patch_embed4.proj.weight", 5),
            Has("blocks1.0.pos_embed.weight", 5),
            Has("blocks1.0.attn.weight", 5),
            *_head("head"),
        ),
        stem=Stem(
            "UniFormer",
            "blocks1.0.pos_embed.weight",
            ((64, "with 64 channels at first (XS, S, B)"), (56, "XXS")),
            r"(blocks\d\.\d+)\.",
            False,
        ),
    ),
    Layout(
        "timesformer",
        "TimeSformer checkpoint",
        "names time_embed and blocks.*.temporal_attn.*",
        ("head",),
        (
            Has("time_embed", 3),
            Has("patch_embed.proj.weight", 4),
            Has("blocks.0.temporal_attn.qkv.weight", 2),
            Has("blocks.0.temporal_fc.weight", 2),
            *_head("head"),
        ),
        stem=Stem("TimeSformer", "patch_embed.proj.weight", ((768, "B"),), _BLOCKS),
    ),
    Layout(
        "mvit",
        "MViT checkpoint",
        "names head.projection.*, patch_embed.proj.*, blocks.*.attn.pool_k.*",
        ("head.projection",),
        (*_head("head.projection"), Has("patch_embed.proj.weight", 5), *_POOLED),
        stem=Stem("MViT", "patch_embed.proj.weight", (), _BLOCKS, False),
    ),
    Layout(
        "hiera",
        "Hiera checkpoint",
        "names head.projection.*, patch_embed.proj.*, pos_embed_spatial, and no pooling",
        ("head.projection",),
        (
            *_head("head.projection"),
            Has("patch_embed.proj.weight", 5),
            Has("pos_embed_spatial", 3),
            Has("pos_embed_temporal", 3),
        ),
        (Has("cls_token"), *(Has(test.name) for test in _POOLED)),
        Stem("Hiera", "patch_embed.proj.weight", ((96, "B"), (112, "B+"), (144, "L"), (256, "H")), _BLOCKS, False),
    ),
    Layout(
        "slowfast",
        "PySlowFast checkpoint",
        "names head.projection.* and s1.pathway0_stem.*",
        ("head.projection",),
        (
            *_head("head.projection"),
            Has(r"s1\.pathway0_stem\.conv(_xy)?\.weight", 5, pattern=True),
            Has("s2.pathway0_res0.branch2.a.weight", 5),
            Has("s2.pathway0_res0.branch2.b.weight", 5),
        ),
    ),
    Layout(
        "pytorchvideo-mvit",
        "PyTorchVideo checkpoint",
        "names patch_embed.patch_model.* and head.proj.*",
        ("head.proj",),
        (
            *_head("head.proj"),
            Has("patch_embed.patch_model.weight", 5),
            Has("cls_positional_encoding.cls_token", 3),
            Has("norm_embed.weight", 1),
        ),
    ),
    Layout(
        "pytorchvideo",
        "PyTorchVideo checkpoint",
        "names blocks.*.res_blocks.* and blocks.5.proj or blocks.6.proj",
        ("blocks.5.proj", "blocks.6.proj"),
        (
            Has(r"blocks\.[56]\.proj\.weight", 2, pattern=True),
            Has(r"blocks\.[56]\.proj\.bias", 1, pattern=True),
            Has(r"blocks\.1\.(multipathway_blocks\.0\.)?res_blocks\.0\.branch2\.conv_a\.weight", 5, pattern=True),
            Has(r"blocks\.1\.(multipathway_blocks\.0\.)?res_blocks\.0\.branch2\.conv_c\.weight", 5, pattern=True),
        ),
    ),
    Layout(
        "evl",
        "EVL checkpoint",
        "names decoder.cls_token, decoder.decoder_layers.*, proj.2.*",
        ("proj.2",),
        (
            Has("decoder.cls_token", 1),
            Has("decoder.decoder_layers.0.attn.q_proj.weight", 2),
            Has("proj.0.weight", 1),
            *_head("proj.2"),
        ),
    ),
    Layout(
        "st-adapter",
        "ST-Adapter checkpoint",
        "names transformer.resblocks.*.adapter_pre_*.conv and fc.*",
        ("fc",),
        (
            Has("class_embedding", 1),
            Has("conv1.weight", 4),
            Has(r"transformer\.resblocks\.\d+\.adapter_pre_(mlp|attn)\.conv\.weight", 5, pattern=True),
            *_head("fc"),
        ),
        stem=Stem("ST-Adapter ViT", "conv1.weight", ((768, "B"), (1024, "L")), r"transformer\.resblocks\.(\d+)\."),
    ),
    Layout(
        "vjepa-probe",
        "V-JEPA probe",
        "names pooler.query_tokens, pooler.cross_attention_block.*, linear.*",
        ("linear",),
        (Has("pooler.query_tokens", 3), Has("pooler.cross_attention_block.xattn.q.weight", 2), *_head("linear")),
        tuple(Has(test.name) for test in _PROBE_BLOCK),
        Stem("V-JEPA attentive probe", "linear.weight", has_patches=False),
    ),
    Layout(
        "vjepa2-probe",
        "V-JEPA 2 probe",
        "names pooler.query_tokens, pooler.blocks.*, linear.*",
        ("linear",),
        (Has("pooler.query_tokens", 3), *_PROBE_BLOCK, *_head("linear")),
        stem=Stem(
            "V-JEPA 2 attentive probe", "pooler.query_tokens", block=r"pooler\.blocks\.(\d+)\.", has_patches=False
        ),
    ),
    Layout(
        "omnivore",
        "Omnivore checkpoint",
        "names heads.video.1.* beside a trunk",
        ("heads.video.1",),
        (
            *_head("heads.video.1"),
            Has("trunk.patch_embed.proj.weight", 5),
            Has("trunk.layers.0.blocks.0.attn.relative_position_bias_table", 2),
        ),
        stem=Stem(
            "Omnivore Swin",
            "trunk.patch_embed.proj.weight",
            block=r"trunk\.(layers\.\d+\.blocks\.\d+)\.",
            has_patches=False,
        ),
    ),
    Layout(
        "xclip",
        "X-CLIP checkpoint",
        "names prompts_visual_proj and mit.positional_embedding",
        (),
        (Has("prompts_visual_proj", 2), Has("mit.positional_embedding", 3), Has("text_projection", 2)),
    ),
    Layout(
        "hf-videomae",
        "Hugging Face weights",
        "names videomae.* and classifier.*",
        ("classifier",),
        (
            Has("videomae.embeddings.patch_embeddings.projection.weight", 5),
            Has("videomae.embeddings.patch_embeddings.projection.bias", 1),
            *_head("classifier"),
        ),
    ),
    Layout(
        "hf-timesformer",
        "Hugging Face weights",
        "names timesformer.* and classifier.*",
        ("classifier",),
        (
            Has("timesformer.embeddings.time_embeddings", 3),
            Has("timesformer.embeddings.patch_embeddings.projection.weight", 4),
            *_head("classifier"),
        ),
    ),
    Layout(
        "hf-vivit",
        "Hugging Face weights",
        "names vivit.* and classifier.*",
        ("classifier",),
        (
            Has("vivit.embeddings.patch_embeddings.projection.weight", 5),
            Has("vivit.embeddings.cls_token", 3),
            *_head("classifier"),
        ),
    ),
    Layout(
        "hf-vjepa2",
        "Hugging Face weights",
        "names vjepa2.*, pooler.* and classifier.*",
        ("classifier",),
        (
            Has("vjepa2.encoder.embeddings.patch_embeddings.proj.weight", 5),
            Has("pooler.query_tokens", 3),
            Has("pooler.cross_attention_layer.cross_attn.q_proj.weight", 2),
            *_head("classifier"),
        ),
    ),
)


def fitting(shapes: Mapping[str, Shape]) -> list[Layout]:
    """The layouts of which all tests are true."""
    return [layout for layout in LAYOUTS if not layout.failures(shapes)]


def nearly_fitting(shapes: Mapping[str, Shape]) -> list[tuple[Layout, str]]:
    """The layouts of which all tests but one are true, and that one in words."""
    found = [(layout, layout.failures(shapes)) for layout in LAYOUTS]
    return [(layout, failures[0]) for layout, failures in found if len(failures) == 1]
