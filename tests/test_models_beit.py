"""BEiT: the blocks of the official code, a pyramid over four of them, and pretrained weights for any crop."""

from __future__ import annotations

from typing import Any

import pytest
import timm.models.beit
import torch
from backbone_samples import count, official_numbers

from vsscli.errors import VssError
from vsscli.models.mask2former.beit import Beit
from vsscli.models.mask2former.relative_position import resize_table
from vsscli.models.mask2former.trunks import PRESETS, AdapterConfig, BeitConfig, VitAdapterConfig
from vsscli.models.mask2former.vit_adapter import VitAdapter
from vsscli.models.official.pretraining import beit_pretraining

CONFIG = BeitConfig(width=32, depth=8, heads=4, hidden=128, crop=(64, 64), drop_path=0.0, taps=(1, 3, 5, 7))
ADAPTER = AdapterConfig(stem=8, interactions=((0, 1), (2, 3), (4, 5), (6, 7)), heads=4)
TRUNK = ("cls_token", "patch_embed.", "blocks.")


@pytest.fixture(scope="module")
def trunk() -> dict[str, torch.Tensor]:
    """The trunk of the official ViT-Adapter, which is a BEiT of 8 blocks for 64 pixels."""
    state = official_numbers("beit_adapter_64")["state_dict"]
    return {name: tensor for name, tensor in state.items() if name.startswith(TRUNK) and "index" not in name}


def loaded(config: BeitConfig, state: dict[str, torch.Tensor]) -> Beit:
    torch.manual_seed(0)
    beit = Beit(config).eval()
    missing, surplus = beit.load_state_dict(state, strict=False)
    assert all(name.startswith("fpn") for name in missing)
    assert surplus == []
    return beit


def pretrained(trunk: dict[str, torch.Tensor], *, shared: bool) -> dict[str, torch.Tensor]:
    """The trunk as in a file of pretraining, with the head of its task."""
    state = {**trunk, "norm.weight": torch.ones(32), "head.weight": torch.ones(7, 32)}
    state["blocks.0.attn.relative_position_index"] = torch.zeros(17, 17, dtype=torch.long)
    if shared:
        for block in range(8):
            table = state.pop(f"blocks.{block}.attn.relative_position_bias_table")
        state["rel_pos_bias.relative_position_bias_table"] = table
        state["rel_pos_bias.relative_position_index"] = torch.zeros(17, 17, dtype=torch.long)
    return state


def test_blocks_agree_with_timms(trunk: dict[str, torch.Tensor]) -> None:
    other = timm.models.beit.Beit(
        img_size=64,
        embed_dim=32,
        depth=8,
        num_heads=4,
        qkv_bias=True,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        init_values=1e-6,
        num_classes=0,
        norm_layer=torch.nn.Identity,
    )
    for block in other.blocks:
        block.norm1 = torch.nn.LayerNorm(32, 1e-6)
        block.norm2 = torch.nn.LayerNorm(32, 1e-6)
    missing, _ = other.load_state_dict(trunk, strict=False)
    assert missing == []
    beit = loaded(CONFIG, trunk)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = beit(images)
        expected = other.eval().forward_intermediates(images, indices=[1, 3, 5, 7], intermediates_only=True)
    torch.testing.assert_close(maps[2], expected[2], atol=1e-5, rtol=0)


def test_the_pyramid_is_two_enlargements_the_map_itself_and_a_maximum(trunk: dict[str, torch.Tensor]) -> None:
    beit = loaded(CONFIG, trunk)
    images = torch.randn(1, 3, 64, 64)
    results = []
    for block in beit.blocks:
        block.register_forward_hook(lambda module, inputs, tokens: results.append(tokens))
    with torch.no_grad():
        maps = beit(images)
        patches = [results[tap][:, 1:].transpose(1, 2).reshape(1, 32, 4, 4) for tap in CONFIG.taps]
        assert torch.equal(maps[0], beit.fpn1(patches[0]))
        assert torch.equal(maps[1], beit.fpn2(patches[1]))
        assert torch.equal(maps[2], patches[2])
        assert torch.equal(maps[3][0, :, 1, 0], patches[3][0, :, 2:, :2].amax(dim=(1, 2)))


