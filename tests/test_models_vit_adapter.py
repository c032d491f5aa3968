"""ViT-Adapter over BEiT: forward and backward with the numbers of the official code, and its tensors at full size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from backbone_samples import (
    assert_maps,
    assert_training,
    backbone_shapes,
    count,
    official_numbers,
    shapes_of,
    without,
)

from vsscli.models.mask2former.trunks import PRESETS, AdapterConfig, VitAdapterConfig
from vsscli.models.mask2former.vit_adapter import VitAdapter


def built(kwargs: dict[str, Any], state: dict[str, torch.Tensor]) -> VitAdapter:
    """Our network for the official constructor's arguments, with the official weights."""
    adapter = AdapterConfig(
        stem=kwargs["conv_inplane"],
        interactions=tuple((first, last) for first, last in kwargs["interaction_indexes"]),
        heads=kwargs["deform_num_heads"],
        points=kwargs["n_points"],
        deform_ratio=kwargs["deform_ratio"],
        ffn_ratio=kwargs["cffn_ratio"],
    )
    config = VitAdapterConfig(
        width=kwargs["embed_dim"],
        depth=kwargs["depth"],
        heads=kwargs["num_heads"],
        hidden=kwargs["embed_dim"] * kwargs["mlp_ratio"],
        crop=(kwargs["img_size"], kwargs["img_size"]),
        drop_path=kwargs["drop_path_rate"],
        adapter=adapter,
    )
    network = VitAdapter(config)
    network.load_state_dict(without(state, ".relative_position_index"))
    return network.eval()


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    return official_numbers("beit_adapter_64")


@pytest.fixture
def network(official: dict[str, Any]) -> VitAdapter:
    return built(official["kwargs"], official["state_dict"])


def test_maps_have_the_official_numbers(official: dict[str, Any], network: VitAdapter) -> None:
    with torch.no_grad():
        assert_maps(network(official["input"]), official["eval_outputs"])


def test_maps_of_the_official_segmentor_come_out_too() -> None:
    official = official_numbers("full_vitadapter_mmseg")
    state = {
        name.removeprefix("backbone."): tensor
        for name, tensor in official["state_dict"].items()
        if name.startswith("backbone.")
    }
    with torch.no_grad():
        assert_maps(built(official["backbone_kwargs"], state)(official["input"]), official["backbone_out"])


def test_the_spatial_prior_has_the_official_numbers(official: dict[str, Any], network: VitAdapter) -> None:
    with torch.no_grad():
        finest, *coarser = network.spm(official["input"])
    assert_maps([finest, *(map_.flatten(2).transpose(1, 2) for map_ in coarser)], official["eval_spm"])


def test_a_training_step_has_the_official_numbers(official: dict[str, Any], network: VitAdapter) -> None:
    assert_training(network, official)


def test_at_full_size_names_and_shapes_are_those_of_the_checkpoint() -> None:
    with torch.device("meta"):
        network = VitAdapter(PRESETS["vit_adapter_l"])
    expected = backbone_shapes("keys_vitadapter_beitL_mmseg", but="relative_position_index")
    assert shapes_of(network) == expected
    assert count(network) == 331_091_648


def test_layers_decay_as_in_the_official_configuration() -> None:
    with torch.device("meta"):
        network = VitAdapter(PRESETS["vit_adapter_l"])
    # 0.9 ** (25 - id): id 0 for the first tokens, i + 1 for block i, 25 for the rest.
    ids = {"cls_token": 0, "patch_embed.proj.bias": 0, "blocks.0.gamma_1": 1, "blocks.23.mlp.fc2.weight": 24}
    ids |= {
        "spm.fc1.weight": 25,
        "interactions.2.injector.gamma": 25,
        "level_embed": 25,
        "up.bias": 25,
        "norm3.bias": 25,
    }
    assert {name: 25 - network.depth_of(name) for name in ids} == ids
    assert ids.keys() <= dict(network.named_parameters()).keys()


def test_weight_decay_spares_vectors_and_biases_alone(network: VitAdapter) -> None:
    decayed = {name for name, parameter in network.named_parameters() if network.decays(name, parameter)}
    assert decayed == {name for name, parameter in network.named_parameters() if parameter.ndim > 1}
    assert {"cls_token", "level_embed", "blocks.0.attn.relative_position_bias_table"} <= decayed


def test_the_extractors_drop_paths_at_the_last_blocks_rate() -> None:
    with torch.device("meta"):
        network = VitAdapter(PRESETS["vit_adapter_l"])
    extractors = [extractor for part in network.interactions for extractor in part.all_extractors()]
    assert len(extractors) == 6
    assert {extractor.drop_path.drop_prob for extractor in extractors} == {0.3}


def test_at_first_injectors_add_next_to_nothing_and_look_around() -> None:
    torch.manual_seed(0)
    network = VitAdapter(PRESETS["vit_adapter_tiny"])
    injector = network.interactions[0].injector
    assert torch.equal(injector.gamma, torch.full((192,), 1e-6))
    assert injector.attn.sampling_offsets.weight.abs().max() == 0
    assert injector.attn.sampling_offsets.bias.abs().max() == 4
    assert abs(network.level_embed.std().item() - 1) < 0.1
    assert abs(network.spm.conv2[0].weight.std().item() - (2 / (9 * 64)) ** 0.5) < 0.002


def test_a_wide_crop_sees_the_image_in_place() -> None:
    torch.manual_seed(0)
    adapter = AdapterConfig(stem=8, interactions=((0, 0), (1, 1), (2, 2), (3, 3)), heads=4)
    network = VitAdapter(
        VitAdapterConfig(width=32, depth=4, heads=4, hidden=64, crop=(64, 128), adapter=adapter)
    ).eval()
    images = torch.zeros(1, 3, 64, 128)
    brighter = images.clone()
    brighter[..., 32:64, 64:128] = 1.0
    with torch.no_grad():
        changes = [(a - b).abs().sum(dim=1) for a, b in zip(network(images), network(brighter), strict=True)]
    for change in changes:
        quarters = torch.nn.functional.adaptive_avg_pool2d(change, 2)[0]
        assert quarters.flatten().argmax() == 3
