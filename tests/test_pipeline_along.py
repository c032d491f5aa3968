"""Networks over one frozen trunk predict along: the trunk sees a frame once, and every store is as it is alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small import small_recipe, write_recipe
from store_samples import snapshot
from test_models_frozen_trunk import PMT

from vsscli.context import Context
from vsscli.data.layouts import open_dataset
from vsscli.data.videos import FolderVideo
from vsscli.models.build import build_network
from vsscli.models.checkpoints import Checkpoint, save_checkpoint
from vsscli.models.plain_vit import network as plain_vit
from vsscli.models.together import Together
from vsscli.pipeline.predict import Prediction, predict_split
from vsscli.pipeline.pseudo import predict_all
from vsscli.recipes.schema import Recipe
from vsscli.stages.forecast import forecast
from vsscli.stages.job import open_job
from vsscli.stages.run import run_pipeline
from vsscli.store.reader import open_store

FRAMES = 24  # of the only video of `val`


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("along")
    torch.manual_seed(3)
    torch.save(build_network(PMT, 7, load_pretrained=False).get_submodule("trunk").state_dict(), folder / "trunk.pth")
    names = open_dataset(small_recipe(folder / "data").data).table.names  # draws
    (folder / "data" / "more.json").write_text(json.dumps([*names, "boat"]))
    return folder


def recipe_over(folder: Path, name: str, predict: dict[str, Any] | None = None, **model: Any) -> Recipe:
    values = small_recipe(folder / "data", name, steps=2, batch_size=2, validate_every=0).model_dump(mode="json")
    network = {**PMT, "pretrained": str(folder / "trunk.pth"), **model}
    return Recipe.model_validate(
        {**values, "model": network, "augment": {"crop": list(network["crop"])}, "predict": {**(predict or {})}}
    )


def model(
    folder: Path, seed: int, predict: dict[str, Any] | None = None, classes: str = "classes.json", **changes: Any
) -> Path:
    """The checkpoint of an untrained network over the trunk."""
    recipe = recipe_over(folder, f"m{seed}", predict, **changes)
    if classes != recipe.data.classes:
        data = recipe.data.model_copy(update={"scene": None, "classes": classes})
        recipe = recipe.model_copy(update={"data": data})
    torch.manual_seed(seed)
    table = open_dataset(recipe.data).table
    network = build_network(recipe.model, table.num_classes, load_pretrained=True)
    path = folder / f"m{seed}.pt"
    facts = (recipe.model_dump(mode="json"), {}, 0)
    config = recipe.model.kept_values()
    checkpoint = Checkpoint(config, network.kept_state(), table, network.normalisation, *facts)
    checkpoint.trunk = network.trunk_digest
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images in each pass of a trunk."""
    passes: list[int] = []
    embed = plain_vit.embed

    def counted(trunk: Any, images: torch.Tensor) -> Any:
        passes.append(len(images))
        return embed(trunk, images)

    monkeypatch.setattr(plain_vit, "embed", counted)
    return passes


def predict(model: Path, workspace: Path, **options: Any) -> Prediction:
    return predict_split(model, "val", plan="flip", context=Context(workspace, device="cpu"), **options)


@pytest.mark.parametrize("windows", [{}, {"size": 96, "window": [64, 96], "step": [32, 48]}])
def test_all_stores_are_those_of_models_alone(
    folder: Path, tmp_path: Path, windows: dict[str, Any], embedded: list[int]
) -> None:
    models = [model(folder, seed, windows) for seed in (1, 2, 3)]
    alone = [predict(one, tmp_path / "alone") for one in models]
    assert [one.along for one in alone] == [0, 0, 0]
    seen = sum(embedded)
    embedded.clear()
    first = predict(models[0], tmp_path / "runs", along=models)
    assert (first.predicted, first.along) == (FRAMES, 2)
    assert sum(embedded) * 3 == seen
    for one, before in zip(models, alone, strict=True):
        then = predict(one, tmp_path / "runs")
        assert (then.predicted, then.cached) == (0, FRAMES)
        assert snapshot(then.store) == snapshot(before.store)
    assert len({before.store.name for before in alone}) == 3


