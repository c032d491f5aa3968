"""The contrastive loss against numbers of U2PL's published code, and its other properties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vsscli.errors import VssError
from vsscli.recipes.training import Contrast
from vsscli.training.bank import Banks
from vsscli.training.contrast import (
    Cells,
    contrastive_loss,
    draw_below,
    label_mask,
    negatives_of,
    plan_step,
    published_label_mask,
)
from vsscli.training.ranks import rank_window
from vsscli.training.unsupervised import entropy_of, narrowing_share, split_by_entropy

CASES: dict[str, Any] = torch.load(Path(__file__).parent / "fixtures" / "u2pl.pt", weights_only=True)["contra"]
VARIANTS = {"official": "official", "fix_index": "fix_index", "fix_index_and_negatives": "paper"}


def rows(maps: Tensor) -> Tensor:
    """(B, D, h, w) to (N, D)."""
    return maps.movedim(1, -1).flatten(0, -2)


def shrink(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W) at the size of the features, by nearest-neighbour indices."""
    down, across = (torch.arange(new) * old // new for new, old in zip(size, maps.shape[-2:], strict=True))
    return maps[:, down][:, :, across]


def settings_of(case: dict[str, Any], variant: str, step_bytes: int = 2**20) -> Contrast:
    published = case["cfg"]["trainer"]["contrastive"]
    return Contrast(
        variant=VARIANTS[variant],
        low_rank=published["low_rank"],
        high_rank=published["high_rank"],
        confidence=published["current_class_threshold"],
        anchors=published["num_queries"],
        negatives=published["num_negatives"],
        temperature=published["temperature"],
        keys=None,
        step_bytes=step_bytes,
    )


def cells_of(case: dict[str, Any], settings: Contrast) -> Cells:
    """The cells of a case, made by vss's own functions."""
    size = tuple(case["rep"].shape[-2:])
    num_classes = case["cfg"]["net"]["num_classes"]
    share = narrowing_share(20.0, case["epoch"] / case["cfg"]["trainer"]["epochs"])
    unlabelled, labelled = case["label_u_aug"], case["label_l"]
    probabilities = torch.nn.functional.interpolate(
        case["pred_teacher_all"][len(labelled) :], size=unlabelled.shape[-2:], mode="bilinear", align_corners=True
    ).softmax(1)
    reliable, unreliable = split_by_entropy(entropy_of(probabilities), unlabelled != 255, share)
    # The fixture's masks come from the published code, whatever else of it a variant mends.
    own = torch.cat([published_label_mask(shrink(part, size), num_classes) for part in (labelled, unlabelled)])
    known = shrink(labelled, size).flatten() != 255
    shares = torch.cat([rows(case["prob_l"]), rows(case["prob_u"])])
    ranked = shares.argsort(dim=1, descending=True)
    low, high = settings.low_rank, min(settings.high_rank or num_classes, num_classes)
    assert low is not None
    window = torch.cat(
        [
            rank_window(ranked[: len(known)], 0, low, num_classes),
            rank_window(ranked[len(known) :], low, high, num_classes),
        ]
    )
    counts = torch.cat([known, shrink(unreliable, size).flatten()])
    negative = negatives_of(window, own, counts, labelled=len(known), variant=settings.variant)
    trusted = own & torch.cat([known, shrink(reliable, size).flatten()])[:, None]
    return Cells(trusted, shares > settings.confidence, negative)


def filled(contents: list[Tensor], sizes: list[int]) -> Banks:
    """Banks with the content of a case's queues."""
    banks = Banks(sizes, contents[0].shape[1])
    lengths = torch.tensor([len(content) for content in contents])
    banks.load_state_dict({"features": torch.cat(contents), "lengths": lengths})
    return banks


def replay(log: list[Tensor]) -> Callable[[Tensor, int], Tensor]:
    """Recorded draws: anchors and negatives, class by class."""
    parts = [torch.stack(list(log[start::2])).long() if log else None for start in (0, 1)]

    def draw(counts: Tensor, size: int) -> Tensor:
        numbers = parts.pop(0)
        if numbers is None:
            return torch.zeros(len(counts), size, dtype=torch.int64)
        assert numbers.shape == (len(counts), size)
        assert (numbers < counts[:, None]).all()
        return numbers

    return draw


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CASES)
def test_loss_gradient_and_banks_are_those_of_the_published_code(name: str, variant: str) -> None:
    case, expected = CASES[name], CASES[name]["variants"][variant]
    settings = settings_of(case, variant)
    cells = cells_of(case, settings)
    banks = filled(case["bank_before"], case["queue_size"])
    features = case["rep"].clone().requires_grad_()
    plan = plan_step(rows(case["rep_teacher"]), cells, banks, settings, replay(expected["randint_log"]))
    loss = contrastive_loss(rows(features)[plan.anchors], plan, banks, settings)
    loss.backward()
    torch.testing.assert_close(loss, expected["loss"], atol=1e-5, rtol=0)
    torch.testing.assert_close(features.grad, expected["grad_rep"], atol=1e-6, rtol=1e-4)
    assert cells.negative.sum(0).tolist() == expected["new_keys"]
    for number, content in enumerate(expected["bank_after"]):
        assert torch.equal(banks.content(number), content)


