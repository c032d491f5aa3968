"""Labels given to unlabelled frames, learned from by the losses of a mask classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from test_training_shared_trunk import CONTRAST, OTHERS, SETTINGS, crops, objectives, step
from torch import Tensor

from vsscli.data.classes import IGNORE
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.outputs import MaskOutputs
from vsscli.recipes.schema import Recipe
from vsscli.training.losses import cross_entropy_sum
from vsscli.training.objectives.objective import Said
from vsscli.training.objectives.pseudo_labels import UnsupervisedLoss
from vsscli.training.objectives.table import build_objectives
from vsscli.training.set_prediction import SetPredictionLoss, SetPredictionSettings
from vsscli.training.view import StepView

MASKS = {**SETTINGS, "loss": "masks"}


def test_it_is_the_set_loss_of_reliable_pixels_as_a_mean_over_layers() -> None:
    made = objectives(MASKS)
    network, target = made.learner.network, crops(OTHERS).labels
    target[:, :, 48:] = IGNORE
    outputs = network.outputs(crops(OTHERS).images.float())
    assert isinstance(outputs, MaskOutputs)
    view = StepView(crops(2), crops(OTHERS)._replace(labels=target))
    (part,) = [part for part in made.parts if isinstance(part, UnsupervisedLoss)]
    torch.manual_seed(1)
    term = part.term(Said(view, outputs, outputs, len(outputs.layers)))
    torch.manual_seed(1)
    whole = SetPredictionLoss(SetPredictionSettings(void="ignored"))(outputs.layers, target)
    torch.testing.assert_close(term.loss, whole.total / len(outputs.layers))
    assert term.weight == len(outputs.layers)  # times the mean: the sum, as of labelled crops
    assert term.figures["reliable"] == 0.5
    # Pixels that no label was given to count neither for nor against a mask.
    torch.manual_seed(1)
    outside = SetPredictionLoss(SetPredictionSettings(void="negative"))(outputs.layers, target)
    assert not torch.isclose(whole.total, outside.total)


@pytest.mark.parametrize("loss", ["masks", "pixels"])
def test_pixels_may_weigh_as_much_as_they_are_certain(loss: str) -> None:
    """Half of the pixels are certain, the others half so: as if each of these were there half as often."""
    made = objectives({**MASKS, "loss": loss, "pixel_weights": "certainty"})
    network, target = made.learner.network, crops(OTHERS).labels
    outputs = network.outputs(crops(OTHERS).images.float())
    assert isinstance(outputs, MaskOutputs)
    sure = torch.ones(target.shape)
    sure[:, :, 48:] = 0.5

    @dataclass(frozen=True)
    class Known:
        target: Tensor
        certainty: Tensor

        cells: Any = None

    (part,) = [part for part in made.parts if isinstance(part, UnsupervisedLoss)]
    view = StepView(crops(2), crops(OTHERS), Known(target, sure))
    torch.manual_seed(1)
    found = part.term(Said(view, outputs, outputs, len(outputs.layers))).loss
    if loss == "masks":
        torch.manual_seed(1)
        whole = SetPredictionLoss(SetPredictionSettings(void="ignored"))(outputs.layers, target, weights=sure)
        expected = whole.total / len(outputs.layers)
    else:
        sums = [cross_entropy_sum(outputs.scores, target.masked_fill(sure != share, IGNORE)) for share in (1.0, 0.5)]
        expected = (sums[0][0] + 0.5 * sums[1][0]) / (sums[0][1] + 0.5 * sums[1][1])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "unlabelled",
    [
        MASKS,
        {**MASKS, "contrast": CONTRAST},
        {**MASKS, "pixel_weights": "certainty"},
        {**SETTINGS, "pixel_weights": "certainty"},
    ],
)
def test_a_step_learns_from_it(unlabelled: dict[str, object]) -> None:
    made = objectives(unlabelled)
    losses = step(made)
    losses.terms["unsupervised"].backward()
    queries = made.learner.network.get_parameter("queries.weight").grad
    assert queries is not None
    assert queries.abs().max() > 0


def test_a_network_without_masks_has_no_such_loss() -> None:
    recipe = Recipe.model_validate({"name": "pixels", "model": {"pretrained": "none"}, "unlabelled": MASKS})
    with pytest.raises(VssError, match=r"unlabelled\.loss: a network of family light scores pixels"):
        build_objectives(recipe, build_network(recipe.model, 7, load_pretrained=False))
    with pytest.raises(ValidationError, match="loss is of method paper"):
        Recipe.model_validate({"name": "other", "unlabelled": {**MASKS, "method": "unimatch"}})
    weighed = {**SETTINGS, "pixel_weights": "certainty", "method": "unimatch"}
    with pytest.raises(ValidationError, match="pixel_weights is of method paper"):
        Recipe.model_validate({"name": "other", "unlabelled": weighed})
