"""Unsupervised loss and mixing against numbers of U2PL's published code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vsscli.models.scores import ScoreKind, Scores
from vsscli.training.losses import cross_entropy_sum
from vsscli.training.mixing import box_masks, class_masks, cut_box, erase, exchange
from vsscli.training.unsupervised import entropy_of, keep_sure, narrowing_share, percentile

PUBLISHED: dict[str, Any] = torch.load(Path(__file__).parent / "fixtures" / "u2pl.pt", weights_only=True)


@pytest.mark.parametrize("name", PUBLISHED["unsup"])
def test_the_unsupervised_loss_is_that_of_the_published_code(name: str) -> None:
    case = PUBLISHED["unsup"][name]
    percent = 100 - narrowing_share(20.0, case["epoch"] / case["epochs"])
    assert percent == pytest.approx(case["drop_percent"])
    target = keep_sure(case["target"], entropy_of(case["pred_teacher"].softmax(1)), percent)
    assert torch.equal(target, case["target_after_inplace"])
    predict = case["predict"].clone().requires_grad_()
    total, count = cross_entropy_sum(Scores(predict, ScoreKind.LOGITS), target)
    loss = total / count * (target.numel() / count)  # the weight of U2PL: all pixels over those kept
    loss.backward()
    torch.testing.assert_close(loss, case["loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(predict.grad, case["grad_predict"], atol=1e-6, rtol=1e-4)


def test_the_labelled_loss_is_that_of_the_published_code() -> None:
    case = PUBLISHED["criteria"]
    total, count = cross_entropy_sum(Scores(case["pred"], ScoreKind.LOGITS), case["target"])
    assert float(total / count) == pytest.approx(case["ce"], abs=1e-6)


@pytest.mark.parametrize("percent", [0.0, 12.5, 50.0, 98.7, 100.0])
def test_percentiles_are_those_of_numpy(percent: float) -> None:
    values = torch.rand(4, 37)
    valid = torch.rand(4, 37) < 0.6
    expected = np.percentile(values[valid].double().numpy(), percent)
    assert float(percentile(values, valid, percent)) == pytest.approx(float(expected), abs=1e-6)
    assert float(percentile(values, torch.zeros_like(valid), percent)) == float("inf")


@pytest.mark.parametrize("method", ["cutout", "cutmix", "classmix"])
def test_mixed_crops_are_those_of_the_published_code(method: str) -> None:
    case = PUBLISHED["aug"][method]
    draw = np.random.RandomState(case["np_seed"]).randint
    label = case["target"]
    if method == "classmix":
        torch.manual_seed(case["torch_seed"])
        priority = torch.zeros(len(label), 256)
        for crop, of_crop in zip(label, priority, strict=True):
            classes = crop.unique()
            of_crop[classes[torch.randperm(len(classes))]] = torch.arange(len(classes)).float()
        stays = class_masks(label, priority)
    else:
        stays = box_masks(*label.shape, torch.device("cpu"), draw)
    for name, fill in (("data", 0), ("target", 255), ("logits", 0)):
        maps = case[name]
        mixed = erase(maps, stays, fill) if method == "cutout" else exchange(maps, stays)
        torch.testing.assert_close(mixed, case[f"out_{name}"], atol=1e-6, rtol=0)


def test_a_box_is_that_of_the_published_code() -> None:
    stays = torch.ones(16, 20, dtype=torch.int64)
    stays[cut_box(16, 20, np.random.RandomState(3).randint)] = 0
    assert torch.equal(stays, PUBLISHED["aug"]["cutout_mask_16x20_npseed3"])
