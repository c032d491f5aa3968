"""A frozen trunk is loaded from where it came from, shared by copies of the network, and in no checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from network_samples import VIT
from small import small_recipe, train

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, restore_network, save_checkpoint
from vsscli.models.plain_vit.config import PlainVitModel
from vsscli.models.plain_vit.network import PlainVit
from vsscli.recipes.schema import Recipe
from vsscli.training import loop
from vsscli.training.averaging import AveragedWeights
from vsscli.training.learner import Learner, MeanTeacher

pytestmark = pytest.mark.usefixtures("few_points")

PMT = {**VIT, "queries": "decoder", "blocks": 2, "annealing": [[0.0, 0.5], [0.25, 0.75]]}
TABLE = ClassTable("seven", tuple("abcdefg"), tuple((i, i, i) for i in range(7)))


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    """The weights of a ViT, as timm would save them."""
    torch.manual_seed(3)
    network = build_network(PMT, 7, load_pretrained=False)
    assert isinstance(network, PlainVit)
    torch.save(network.trunk.state_dict(), tmp_path / "trunk.pth")
    return tmp_path / "trunk.pth"


def over(trunk: Path, **changes: Any) -> PlainVit:
    network = build_network({**PMT, "pretrained": str(trunk), **changes}, 7, load_pretrained=False)
    assert isinstance(network, PlainVit)
    return network


def saved(network: PlainVit, trunk: Path, path: Path) -> Checkpoint:
    config = PlainVitModel.model_validate({**PMT, "pretrained": str(trunk)}).model_dump(mode="json")
    digest, weights = network.trunk_digest, network.kept_state()
    checkpoint = Checkpoint(config, weights, TABLE, network.normalisation, {}, {}, 1, trunk=digest)
    save_checkpoint(path, checkpoint)
    return load_checkpoint(path)


@torch.no_grad()
def test_a_checkpoint_names_the_trunk_and_holds_the_rest(trunk: Path, tmp_path: Path) -> None:
    network, images = over(trunk).eval(), torch.randn(1, 3, 64, 96)
    checkpoint = saved(network, trunk, tmp_path / "run" / "last.pt")
    assert not [name for name in checkpoint.weights if name.startswith("trunk.")]
    assert len(checkpoint.trunk) == 64
    assert torch.equal(restore_network(checkpoint)(images).values, network(images).values)
    # The file may have moved to the checkpoint's folder.
    trunk.rename(tmp_path / "run" / "trunk.pth")
    assert torch.equal(restore_network(checkpoint)(images).values, network(images).values)
    (tmp_path / "run" / "trunk.pth").unlink()
    with pytest.raises(VssError, match=r"trunk\.pth"):
        restore_network(checkpoint)


def test_a_checkpoint_over_another_trunk_is_refused(trunk: Path, tmp_path: Path) -> None:
    checkpoint = saved(over(trunk), trunk, tmp_path / "last.pt")
    tensors = torch.load(trunk)
    tensors["norm.bias"] += 1.0
    torch.save(tensors, trunk)
    with pytest.raises(VssError, match=f"trained over a frozen trunk with digest {checkpoint.trunk[:12]}") as caught:
        restore_network(checkpoint)
    assert str(trunk) in caught.value.hint
    assert save_fingerprint(checkpoint, tmp_path) != checkpoint.fingerprint  # it predicts otherwise


def save_fingerprint(checkpoint: Checkpoint, folder: Path) -> str:
    other = replace(checkpoint, trunk="0" * 64)
    save_checkpoint(folder / "other.pt", other)
    return other.fingerprint


def test_averages_and_teachers_copy_what_learns_alone(trunk: Path) -> None:
    network = over(trunk)
    average = AveragedWeights(network, 0.9)
    assert {name for name, _ in network.named_parameters() if not name.startswith("trunk.")} < average.weights.keys()
    assert not [name for name in average.weights if name.startswith("trunk.")]
    learner = Learner(network)
    teacher = MeanTeacher(learner, 0.9).learner.network
    assert teacher.get_parameter("trunk.norm.bias").data_ptr() == network.trunk.norm.bias.data_ptr()
    own = network.get_parameter("queries.weight")
    with torch.no_grad():
        own.add_(1.0)
    assert not torch.equal(teacher.get_parameter("queries.weight"), own)
    trained = [parameter for group in network.parameter_groups(1.0) for parameter in group.parameters]
    assert not {id(part) for part in trained} & {id(part) for part in network.trunk.parameters()}


def test_the_trunk_stays_as_it_was_in_training(trunk: Path) -> None:
    network = over(trunk).train()
    assert not network.trunk.training
    assert network.decoder is not None
    assert network.decoder.training
    network.outputs(torch.randn(2, 3, 64, 96)).layers[-1].mask_logits.sum().backward()
    assert all(parameter.grad is None for parameter in network.trunk.parameters())


def test_weights_that_are_not_of_the_trunk_are_refused(trunk: Path) -> None:
    with pytest.raises(VssError, match="not of the trunk that the recipe describes: 14 tensors are missing"):
        over(trunk, sizes={**VIT["sizes"], "depth": 5})
    with pytest.raises(VssError, match="no weights for vit_small_patch14_reg4_dinov2"):
        over(trunk, pretrained="timm")


def test_a_checkpoint_of_a_whole_network_can_be_started_from(trunk: Path, tmp_path: Path) -> None:
    inside = {name: value for name, value in PMT.items() if name not in ("queries", "blocks", "annealing")}
    network = build_network(inside, 7, load_pretrained=False)
    config = PlainVitModel.model_validate(inside).model_dump(mode="json")
    checkpoint = Checkpoint(config, network.state_dict(), TABLE, network.normalisation, {}, {}, 1)
    save_checkpoint(tmp_path / "whole.pt", checkpoint)
    # Of another crop and of other classes: positions are resized, the class layer is fresh.
    other = build_network(
        {**inside, "crop": (96, 96), "pretrained": str(tmp_path / "whole.pt")}, 3, load_pretrained=True
    )
    assert other.fresh == {"head.class_head.weight", "head.class_head.bias"}
    assert torch.equal(other.get_parameter("queries.weight"), network.get_parameter("queries.weight"))
    assert other.get_parameter("trunk.pos_embed").shape == (1, 36, 24)
    # Of a decoder over it, the trunk alone fits; another head is refused.
    with pytest.raises(VssError, match="other queries than the recipe's"):
        build_network({**inside, "num_queries": 5, "pretrained": str(tmp_path / "whole.pt")}, 7, load_pretrained=True)
    partial = saved(over(trunk), trunk, tmp_path / "partial.pt")
    assert partial.path is not None
    with pytest.raises(VssError, match="hold no trunk of their own"):
        over(trunk, pretrained=str(partial.path))


def test_a_run_that_was_cut_off_resumes_bit_for_bit(
    trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(tmp_path / "data", steps=4, checkpoint_every=1, batch_size=2, ema=0.9, schedule="poly_after")
    values = recipe.model_dump(mode="json")
    values["model"], values["augment"]["crop"] = {**PMT, "pretrained": str(trunk)}, [64, 96]
    recipe = Recipe.model_validate(values)
    straight = load_checkpoint(train(recipe, tmp_path / "straight", device="cpu").last)

    class Cut(loop.Stepper):
        def step(self, *args: Any, **settings: Any) -> Any:
            if self.state.step == 2:
                raise InterruptedError
            return super().step(*args, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "Stepper", Cut)
        with pytest.raises(InterruptedError):
            train(recipe, tmp_path / "cut", device="cpu")
    resumed = load_checkpoint(train(recipe, tmp_path / "cut", device="cpu", resume=True).last)
    assert resumed.fingerprint == straight.fingerprint
    assert resumed.trunk
    assert not [name for name in resumed.weights if name.startswith("trunk.")]
