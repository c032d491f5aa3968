"""`vss next`: a list, images and a draft of the frames to label."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import small_recipe, train

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint
from vsscli.pipeline.advice import advise
from vsscli.pipeline.incoming import import_labels
from vsscli.pipeline.predict import predict_split
from vsscli.pipeline.workspace import newest_store
from vsscli.recipes.load import recipe_from_dict
from vsscli.store.reader import open_store
from vsscli.store.writer import StoreWriter

ARRAYS = ("label", "entropy", "top_class", "top_probability")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a prediction of unlabelled frames."""
    folder = tmp_path_factory.mktemp("home")
    train(small_recipe(folder / "data", steps=2, checkpoint_every=2), folder / "runs" / "small")
    predict_split(folder / "runs" / "small" / "last.pt", "unlabelled", context=Context(folder / "runs"))
    return folder


def test_a_folder_to_upload(home: Path, tmp_path: Path) -> None:
    done = advise(3, tmp_path / "next", context=Context(home / "runs"))
    listed = (tmp_path / "next" / "frames.txt").read_text().splitlines()
    assert listed == [choice.address for choice in done.choices]
    assert len(set(listed)) == 3
    for address in listed:
        video, stem = address.split("/")
        image = np.asarray(Image.open(tmp_path / "next" / "images" / f"{video}_{stem}.png"))
        frame = np.asarray(Image.open(home / "data" / "data" / video / "origin" / f"{stem}.jpg"))
        np.testing.assert_array_equal(image, frame)
    with zipfile.ZipFile(tmp_path / "next" / "draft.zip") as draft:
        text = draft.read("annotations.xml").decode()
    names = [f"{address.replace('/', '_')}.png" for address in listed]
    assert sorted(re.findall(r'name="([^"]+\.png)"', text)) == sorted(names)
    recipe = recipe_from_dict(load_checkpoint(home / "runs" / "small" / "last.pt").recipe, "the recipe")
    back = import_labels(tmp_path / "next" / "draft.zip", tmp_path / "labels", recipe=recipe)
    assert sorted(back.new) == sorted(listed)


def test_a_later_choice_replaces_the_images_of_an_earlier_one(home: Path, tmp_path: Path) -> None:
    advise(3, tmp_path / "next", context=Context(home / "runs"))
    own = tmp_path / "next" / "images" / "of mine.png"
    own.write_bytes(b"")
    first = (tmp_path / "next" / "frames.txt").read_text().splitlines()
    earlier = tmp_path / "next" / "images" / f"{first[0]}.png"  # as versions before named them
    earlier.parent.mkdir()
    (tmp_path / "next" / "images" / f"{first[0].replace('/', '_')}.png").rename(earlier)
    done = advise(1, tmp_path / "next", context=Context(home / "runs"))
    images = {path.name for path in (tmp_path / "next" / "images").rglob("*.png")}
    assert images == {own.name, f"{done.choices[0].address.replace('/', '_')}.png"}


def test_a_draft_in_a_format_without_zip_is_refused_before_frames_are_looked_at(home: Path, tmp_path: Path) -> None:
    with pytest.raises(VssError, match="cvat-video") as caught:
        advise(3, tmp_path / "next", draft="cvat-video", context=Context(home / "runs"))
    assert "--frames" in caught.value.hint
    assert not (tmp_path / "next").exists()


def test_predictions_of_other_sizes_are_refused(home: Path, tmp_path: Path) -> None:
    first = open_store(newest_store(home / "runs", "unlabelled"))
    with StoreWriter(tmp_path / "b.zarr", first.header) as writer:
        for video in first.videos():
            size = first.size(video)[0] // 2, first.size(video)[1]
            for segment in writer.pending(video, first.stems(video), size):
                arrays = {name: first.read(video, name, slice(segment.start, segment.stop)) for name in ARRAYS}
                writer.write(video, segment, {name: values[..., : size[0], :] for name, values in arrays.items()})
    both = [first.path, tmp_path / "b.zarr"]
    with pytest.raises(VssError, match="different frames"):
        advise(1, tmp_path / "next", predictions=both, context=Context(home / "runs"))


def test_frames_are_chosen_where_nothing_is_held_out(home: Path, tmp_path: Path) -> None:
    recipe = small_recipe(home / "data", "few", steps=2, checkpoint_every=2)
    video = (home / "data" / "train.txt").read_text().split()[0]
    first, *others = sorted(path.stem for path in (home / "data" / "data" / video / "origin").iterdir())
    (home / "data" / "few.txt").write_text(f"{video}/{first}\n")
    data = recipe.data.model_copy(update={"val": "train", "labelled": "few.txt"})
    train(recipe.model_copy(update={"data": data}), tmp_path / "runs" / "few")
    predict_split(tmp_path / "runs" / "few" / "last.pt", "train", context=Context(tmp_path / "runs"))
    store = newest_store(tmp_path / "runs", "train")
    done = advise(100, tmp_path / "next", predictions=[store], context=Context(tmp_path / "runs"))
    chosen = {choice.address for choice in done.choices}
    assert {f"{video}/{stem}" for stem in others} < chosen
    assert f"{video}/{first}" not in chosen


def test_the_command(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--workspace", str(home / "runs"), "--out", str(tmp_path / "next"), "--quiet"]
    assert run(["next", "--count", "2", *there, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [set(frame) for frame in values["frames"]] == [
        {"address", "entropy", "flicker", "disagreement", "distance"}
    ] * 2
    assert run(["next", "--count", "2", *there]) == 0
    assert values["frames"][0]["address"] in capsys.readouterr().out


def test_without_a_prediction_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="no prediction") as caught:
        advise(3, tmp_path / "next", context=Context(tmp_path / "runs"))
    assert "vss predict" in caught.value.hint