def test_at_full_size_it_has_the_parameters_of_beit_large_and_of_the_pyramid() -> None:
    with torch.device("meta"):
        beit = Beit(PRESETS["beit_l"])
    width, hidden, rows = 1024, 4096, 79 * 79 + 3
    block = 4 * width * width + 2 * width * hidden + hidden + 10 * width + rows * 16
    first = 16 * 16 * 3 * width + 2 * width
    pyramid = 3 * (4 * width * width + width) + 2 * width
    assert count(beit) == 24 * block + first + pyramid


@pytest.mark.parametrize("shared", [False, True])
def test_pre_trained_weights_fill_the_trunk(trunk: dict[str, torch.Tensor], shared: bool) -> None:
    weights = beit_pretraining(pretrained(trunk, shared=shared), CONFIG)
    assert set(weights.unused) == {"norm.weight", "head.weight"}
    beit = loaded(CONFIG, weights.state)
    last = trunk["blocks.7.attn.relative_position_bias_table"]
    for number, block in enumerate(beit.blocks):
        own = trunk[f"blocks.{number}.attn.relative_position_bias_table"]
        assert torch.equal(block.attn.relative_position_bias_table, last if shared else own)
    assert torch.equal(beit.blocks[3].mlp.fc1.weight, trunk["blocks.3.mlp.fc1.weight"])


def test_copies_of_a_shared_table_learn_on_their_own(trunk: dict[str, torch.Tensor]) -> None:
    state = beit_pretraining(pretrained(trunk, shared=True), CONFIG).state
    tables = {state[f"blocks.{block}.attn.relative_position_bias_table"].data_ptr() for block in range(8)}
    assert len(tables) == 8


@pytest.mark.parametrize("crop", [(96, 96), (224, 224), (320, 320), (64, 128)])
def test_tables_are_resized_for_any_crop(trunk: dict[str, torch.Tensor], crop: tuple[int, int]) -> None:
    config = VitAdapterConfig(width=32, depth=8, heads=4, hidden=128, crop=crop, adapter=ADAPTER)
    state = beit_pretraining(pretrained(trunk, shared=False), config).state
    network = VitAdapter(config)
    missing, surplus = network.load_state_dict(state, strict=False)
    assert surplus == []
    assert not any(name.startswith(TRUNK) for name in missing)
    name = "blocks.2.attn.relative_position_bias_table"
    assert torch.equal(state[name], resize_table(trunk[name], (4, 4), config.grid))
    assert len(state[name]) == (crop[0] // 8 - 1) * (crop[1] // 8 - 1) + 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.pop("blocks.3.norm1.bias"), r"1 tensors are missing \(blocks.3.norm1.bias\)"),
        (lambda state: state.update(cls_token=torch.zeros(1, 1, 48)), r"cls_token is \(1, 1, 48\), not \(1, 1, 32\)"),
        (
            lambda state: state.update({"blocks.1.attn.relative_position_bias_table": torch.zeros(60, 4)}),
            r"blocks.1.attn.relative_position_bias_table is \(60, 4\)",
        ),
    ],
)
def test_weights_of_another_network_are_refused(trunk: dict[str, torch.Tensor], damage: Any, message: str) -> None:
    state = pretrained(trunk, shared=False)
    damage(state)
    with pytest.raises(VssError, match=message):
        beit_pretraining(state, CONFIG)


@pytest.mark.parametrize("taps", [(7, 11, 15, 22), (7, 7, 15, 23), (11, 7, 15, 23), (-1, 3, 15, 23)])
def test_taps_must_be_blocks_in_order(taps: tuple[int, int, int, int]) -> None:
    with pytest.raises(VssError, match="taps"):
        BeitConfig(taps=taps)
