"""Learning rates: layer decay protects loaded weights, and fresh parameters learn at the full rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from network_samples import CLASSES, CONFIGS
from small import small_recipe, train

from vsscli.data.classes import ClassTable
from vsscli.models.build import build_network
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from vsscli.models.mask2former.config import Mask2FormerModel
from vsscli.models.mask2former.relative_position import relative_position_index
from vsscli.models.network import Network
from vsscli.pipeline.convert import convert_checkpoint
from vsscli.recipes.load import load_recipe
from vsscli.recipes.schema import Recipe
from vsscli.training.optimiser import build_optimiser

PARTS = ("cls_token", "patch_embed.", "blocks.", "image_adapter.", "encoder.")
TRUNK = tuple(f"backbone.{part}" for part in PARTS)
TABLE = ClassTable("seven", tuple("abcdefg"), tuple((i, i, i) for i in range(7)))


def rates(network: Network, recipe: Recipe) -> dict[str, float]:
    """The full rate of every parameter."""
    optimiser = build_optimiser(network, recipe.train)
    found = {id(part): group["base_lr"] for group in optimiser.param_groups for part in group["params"]}
    return {name: found[id(part)] for name, part in network.named_parameters()}


@pytest.mark.parametrize(("recipe", "depth"), [("student", 25), ("teacher", 41)])
def test_of_the_papers_recipes_all_around_a_trunk_learns_at_the_full_rate(recipe: str, depth: int) -> None:
    read = load_recipe(recipe)
    with torch.device("meta"):
        network = build_network(read.model.model_dump(mode="json") | {"pretrained": "none"}, 124, load_pretrained=False)
    names = [name for name, _ in network.named_parameters()]
    decay = read.train.layer_decay
    # As published: queries, class and mask layers slowest of all.
    before = rates(network, read)
    assert before["head.predictor.query_feat.weight"] == pytest.approx(1e-5 * decay**depth)
    # After the trunk's file was loaded.
    network.note_loaded([name for name in names if name.startswith(TRUNK)])
    after = rates(network, read)
    assert {rate for name, rate in after.items() if not name.startswith(TRUNK)} == {1e-5}
    assert sorted({rate for name, rate in after.items() if name.startswith(TRUNK)}) == pytest.approx(
        [1e-5 * decay**layer for layer in range(depth, 0, -1)]
    )
    assert {name: rate for name, rate in after.items() if name.startswith(TRUNK)} == {
        name: rate for name, rate in before.items() if name.startswith(TRUNK)
    }


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    network = build_network(CONFIGS["vit-adapter"].config, CLASSES, load_pretrained=False)
    state = {name.removeprefix("backbone."): value for name, value in network.state_dict().items()}
    state = {name: value for name, value in state.items() if name.startswith(PARTS)}
    table = "blocks.0.attn.relative_position_index"
    torch.save({"model": state | {table: relative_position_index((4, 6))}}, tmp_path / "trunk.pth")
    return tmp_path / "trunk.pth"


def is_fresh_around_the_trunk(network: Network) -> bool:
    return network.fresh == {name for name, _ in network.named_parameters() if not name.startswith(TRUNK)}


def test_loading_says_what_was_loaded(trunk: Path, tmp_path: Path) -> None:
    config = CONFIGS["vit-adapter"].config
    network = build_network({**config, "pretrained": str(trunk)}, CLASSES, load_pretrained=True)
    assert is_fresh_around_the_trunk(network)
    # A checkpoint of all of it, trained or not.
    for step in (1, 0):
        fresh = tuple(sorted(network.fresh))
        facts: dict[str, Any] = {"recipe": {}, "figures": {}, "step": step, "fresh": fresh}
        save_checkpoint(
            tmp_path / "t.pt",
            Checkpoint(config, network.state_dict(), TABLE, network.normalisation, **facts),
        )
        again = build_network({**config, "pretrained": str(tmp_path / "t.pt")}, CLASSES, load_pretrained=True)
        assert is_fresh_around_the_trunk(again) if step == 0 else not again.fresh
    # Other classes: their layer alone is fresh.
    trained = Checkpoint(config, network.state_dict(), TABLE, network.normalisation, {}, {}, 1)
    save_checkpoint(tmp_path / "t.pt", trained)
    other = build_network({**config, "pretrained": str(tmp_path / "t.pt")}, 3, load_pretrained=True)
    assert other.fresh == {"head.predictor.class_embed.weight", "head.predictor.class_embed.bias"}


def test_from_scratch_all_is_fresh_and_of_unknown_origin_nothing() -> None:
    for name in ("light-resnet", "vit-adapter"):
        network = build_network(CONFIGS[name].config, CLASSES, load_pretrained=True)
        assert network.fresh == {part for part, _ in network.named_parameters()}
        assert {group.lr_scale for group in network.parameter_groups(0.5)} == {1.0}
        assert not build_network(CONFIGS[name].config, CLASSES, load_pretrained=False).fresh


def test_a_converted_trunk_and_a_resumed_run_keep_their_groups(trunk: Path, tmp_path: Path) -> None:
    config = {key: value for key, value in CONFIGS["vit-adapter"].config.items() if key != "family"}
    recipe = small_recipe(tmp_path / "data", steps=2, checkpoint_every=1, layer_decay=0.5)
    model = Mask2FormerModel.model_validate({"family": "mask2former", **config, "pretrained": str(trunk)})
    recipe = recipe.model_copy(update={"model": model, "augment": recipe.augment.model_copy(update={"crop": (64, 96)})})
    last = train(recipe, tmp_path / "run", device="cpu", check=False).last
    begun = load_checkpoint(last)
    assert is_fresh_around_the_trunk(with_fresh(begun))
    assert begun.training is not None
    groups = [(group["base_lr"], len(group["params"])) for group in begun.training["optimiser"]["param_groups"]]
    longer = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": 4})})
    assert groups  # a run of another length is another run; so the groups are built as a resumed one would
    network = build_network(longer.model.model_dump(mode="json"), begun.table.num_classes, load_pretrained=False)
    network.fresh = frozenset(begun.fresh)
    built = build_optimiser(network, recipe.train).param_groups
    assert [(group["base_lr"], len(group["params"])) for group in built] == groups
    # What a run has trained is fresh no more for the next one.
    semi = train(
        recipe.model_copy(update={"model": model.model_copy(update={"pretrained": "none"})}),
        tmp_path / "next",
        init=last,
        device="cpu",
        check=False,
    )
    assert load_checkpoint(semi.last).fresh == ()
    # But what conversion put around a trunk is.
    done = convert_checkpoint(trunk, tmp_path / "t.pt", classes="vspw124", backbone="vit_adapter_tiny")
    converted = load_checkpoint(done.path)
    assert converted.fresh == done.fresh
    assert "head.predictor.query_feat.weight" in converted.fresh


def with_fresh(checkpoint: Checkpoint) -> Network:
    network = build_network(checkpoint.network, checkpoint.table.num_classes, load_pretrained=False)
    network.fresh = frozenset(checkpoint.fresh)
    return network
