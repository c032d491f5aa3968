"""Swin: the numbers of detectron2's, its tensors at full size, and images of any size."""

from __future__ import annotations

import pytest
import torch
from backbone_samples import backbone_shapes, count, official_numbers, shapes_of
from pydantic import ValidationError
from torch import nn

from vsscli.errors import VssError
from vsscli.models.mask2former.swin import Swin
from vsscli.models.mask2former.trunks import PRESETS, SwinConfig
from vsscli.models.official.pretraining import swin_pretraining

SMALL = PRESETS["swin_tiny"]
PARITY = SwinConfig(width=12, depths=(2, 2, 2, 1), heads=(1, 2, 2, 4), window=4)


def without_indices(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("relative_position_index")}


@pytest.fixture(scope="module")
def official() -> dict:
    return official_numbers("swin_d2")


@pytest.fixture(scope="module")
def parity(official: dict) -> Swin:
    swin = Swin(PARITY).eval()
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
    expected = backbone_shapes("keys_mask2former_swinL_ade20k_d2", but="relative_position_index")
    assert shapes_of(swin) == expected
    assert count(swin) == 195_201_204


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (4, 4)])
def test_sizes_are_rounded_up(size: tuple[int, int]) -> None:
    swin = Swin(SMALL).eval()
    with torch.no_grad():
        maps = swin(torch.randn(1, 3, *size))
    for map_, stride, channels in zip(maps, (4, 8, 16, 32), swin.channels, strict=True):
        assert map_.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_drop_path_grows_linearly() -> None:
    swin = Swin(PRESETS["swin_tiny"])
    rates = [block.drop_path.drop_prob for stage in swin.layers for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1])


def test_blocks_are_counted_over_all_stages() -> None:
    swin = Swin(SMALL)  # five blocks
    names = ["patch_embed.proj.weight", "layers.0.blocks.0.norm1.weight", "layers.0.downsample.norm.weight"]
    names += ["layers.2.blocks.1.attn.qkv.weight", "layers.3.blocks.0.mlp.fc1.bias", "norm0.weight"]
    assert [swin.depth_of(name) for name in names] == [6, 5, 5, 2, 1, 0]


def test_norms_and_position_tables_do_not_decay() -> None:
    swin = Swin(SMALL)
    kept = {name for name, parameter in swin.named_parameters() if not swin.decays(name, parameter)}
    tables = {name for name, _ in swin.named_parameters() if name.endswith("relative_position_bias_table")}
    assert len(tables) == 5
    norms = {
        f"{prefix}.{name}"
        for prefix, module in swin.named_modules()
        if isinstance(module, nn.LayerNorm)
        for name, _ in module.named_parameters()
    }
    assert kept == tables | norms


def test_frozen_it_learns_only_the_norms_of_its_results_and_drops_no_path() -> None:
    swin = Swin(SMALL.model_copy(update={"drop_path": 0.9, "frozen": True})).train()
    learning = {name for name, parameter in swin.named_parameters() if parameter.requires_grad}
    assert learning == {f"norm{stage}.{what}" for stage in range(4) for what in ("weight", "bias")}
    images = torch.randn(2, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(swin(images), swin(images), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"heads": (5, 12, 24, 48)}, "5 heads"), ({"depths": (2, 2)}, "four"), ({"drop_path": 1.0}, "drop_path")],
)
def test_impossible_configurations_are_refused(change: dict, message: str) -> None:
    with pytest.raises((VssError, ValidationError), match=message):
        SwinConfig(**change)


def test_parameters_are_drawn_around_zero_with_the_official_spread() -> None:
    torch.manual_seed(0)
    swin = Swin(SwinConfig(width=48, depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), window=4))
    linear = [module for module in swin.modules() if isinstance(module, nn.Linear)]
    assert all(abs(module.weight.std().item() - 0.02) < 0.002 for module in linear)


@pytest.mark.parametrize("timms", [False, True])
def test_pre_trained_weights_fill_the_trunk(official: dict, parity: Swin, timms: bool) -> None:
    trunk = {name: tensor for name, tensor in parity.state_dict().items() if not name.startswith("norm")}
    state = dict(official["state_dict"].items() if not timms else trunk.items())
    state = {name: tensor for name, tensor in state.items() if not name.startswith("norm")}
    if timms:
        for stage in (2, 1, 0):
            for part in ("reduction.weight", "norm.weight", "norm.bias"):
                state[f"layers.{stage + 1}.downsample.{part}"] = state.pop(f"layers.{stage}.downsample.{part}")
    weights = swin_pretraining({**state, "head.fc.weight": torch.zeros(5, 96)}, PARITY)
    assert weights.unused == ("head.fc.weight",)
    assert weights.state.keys() == trunk.keys()
    assert all(torch.equal(tensor, trunk[name]) for name, tensor in weights.state.items())


def test_weights_for_another_window_are_refused(official: dict) -> None:
    with pytest.raises(VssError, match=r"relative_position_bias_table is \(49, 1\), not \(81, 1\)"):
        swin_pretraining(official["state_dict"], PARITY.model_copy(update={"window": 5}))
