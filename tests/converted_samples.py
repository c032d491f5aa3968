"""Published checkpoints of small networks, as files of their programs, and their conversions."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.models.mask2former.network import Mask2Former
from vsscli.models.official.head import mmseg_head_to_detectron

FIXTURES = Path(__file__).parent / "fixtures"
CLASSES = 7
NAMES = ("road", "sky", "car", "tree", "pole", "wall", "sign")
COLOURS = [[20 * number, 10, 200] for number in range(CLASSES)]


@cache
def official(name: str) -> dict[str, Any]:
    return torch.load(FIXTURES / f"{name}.pt", weights_only=True)


def write_mmseg(path: Path, state: dict[str, Tensor] | None = None, **meta: Any) -> Path:
    """A checkpoint of mmsegmentation 0.x: the shrunken ViT-Adapter, or other tensors."""
    state = official("full_vitadapter_mmseg")["state_dict"] if state is None else state
    torch.save({"meta": {"CLASSES": NAMES, "PALETTE": COLOURS, **meta}, "state_dict": state}, path)
    return path


def write_detectron2(path: Path) -> Path:
    """A checkpoint of detectron2: the fixtures' Swin and head, and projections between them that fit both."""
    head, swin = official("mask2former_head_d2"), official("swin_d2")
    state = {f"backbone.{name}": value for name, value in swin["state_dict"].items()}
    state |= {f"sem_seg_head.pixel_decoder.{name}": value for name, value in head["pixel_decoder_state"].items()}
    state |= {f"sem_seg_head.predictor.{name}": value for name, value in head["predictor_state"].items()}
    generator = torch.Generator().manual_seed(1)
    for name, channels in projections().items():
        rows = len(state[f"sem_seg_head.pixel_decoder.{name}"])
        state[f"sem_seg_head.pixel_decoder.{name}"] = torch.randn(rows, channels, 1, 1, generator=generator)
    state["criterion.empty_weight"] = torch.ones(CLASSES + 1)
    content = {"model": {name: value.numpy() for name, value in state.items()}, "__author__": "third_party"}
    path.write_bytes(pickle.dumps(content))
    return path


def projections() -> dict[str, int]:
    """The layers between backbone and head, and the channels of the fixture's Swin that come in."""
    coarser = {f"input_proj.{level}.0.weight": 96 // 2**level for level in range(3)}
    return coarser | {"adapter_1.weight": 12}


def restored(path: Path) -> Mask2Former:
    network = restore_network(load_checkpoint(path))
    assert isinstance(network, Mask2Former)
    return network


def our_name(official_name: str) -> str:
    """Our name of a tensor of mmsegmentation's."""
    if official_name.startswith("backbone."):
        return official_name
    short = official_name.removeprefix("decode_head.")
    return "head." + mmseg_head_to_detectron([short])[short]
