"""The four systems at full size, and what a recipe may change in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from official_samples import official_state

from vsscli.errors import VssError
from vsscli.models.build import build_network, read_config
from vsscli.models.catalogue import list_networks
from vsscli.models.mask2former.network import Mask2Former
from vsscli.models.network import Network, Normalisation
from vsscli.models.official.convert import convert_official
from vsscli.models.official.recognise import recognise
from vsscli.recipes.load import load_recipe

# Name of the keys, of the backbone, and parameters of backbone and head in millions (specs: mask2former.md,
# vit_adapter.md, one_peace.md).
PUBLISHED = {
    "swin": ("mask2former_swin_l", "swin_l", 195.2, 20.3),
    "vit-adapter": ("vit_adapter_l", "vit_adapter_l", 331.1, 239.7),
    "one-peace": ("one_peace_g", "one_peace_g", 1581.0, 242.0),
}


IMAGENET = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
ONE_PEACE = Normalisation((122.771, 116.746, 104.094), (68.5, 66.632, 70.323))


def meta_network(backbone: str, classes: int = 150, **changes: Any) -> Mask2Former:
    with torch.device("meta"):
        network = build_network(
            {"family": "mask2former", "backbone": backbone, **changes}, classes, load_pretrained=False
        )
    assert isinstance(network, Mask2Former)
    return network


def shapes_of(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize(("keys", "backbone", "trunk", "head"), PUBLISHED.values(), ids=PUBLISHED.keys())
def test_a_published_checkpoint_is_the_network_of_its_name_with_nothing_left_over(
    keys: str, backbone: str, trunk: float, head: float
) -> None:
    official = recognise({"state_dict": official_state(keys)}, "checkpoint x")
    converted = convert_official(official, 150)
    network = meta_network(backbone)
    assert shapes_of(converted.fitted.weights) == shapes_of(network.state_dict())
    assert converted.fitted.fresh == converted.fitted.resized == ()
    computed = ("relative_position_index", "rp_bucket", "criterion.empty_weight")
    assert all(name.endswith(computed) for name in converted.fitted.unused)
    assert converted.fitted.loaded + len(converted.fitted.unused) == len(official.state)
    config = converted.config
    assert (config.backbone, config.sizes) == (backbone, None)
    assert millions(network.backbone) == pytest.approx(trunk, abs=0.5)
    assert millions(network.head) == pytest.approx(head, abs=0.5)
    assert converted.normalisation == (ONE_PEACE if backbone == "one_peace_g" else IMAGENET)


def test_beit_l_has_its_trunk_its_pyramid_and_detectron2s_head() -> None:
    network = meta_network("beit_l")
    trunk = 24 * (12 * 1024**2 + 14 * 1024 + 16 * ((2 * 40 - 1) ** 2 + 3)) + 16 * 16 * 3 * 1024 + 2 * 1024
    pyramid = 3 * (4 * 1024**2 + 1024) + 2 * 1024  # transposed convolutions, and a norm
    assert sum(parameter.numel() for parameter in network.backbone.parameters()) == trunk + pyramid
    assert millions(network.head) == pytest.approx(20.2, abs=0.5)


@pytest.mark.parametrize("side", [224, 320, 640, 768, 896])
def test_every_crop_of_the_papers_table_makes_a_network(side: int) -> None:
    for name in ("beit_l", "vit_adapter_l", "one_peace_g"):
        assert meta_network(name, crop=(side, side)).crop == (side, side)


def test_learning_rates_decay_by_layers_as_published() -> None:
    for backbone, rate, depth, block, first in (
        ("vit_adapter_l", 0.90, 24, "blocks", ("cls_token", "patch_embed.proj.weight")),
        ("one_peace_g", 0.95, 40, "encoder.layers", ("image_adapter.cls_embedding", "image_adapter.pos_embed")),
    ):
        network = meta_network(backbone)
        scales = {
            id(parameter): group.lr_scale for group in network.parameter_groups(rate) for parameter in group.parameters
        }
        found = {name: scales[id(parameter)] for name, parameter in network.named_parameters()}
        slowest = [f"head.predictor.{name}.weight" for name in ("level_embed", "query_embed", "query_feat")]
        slowest += [f"head.predictor.class_embed.{part}" for part in ("weight", "bias")]
        slowest += [f"head.predictor.mask_embed.layers.{layer}.weight" for layer in range(3)]
        for name in [*(f"backbone.{part}" for part in first), *slowest]:
            assert found[name] == pytest.approx(rate ** (depth + 1)), name
        for number in (0, 7, depth - 1):
            name = next(name for name in found if name.startswith(f"backbone.{block}.{number}."))
            assert found[name] == pytest.approx(rate ** (depth - number))
        full = ("backbone.spm.", "backbone.interactions.", "backbone.up.", "backbone.norm1.", "backbone.level_embed")
        full += ("head.pixel_decoder.", "head.predictor.transformer_", "head.predictor.decoder_norm.")
        assert {scale for name, scale in found.items() if name.startswith(full)} == {1.0}


def decayed(network: Network) -> set[str]:
    groups = network.parameter_groups(1.0)
    inside = {id(parameter) for group in groups if group.decay for parameter in group.parameters}
    return {name for name, parameter in network.named_parameters() if id(parameter) in inside}


def test_weights_decay_as_published() -> None:
    adapter = meta_network("vit_adapter_l")
    assert decayed(adapter) == {
        name for name, value in adapter.named_parameters() if value.ndim > 1 and not name.endswith(".bias")
    }
    assert {"backbone.cls_token", "head.predictor.query_embed.weight"} < decayed(adapter)
    swin = meta_network("swin_l")
    kept = {name for name, _ in swin.named_parameters()} - decayed(swin)
    assert {"head.predictor.query_feat.weight", "head.pixel_decoder.input_proj.0.1.weight"} < kept
    assert {"backbone.norm3.bias", "backbone.layers.0.blocks.0.attn.relative_position_bias_table"} < kept
    assert not {"head.predictor.class_embed.bias", "head.pixel_decoder.transformer.level_embed"} & kept


def test_a_frozen_trunk_learns_nothing_and_the_rest_does() -> None:
    for backbone, trunk in (("vit_adapter_tiny", "backbone.blocks."), ("swin_tiny", "backbone.layers.")):
        groups = meta_network(backbone, frozen=True).parameter_groups(0.9)
        learning = {id(parameter) for group in groups for parameter in group.parameters}
        network = meta_network(backbone, frozen=True)
        names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        assert len(learning) == len(names)
        assert not any(name.startswith(trunk) for name in names)
        assert any(name.startswith("head.") for name in names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "vit_b"}, "backbone 'vit_b'"),
        ({"backbone": "vit_adapter_l", "sizes": {"depths": (1, 1)}}, "a vit_adapter_l has no depths"),
        ({"backbone": "vit_adapter_l", "sizes": {"adapter": {"depth": 3}}}, r"has no sizes\.adapter\.depth"),
        ({"backbone": "beit_l", "sizes": {"width": "wide"}}, r"sizes\.width: 'wide' of a network"),
        ({"backbone": "beit_l", "sizes": {"heads": 5}}, "5 heads do not divide a width of 1024"),
        ({"backbone": "beit_l", "crop": (640, 650)}, "crop: 640x650"),
        ({"backbone": "swin_l", "crop": (640, 640)}, "crop: 640x640 .*swin_l"),
        ({"backbone": "beit_l", "head": {"layout": "huge"}}, r"head\.layout: 'huge'"),
        ({"backbone": "beit_l", "head": {"width": 3}}, r"has no head\.width"),
        ({"backbone": "beit_l", "head": {"decoder_heads": 7}}, "7 heads"),
        ({"backbone": "beit_l", "drop_path": 1.5}, "drop_path: 1.5"),
        ({"backbone": "beit_l", "readout": "half"}, "readout: 'half'"),
    ],
)
def test_a_configuration_that_makes_no_network_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VssError, match=message) as caught:
        build_network({"family": "mask2former", **changes}, 7, load_pretrained=False)
    assert caught.value.hint


def test_the_crop_is_known_without_building_a_network() -> None:
    assert read_config({"family": "mask2former", "backbone": "one_peace_g"}).fixed_crop == (896, 896)
    assert read_config({"family": "mask2former", "backbone": "beit_l", "crop": [640, 896]}).fixed_crop == (640, 896)
    assert read_config({"family": "mask2former", "backbone": "swin_l"}).fixed_crop is None
    assert read_config({"family": "light"}).fixed_crop is None


def test_every_listed_network_can_be_built_and_says_its_size() -> None:
    for listed in list_networks().values():
        crop = read_config(listed.config()).fixed_crop
        assert crop is None or crop == listed.size
        assert bool(listed.checkpoint) == bool(listed.publisher)


@pytest.mark.parametrize(("recipe", "backbone"), [("teacher", "one_peace_tiny"), ("student", "vit_adapter_tiny")])
def test_tiny_recipes_describe_networks_of_width_192(recipe: str, backbone: str) -> None:
    loaded = load_recipe(f"tiny/{recipe}")
    config = loaded.model.model_dump(mode="json")
    with torch.device("meta"):
        network = build_network(config, 11, load_pretrained=False)
    assert isinstance(network, Mask2Former)
    assert (config["backbone"], network.backbone.channels[0]) == (backbone, 192)
    assert network.crop == loaded.augment.crop
