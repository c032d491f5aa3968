"""What a store or a teacher says of unlabelled crops, and a step of any kind of network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vsscli.models.network import Network, Normalisation
from vsscli.models.outputs import MapOutputs, Outputs
from vsscli.models.scores import ScoreKind, Scores
from vsscli.recipes.training import Contrast, Unlabelled
from vsscli.training.evidence import (
    MapMeaning,
    Narrowing,
    cell_shares,
    from_store,
    from_teacher,
    label_crops,
    shrink,
    stored_target,
)
from vsscli.training.learner import Learner, MeanTeacher
from vsscli.training.semi import build_semi, padding_of
from vsscli.training.step import Batch, StepLoss


class MaskNetwork(Network):
    """A network whose scores are sums of mask scores, as a mask classifier's; they may be finer than its features."""

    def __init__(self, num_classes: int = 5, finer: int = 1) -> None:
        super().__init__(num_classes, 4, 4, Normalisation((127.0,) * 3, (60.0,) * 3))
        self.feature_channels = 6
        self.finer = nn.Upsample(scale_factor=finer) if finer > 1 else nn.Identity()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6))
        self.classify = nn.Conv2d(6, num_classes, 1)

    def forward(self, images: Tensor) -> Scores:
        return self.outputs(images).scores

    def outputs(self, images: Tensor) -> MapOutputs:
        features = self.features(images)
        return MapOutputs(Scores(self.finer(self.classify(features).sigmoid()), ScoreKind.MASK_SCORES), features)


@pytest.mark.parametrize("edge", range(4, 21))
def test_an_edge_stays_within_half_a_cell_when_labels_are_shrunk_and_scores_enlarged(edge: int) -> None:
    label = torch.zeros(1, 16, 24)
    label[..., edge:] = 1
    small = shrink(label, (4, 6))
    enlarged = nn.functional.interpolate(small[None], size=(16, 24), mode="bilinear", align_corners=False)[0]
    assert abs(int((enlarged[0, 0] < 0.5).sum()) - edge) <= 2


def test_stored_maps_split_pixels_at_the_level_and_padding_is_neither() -> None:
    label = torch.tensor([[[1, 2, 1, 255]]], dtype=torch.uint8)
    entropy = torch.tensor([[[10, 60, 61, 255]]], dtype=torch.uint8)
    level = torch.tensor([[[255, 77, 76, 255]]], dtype=torch.uint8)  # 0.3 of 255 is 76.5
    ranked = torch.tensor([[[1, 2, 1, 255]], [[0, 0, 2, 255]]], dtype=torch.uint8)
    maps = torch.cat([torch.stack([label[0], entropy[0], level[0]]), ranked])[None]
    found = from_store(maps, (1, 4), MapMeaning((60,), 2), confidence=0.3, num_classes=3)
    assert found.target.tolist() == [[[1, 2, 255, 255]]]
    assert found.reliable.tolist() == [[[True, True, False, False]]]
    assert found.unreliable.tolist() == [[[False, False, True, False]]]
    assert found.ranked.tolist() == [[1, 0], [2, 0], [1, 2], [255, 255]]
    assert found.sure.nonzero().tolist() == [[0, 1], [1, 2]]


def test_a_split_that_narrows_ends_with_every_label_and_no_negative() -> None:
    label = torch.tensor([0] * 10 + [1] * 10 + [255] * 4, dtype=torch.uint8).view(1, 1, 24)
    # Class 0 has entropies 0 to 9, class 1 those from 100 on, half of them the same.
    entropy = torch.tensor([*range(10), *[100] * 5, *range(105, 110), *[255] * 4], dtype=torch.uint8).view(1, 1, 24)
    maps = torch.cat([label, entropy, torch.full_like(label, 200), label])[None]

    def split(levels: tuple[int, ...], dropped: float, share: float) -> tuple[list[int], list[int], list[int]]:
        found = from_store(
            maps, (1, 24), MapMeaning(levels, 1), confidence=0.3, num_classes=2, narrowing=Narrowing(dropped, share)
        )
        assert torch.equal(found.target, stored_target(maps, MapMeaning(levels, 1), Narrowing(dropped, share)))
        masks = (found.target != 255, found.reliable, found.unreliable)
        return tuple(mask.flatten().nonzero()[:, 0].tolist() for mask in masks)  # type: ignore[return-value]

    assert split((60,), 20, 20) == ([*range(16)], [*range(4)], [*range(16, 20)])
    assert split((60, 60), 20, 20) == ([*range(8), *range(10, 18)], [0, 1, *range(10, 15)], [8, 9, 18, 19])
    assert split((60,), 10, 10) == ([*range(18)], [0, 1], [18, 19])
    # Half-way into pixels that share one entropy: all of them are kept, and none is unreliable.
    assert split((60,), 45, 45) == ([*range(15)], [*range(9)], [*range(15, 20)])
    assert split((60,), 0, 0) == ([*range(20)], [0], [])


def test_stored_maps_split_pixels_at_the_level_of_their_class() -> None:
    label = torch.tensor([[[0, 1, 1, 2, 255]]], dtype=torch.uint8)
    entropy = torch.tensor([[[30, 30, 20, 200, 0]]], dtype=torch.uint8)
    maps = torch.stack([label[0], entropy[0], label[0], label[0]])[None]
    found = from_store(maps, (1, 5), MapMeaning((30, 20, 255), 1), confidence=0.3, num_classes=3)
    assert found.target.tolist() == [[[0, 255, 1, 2, 255]]]
    assert found.reliable.tolist() == [[[True, False, True, True, False]]]
    assert found.unreliable.tolist() == [[[False, True, False, False, False]]]