@pytest.mark.parametrize("name", CASES)
def test_reliable_and_unreliable_pixels_are_those_of_the_published_code(name: str) -> None:
    case = CASES[name]
    masks, labelled, unlabelled = case["masks"], case["label_l"], case["label_u_aug"]
    share = narrowing_share(20.0, case["epoch"] / case["cfg"]["trainer"]["epochs"])
    assert share == pytest.approx(masks["alpha_t"])
    probabilities = torch.nn.functional.interpolate(
        case["pred_teacher_all"][len(labelled) :], size=unlabelled.shape[-2:], mode="bilinear", align_corners=True
    ).softmax(1)
    torch.testing.assert_close(entropy_of(probabilities), masks["entropy"])
    reliable, unreliable = split_by_entropy(masks["entropy"], unlabelled != 255, share)
    assert torch.equal(reliable, masks["low_entropy_mask"].bool())
    assert torch.equal(unreliable, masks["high_entropy_mask"].bool())
    size = tuple(case["rep"].shape[-2:])
    for kind, mask in (("low", reliable), ("high", unreliable)):
        small = torch.cat([shrink(labelled != 255, size), shrink(mask, size)])
        assert torch.equal(small, masks[f"{kind}_mask_all"][:, 0].bool())
    num_classes = case["cfg"]["net"]["num_classes"]
    for label, small in ((labelled, "label_l_small"), (unlabelled, "label_u_small")):
        mask = published_label_mask(shrink(label, size), num_classes)
        assert torch.equal(mask, rows(masks[small]).bool())


def test_label_masks_are_those_of_the_published_code_for_one_crop() -> None:
    case = torch.load(Path(__file__).parent / "fixtures" / "u2pl.pt", weights_only=True)["label_onehot"]
    expected = rows(case["out"]).bool()
    assert torch.equal(label_mask(case["inp"], 3), expected)
    assert torch.equal(published_label_mask(case["inp"], 3), expected)


