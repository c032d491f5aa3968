"""Swin: the numbers of detectron2's, at full size its tensors, and any size of image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vsscli.errors import VssError
from vsscli.models.backbones.swin import PRESETS, Swin, SwinConfig

FIXTURES = Path(__file__).parent / "fixtures"
SMALL = PRESETS["swin_tiny"]


def without_indices(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("relative_position_index")}


@pytest.fixture(scope="module")
def official() -> dict:
    return torch.load(FIXTURES / "swin_d2.pt", weights_only=True)


@pytest.fixture(scope="module")
def parity(official: dict) -> Swin:
    config = SwinConfig(width=12, depths=(2, 2, 2, 1), heads=(1, 2, 2, 4), window=4)
    swin = Swin(config).eval()
    swin.load_state_dict(without_indices(official["state_dict"]))
    return swin


def test_maps_have_the_official_numbers_for_odd_sides(official: dict, parity: Swin) -> None:
    with torch.no_grad():
        maps = parity(official["input"])
    for map_, expected in zip(maps, official["outputs"].values(), strict=True):
        torch.testing.assert_close(map_, expected, atol=1e-5, rtol=0)


def test_at_full_size_names_and_shapes_are_those_of_the_checkpoint() -> None:
    with torch.device("meta"):
        swin = Swin(PRESETS["swin_l"])
    keys = json.loads((FIXTURES / "keys_mask2former_swinL_ade20k_d2.json").read_text())
    expected = {
        name.removeprefix("backbone."): tuple(shape)
        for name, shape in keys.items()
        if name.startswith("backbone.") and not name.endswith("relative_position_index")
    }
    assert {name: tuple(tensor.shape) for name, tensor in swin.state_dict().items()} == expected
    assert sum(parameter.numel() for parameter in swin.parameters()) == 195_201_204


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (4, 4)])
def test_sizes_are_rounded_up(size: tuple[int, int]) -> None:
    swin = Swin(SMALL).eval()
    with torch.no_grad():
        maps = swin(torch.randn(1, 3, *size))
    for map_, stride, channels in zip(maps, swin.strides, swin.channels, strict=True):
        assert map_.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_a_batch_of_one_equals_a_batch_of_many(official: dict, parity: Swin) -> None:
    with torch.no_grad():
        together = parity(official["input"])
        alone = [parity(image[None]) for image in official["input"]]
    for level, map_ in enumerate(together):
        torch.testing.assert_close(torch.cat([maps[level] for maps in alone]), map_, atol=1e-5, rtol=1e-4)


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        swin = Swin(SwinConfig(24, (1, 1, 2, 1), (1, 2, 2, 4), 4, drop_path=0.3, checkpointing=checkpointing)).train()
        images = torch.randn(4, 3, 40, 40)
        sum(map_.square().mean() for map_ in swin(images)).backward()
        gradients.append([parameter.grad for parameter in swin.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain.abs().sum() > 0
        torch.testing.assert_close(recomputed, plain)


def test_drop_path_grows_linearly() -> None:
    swin = Swin(PRESETS["swin_tiny"])
    rates = [block.drop_path.drop_prob for stage in swin.layers for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1])


def test_blocks_are_counted_over_all_stages() -> None:
    swin = Swin(SMALL)  # five blocks
    names = ["patch_embed.proj.weight", "layers.0.blocks.0.norm1.weight", "layers.0.downsample.norm.weight"]
    names += ["layers.2.blocks.1.attn.qkv.weight", "layers.3.blocks.0.mlp.fc1.bias", "norm0.weight"]
    assert [swin.depth_of(name) for name in names] == [6, 5, 5, 2, 1, 0]


def test_norms_biases_and_position_tables_do_not_decay() -> None:
    swin = Swin(SMALL)
    kept = {name for name, parameter in swin.named_parameters() if not swin.decays(name, parameter)}
    tables = {name for name, _ in swin.named_parameters() if name.endswith("relative_position_bias_table")}
    assert len(tables) == 5
    assert kept == tables | {name for name, parameter in swin.named_parameters() if parameter.ndim == 1}


def test_frozen_it_learns_only_the_norms_of_its_results_and_drops_no_path() -> None:
    swin = Swin(SwinConfig(24, (1, 1, 2, 1), (1, 2, 2, 4), 4, drop_path=0.9, frozen=True)).train()
    learning = {name for name, parameter in swin.named_parameters() if parameter.requires_grad}
    assert learning == {f"norm{stage}.{what}" for stage in range(4) for what in ("weight", "bias")}
    images = torch.randn(2, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(swin(images), swin(images), strict=True))


@pytest.mark.parametrize("whole", [False, True], ids=["autocast", "all-bf16"])
def test_bf16_gives_no_nan(official: dict, parity: Swin, whole: bool) -> None:
    swin = Swin(SwinConfig(width=12, depths=(2, 2, 2, 1), heads=(1, 2, 2, 4), window=4)).eval()
    swin.load_state_dict(parity.state_dict())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=not whole):
        maps = swin.bfloat16()(official["input"].bfloat16()) if whole else swin(official["input"])
    for map_, expected in zip(maps, official["outputs"].values(), strict=True):
        assert (map_.float() - expected).norm() < 0.1 * expected.norm()


def test_compiles_as_one_graph(official: dict, parity: Swin) -> None:
    compiled = torch.compile(parity, fullgraph=True, backend="eager")
    with torch.no_grad():
        maps = compiled(official["input"])
    torch.testing.assert_close(maps[3], official["outputs"]["res5"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"heads": (5, 12, 24, 48)}, "5 heads"), ({"depths": (2, 2)}, "four"), ({"drop_path": 1.0}, "drop_path")],
)
def test_impossible_configurations_are_refused(change: dict, message: str) -> None:
    with pytest.raises(VssError, match=message):
        SwinConfig(**change)


def test_parameters_are_drawn_around_zero_with_the_official_spread() -> None:
    torch.manual_seed(0)
    swin = Swin(SwinConfig(48, (1, 1, 1, 1), (1, 2, 2, 4), 4))
    linear = [module for module in swin.modules() if isinstance(module, nn.Linear)]
    assert all(abs(module.weight.std().item() - 0.02) < 0.002 for module in linear)
