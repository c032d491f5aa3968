"""Gradients of every network and loss match float64 and finite differences, for one image or two."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gradients import assert_true_gradients
from network_samples import CLASSES, CONFIGS, Case
from test_models_backbones import SIZE, SMALL, build
from torch import Tensor, nn

from vsscli.models.build import build_network
from vsscli.models.norm import SyncedBatchNorm2d, settle_norms, settled
from vsscli.models.outputs import MaskOutputs
from vsscli.models.projection import ProjectionHead
from vsscli.training.learner import Learner
from vsscli.training.losses import cross_entropy_sum
from vsscli.training.objectives.labels import supervised_loss
from vsscli.training.set_prediction import SetPredictionLoss, SetPredictionSettings

LAYOUTS = {"plain": torch.contiguous_format, "channels-last": torch.channels_last}


def waves(like: Tensor) -> Tensor:
    return torch.cos(0.7 * torch.arange(like.numel(), dtype=torch.float64)).view(like.shape).to(like.dtype)


def draws(shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """The same points in float32 and float64."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(shape, generator=generator, dtype=torch.float32).to(torch.get_default_dtype())


def losses(learner: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """All losses of a network: labels, pseudo-labels, contrast."""
    labels = (torch.arange(len(images) * 64 * 96).view(len(images), 64, 96) // 1300 % 5).to(torch.uint8)
    labels[:, :5] = 255
    answer = learner(images, [torch.arange(0, len(images) * 16 * 24, 11)[None]])
    (anchors,) = answer.projected
    outputs = answer.outputs
    masks = SetPredictionLoss(SetPredictionSettings(points=150), draws)
    labelled = (
        masks(outputs.layers, labels).total if isinstance(outputs, MaskOutputs) else supervised_loss(outputs, labels)
    )
    unlabelled, count = cross_entropy_sum(outputs.scores, labels)
    return {
        "labels": labelled,
        "pseudo-labels": unlabelled / count,
        "contrast": (anchors * waves(anchors)).mean(),
    }


@pytest.mark.parametrize(
    ("batch", "layout"),
    [
        (1, "channels-last"),
        pytest.param(1, "plain", marks=pytest.mark.slow),
        pytest.param(2, "channels-last", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("case", CONFIGS.values(), ids=CONFIGS.keys())
def test_of_every_network_through_every_loss(case: Case, batch: int, layout: str) -> None:
    torch.manual_seed(1)
    still = {"rescale": 1.0} if "rescale" in case.config else {}  # it is drawn anew in every pass
    network = build_network({**case.config, **still}, CLASSES, load_pretrained=False)
    learner = Learner(network, ProjectionHead(network.feature_channels, 8))
    stir(learner)
    learner.train().to(memory_format=LAYOUTS[layout])
    images = torch.randn(batch * case.config.get("clip", 1), 3, 64, 96, generator=torch.Generator().manual_seed(2))
    assert_true_gradients(learner, images.contiguous(memory_format=LAYOUTS[layout]), losses, parts=3)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("consumer", ["maps", "tokens"])
@pytest.mark.parametrize("name", SMALL)
def test_of_every_backbone_whatever_takes_its_maps(name: str, consumer: str, batch: int) -> None:
    def total(backbone: nn.Module, images: Tensor) -> dict[str, Tensor]:
        maps = backbone(images)
        taken = [map_.flatten(2).transpose(1, 2) for map_ in maps] if consumer == "tokens" else maps
        return {"maps": sum((map_ * waves(map_)).sum() for map_ in taken)}

    backbone = build(name, drop_path=0.0).train()
    settle_norms(backbone)  # as `build_network` does
    stir(backbone)
    assert_true_gradients(backbone, torch.randn(batch, 3, *SIZE), total, parts=1)


def stir(network: nn.Module) -> None:
    """Move parameters away from zeros, which block gradients."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
            elif not parameter.any():
                parameter.normal_(std=0.02)


def tokens(images: Tensor) -> Tensor:
    """The same map out of a row of tokens, as transformers keep them."""
    row = torch.cat([images.flatten(2).transpose(1, 2), torch.zeros(len(images), 5, images.shape[1])], dim=1)
    return row[:, :-5].transpose(1, 2).unflatten(2, images.shape[2:])


@pytest.mark.parametrize("training", [True, False], ids=["training", "frozen"])
@pytest.mark.parametrize("odd", ["image", "gradient", "both"])
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, SyncedBatchNorm2d])
def test_batch_norm_reads_one_image_of_tokens_right(kind: Any, odd: str, training: bool) -> None:
    torch.manual_seed(0)
    images, upstream = torch.randn(2, 1, 8, 4, 6)
    norm = kind(8).train(training)
    settle_norms(norm)
    found = []
    for turned in (False, True):
        given = (tokens(images) if turned and odd != "gradient" else images.clone()).requires_grad_()
        back = tokens(upstream) if turned and odd != "image" else upstream
        found.append(torch.autograd.grad(norm(given), [given, norm.weight, norm.bias], back))
    for ours, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_maps_that_can_be_read_in_one_way_are_not_copied() -> None:
    images = torch.randn(1, 8, 4, 6)
    last = images.contiguous(memory_format=torch.channels_last)
    pair = tokens(torch.randn(2, 8, 4, 6))
    assert settled(images) is images
    assert settled(last) is last
    assert settled(pair) is pair
    odd = tokens(images)
    assert settled(odd).is_contiguous()
    assert torch.equal(settled(odd), images)
