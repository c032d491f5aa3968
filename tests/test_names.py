"""One rule for all names that become parts of paths, applied wherever such names are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from store_samples import prediction_header

from vsscli.data.inputs import open_input
from vsscli.data.layouts import open_dataset, plain_data
from vsscli.errors import VssError
from vsscli.names import LONGEST, SHORT, name_fault, plain_name, video_fault
from vsscli.pipeline.workspace import store_path
from vsscli.recipes.load import load_pipeline, load_recipe, recipe_from_dict
from vsscli.recipes.schema import Recipe
from vsscli.store.files import group_bytes
from vsscli.store.header import read_header
from vsscli.store.record import check_video

SOUND = ["a", "Straße 7", "道路", "0016E5", "a.b-c_d", "..a", "a..b", ".x", "été 2", "v" * LONGEST, "👩‍💻"]
ODD = [
    "",
    ".",
    "..",
    "...",
    "../up",
    "a/b",
    "/abs",
    "a\\b",
    "C:\\x",
    "nul\0",
    "line\nbreak",
    "esc\x1b[2J",
    "del\x7f",
    "c1\x9b",
    "\u2028",
    "lone\udc80",
    "v" * (LONGEST + 1),
    "é" * (LONGEST // 2 + 1),
]


@pytest.mark.parametrize("name", SOUND)
def test_names_that_people_give_are_sound(name: str) -> None:
    assert name_fault(name) == ""
    assert plain_name(name)[:9] == name.strip(".")[:9]


@pytest.mark.parametrize("name", ODD)
def test_names_that_lead_elsewhere_are_none(name: str) -> None:
    assert name_fault(name)
    assert name_fault(plain_name(name)) == ""
    with pytest.raises(VssError, match="can't be called"):
        check_video(name, ["0"], (2, 2))
    with pytest.raises(VssError, match="can't be called"):
        check_video("v", [name], (2, 2))


@pytest.mark.parametrize("name", ["__root__", "__store__", "zarr.json"])
def test_videos_of_stores_have_no_reserved_name(name: str) -> None:
    assert "reserved" in video_fault(name)
    with pytest.raises(VssError, match="reserved"):
        check_video(name, ["0"], (2, 2))


BAD_VALUES = ["../../up", "a/b", "/abs", "..", "a\\b", "x\ny", "v" * (SHORT + 1), ""]


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize("key", ["data.name", "data.val", "data.train", "data.unlabelled", "name"])
def test_recipes_and_checkpoints_name_folders_by_the_rule(key: str, value: str) -> None:
    told = json.dumps([value] if key == "data.unlabelled" else value)
    with pytest.raises(VssError, match=key):
        load_recipe("student", [f"{key}={told}"])
    values = Recipe(name="r").model_dump(mode="json")
    place = values["data"] if "." in key else values
    place[key.rpartition(".")[2]] = json.loads(told)
    with pytest.raises(VssError, match="the recipe inside"):
        recipe_from_dict(values, "the recipe inside x.pt")


@pytest.mark.parametrize("value", ["../up", "a/b", "x\ny"])
def test_pipelines_name_splits_stages_and_themselves_by_the_rule(tmp_path: Path, value: str) -> None:
    def written(name: str = "p", stage: str = "s", split: str = "val") -> Path:
        stages = {stage: {"do": "train", "recipe": "student"}, "p": {"do": "predict", "model": stage, "split": split}}
        path = tmp_path / "p.yaml"
        path.write_text(json.dumps({"name": name, "stages": stages}))
        return path

    assert load_pipeline(written(split="val 2")).stages["p"]
    for odd in (written(name=value), written(stage=value), written(split=value)):
        with pytest.raises(VssError, match=r"p\.yaml"):
            load_pipeline(odd)


def test_a_recipe_may_use_spaces_and_other_scripts() -> None:
    recipe = load_recipe("student", ["data.name='Straße 7 (été)'", "data.val='val 2.1-道路'"])
    assert (recipe.data.name, recipe.data.val) == ("Straße 7 (été)", "val 2.1-道路")


@pytest.mark.parametrize("value", [*BAD_VALUES[:-2], 7, None])
@pytest.mark.parametrize("key", ["name", "split"])
def test_the_header_of_a_store_cannot_lead_elsewhere(tmp_path: Path, key: str, value: object) -> None:
    header = prediction_header(3)
    values = header.to_dict()
    values["data"][key] = value
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "zarr.json").write_bytes(group_bytes(values))
    with pytest.raises(VssError, match=rf"data\.{key}"):
        read_header(tmp_path / "x.zarr")
    if isinstance(value, str):
        with pytest.raises(VssError, match="data set and split of a store"):
            store_path(tmp_path, replace(header, data={**header.data, key: value}), "r")


def test_a_store_without_a_split_is_read_and_has_no_place(tmp_path: Path) -> None:
    header = replace(prediction_header(3), data={})
    with pytest.raises(VssError, match="is empty"):
        store_path(tmp_path, header, "r")
    with pytest.raises(VssError, match=r"x\.zarr .* split"):
        header.split("x.zarr")


def test_a_store_is_named_within_what_a_file_may_be_called(tmp_path: Path) -> None:
    path = store_path(tmp_path, prediction_header(3), "a/b\n" + "v" * 300)
    assert path.parent == tmp_path / "stores" / "sample" / "val"
    assert len(path.name) < 200


def _frames(folder: Path) -> None:
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "0.jpg")


@pytest.mark.parametrize("name", ["esc\x1b[2J", "a\\b", "line\nbreak", "lone\udc80"])
def test_frames_in_folders_of_odd_names_are_refused(tmp_path: Path, name: str) -> None:
    _frames(tmp_path / "in" / name)
    with pytest.raises(VssError, match="name of a video"):
        open_input(tmp_path / "in")
    with pytest.raises(VssError, match="name of a video"):
        open_input(tmp_path / "in" / name)


@pytest.mark.parametrize("name", ["with space", "道路", "a.b", "-dash"])
def test_frames_in_folders_of_common_names_are_read(tmp_path: Path, name: str) -> None:
    _frames(tmp_path / "in" / name)
    assert [video.name for video in open_input(tmp_path / "in")] == [name]


@pytest.mark.parametrize("line", ["../up", "/abs", "a\\b", "..", "esc\x1b[2J", "v" * 300])
def test_lists_name_folders_by_the_rule(tmp_path: Path, line: str) -> None:
    _frames(tmp_path / "data" / "a" / "origin")
    (tmp_path / "val.txt").write_text(f"a\n{line}\n")
    with pytest.raises(VssError, match=r"val\.txt"):
        open_dataset(plain_data(tmp_path)).split("val")


def test_a_split_is_no_path(tmp_path: Path) -> None:
    _frames(tmp_path / "root" / "data" / "a" / "origin")
    (tmp_path / "up.txt").write_text("a\n")
    with pytest.raises(VssError, match="split of root"):
        open_dataset(plain_data(tmp_path / "root")).split("../up")


def test_a_folder_of_any_name_can_be_looked_at(tmp_path: Path) -> None:
    _frames(tmp_path / "a\\b\n" / "data" / "a" / "origin")
    assert plain_data(tmp_path / "a\\b\n").name == "a_b_"


def test_a_strangers_store_or_checkpoint_draws_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    scene = {"videos": 1, "unlabelled_videos": 1, "val_videos": 1, "frames": 1, "size": [32, 32]}
    values = Recipe(name="r").model_dump(mode="json")
    values["data"] |= {"scene": scene, "root": str(tmp_path / "elsewhere"), "classes": "classes.json"}
    data = recipe_from_dict(values, "x").data
    with pytest.raises(VssError, match="does not exist"):
        open_dataset(data, noted=True)
    assert not (tmp_path / "elsewhere").exists()
    assert open_dataset(data, "inside", noted=True).root == Path("inside")
