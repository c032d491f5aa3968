"""The contract of all backbones; a new one only adds a small configuration to SMALL."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from vsscli.errors import VssError
from vsscli.models.mask2former.backbone import Backbone
from vsscli.models.mask2former.trunks import (
    PRESETS,
    AdapterConfig,
    BackboneConfig,
    BeitConfig,
    OnePeaceConfig,
    SwinConfig,
    VitAdapterConfig,
)

SIZE = (64, 96)
ADAPTER = AdapterConfig(stem=8, interactions=((0, 0), (1, 1), (2, 2), (3, 3)), heads=4, gamma=0.5)
TRUNK: dict[str, Any] = {"width": 32, "depth": 4, "heads": 4, "hidden": 64, "crop": SIZE, "gamma": 0.5}
SMALL: dict[str, BackboneConfig] = {
    "swin": SwinConfig(width=16, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=4),
    "beit": BeitConfig(**TRUNK, taps=(0, 1, 2, 3)),
    "vit_adapter": VitAdapterConfig(**TRUNK, adapter=ADAPTER),
    "one_peace": OnePeaceConfig(**TRUNK, adapter=ADAPTER),
}
BLOCKS = {"swin": 5, "beit": 4, "vit_adapter": 4, "one_peace": 4}


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def build(name: str, **changes: object) -> Backbone:
    torch.manual_seed(5)
    backbone = SMALL[name].model_copy(update=changes).build()
    with torch.no_grad():
        for part, parameter in backbone.named_parameters():
            if "table" in part or part.endswith(("_bias", "sampling_offsets.weight", "attention_weights.weight")):
                nn.init.normal_(parameter, std=0.3)  # zero at first, where nothing would show
    return backbone.eval()


def images(count: int) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(count))


class TestEveryBackbone:
    def test_gives_maps_of_its_channels_at_its_strides(self, name: str) -> None:
        backbone = build(name)
        with torch.no_grad():
            maps = backbone(images(2))
        assert [tuple(map_.shape) for map_ in maps] == [
            (2, channels, SIZE[0] // stride, SIZE[1] // stride)
            for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
        ]

    def test_a_batch_of_one_equals_a_batch_of_many(self, name: str) -> None:
        backbone = build(name)
        with torch.no_grad():
            together = backbone(images(3))
            alone = [backbone(image[None]) for image in images(3)]
        for level, map_ in enumerate(together):
            torch.testing.assert_close(torch.cat([maps[level] for maps in alone]), map_, atol=1e-5, rtol=1e-4)

    def test_the_gradient_reaches_every_parameter(self, name: str) -> None:
        backbone = build(name, drop_path=0.0).train()
        sum((map_ * torch.randn_like(map_)).sum() for map_ in backbone(images(2))).backward()
        starved = [part for part, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert starved == []

    def test_checkpointing_changes_no_gradient_and_no_statistics(self, name: str) -> None:
        results = []
        for checkpointing in (False, True):
            backbone = build(name, checkpointing=checkpointing, drop_path=0.3).train()
            torch.manual_seed(1)
            sum(map_.square().mean() for map_ in backbone(images(4))).backward()
            results.append([p.grad for p in backbone.parameters()] + list(backbone.buffers()))
        for plain, recomputed in zip(*results, strict=True):
            torch.testing.assert_close(recomputed, plain)

    @pytest.mark.parametrize("whole", [False, True], ids=["autocast", "all-bf16"])
    def test_bf16_gives_no_nan(self, name: str, whole: bool) -> None:
        backbone = build(name)
        with torch.no_grad():
            exact = backbone(images(2))
            if whole:
                maps = backbone.bfloat16()(images(2).bfloat16())
            else:
                with torch.autocast("cpu", torch.bfloat16):
                    maps = backbone(images(2))
        for map_, expected in zip(maps, exact, strict=True):
            assert (map_.float() - expected).norm() < 0.05 * expected.norm()

    @pytest.mark.slow  # a quarter of a minute each
    def test_compiles_as_one_graph(self, name: str) -> None:
        backbone = build(name)
        with torch.no_grad():
            plain = backbone(images(2))
            torch.compiler.reset()
            maps = torch.compile(backbone, fullgraph=True, backend="eager")(images(2))
        for map_, expected in zip(maps, plain, strict=True):
            torch.testing.assert_close(map_, expected, atol=1e-5, rtol=1e-5)

    def test_depths_count_the_blocks_from_the_last_to_the_first_tokens(self, name: str) -> None:
        backbone = build(name)
        depths = {backbone.depth_of(part) for part, _ in backbone.named_parameters()}
        assert depths == set(range(BLOCKS[name] + 2))

    def test_frozen_its_trunk_neither_learns_nor_drops_a_path(self, name: str) -> None:
        backbone = build(name, frozen=True, drop_path=0.9).train()
        sum(map_.square().mean() for map_ in backbone(images(2))).backward()
        for part, parameter in backbone.named_parameters():
            learns = backbone.depth_of(part) == 0
            assert parameter.requires_grad == (parameter.grad is not None) == learns, part
        rates = [module for module in backbone.modules() if type(module).__name__ == "DropPath"]
        trunk = [module for module in rates if module.drop_prob and not module.training]
        assert len(trunk) == BLOCKS[name] - 1  # the first block's rate is 0

    def test_drop_path_grows_linearly_over_the_trunk(self, name: str) -> None:
        backbone = build(name, drop_path=0.4)
        blocks = [module for module in backbone.modules() if type(module).__name__.endswith(("Block", "Layer"))]
        rates = [block.drop_path.drop_prob for block in blocks]
        assert rates == pytest.approx([0.4 * i / (BLOCKS[name] - 1) for i in range(BLOCKS[name])])

    def test_an_image_of_another_size_is_refused_where_the_crop_is_fixed(self, name: str) -> None:
        backbone = build(name)
        if backbone.crop is None:
            return
        assert backbone.crop == SIZE
        with pytest.raises(VssError, match="image of 64x64 does not fit a network made for 64x96"):
            backbone(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": (480, 640)}, None),
        ({"crop": (640, 650)}, "640x650"),
        ({"crop": (0, 32)}, "crop"),
        ({"heads": 5}, "5 heads"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_impossible_trunks_are_refused(change: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert BeitConfig(**change).grid == (30, 40)
        return
    with pytest.raises((VssError, ValidationError), match=message):
        BeitConfig(**change)


@pytest.mark.parametrize(
    "interactions",
    [
        ((0, 1), (2, 3)),
        ((0, 0), (1, 1), (2, 2), (3, 4)),
        ((0, 0), (2, 2), (1, 1), (3, 3)),
        ((0, 0), (1, 1), (2, 2), (3, 2)),
    ],
)
def test_interactions_must_divide_the_blocks(interactions: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(VssError, match="interactions"):
        VitAdapterConfig(**TRUNK, adapter=ADAPTER.model_copy(update={"interactions": interactions}))


def test_ratios_that_leave_no_channel_are_refused() -> None:
    with pytest.raises(VssError, match=r"ffn_ratio: 0\.001 of a width of \d+ is not even one channel"):
        VitAdapterConfig(**TRUNK, adapter=ADAPTER.model_copy(update={"ffn_ratio": 0.001}))
    with pytest.raises(VssError, match=r"mlp_ratio: 0\.001 of a width of 24"):
        SwinConfig(width=24, heads=(1, 2, 2, 4), mlp_ratio=0.001)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_can_be_built(preset: str) -> None:
    with torch.device("meta"):
        backbone = PRESETS[preset].build()
    assert len(backbone.channels) == 4