def test_what_one_has_already_is_not_written_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second store was begun and cut off after four of 24 frames; the first after none."""
    monkeypatch.setattr("vsscli.store.encode.MAX_SEGMENT", 4)
    monkeypatch.setattr("vsscli.store.record.MAX_SEGMENT", 4)
    models = [model(folder, seed) for seed in (1, 2)]
    alone = [predict(one, tmp_path / "alone") for one in models]

    def cut_off(video: FolderVideo, start: int = 0) -> Any:
        for number, image in enumerate(images(video, start), start):
            if number == 6:
                raise KeyboardInterrupt
            yield image

    images = FolderVideo.images
    with monkeypatch.context() as patched:
        patched.setattr(FolderVideo, "images", cut_off)
        with pytest.raises(KeyboardInterrupt):
            predict(models[1], tmp_path / "runs")
    (begun,) = (tmp_path / "runs").glob("stores/*/*/*.zarr")
    there = open_store(begun)
    (video,) = there.videos(complete=False)
    assert 0 < len(there.record(video).segments) < FRAMES // 4
    assert predict(models[0], tmp_path / "runs", along=models[1:]).along == 1
    for one, before in zip(models, alone, strict=True):
        then = predict(one, tmp_path / "runs")
        assert then.predicted == 0
        assert snapshot(then.store) == snapshot(before.store)


@pytest.mark.parametrize(
    "other",
    [
        {"predict": {"size": 96}},
        {"taps": [0, 1, 3]},
        {"readout": "grid"},
        {"queries": "inside", "blocks": 2},
        {"classes": "more.json"},
    ],
)
def test_who_sees_or_is_read_otherwise_does_not_predict_along(
    folder: Path, tmp_path: Path, other: dict[str, Any]
) -> None:
    models = [model(folder, 1), model(folder, 2, **other)]
    assert predict(models[0], tmp_path, along=models[1:]).along == 0


def test_one_place_is_written_once(folder: Path, tmp_path: Path) -> None:
    one = model(folder, 1)
    made = predict_all([one, one], "val", context=Context(tmp_path, device="cpu"))
    assert [(each.predicted, each.along) for each in made] == [(FRAMES, 0), (0, 0)]


def test_pseudo_labels_of_several_models_take_one_look(folder: Path, tmp_path: Path) -> None:
    made = predict_all([model(folder, 1), model(folder, 2)], "val", context=Context(tmp_path, device="cpu"))
    assert [(each.predicted, each.along) for each in made] == [(FRAMES, 1), (0, 0)]


def test_only_networks_over_one_trunk_are_joined() -> None:
    """Random trunks have no digest: two may be different."""
    networks = [build_network(PMT, 7, load_pretrained=False).eval() for _ in range(2)]
    with pytest.raises(ValueError, match="one frozen trunk"):
        Together(networks)


def test_stages_of_a_run_predict_along_and_are_counted_so(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_recipe(tmp_path / f"{name}.yaml", recipe_over(folder, name).model_copy(update={"seed": len(name)}))
    stages = {
        "one": {"do": "train", "recipe": "one.yaml"},
        "two": {"do": "train", "recipe": "two.yaml", "set": {"seed": 5}},
        "one-val": {"do": "predict", "model": "one"},
        "two-val": {"do": "predict", "model": "two"},
        "two-plain": {"do": "predict", "model": "two", "tta": False},
        "late": {"do": "train", "recipe": "two.yaml", "init": "two", "set": {"seed": 6, "name": "late"}},
        "late-val": {"do": "predict", "model": "late"},
    }
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump({"name": "pair", "stages": stages}, sort_keys=False))
    job = open_job(tmp_path / "pipeline.yaml", context=Context(tmp_path / "runs", device="cpu"))
    flops = {step.name: cost.flops for step, cost in forecast(job).rows}
    assert flops["two-val"] < 0.7 * flops["one-val"]
    assert flops["late-val"] == flops["one-val"]
    ran = run_pipeline(job)
    facts = {outcome.name: outcome.result.facts for outcome in ran.outcomes if outcome.name.endswith("val")}
    assert facts == {
        "one-val": {"frames": FRAMES, "cached": 0, "along": 1},
        "two-val": {"frames": FRAMES, "cached": FRAMES},
        "late-val": {"frames": FRAMES, "cached": 0},
    }
