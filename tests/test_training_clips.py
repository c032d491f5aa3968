"""Networks for video learn from clips, go on where they were cut off, and learn from unlabelled clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cut_off import require_same_weights
from listener import Listener
from small import train
from test_training_plain_vit import EOMT, losses, recipe_of

from vsscli.data.samples import Crops
from vsscli.errors import VssError
from vsscli.recipes.schema import Recipe
from vsscli.training.mixing import mixed

pytestmark = pytest.mark.usefixtures("few_points")

CLIPS = {"clip": 3, "num_queries": 8, "blocks": 2}


@pytest.mark.parametrize("model", [CLIPS, {**CLIPS, "queries": "decoder", "variant": "published"}])
def test_it_learns_from_clips(tmp_path: Path, model: dict[str, Any]) -> None:
    recipe = recipe_of(tmp_path / "data", model, **EOMT, steps=16, lr=4e-3)
    train(recipe, tmp_path / "run", device="cpu")
    values = losses(tmp_path / "run")
    assert sum(values[-4:]) < 0.9 * sum(values[:4])


def test_a_run_that_was_cut_off_goes_on_bit_for_bit(tmp_path: Path) -> None:
    require_same_weights(recipe_of(tmp_path / "data", CLIPS, **EOMT, steps=4, checkpoint_every=2), tmp_path)


def test_unlabelled_clips_are_mixed_as_clips_and_labelled_by_a_teacher_that_follows_them(tmp_path: Path) -> None:
    model = {**CLIPS, "queries": "decoder"}
    first = train(recipe_of(tmp_path / "data", model, steps=1, batch_size=1), tmp_path / "first", device="cpu").last
    unlabelled = {"teacher": "ema", "batch_size": 2, "mixing": "cutmix", "mixing_share": 1.0}
    recipe = recipe_of(tmp_path / "data", model, unlabelled, steps=2, batch_size=1)
    train(recipe, tmp_path / "run", device="cpu", init=first)
    assert len(losses(tmp_path / "run", "loss_unsupervised")) == 2


@pytest.mark.parametrize("method", ["cutmix", "classmix", "cutout"])
def test_all_frames_of_a_clip_are_mixed_alike(method: str) -> None:
    number = torch.arange(6).view(6, 1, 1).expand(6, 8, 8)  # clips of frames 0 1 2 and 3 4 5
    labels = (number // 3 * 2 + (torch.arange(8) > 3)).byte()  # two classes in each clip
    images = 1 + number[:, None].expand(-1, 3, -1, -1).byte()
    torch.manual_seed(1)
    crops = mixed(method, Crops(images, labels, torch.zeros(6, 8, 8, dtype=torch.bool)), 3)
    for clip in crops.images.unflatten(0, (2, 3)):
        own = clip[:, 0] == clip[:, 0].amax(dim=(1, 2), keepdim=True)
        assert torch.equal(own[0], own[1])
        assert torch.equal(own[0], own[2])
        assert own[0].float().mean() not in (0.0, 1.0)
    if method != "cutout":
        assert set(crops.images[1].unique().tolist()) == {2, 5}  # the same frame of the other clip


def test_images_are_clips_of_one_frame_and_it_is_said(tmp_path: Path) -> None:
    heard = Listener()
    values = recipe_of(tmp_path / "data", CLIPS, steps=1, batch_size=1).model_dump(mode="json")
    values["data"]["scene"]["frames"] = 1
    train(Recipe.model_validate(values), tmp_path / "run", device="cpu", talk=heard)
    assert any("2 videos have fewer labelled frames than a clip of 3" in text for text in heard.warned)


def test_a_clip_longer_than_every_video_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "data", {**CLIPS, "clip": 7}, steps=1, batch_size=1)
    with pytest.raises(VssError, match=r"model\.clip: no video of street has the 7 labelled frames") as caught:
        train(recipe, tmp_path / "run", device="cpu")
    assert "set model.clip to 6 at most" in caught.value.hint


def test_rare_classes_choose_frames_not_clips(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="clips of 3"):
        train(recipe_of(tmp_path / "data", CLIPS, steps=1, rare={}), tmp_path / "run", device="cpu")
