"""Schedule, optimiser, losses, averaging and journal match their formulas."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from small import read_journal
from torch import nn
from torch.nn import functional

from vsscli.models.build import build_network
from vsscli.models.scores import ScoreKind, Scores
from vsscli.recipes.training import Train
from vsscli.training import losses
from vsscli.training.averaging import AveragedWeights
from vsscli.training.journal import Journal
from vsscli.training.losses import cross_entropy_sum
from vsscli.training.optimiser import build_optimiser, learning_rate_factor, set_learning_rates
from vsscli.training.state import load_optimiser


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 0.1), (4, 0.5 * 0.96**0.9), (9, 0.91**0.9), (10, 0.9**0.9), (99, 0.01**0.9)]
)
def test_the_learning_rate_rises_linearly_and_falls_as_a_power(step: int, factor: float) -> None:
    assert learning_rate_factor(step, steps=100, warmup=10, power=0.9) == pytest.approx(factor, rel=1e-12)


def test_norms_and_biases_are_not_decayed_and_the_encoder_has_its_own_rate() -> None:
    network = build_network({"family": "light", "encoder": "resnet10t", "pretrained": "none"}, 3, load_pretrained=False)
    optimiser = build_optimiser(network, Train(lr=1e-3, encoder_lr=0.1, weight_decay=0.05))
    encoder = {id(parameter) for name, parameter in network.named_parameters() if name.startswith("encoder.")}
    seen = 0
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            seen += 1
            assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0.0)
            assert group["lr"] == pytest.approx(1e-4 if id(parameter) in encoder else 1e-3)
    assert seen == len(list(network.parameters()))
    assert set_learning_rates(optimiser, 0, Train(steps=100, warmup=2)) == pytest.approx(5e-4)


def test_cross_entropy_counts_only_labelled_pixels() -> None:
    logits = torch.zeros(1, 4, 2, 2)
    label = torch.full((1, 4, 4), 255, dtype=torch.uint8)
    label[0, 0, :3] = torch.tensor([0, 1, 3], dtype=torch.uint8)
    loss, count = cross_entropy_sum(Scores(logits, ScoreKind.LOGITS), label)
    assert count == 3
    assert loss == pytest.approx(3 * math.log(4))


def test_a_batch_without_any_label_costs_nothing_and_gives_a_gradient_of_zero() -> None:
    logits = torch.randn(2, 3, 2, 2, requires_grad=True)
    loss, count = cross_entropy_sum(Scores(logits, ScoreKind.LOGITS), torch.full((2, 8, 8), 255, dtype=torch.uint8))
    loss.backward()
    assert (loss.item(), count.item()) == (0.0, 0.0)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_crops_taken_one_by_one_give_the_loss_and_gradient_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 4, 4, requires_grad=True)
    label = torch.randint(0, 5, (3, 16, 16), dtype=torch.uint8)
    whole, _ = cross_entropy_sum(Scores(logits, ScoreKind.LOGITS), label)
    (expected,) = torch.autograd.grad(whole, logits)
    monkeypatch.setattr(losses, "WHOLE_BATCH_VALUES", 1)
    parts, _ = cross_entropy_sum(Scores(logits, ScoreKind.LOGITS), label)
    (found,) = torch.autograd.grad(parts, logits)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(found, expected)


def test_mask_scores_are_learnt_through_their_normalised_logarithm() -> None:
    values = torch.rand(1, 3, 4, 4) + 0.1
    label = torch.randint(0, 3, (1, 4, 4))
    loss, _ = cross_entropy_sum(Scores(values, ScoreKind.MASK_SCORES), label)
    shares = values / values.sum(1, keepdim=True)
    torch.testing.assert_close(loss, functional.nll_loss(shares.log(), label, reduction="sum"))
    # So where next to nothing is claimed too, whatever predicting does with what lacks.
    faint, _ = cross_entropy_sum(Scores(values / 10, ScoreKind.MASK_SCORES), label)
    torch.testing.assert_close(faint, loss)


def test_averaged_weights_follow_the_network_slowly_after_a_quick_start() -> None:
    layer = nn.BatchNorm1d(1)
    average = AveragedWeights(layer, 0.9)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    layer.num_batches_tracked += 7
    average.update(layer, step=1)
    assert average.weights["weight"].item() == pytest.approx(1.0 + (1 - 2 / 11) * 2.0)
    assert average.weights["num_batches_tracked"].item() == 7
    before = average.weights["weight"].item()
    average.update(layer, step=10**6)
    assert average.weights["weight"].item() == pytest.approx(before + 0.1 * (3.0 - before))


def test_a_journal_forgets_what_lies_behind_the_checkpoint_it_resumes_from(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, 0)
    for step in (10, 20, 30):
        journal.record(step, {"loss": 1.0 / step, "miou": math.nan})
    journal.close()
    path.write_text(path.read_text() + '{"step": 40, "lo')
    journal = Journal(path, 20)
    journal.record(30, {"loss": 0.5})
    journal.close()
    lines = read_journal(path)
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[0]["miou"] is None
    assert lines[2]["loss"] == 0.5
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_an_optimiser_goes_on_whatever_memory_format_its_state_was_kept_in() -> None:
    """Processes that share weights keep it in another one, and a fused step would pair numbers in the wrong order."""
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    network(torch.randn(1, 3, 8, 8)).square().mean().backward()
    optimiser.step()
    kept = optimiser.state_dict()
    before = {name: tensor.clone() for name, tensor in kept["state"][0].items()}
    other = {**before, "exp_avg": before["exp_avg"].contiguous(), "exp_avg_sq": before["exp_avg_sq"].contiguous()}
    load_optimiser(optimiser, {**kept, "state": {**kept["state"], 0: other}})
    for name in ("exp_avg", "exp_avg_sq"):
        loaded = optimiser.state[network.weight][name]
        assert torch.equal(loaded, before[name])
        assert loaded.stride() == network.weight.stride()