def small_step(step_bytes: int, keys: int | None = 100) -> tuple[Tensor, Tensor, Banks, Contrast]:
    """A step of 20 classes on drawn cells: loss, gradient, banks."""
    torch.manual_seed(0)
    settings = Contrast(queue=300, keys=keys, anchors=64, negatives=16, step_bytes=step_bytes)
    own = label_mask(torch.randint(20, (2, 32, 32)), 20)
    cells = Cells(own, torch.ones_like(own), torch.rand(own.shape) < 0.3)
    teacher, features = torch.randn(len(own), 32), torch.randn(len(own), 32, requires_grad=True)
    banks = Banks([settings.queue] * 20, 32)
    plan = plan_step(teacher, cells, banks, settings)
    loss = contrastive_loss(features[plan.anchors], plan, banks, settings)
    loss.backward()
    assert features.grad is not None
    return loss.detach(), features.grad, banks, settings


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor made."""

    nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self.nbytes = max(self.nbytes, tensor.untyped_storage().nbytes())
        return made


def test_pieces_give_what_the_whole_gives_and_keep_to_the_bound() -> None:
    bound = 512 * 1024
    with Largest() as largest:
        loss, gradient, banks, settings = small_step(bound)
    # What lasts is no piece: the banks, and one gradient per anchor.
    assert largest.nbytes <= max(bound, banks.features.nbytes, 20 * settings.anchors * 32 * 4)
    with Largest() as unbounded:
        whole_loss, whole_gradient, _, _ = small_step(2**30)
    assert unbounded.nbytes > 2 * bound
    torch.testing.assert_close(loss, whole_loss)
    torch.testing.assert_close(gradient, whole_gradient)


def test_banks_forget_the_oldest_and_take_keys_at_even_distances() -> None:
    banks = Banks([5, 3], 1)
    features = torch.arange(12.0)[:, None]
    negative = torch.zeros(12, 2, dtype=torch.bool)
    negative[:8, 0] = True
    banks.push(features, negative, 4, 2**20)
    assert banks.content(0)[:, 0].tolist() == [0, 2, 4, 6]
    assert len(banks.content(1)) == 0
    negative[:] = False
    negative[[9, 11], 0] = True
    negative[2:7, 1] = True
    banks.push(features, negative, None, 1)
    assert banks.content(0)[:, 0].tolist() == [2, 4, 6, 9, 11]
    assert banks.content(1)[:, 0].tolist() == [4, 5, 6]
    other = Banks([5, 3], 1)
    other.load_state_dict(banks.state_dict())
    for each in (banks, other):
        each.push(features, negative, 1, 2**20)
        assert each.content(0)[:, 0].tolist() == [4, 6, 9, 11, 9]
        assert each.norms[:8].tolist() == each.features[:8, 0].abs().tolist()
    with pytest.raises(VssError, match="banks of other sizes"):
        Banks([5, 2], 1).load_state_dict(banks.state_dict())


def test_draws_are_below_their_counts_and_even() -> None:
    torch.manual_seed(0)
    numbers = draw_below(torch.tensor([1, 3, 0]), 3000)
    assert numbers[0].max() == 0
    assert numbers[2].max() == 0
    assert (numbers[1].bincount(minlength=3) - 1000).abs().max() < 100


def test_the_published_labels_of_all_crops_lie_on_the_first() -> None:
    label = torch.tensor([[[0, 255]], [[2, 1]]])
    assert label_mask(label, 3).int().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert published_label_mask(label, 3).int().tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_class_that_is_not_listed_is_ranked_behind_those_that_are() -> None:
    ranked = torch.tensor([[2, 0], [255, 255]])
    assert rank_window(ranked, 2, 4, 4).int().tolist() == [[0, 1, 0, 1], [1, 1, 1, 1]]
    assert rank_window(ranked, 1, 2, 4).int().tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]


def test_one_class_alone_gives_no_contrast_but_a_gradient_of_zero() -> None:
    own = torch.zeros(10, 3, dtype=torch.bool)
    own[:, 1] = True
    settings = Contrast(queue=4, anchors=2, negatives=2)
    banks = Banks([4, 4, 4], 2)
    features = torch.randn(10, 2, requires_grad=True)
    plan = plan_step(torch.randn(10, 2), Cells(own, own, ~own), banks, settings)
    loss = contrastive_loss(features[plan.anchors], plan, banks, settings)
    loss.backward()
    assert loss == 0
    assert features.grad is not None
    assert not features.grad.any()
    assert banks.lengths.tolist() == [4, 0, 4]
