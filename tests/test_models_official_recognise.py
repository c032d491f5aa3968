"""Published checkpoints are recognised, with every size that their shapes show."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from official_samples import official_state

from vsscli.errors import VssError
from vsscli.models.official.recognise import CheckpointKind, Official, recognise
from vsscli.models.official.sizes import (
    AdapterSizes,
    Assumptions,
    HeadSizes,
    SwinSizes,
    TrunkSizes,
    describe,
)
from vsscli.models.torchfile import read_torch

CONFIG = "model = dict(\n    backbone=dict(interaction_indexes=[[0, 0], [1, 2], [3, 3], [4, 5]], with_cp=False))"


def known(state: dict[str, Any], **others: Any) -> Official:
    return recognise({"state_dict": state} | others, "checkpoint x.pth")


def without(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


# The published networks at full size; numbers from their configurations (specs).


def test_mask2former_on_swin_l_is_known() -> None:
    official = recognise({"model": official_state("mask2former_swin_l")}, "x")
    assert official.kind is CheckpointKind.SWIN_MASK2FORMER
    assert official.backbone == SwinSizes(192, (2, 2, 18, 2), (6, 12, 24, 48), window=12, patch=4, mlp_ratio=4.0)
    assert official.adapter is None
    assert official.head == HeadSizes(
        num_classes=150,
        width=256,
        mask_width=256,
        queries=100,
        encoder_layers=6,
        encoder_ffn=1024,
        encoder_heads=8,
        points=4,
        decoder_layers=9,
        decoder_ffn=2048,
        decoder_heads=8,
    )
    assert official.assumed == ("4 points of deformable attention", "8 attention heads in the mask decoder")


def test_vit_adapter_l_is_known() -> None:
    official = known(official_state("vit_adapter_l"))
    assert official.kind is CheckpointKind.VIT_ADAPTER
    assert official.backbone == TrunkSizes(1024, 24, heads=16, patch=16, grid=(56, 56), hidden=4096)
    assert official.adapter == AdapterSizes(64, ((0, 5), (6, 11), (12, 17), (18, 23)), 16, 4, 0.5, 0.25, 2)
    assert official.head is not None
    assert (official.num_classes, official.head.queries, official.head.width) == (150, 200, 1024)
    assert (official.head.encoder_heads, official.head.decoder_heads, official.head.decoder_ffn) == (32, 32, 4096)
    assert (official.head.encoder_layers, official.head.decoder_layers, official.head.encoder_ffn) == (6, 9, 4096)
    assert official.backbone.crop == (896, 896)
    assert official.assumed[-1] == "adapter interactions over blocks 0-5, 6-11, 12-17, 18-23"


def test_one_peace_is_known() -> None:
    official = known(official_state("one_peace_g"))
    assert official.kind is CheckpointKind.ONE_PEACE
    assert official.backbone == TrunkSizes(1536, 40, heads=24, patch=16, grid=(56, 56), hidden=6144)
    assert official.adapter == AdapterSizes(64, ((0, 9), (10, 19), (20, 29), (30, 39)), 24, 4, 0.5, 0.25, 2)
    assert official.head is not None
    assert (official.backbone.crop, official.num_classes) == ((896, 896), 150)


# Shrunken ones, with the numbers they were made with.


def test_a_shrunken_vit_adapter_is_known_by_its_shapes() -> None:
    official = known(official_state("full_vitadapter_mmseg"))
    assert official.backbone == TrunkSizes(32, 4, heads=4, patch=16, grid=(4, 4), hidden=128)
    assert official.adapter == AdapterSizes(8, ((0, 0), (1, 1), (2, 2), (3, 3)), 4, 4, 0.5, 0.25, 2)
    assert official.head == HeadSizes(7, 32, 32, 10, 2, 48, 4, 4, 4, 64, 4)
    assert official.backbone.crop == (64, 64)


def test_backbones_alone_are_known_with_and_without_a_prefix() -> None:
    for prefix in ("", "backbone.", "module.", "module.backbone."):
        state = {f"{prefix}{name}": value for name, value in official_state("beit_adapter_64").items()}
        official = known(state)
        assert official.kind is CheckpointKind.VIT_ADAPTER
        assert official.head is official.num_classes is None
        assert official.backbone == TrunkSizes(32, 8, heads=4, patch=16, grid=(4, 4), hidden=128)
        assert set(official.state) == {f"backbone.{name}" for name in official_state("beit_adapter_64")}
    swin = recognise(official_state("swin_d2"), "x")
    assert swin.kind is CheckpointKind.SWIN
    assert swin.backbone == SwinSizes(12, (2, 2, 2, 1), (1, 2, 2, 4), window=4, patch=4, mlp_ratio=4.0)


def test_interactions_of_unequal_length_come_from_the_checkpoints_configuration_or_the_user() -> None:
    state = official_state("onepeace_adapter_64")
    spans = ((0, 0), (1, 2), (3, 3), (4, 5))
    silent = known(state)
    assert silent.adapter is not None
    assert silent.adapter.interactions == ((0, 1), (2, 3), (4, 4), (5, 5))
    assert any("interactions" in text for text in silent.assumed)
    for meta in ({"config": CONFIG}, {"cfg": CONFIG}):
        told = known(state, meta=meta)
        assert told.adapter is not None
        assert told.adapter.interactions == spans
        assert not any("interactions" in text for text in told.assumed)
    given = recognise({"state_dict": state, "meta": {"cfg": "nonsense"}}, "x", Assumptions(interactions=spans))
    assert given.adapter is not None
    assert given.adapter.interactions == spans
    assert given.backbone == TrunkSizes(32, 6, heads=4, patch=16, grid=(4, 4), hidden=48)


def test_other_assumptions_change_what_depends_on_them() -> None:
    content = {"state_dict": official_state("full_vitadapter_mmseg")}
    official = recognise(content, "x", Assumptions(points=2, decoder_heads=16))
    assert official.adapter is not None
    assert official.head is not None
    assert (official.adapter.heads, official.head.encoder_heads, official.head.decoder_heads) == (8, 8, 16)
    assert not any("points" in text or "mask decoder" in text for text in official.assumed)


# Other names for the same.


def test_detectrons_old_names_become_the_new_ones() -> None:
    state = official_state("mask2former_swin_l")
    old = {
        name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.").replace("query_feat", "static_query"): value
        for name, value in state.items()
    }
    assert set(old) != set(state)
    assert set(recognise({"model": old}, "x").state) == set(state)


def test_mmsegmentations_newer_names_become_the_older_ones() -> None:
    """As the layers of mmdetection 3 name their parts (mmdet/models/layers/transformer)."""
    state = official_state("vit_adapter_l")
    newer = {}
    for name, value in state.items():
        name = re.sub(r"(pixel_decoder\.encoder\.layers\.\d+)\.attentions\.0", r"\1.self_attn", name)
        name = re.sub(r"(transformer_decoder\.layers\.\d+)\.attentions\.0", r"\1.cross_attn", name)
        name = re.sub(r"(transformer_decoder\.layers\.\d+)\.attentions\.1", r"\1.self_attn", name)
        newer[name.replace(".ffns.0.", ".ffn.")] = value
    assert "decode_head.transformer_decoder.layers.0.cross_attn.attn.in_proj_weight" in newer
    official = known(newer)
    assert set(official.state) == set(state)
    assert official.head == known(state).head


def test_trunks_of_pretraining_are_known() -> None:
    trunk = without(official_state("vit_adapter_l"), "backbone.")
    trunk = {name: value for name, value in trunk.items() if name.startswith(("cls_token", "patch_embed", "blocks"))}
    for container in ("model", "module"):
        official = recognise({container: trunk | {"head.weight": torch.zeros(1)}, "epoch": 1}, "x")
        assert official.kind is CheckpointKind.BEIT
        assert official.backbone.crop == (896, 896)
    shared = {name: value for name, value in trunk.items() if "relative_position" not in name}
    shared["rel_pos_bias.relative_position_bias_table"] = torch.zeros(27 * 27 + 3, 16)
    assert recognise({"model": shared}, "x").backbone.crop == (224, 224)


def test_one_peace_is_found_in_its_model_for_all_senses() -> None:
    vision = {
        name.removeprefix("backbone."): value
        for name, value in official_state("one_peace_g").items()
        if name.startswith(("backbone.image_adapter.", "backbone.encoder."))
    }
    whole = {
        "encoder_wrapper."
        + (name if name.startswith("image_adapter") else name.replace("encoder.", "fusion_model.")): value
        for name, value in vision.items()
    }
    others = {
        name: torch.zeros(1)
        for name in (
            "logit_scale",
            "image_proj.weight",
            "encoder_wrapper.fusion_model.image_layer_norm.weight",
            "encoder_wrapper.fusion_model.layers.0.text_ffn.0.wi_0.weight",
            "encoder_wrapper.audio_adapter.cls_embedding",
        )
    }
    for state in (vision, whole | others):
        official = recognise({"model": state}, "x")
        assert official.kind is CheckpointKind.ONE_PEACE_TRUNK
        assert set(official.state) == {f"backbone.{name}" for name in vision}


@pytest.mark.parametrize(
    ("name", "kind", "width"),
    [("beit_base_patch16_224", CheckpointKind.BEIT, 768), ("swin_tiny_patch4_window7_224", CheckpointKind.SWIN, 96)],
)
def test_timms_trunks_are_known(name: str, kind: CheckpointKind, width: int) -> None:
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    official = recognise(state, "x")
    assert official.kind is kind
    assert official.backbone.width == width
    if kind is CheckpointKind.SWIN:
        assert official.backbone == SwinSizes(96, (2, 2, 6, 2), (3, 6, 12, 24), window=7, patch=4, mlp_ratio=4.0)
        # Official code merges patches at the end of a stage.
        assert tuple(official.state["backbone.layers.0.downsample.reduction.weight"].shape) == (192, 384)


def test_arrays_become_tensors(tmp_path: Path) -> None:
    state = official_state("swin_d2", "cpu")
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    arrays["patch_embed.proj.bias"] = np.arange(12, dtype=">f4")
    (tmp_path / "swin.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}, 5))
    official = recognise(read_torch(tmp_path / "swin.pkl"), "x")
    assert official.state["backbone.patch_embed.proj.bias"].tolist() == list(range(12))
    assert official.state["backbone.norm0.weight"].dtype == torch.float32


def test_the_classes_that_mmsegmentation_writes_are_kept() -> None:
    state = official_state("full_vitadapter_mmseg")
    names = tuple(f"class {number}" for number in range(7))
    colours = [[number, 0, 255] for number in range(7)]
    for meta in (
        {"CLASSES": names, "PALETTE": colours},
        {"dataset_meta": {"classes": list(names), "palette": np.array(colours, np.uint8)}},
    ):
        official = known(state, meta=meta)
        assert official.classes == names
        assert official.colours is not None
        assert official.colours[3] == (3, 0, 255)
    assert known(state, meta={"CLASSES": names[:5]}).classes is None
    odd = known(state, meta={"CLASSES": names, "PALETTE": [[300, 0, 0]] * 7})
    assert (odd.classes, odd.colours) == (names, None)


# Refusals.


def test_a_checkpoint_of_vss_needs_no_conversion() -> None:
    with pytest.raises(VssError, match=r"is already a vss checkpoint"):
        recognise({"vss": "{}", "weights": {}}, "checkpoint t.pt")


@pytest.mark.parametrize("content", [None, 3, [], {"state_dict": {}}, {"a": 1}, {"model": {"epoch": 3}}])
def test_what_holds_no_tensors_is_refused(content: Any) -> None:
    with pytest.raises(VssError, match="no state dict"):
        recognise(content, "checkpoint x")


def test_an_unknown_network_is_refused_with_what_was_looked_for() -> None:
    with torch.device("meta"):
        state = timm.create_model("resnet18").state_dict()
    with pytest.raises(VssError, match=r"looked for Mask2Former on Swin.*found 122 tensors \(conv1.weight"):
        recognise(state, "checkpoint x")
    other = {"backbone.res2.0.conv1.weight": torch.zeros(1), "sem_seg_head.predictor.query_feat.weight": torch.ones(1)}
    with pytest.raises(VssError, match="not of Mask2Former on Swin"):
        recognise({"model": other}, "checkpoint x")
    segformer = {"backbone.layers.0.0.weight": torch.zeros(1), "decode_head.conv_seg.weight": torch.zeros(1)}
    with pytest.raises(VssError, match="of mmsegmentation, but neither") as error:
        known(segformer)
    assert "family: mmseg" in error.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "backbone.patch_embed.proj.weight",
        "backbone.blocks.0.attn.relative_position_bias_table",
        "backbone.blocks.2.norm1.weight",
        "backbone.interactions.0.injector.gamma",
        "decode_head.cls_embed.weight",
    ],
)
def test_a_missing_tensor_that_a_size_is_read_from_is_named(name: str) -> None:
    state = official_state("full_vitadapter_mmseg")
    del state[name]
    with pytest.raises(VssError, match=re.escape(name)):
        known(state)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("backbone.blocks.0.attn.relative_position_bias_table", (53, 4)),
        ("backbone.blocks.0.attn.relative_position_bias_table", (52, 5)),
        ("backbone.patch_embed.proj.weight", (32, 3)),
        ("backbone.patch_embed.proj.weight", (0, 3, 16, 16)),
        ("backbone.interactions.0.injector.attn.sampling_offsets.bias", (97,)),
        ("decode_head.query_feat.weight", (10, 33)),
    ],
)
def test_an_impossible_shape_is_named(name: str, shape: tuple[int, ...]) -> None:
    state = official_state("full_vitadapter_mmseg") | {name: torch.zeros(shape)}
    with pytest.raises(VssError, match="in this network it") as error:
        known(state)
    assert "x".join(map(str, shape)) in error.value.message


def test_interactions_that_do_not_cover_the_blocks_are_refused() -> None:
    content = {"state_dict": official_state("full_vitadapter_mmseg")}
    for spans in (((0, 1), (2, 3)), ((0, 0), (1, 1), (2, 2), (3, 4)), ((0, 0), (2, 2), (3, 3), (3, 3))):
        with pytest.raises(VssError, match="it has 4, over blocks 0 to 3"):
            recognise(content, "x", Assumptions(interactions=spans))


def test_a_tensor_under_an_old_and_a_new_name_is_refused() -> None:
    state = official_state("mask2former_swin_l")
    state["sem_seg_head.mask_features.bias"] = torch.zeros(256)
    with pytest.raises(VssError, match=r"tensor sem_seg_head.pixel_decoder.mask_features.bias twice"):
        recognise({"model": state}, "x")


def test_sizes_are_told_in_one_line() -> None:
    line = describe(SwinSizes(12, (2, 1), (1, 2), 4, 4, 4.0))
    assert line == "width 12, depths (2, 1), heads (1, 2), window 4, patch 4, mlp ratio 4.0"
