"""ONE-PEACE: forward and backward with the numbers of the official code, its tensors, and its pretrained weights."""

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

from vsscli.errors import VssError
from vsscli.models.mask2former.one_peace import OnePeace
from vsscli.models.mask2former.relative_position import lookup_index, resize_positions, resize_table
from vsscli.models.mask2former.trunks import PRESETS, AdapterConfig, OnePeaceConfig
from vsscli.models.official.pretraining import one_peace_pretraining

TRUNK = ("image_adapter.", "encoder.")
ADAPTER = AdapterConfig(stem=8, interactions=((0, 0), (1, 2), (3, 3), (4, 5)), heads=4)


def config(side: int) -> OnePeaceConfig:
    return OnePeaceConfig(
        width=32, depth=6, heads=4, hidden=48, crop=(side, side), drop_path=0.0, adapter=ADAPTER
    )  # fmt: skip


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    return official_numbers("onepeace_adapter_64")


@pytest.fixture
def network(official: dict[str, Any]) -> OnePeace:
    network = OnePeace(config(64))
    network.load_state_dict(without(official["state_dict"], ".rp_bucket"))
    return network.eval()


def pretrained(official: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The trunk as in ``one-peace-vision.pkl``."""
    state = {name: tensor for name, tensor in official["state_dict"].items() if name.startswith(TRUNK)}
    for layer in range(6):
        table = state.pop(f"encoder.layers.{layer}.rel_pos_table.weight")
    state["image_adapter.rel_pos_table_list.0.weight"] = table
    return state


def test_maps_have_the_official_numbers(official: dict[str, Any], network: OnePeace) -> None:
    with torch.no_grad():
        assert_maps(network(official["input"]), official["eval_outputs"])


def test_tokens_and_the_plain_trunk_have_the_official_numbers(official: dict[str, Any], network: OnePeace) -> None:
    with torch.no_grad():
        encoded = tokens = network.image_adapter(official["input"])
        for block in network.trunk_blocks():
            encoded = block(encoded, lookup_index(network.grid))
    torch.testing.assert_close(tokens, official["image_adapter_tokens"], atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded.transpose(0, 1), official["plain_encoder_out_TBC"], atol=1e-5, rtol=0)


def test_a_training_step_has_the_official_numbers(official: dict[str, Any], network: OnePeace) -> None:
    assert_training(network, official)


def test_at_full_size_names_and_shapes_are_those_of_the_checkpoint() -> None:
    with torch.device("meta"):
        network = OnePeace(PRESETS["one_peace_g"])
    assert shapes_of(network) == backbone_shapes("keys_onepeace_g_mmseg", but="rp_bucket")
    assert count(network) == 1_581_161_600


def test_layers_decay_as_in_the_official_configuration() -> None:
    with torch.device("meta"):
        network = OnePeace(PRESETS["one_peace_g"])
    # 0.95 ** (41 - id): id 0 for the image adapter, i + 1 for layer i, 41 for the rest.
    ids = {"image_adapter.pos_embed": 0, "image_adapter.embed_images.1.layer_norm.bias": 0}
    ids |= {"encoder.layers.0.gamma_1": 1, "encoder.layers.39.rel_pos_table.weight": 40}
    ids |= {"spm.fc1.weight": 41, "interactions.2.extractor.ffn.fc1.bias": 41, "level_embed": 41, "norm1.weight": 41}
    assert {name: 41 - network.depth_of(name) for name in ids} == ids
    assert ids.keys() <= dict(network.named_parameters()).keys()


def test_weight_decay_spares_vectors_and_biases_alone(network: OnePeace) -> None:
    decayed = {name for name, parameter in network.named_parameters() if network.decays(name, parameter)}
    assert decayed == {name for name, parameter in network.named_parameters() if parameter.ndim > 1}
    assert {"image_adapter.pos_embed", "encoder.layers.0.rel_pos_table.weight"} <= decayed


@pytest.mark.parametrize("whole", [False, True], ids=["vision file", "all modalities"])
def test_pre_trained_weights_fill_the_trunk(official: dict[str, Any], network: OnePeace, whole: bool) -> None:
    state = pretrained(official)
    surplus: dict[str, torch.Tensor] = {}
    if whole:
        state = {
            f"encoder_wrapper.{name.replace('encoder.layers', 'fusion_model.layers')}": tensor
            for name, tensor in state.items()
        }
        surplus = {
            "encoder_wrapper.fusion_model.layers.0.text_ffn.0.wi_0.weight": torch.zeros(48, 32),
            "encoder_wrapper.fusion_model.image_layer_norm.weight": torch.zeros(32),
            "logit_scale": torch.zeros(()),
        }
    weights = one_peace_pretraining({**state, **surplus}, config(64))
    assert set(weights.unused) == set(surplus)
    trunk = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(TRUNK)}
    assert weights.state.keys() == trunk.keys()
    last = trunk["encoder.layers.5.rel_pos_table.weight"]
    for name, tensor in weights.state.items():
        assert torch.equal(tensor, last if "rel_pos_table" in name else trunk[name]), name


@pytest.mark.parametrize("side", [96, 224, 320])
def test_tables_and_positions_are_resized_for_any_crop(official: dict[str, Any], side: int) -> None:
    state = one_peace_pretraining(pretrained(official), config(side)).state
    network = OnePeace(config(side))
    missing, surplus = network.load_state_dict(state, strict=False)
    assert surplus == []
    assert not any(name.startswith(TRUNK) for name in missing)
    grid = (side // 16, side // 16)
    table = official["state_dict"]["encoder.layers.5.rel_pos_table.weight"]
    positions = official["state_dict"]["image_adapter.pos_embed"]
    for layer in network.encoder.layers:
        assert torch.equal(layer.rel_pos_table.weight, resize_table(table, (4, 4), grid))
    assert torch.equal(network.image_adapter.pos_embed, resize_positions(positions, (4, 4), grid))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image_adapter.pos_embed", torch.zeros(16, 32), r"image_adapter.pos_embed is \(16, 32\)"),
        ("image_adapter.rel_pos_table_list.0.weight", torch.zeros(53, 4), r"rel_pos_table_list.0.weight is \(53, 4\)"),
        ("encoder.layers.2.gamma_1", None, r"1 tensors are missing \(encoder.layers.2.gamma_1\)"),
    ],
)
def test_weights_of_another_network_are_refused(
    official: dict[str, Any], name: str, value: torch.Tensor | None, message: str
) -> None:
    state = {key: tensor for key, tensor in pretrained(official).items() if key != name}
    if value is not None:
        state[name] = value
    with pytest.raises(VssError, match=message):
        one_peace_pretraining(state, config(64))
