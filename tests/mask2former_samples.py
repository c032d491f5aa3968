"""The official Mask2Former heads of the fixtures, built as ours."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsscli.models.mask2former.config import HeadConfig
from vsscli.models.mask2former.head import Mask2FormerHead
from vsscli.models.official.head import mmseg_head_to_detectron

FIXTURES = Path(__file__).parent / "fixtures"
CLASSES = 7
SMALL = {
    "channels": 32,
    "heads": 4,
    "queries": 10,
    "encoder_layers": 2,
    "encoder_width": 48,
    "decoder_layers": 4,
    "decoder_width": 64,
}


@cache
def official(name: str) -> dict[str, Any]:
    return torch.load(FIXTURES / f"{name}.pt", weights_only=True)


def names_and_shapes(file: str, prefix: str) -> dict[str, tuple[int, ...]]:
    """Part of a list of an official checkpoint's tensors, names below the prefix."""
    listed = json.loads((FIXTURES / f"{file}.json").read_text())
    return {name.removeprefix(prefix): tuple(shape) for name, shape in listed.items() if name.startswith(prefix)}


def detectron_head(**changes: Any) -> tuple[Mask2FormerHead, list[Tensor]]:
    """The head of detectron2's fixture, and the maps that it was given."""
    numbers = official("mask2former_head_d2")
    head = Mask2FormerHead((8, 12, 16, 20), CLASSES, HeadConfig(**SMALL), **changes)
    head.pixel_decoder.load_state_dict(numbers["pixel_decoder_state"])
    head.predictor.load_state_dict(numbers["predictor_state"])
    return head, [numbers["features"][f"res{stage}"] for stage in (2, 3, 4, 5)]


def mmseg_head() -> tuple[Mask2FormerHead, dict[str, str]]:
    """The head of mmsegmentation's fixture, and what its tensors are called there."""
    state = official("full_vitadapter_mmseg")["state_dict"]
    state = {name.removeprefix("decode_head."): value for name, value in state.items() if name.startswith("decode_")}
    names = mmseg_head_to_detectron(state)
    head = Mask2FormerHead((32, 32, 32, 32), CLASSES, HeadConfig(**SMALL))
    head.load_state_dict({names[name]: value for name, value in state.items()})
    return head, {ours: f"decode_head.{theirs}" for theirs, ours in names.items()}


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """No element differs by more than the tolerance, relative to the largest element if that is above 1.

    Mask logits go up to 26: there the official float32 itself is 2e-5 away from what float64 gives.
    """
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * max(1.0, float(theirs.detach().abs().max()))