def test_a_teacher_labels_by_its_likeliest_class_and_drops_its_least_sure() -> None:
    values = torch.tensor([[4.0, 0.0, 1.0, 0.1], [0.0, 3.0, 0.0, 0.0]]).view(1, 2, 2, 2)
    scores = Scores(values, ScoreKind.LOGITS)
    void = torch.zeros(1, 2, 2, dtype=torch.bool)
    void[0, 0, 1] = True
    label = label_crops(scores, void)
    assert label.tolist() == [[[0, 255], [0, 0]]]
    found = from_teacher(scores, label, dropped=40, share=40, listed=1, confidence=0.6)
    assert found.target.tolist() == [[[0, 255], [0, 255]]]
    assert found.reliable.tolist() == [[[True, False], [False, False]]]
    assert found.unreliable.tolist() == [[[False, False], [False, True]]]
    assert found.ranked.tolist() == [[0], [1], [0], [0]]
    assert found.sure.nonzero().tolist() == [[0, 0], [1, 1], [2, 0]]


def test_cells_of_finer_scores_have_what_their_centre_has() -> None:
    values = torch.rand(2, 3, 8, 12)
    cells = cell_shares(Scores(values, ScoreKind.LOGITS), (2, 3)).view(2, 2, 3, 3)
    torch.testing.assert_close(cells[1, 1, 2], values[1, :, 6, 10].softmax(0))
    whole = cell_shares(Scores(values, ScoreKind.LOGITS), (8, 12)).view(2, 8, 12, 3)
    torch.testing.assert_close(whole[1, 5, 7], values[1, :, 5, 7].softmax(0))


@pytest.mark.parametrize("finer", [1, 4])
@pytest.mark.parametrize("teacher", ["store", "ema"])
def test_mask_scores_learn_from_unlabelled_crops_by_their_logarithm(teacher: str, finer: int) -> None:
    torch.manual_seed(0)
    network = MaskNetwork(finer=finer)
    small = Contrast(confidence=0.0, queue=20, keys=10, anchors=8, negatives=4, channels=8)
    settings = Unlabelled(teacher=teacher, contrast=small, mixing="cutmix", mixing_share=1.0)  # type: ignore[arg-type]
    learner, semi = build_semi(settings, network, MapMeaning((100,), 1) if teacher == "store" else None)
    seen: list[tuple[type, int]] = []

    def supervised(outputs: Outputs, labels: Tensor) -> Tensor:
        seen.append((type(outputs), len(labels)))
        return outputs.scores.values.square().mean()

    label = torch.randint(5, (2, 16, 16), dtype=torch.uint8)
    level = torch.randint(200, label.shape, dtype=torch.uint8)
    maps = (
        torch.stack([label, level, 255 - level // 10, label], dim=1) if teacher == "store" else torch.zeros_like(label)
    )
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    loss = StepLoss(network.normalisation, semi, supervised)
    losses = loss(learner, Batch(images, label), Batch(images, maps), 0.25)
    losses.total.backward()
    assert seen == [(MapOutputs, 2)]
    assert losses.parts["loss_contrast"] > 0
    assert losses.parts["loss_unsupervised"] > 0
    parts = sum(losses.parts[name] for name in ("loss_supervised", "loss_unsupervised", "loss_contrast"))
    torch.testing.assert_close(losses.total.detach(), parts)
    assert all(parameter.grad is not None for parameter in learner.parameters())


def test_a_mean_teacher_averages_parameters_and_statistics_and_is_never_in_training() -> None:
    network = MaskNetwork()
    learner = Learner(network).train()
    teacher = MeanTeacher(learner, 0.9)
    norm, student = teacher.learner.network.features[1], network.features[1]
    assert not teacher.learner.training
    with torch.no_grad():
        student.weight.fill_(3.0)
        student.running_mean.fill_(2.0)
    teacher.average.update(learner, 10**6)
    assert norm.weight[0].item() == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert norm.running_mean[0].item() == pytest.approx(0.1 * 2)
    before = norm.running_mean.clone()
    outputs, features = teacher(torch.randn(2, 3, 8, 8))
    assert torch.equal(norm.running_mean, before)
    assert features is None
    assert not outputs.scores.values.requires_grad


@pytest.mark.parametrize("mixing", ["none", "cutmix", "cutout"])
def test_padding_is_no_pixel_of_which_a_share_is_reliable(mixing: str) -> None:
    torch.manual_seed(0)
    network = MaskNetwork()
    settings = Unlabelled(mixing=mixing, mixing_share=1.0, scale_weight=True)  # type: ignore[arg-type]
    learner, semi = build_semi(settings, network, None)
    images = torch.randint(1, 256, (2, 3, 16, 16), dtype=torch.uint8)
    label = torch.randint(5, (2, 16, 16), dtype=torch.uint8)
    if mixing == "none":
        label[:, :4] = 255  # not sure of it
    images[:, :, 2, 2] = 0  # a black pixel
    for crop, (rows, columns) in enumerate(((12, 16), (16, 8))):
        images[crop, :, rows:], images[crop, :, :, columns:] = 0, 0
        label[crop, rows:], label[crop, :, columns:] = 255, 255
    assert padding_of(images, label).sum(dim=(1, 2)).tolist() == [4 * 16, 8 * 16]
    losses = StepLoss(network.normalisation, semi)(learner, Batch(images, label), Batch(images, label), 0.0)
    share = losses.parts["reliable"]
    if mixing == "none":
        pixels, sure = 12 * 16 + 16 * 8, 8 * 16 + 12 * 8
        assert share.item() == pytest.approx(sure / pixels)
        expected = losses.parts["loss_supervised"] + pixels / sure * losses.parts["loss_unsupervised"]
        torch.testing.assert_close(losses.total.detach(), expected)
    else:
        assert (share == 1) == (mixing == "cutmix")  # which moves padding about, where cutout takes labels away
