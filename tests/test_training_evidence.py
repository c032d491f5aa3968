"""What a store or a teacher says of unlabelled crops, and a step of any kind of network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vsscli.data.samples import Crops, StoredPixels
from vsscli.models.network import Network, Normalisation
from vsscli.models.outputs import MapOutputs
from vsscli.models.scores import ScoreKind, Scores
from vsscli.recipes.schema import Recipe
from vsscli.training.evidence import (
    Narrowing,
    StoredEvidence,
    StoreMeaning,
    TeacherEvidence,
    cell_shares,
    label_crops,
    shrink,
)
from vsscli.training.learner import Learner, MeanTeacher
from vsscli.training.objectives.table import build_objectives
from vsscli.training.ranks import Ranks


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


def stored_crop(labels: list[int], entropy: list[int], level: list[int], ranked: list[list[int]]) -> Crops:
    """One crop of a single row of pixels; those without label are padding."""
    maps = [torch.tensor(row, dtype=torch.uint8).view(1, 1, -1) for row in (labels, entropy, level)]
    likeliest = torch.tensor(ranked, dtype=torch.uint8)[None, :, None]
    images = torch.zeros(1, 3, 1, len(labels))
    return Crops(images, maps[0], maps[0] == 255, StoredPixels(maps[1], maps[2], likeliest))


def test_stored_maps_split_pixels_at_the_level_and_padding_is_neither() -> None:
    # 0.3 of 255 is 76.5
    crop = stored_crop([1, 2, 1, 255], [10, 60, 61, 255], [255, 77, 76, 255], [[1, 2, 1, 255], [0, 0, 2, 255]])
    evidence = StoredEvidence(crop, StoreMeaning((60,), 2))
    assert evidence.target.tolist() == [[[1, 2, 255, 255]]]
    assert evidence.certainty.flatten().tolist() == pytest.approx([245 / 255, 195 / 255, 194 / 255, 0.0])
    found = evidence.cells((1, 4), Ranks(1, 3, 3), confidence=0.3)
    assert found.reliable.tolist() == [[[True, True, False, False]]]
    assert found.unreliable.tolist() == [[[False, False, True, False]]]
    assert found.ranked.tolist() == [[1, 0], [2, 0], [1, 2], [255, 255]]
    assert found.sure.nonzero().tolist() == [[0, 1], [1, 2]]


def test_a_split_that_narrows_ends_with_every_label_and_no_negative() -> None:
    labels = [0] * 10 + [1] * 10 + [255] * 4
    # Class 0 has entropies 0 to 9, class 1 those from 100 on, half of them the same.
    crop = stored_crop(labels, [*range(10), *[100] * 5, *range(105, 110), *[255] * 4], [200] * 24, [labels])

    def split(levels: tuple[int, ...], dropped: float, share: float) -> tuple[list[int], list[int], list[int]]:
        evidence = StoredEvidence(crop, StoreMeaning(levels, 1), Narrowing(dropped, share))
        found = evidence.cells((1, 24), Ranks(1, 2, 2), confidence=0.3)
        masks = (evidence.target != 255, found.reliable, found.unreliable)
        return tuple(mask.flatten().nonzero()[:, 0].tolist() for mask in masks)  # type: ignore[return-value]

    assert split((60,), 20, 20) == ([*range(16)], [*range(4)], [*range(16, 20)])
    assert split((60, 60), 20, 20) == ([*range(8), *range(10, 18)], [0, 1, *range(10, 15)], [8, 9, 18, 19])
    assert split((60,), 10, 10) == ([*range(18)], [0, 1], [18, 19])
    # Half-way into pixels that share one entropy: all of them are kept, and none is unreliable.
    assert split((60,), 45, 45) == ([*range(15)], [*range(9)], [*range(15, 20)])
    assert split((60,), 0, 0) == ([*range(20)], [0], [])


def test_stored_maps_split_pixels_at_the_level_of_their_class() -> None:
    labels = [0, 1, 1, 2, 255]
    evidence = StoredEvidence(
        stored_crop(labels, [30, 30, 20, 200, 0], labels, [labels]), StoreMeaning((30, 20, 255), 1)
    )
    assert evidence.target.tolist() == [[[0, 255, 1, 2, 255]]]
    found = evidence.cells((1, 5), Ranks(1, 3, 3), confidence=0.3)
    assert found.reliable.tolist() == [[[True, False, True, True, False]]]
    assert found.unreliable.tolist() == [[[False, True, False, False, False]]]


def test_a_teacher_labels_by_its_likeliest_class_and_drops_its_least_sure() -> None:
    values = torch.tensor([[4.0, 0.0, 1.0, 0.1], [0.0, 3.0, 0.0, 0.0]]).view(1, 2, 2, 2)
    scores = Scores(values, ScoreKind.LOGITS)
    void = torch.zeros(1, 2, 2, dtype=torch.bool)
    void[0, 0, 1] = True
    label = label_crops(scores, void)
    assert label.tolist() == [[[0, 255], [0, 0]]]
    evidence = TeacherEvidence(scores, label, Narrowing(dropped=40, share=40))
    assert evidence.target.tolist() == [[[0, 255], [0, 255]]]
    share = values.softmax(dim=1)[0, 0]  # of two classes: the binary entropy over ln 2
    entropy = -(share * share.log2() + (1 - share) * (1 - share).log2())
    torch.testing.assert_close(evidence.certainty[0], 1 - entropy, atol=1e-6, rtol=0)
    found = evidence.cells((2, 2), Ranks(1, 2, 2), confidence=0.6)
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
    small = {"confidence": 0.0, "queue": 20, "keys": 10, "anchors": 8, "negatives": 4, "channels": 8}
    settings = {"teacher": teacher, "contrast": small, "mixing": "cutmix", "mixing_share": 1.0}
    recipe = Recipe.model_validate({"name": "a", "unlabelled": settings})
    objectives = build_objectives(recipe, network, StoreMeaning((100,), 1) if teacher == "store" else None)
    label = torch.randint(5, (2, 16, 16), dtype=torch.uint8)
    level = torch.randint(200, label.shape, dtype=torch.uint8)
    stored = StoredPixels(level, 255 - level // 10, label[:, None]) if teacher == "store" else None
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    crops = Crops(images, label, torch.zeros(label.shape, dtype=torch.bool))
    losses = objectives(objectives.learner, crops, crops._replace(stored=stored), 0.25)
    losses.total.backward()
    assert list(losses.terms) == ["supervised", "unsupervised", "contrast"]
    assert losses.figures["loss_contrast"] > 0
    assert losses.figures["loss_unsupervised"] > 0
    parts = sum(losses.figures[f"loss_{name}"] for name in losses.terms)
    torch.testing.assert_close(losses.total.detach(), parts)
    assert all(parameter.grad is not None for parameter in objectives.learner.parameters())


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
    settings = {"mixing": mixing, "mixing_share": 1.0, "scale_weight": True}
    objectives = build_objectives(Recipe.model_validate({"name": "a", "unlabelled": settings}), network)
    images = torch.randint(1, 256, (2, 3, 16, 16), dtype=torch.uint8)
    label = torch.randint(5, (2, 16, 16), dtype=torch.uint8)
    if mixing == "none":
        label[:, :4], images[:, :, :4] = 255, 0  # not sure of what is black from end to end, as a film's bars are
    padding = torch.zeros(2, 16, 16, dtype=torch.bool)
    padding[0, 12:], padding[1, :, 8:] = True, True
    images.movedim(1, -1)[padding], label[padding] = 0, 255
    crops = Crops(images, label, padding)
    losses = objectives(objectives.learner, crops, crops, 0.0)
    share = losses.figures["reliable"]
    if mixing == "none":
        pixels, sure = 12 * 16 + 16 * 8, 8 * 16 + 12 * 8
        assert share.item() == pytest.approx(sure / pixels)
        expected = losses.figures["loss_supervised"] + pixels / sure * losses.figures["loss_unsupervised"]
        torch.testing.assert_close(losses.total.detach(), expected)
    else:
        assert (share == 1) == (mixing == "cutmix")  # which moves padding about, where cutout takes labels away
