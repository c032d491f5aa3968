"""The licence of the weights that a network began from, recorded through all checkpoints, refused where forbidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from network_samples import VIT
from plain_vit_samples import facts, numbers
from small import small_recipe, train

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models.build import build_network, read_config, recorded_licence
from vsscli.models.catalogue import FAMILIES, find_listed, list_networks
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from vsscli.models.config import RANDOM, UNRECORDED
from vsscli.models.official.recognise import CheckpointKind
from vsscli.models.plain_vit.network import PlainVit
from vsscli.pipeline.convert import convert_checkpoint
from vsscli.pipeline.origin import networks
from vsscli.pipeline.runs import find_run
from vsscli.recipes.schema import Recipe

PMT = {**VIT, "queries": "decoder", "blocks": 2, "annealing": [[0.0, 0.5], [0.25, 0.75]]}
APACHE = "apache-2.0"


def recipe(folder: Path, name: str = "small", model: dict[str, Any] | None = None, **train: Any) -> Recipe:
    values = small_recipe(folder / "data", name, steps=1, batch_size=2, **train).model_dump(mode="json")
    if model is not None:
        values["model"] = model
        values["augment"]["crop"] = list(model["crop"])
    return Recipe.model_validate(values)


def trunk(path: Path) -> str:
    network = build_network(VIT, 7, load_pretrained=False)
    assert isinstance(network, PlainVit)
    torch.save(network.trunk.state_dict(), path)
    return str(path)


def test_named_networks_say_what_their_backbones_are_under() -> None:
    for listed in list_networks().values():
        timms = listed.values["family"] == "plain_vit"
        known = read_config({**listed.values, "pretrained": "timm"}).weights_licence if timms else listed.licence
        assert listed.licence in ("", known)
    assert find_listed("eomt_l_dinov3").licence == "dinov3-license"
    assert find_listed("vit_adapter_l").licence == "mit"
    assert find_listed("swin_l").checkpoint_licence == "cc-by-nc-4.0"
    assert CheckpointKind.ONE_PEACE_TRUNK.licence == find_listed("one_peace_g").licence == APACHE


def test_a_recipe_refuses_other_licences() -> None:
    config = read_config({**find_listed("eomt_l_dinov3").values, "pretrained": "timm", "licence": [APACHE]})
    with pytest.raises(VssError, match=r"weights of vit_large_patch16_dinov3_qkvb are under dinov3-license") as caught:
        config.require_known()
    assert "add dinov3-license to model.licence" in caught.value.hint
    config.model_copy(update={"licence": (APACHE, "dinov3-license")}).require_known()
    config.model_copy(update={"pretrained": "none"}).require_known()  # random weights are nobody's
    assert all("licence" in family.model_fields for family in FAMILIES if family.trains)


def test_a_checkpoint_records_the_licence_through_every_start(tmp_path: Path) -> None:
    random = load_checkpoint(train(recipe(tmp_path, "random"), tmp_path / "random", device="cpu").last)
    assert random.licence == RANDOM
    assert "licence" not in random.network  # what a recipe demands is no part of a network
    over = {**PMT, "pretrained": trunk(tmp_path / "trunk.pth"), "licence": [APACHE]}
    first = train(recipe(tmp_path, "first", over), tmp_path / "first", device="cpu").last
    assert load_checkpoint(first).licence == APACHE
    second = train(recipe(tmp_path, "second", over, init=str(first)), tmp_path / "second", device="cpu").last
    assert load_checkpoint(second).licence == APACHE
    assert find_run(tmp_path, "second").to_json()["licence"] == APACHE
    assert networks([], [tmp_path / "second"], tmp_path)[0]["licence"] == APACHE


@pytest.mark.parametrize(("licence", "named"), [("dinov3-license", "dinov3-license"), (UNRECORDED, "nobody recorded")])
def test_a_checkpoint_that_began_elsewhere_is_refused_before_the_data_is_read(
    tmp_path: Path, licence: str, named: str
) -> None:
    began = load_checkpoint(train(recipe(tmp_path, "began"), tmp_path / "began", device="cpu").last)
    began.licence = licence
    save_checkpoint(tmp_path / "other.pt", began)
    values = recipe(tmp_path, "strict", init=str(tmp_path / "other.pt")).model_dump(mode="json")
    values["model"]["licence"] = [APACHE]
    strict = Recipe.model_validate(values)
    with pytest.raises(VssError, match=rf"model\.licence: .*other\.pt began from are under .*{named}"):
        train(strict, tmp_path / "strict", device="cpu")
    values["model"]["licence"] = None
    last = train(Recipe.model_validate(values), tmp_path / "loose", device="cpu").last
    assert load_checkpoint(last).licence == licence


def test_the_licence_of_a_checkpoint_that_a_recipe_names_is_that_checkpoints(tmp_path: Path) -> None:
    whole = build_network(VIT, 7, load_pretrained=False)
    table = ClassTable("seven", tuple("abcdefg"), tuple((i, i, i) for i in range(7)))
    config = read_config(VIT).kept_values()
    checkpoint = Checkpoint(config, whole.state_dict(), table, whole.normalisation, {}, {}, 1, licence="cc-by-nc-4.0")
    save_checkpoint(tmp_path / "whole.pt", checkpoint)
    named = {**VIT, "pretrained": str(tmp_path / "whole.pt")}
    assert build_network(named, 7, load_pretrained=True).licence == "cc-by-nc-4.0"
    with pytest.raises(VssError, match="under cc-by-nc-4"):
        train(recipe(tmp_path, "strict", {**named, "licence": [APACHE]}), tmp_path / "strict", device="cpu")


@pytest.mark.parametrize(("name", "licence"), [("eomt_dinov2_tiny", APACHE), ("eomt_dinov3_tiny", "dinov3-license")])
def test_converted_checkpoints_record_that_of_their_trunk(tmp_path: Path, name: str, licence: str) -> None:
    torch.save({f"network.{key}": value for key, value in numbers(name)["state_dict"].items()}, tmp_path / "theirs.pth")
    convert_checkpoint(tmp_path / "theirs.pth", tmp_path / "ours.pt", heads=facts(name)["num_heads"])
    assert load_checkpoint(tmp_path / "ours.pt").licence == licence


def test_earlier_checkpoints_have_the_licence_of_the_weights_that_they_name() -> None:
    assert recorded_licence({"network": {**VIT, "pretrained": "timm"}}) == APACHE
    assert recorded_licence({"network": {**VIT, "pretrained": "none"}}) == UNRECORDED  # it may have had an init
    assert recorded_licence({"network": {"family": "mmseg", "model": {}}}) == UNRECORDED
    assert recorded_licence({}) == UNRECORDED
