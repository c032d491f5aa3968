"""Labels given to unlabelled frames, learned from by the losses of a mask classifier."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from test_training_shared_trunk import CONTRAST, OTHERS, SETTINGS, crops, objectives, step

from vsscli.data.classes import IGNORE
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.outputs import MaskOutputs
from vsscli.recipes.schema import Recipe
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


@pytest.mark.parametrize("unlabelled", [MASKS, {**MASKS, "contrast": CONTRAST}])
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
