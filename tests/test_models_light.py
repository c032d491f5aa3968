"""The light family: any timm encoder with feature maps, and a feature pyramid."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.light.encoder import TimmEncoder
from vsscli.models.light.pyramid import PyramidDecoder
from vsscli.models.network import Normalisation


def light(**changes: object) -> dict[str, object]:
    config = {"family": "light", "encoder": "test_efficientnet", "channels": 16, "pretrained": "none"}
    return {**config, **changes}


def test_normalisation_is_told_on_the_scale_of_bytes() -> None:
    normalisation = Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert normalisation(images).flatten().tolist() == [-1.0] * 3 + [1.0] * 3


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "test_mambaout"])
def test_an_encoder_gives_maps_at_four_strides(name: str) -> None:
    encoder = TimmEncoder(name).eval()
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 3, 64, 96))
    # At other sides padded convolutions round up, and the cells of deeper maps no longer lie where their pixels are.
    assert encoder.divisor == 32
    assert [tuple(map_.shape[-2:]) for map_ in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert tuple(map_.shape[1] for map_ in maps) == encoder.channels


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("test_efficentnet", "no encoder named", "test_efficientnet"),
        ("hf-hub:timm/resnet18", "no encoder named", ""),
        ("test_vit", "none at", "hierarchical"),
        ("inception_v3", "a map of 20x20 at stride 4: its cells do not cover the image", "padded"),
        ("swin_tiny_patch4_window7_224", "does not take images of any size", "fixed input size"),
    ],
)
def test_an_encoder_that_cannot_serve_is_refused(name: str, message: str, hint: str) -> None:
    with pytest.raises(VssError, match=message) as caught:
        build_network(light(encoder=name), 3, load_pretrained=False)
    assert hint in caught.value.hint


def test_drop_path_reaches_encoders_that_have_it_and_is_refused_for_others() -> None:
    build_network(light(drop_path=0.1), 3, load_pretrained=False)
    with pytest.raises(VssError, match="no stochastic depth"):
        build_network(light(encoder="ghostnet_050", drop_path=0.1), 3, load_pretrained=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "heavy"}, "network family 'heavy'"),
        ({"width": 3}, "has no width"),
        ({"channels": "many"}, "channels: 'many'"),
        ({"channels": 0}, "channels: 0"),
        ({"dropout": 1.0}, "dropout: 1.0"),
    ],
)
def test_a_configuration_that_is_none_is_refused_with_the_field_named(change: dict, message: str) -> None:
    with pytest.raises(VssError, match=message):
        build_network(light(**change), 3, load_pretrained=False)


def test_parameters_learn_slower_the_further_they_are_from_the_decoder() -> None:
    network = build_network(light(), 3, load_pretrained=False)
    scale = {}
    decayed = set()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for group in network.parameter_groups(0.5):
        for parameter in group.parameters:
            scale[names[id(parameter)]] = group.lr_scale
            assert group.encoder == names[id(parameter)].startswith("encoder.")
            if group.decay:
                decayed.add(names[id(parameter)])
    assert scale["decoder.classify.weight"] == scale["decoder.lateral.0.weight"] == 1.0
    # Feature maps come from blocks 1 to 4; stem and block 0 lead to the first of them.
    assert scale["encoder.features.blocks.4.0.conv_dw.weight"] == 0.5
    assert scale["encoder.features.blocks.3.0.conv_dw.weight"] == 0.25
    assert scale["encoder.features.blocks.2.0.bn1.weight"] == 0.125
    assert scale["encoder.features.blocks.0.0.conv.weight"] == scale["encoder.features.conv_stem.weight"] == 0.0625
    assert "encoder.features.conv_stem.weight" in decayed
    assert not any("bn" in name or "norm" in name or name.endswith("bias") for name in decayed)


def test_stages_are_found_where_timm_renames_the_modules() -> None:
    encoder = TimmEncoder("test_convnext")
    assert encoder.depth_of("features.stem_0.weight") == 4
    assert [encoder.depth_of(f"features.stages_{i}.blocks.0.gamma") for i in range(4)] == [4, 3, 2, 1]


def test_stages_are_found_where_maps_do_not_come_out_of_one_module() -> None:
    encoder = TimmEncoder("twins_svt_small")
    parts = ("patch_embeds.0.proj", "patch_embeds.1.proj", "blocks.2.0.norm1", "pos_block.3.proj.0")
    assert [encoder.depth_of(f"features.model.{part}.weight") for part in parts] == [4, 3, 2, 1]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_norm_keeps_its_statistics_while_training(frozen: bool) -> None:
    network = build_network(light(frozen_norm=frozen), 3, load_pretrained=False).train()
    norms = [module for module in network.encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    network(torch.randn(2, 3, 64, 64))
    kept = all(torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True))
    assert kept == frozen
    assert network.training
    assert all(norm.weight.requires_grad for norm in norms)


def test_the_decoder_does_not_look_at_other_images_of_the_batch_in_training() -> None:
    torch.manual_seed(0)
    decoder = PyramidDecoder((4, 8), 16, 3, dropout=0.0).train()
    maps = [torch.randn(2, 4, 9, 7), torch.randn(2, 8, 5, 4)]
    alone, together = decoder([map_[:1] for map_ in maps])[0], decoder(maps)[0]
    torch.testing.assert_close(alone, together[:1], atol=1e-6, rtol=1e-5)


def test_the_decoder_follows_its_definition() -> None:
    torch.manual_seed(0)
    decoder = PyramidDecoder((4, 8, 12), 16, 3, dropout=0.0).eval()
    fine, middle, coarse = torch.randn(1, 4, 9, 7), torch.randn(1, 8, 5, 4), torch.randn(1, 12, 3, 2)

    def to(size: tuple[int, int], values: torch.Tensor) -> torch.Tensor:
        return F.interpolate(values, size, mode="bilinear", align_corners=False)

    p2 = decoder.lateral[2](coarse)
    p1 = decoder.lateral[1](middle) + to((5, 4), p2)
    p0 = decoder.lateral[0](fine) + to((9, 7), p1)
    merged = decoder.smooth[0](p0) + to((9, 7), decoder.smooth[1](p1) + to((5, 4), decoder.smooth[2](p2)))
    expected = decoder.classify(merged)
    logits, features = decoder([fine, middle, coarse])
    assert torch.equal(logits, expected)
    assert torch.equal(features, merged)


def test_a_light_network_learns_to_tell_bright_from_dark() -> None:
    torch.manual_seed(0)
    network = build_network(light(dropout=0.0), 2, load_pretrained=False).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.003)
    losses = []
    for _ in range(20):
        labels = torch.zeros(4, 8, 16, dtype=torch.long)
        labels[:, :, 8:] = 1
        images = (labels * 2.0 - 1.0)[:, None].expand(-1, 3, -1, -1).repeat_interleave(4, 2).repeat_interleave(4, 3)
        loss = F.cross_entropy(network(images + 0.5 * torch.randn(images.shape)).values, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
