"""Student and teacher over one frozen trunk: it sees every view once, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_models_frozen_trunk import PMT
from torch import Tensor

from vsscli.data.samples import Crops
from vsscli.models import cost
from vsscli.models.build import build_network
from vsscli.models.plain_vit import network as plain_vit
from vsscli.models.plain_vit.network import PlainVit
from vsscli.recipes.schema import Recipe
from vsscli.training.objectives.table import Losses, Objectives, build_objectives

LABELLED, OTHERS = 2, 3
CONTRAST = {"weight": 0.1, "queue": 64, "keys": 16, "channels": 8, "low_rank": 1}
SETTINGS = {"teacher": "ema", "batch_size": OTHERS}


def objectives(unlabelled: dict[str, Any], **model: Any) -> Objectives:
    recipe = Recipe.model_validate({"name": "shared", "model": {**PMT, **model}, "unlabelled": unlabelled})
    torch.manual_seed(3)
    network = build_network(recipe.model, 7, load_pretrained=False).train()
    return build_objectives(recipe, network)


def crops(count: int, *, strong: bool = False) -> Crops:
    draw = torch.Generator().manual_seed(count)
    images = torch.randint(256, (count, 3, 64, 96), generator=draw, dtype=torch.uint8)
    labels = torch.randint(7, (count, 64, 96), generator=draw, dtype=torch.uint8)
    views = torch.stack([images, images.flip(1)], dim=1) if strong else None
    return Crops(images, labels, torch.zeros(count, 64, 96, dtype=torch.bool), strong=views)


def step(made: Objectives, **kind: bool) -> Losses:
    torch.manual_seed(5)
    return made(made.learner, crops(LABELLED), crops(OTHERS, **kind), 0.25)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images in each pass of a trunk, the teacher's and the student's."""
    passes: list[int] = []
    embed = plain_vit.embed

    def counted(trunk: Any, images: Tensor) -> Any:
        passes.append(len(images))
        return embed(trunk, images)

    monkeypatch.setattr(plain_vit, "embed", counted)
    return passes


@pytest.mark.parametrize(
    ("unlabelled", "passes"),
    [
        (SETTINGS, [LABELLED + OTHERS]),
        ({**SETTINGS, "contrast": CONTRAST}, [LABELLED + OTHERS]),
        # A teacher labels what is mixed then.
        ({**SETTINGS, "mixing": "cutmix", "mixing_share": 1.0}, [OTHERS, LABELLED + OTHERS]),
    ],
)
def test_a_view_passes_the_trunk_once(
    unlabelled: dict[str, Any], passes: list[int], embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = step(objectives(unlabelled))
    assert embedded == passes
    monkeypatch.setattr(PlainVit, "shares", False)
    alone = step(objectives(unlabelled))
    assert sum(embedded) > 2 * sum(passes)
    assert shared.figures.keys() == alone.figures.keys()
    torch.testing.assert_close(shared.total, alone.total, rtol=1e-6, atol=1e-6)


def test_weak_and_strong_views_are_different_images(embedded: list[int]) -> None:
    step(objectives({**SETTINGS, "method": "unimatch"}), strong=True)
    assert embedded == [OTHERS, LABELLED + 2 * OTHERS]


def test_a_trunk_whose_positions_training_rescales_is_not_shared(embedded: list[int]) -> None:
    rotary = {"backbone": "vit_small_patch16_dinov3_qkvb"}
    step(objectives(SETTINGS, **rotary, rescale=2.0))
    assert embedded == [OTHERS, LABELLED + OTHERS]
    embedded.clear()
    step(objectives(SETTINGS, **rotary))
    assert embedded == [LABELLED + OTHERS]


def test_the_outline_says_so() -> None:
    assert cost.outline(PMT, 7).shares
    assert not cost.outline({**PMT, "queries": "inside", "blocks": 2}, 7).shares
