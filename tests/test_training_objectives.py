"""Another term of the loss is a file and a line in the table: step, journal and checkpoints then include it."""

from __future__ import annotations

import pytest
import torch
from test_training_evidence import MaskNetwork
from torch import Tensor, nn

from vsscli.data.samples import Crops
from vsscli.errors import VssError
from vsscli.models.scores import to_probabilities
from vsscli.recipes.schema import Recipe
from vsscli.training.balance import gradient_shares, measured_parameters
from vsscli.training.objectives import table
from vsscli.training.objectives.objective import Objective, Said, Setup, Term


class Calls:
    """Counts them; a checkpoint keeps how many there were."""

    def __init__(self) -> None:
        self.count = torch.zeros(())

    def state_dict(self) -> dict[str, Tensor]:
        return {"count": self.count.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.count.copy_(state["count"])


class Consistency(Objective):
    """The student's distributions of unlabelled crops are the teacher's."""

    name = "consistency"
    kept_as = "calls"
    asks_teacher = True

    def __init__(self) -> None:
        self.memory = Calls()

    @classmethod
    def of(cls, setup: Setup) -> Consistency | None:
        return cls() if setup.recipe.unlabelled is not None else None

    def term(self, said: Said) -> Term:
        assert said.unlabelled is not None
        assert said.view.teacher is not None
        self.memory.count += 1
        student, teacher = (to_probabilities(one.scores) for one in (said.unlabelled, said.view.teacher.unlabelled))
        return Term((student - teacher).square().mean(), 2.0 * said.layers, {"calls": self.memory.count.clone()})


def crops() -> Crops:
    label = torch.randint(5, (2, 16, 16), dtype=torch.uint8)
    padding = torch.zeros(2, 16, 16, dtype=torch.bool)
    return Crops(torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8), label, padding)


def test_another_objective_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    recipe = Recipe.model_validate({"name": "a", "unlabelled": {}})
    before = table.build_objectives(recipe, MaskNetwork()).state_dict()
    monkeypatch.setattr(table, "OBJECTIVES", (*table.OBJECTIVES, Consistency))
    objectives = table.build_objectives(recipe, MaskNetwork())
    with torch.no_grad():  # else the teacher is the student
        objectives.learner.network.classify.bias[0] += 1.0
    losses = objectives(objectives.learner, crops(), crops(), 0.0)
    assert list(losses.figures) == [
        "loss",
        "loss_supervised",
        "loss_unsupervised",
        "reliable",
        "loss_consistency",
        "calls",
    ]
    assert losses.figures["loss_consistency"] > 0
    torch.testing.assert_close(losses.terms["consistency"].detach(), 2 * losses.figures["loss_consistency"])
    torch.testing.assert_close(losses.total, sum(losses.terms.values()))
    shares = gradient_shares(losses.terms, measured_parameters(objectives.learner.network))
    assert shares["gradient_consistency"] > 0

    kept = objectives.state_dict()
    assert before is not None
    assert kept is not None
    assert list(before) == ["projection", "teacher", "banks"]
    assert list(kept) == [*before, "calls"]
    other = table.build_objectives(recipe, MaskNetwork())
    other.load_state_dict(kept)
    assert other.parts[-1].memory is not None
    assert other.parts[-1].memory.state_dict()["count"] == 1


def test_a_recipe_without_unlabelled_frames_has_one_term_and_keeps_nothing() -> None:
    objectives = table.build_objectives(Recipe(name="a"), MaskNetwork())
    losses = objectives(objectives.learner, crops(), None, 0.0)
    assert list(losses.terms) == ["supervised"]
    assert torch.equal(losses.total, losses.terms["supervised"])
    assert objectives.state_dict() is None


def test_a_second_head_is_refused_with_the_objectives_that_bring_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Consistency):
        name = "other"

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 4)

    class Further(Other):
        name = "further"

    monkeypatch.setattr(table, "OBJECTIVES", (*table.OBJECTIVES, Other))
    recipe = Recipe.model_validate({"name": "a", "unlabelled": {}})
    assert isinstance(table.build_objectives(recipe, MaskNetwork()).learner.projection, nn.Linear)
    monkeypatch.setattr(table, "OBJECTIVES", (*table.OBJECTIVES, Further))
    with pytest.raises(VssError, match="other and further"):
        table.build_objectives(recipe, MaskNetwork())
