"""Everything that a run reads is checked before its first step, and no step is lost during validation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from listener import Listener
from PIL import Image
from small import read_journal, small_recipe, train

from vsscli.data.layouts import open_dataset
from vsscli.data.masks import read_mask, write_mask
from vsscli.drawn.scene import MARKER
from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint
from vsscli.recipes.schema import Recipe
from vsscli.training import loop


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Drawn videos that may be changed: they are not drawn again."""
    recipe = small_recipe(tmp_path / "data")
    open_dataset(recipe.data)
    (tmp_path / "data" / MARKER).unlink()
    return tmp_path / "data"


def recipe_of(root: Path, *, data: dict[str, Any] | None = None, **settings: object) -> Recipe:
    recipe = small_recipe(root, **settings)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"scene": None, **(data or {})})})


def masks_of(root: Path, split: str) -> list[Path]:
    names = (root / f"{split}.txt").read_text().split()
    return [path for name in names for path in sorted((root / "data" / name / "mask").iterdir())]


def change(masks: list[Path], lookup: np.ndarray) -> None:
    for path in masks:
        write_mask(path, lookup.astype(np.uint8)[read_mask(path)])


@pytest.mark.parametrize("check", [True, False])
def test_a_missing_validation_split_is_missed_before_the_first_step(root: Path, tmp_path: Path, check: bool) -> None:
    (root / "val.txt").unlink()
    with pytest.raises(VssError, match=r"val\.txt.* does not exist.*would be validated on that split") as caught:
        train(recipe_of(root), tmp_path / "run", check=check)
    assert "data.val" in caught.value.hint
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_a_damaged_validation_split_is_found_before_the_first_step(root: Path, tmp_path: Path) -> None:
    path = masks_of(root, "val")[-1]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(VssError, match=f"{path.name}: mask is damaged"):
        train(recipe_of(root), tmp_path / "run")
    assert not (tmp_path / "run" / "journal.jsonl").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_labels_is_refused(root: Path, tmp_path: Path, split: str) -> None:
    change(masks_of(root, split), np.where(np.arange(256) > 0, 255, 0))
    with pytest.raises(VssError, match=r"no pixel of .* has a class: its .* masks hold "):
        train(recipe_of(root), tmp_path / "run")
    with pytest.raises(VssError, match=r"no pixel of .* has a class"):
        train(recipe_of(root, data={"unknown_ids": "void"}), tmp_path / "run")
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_masks_are_asked_for_where_none_of_the_validation_split_has_one(root: Path, tmp_path: Path) -> None:
    for path in masks_of(root, "val"):
        path.unlink()
    with pytest.raises(VssError, match=r"none of the \d+ frames of split 'val' has a mask"):
        train(recipe_of(root), tmp_path / "run", check=False)


def test_a_class_that_is_never_labelled_is_named(root: Path, tmp_path: Path) -> None:
    names = json.loads((root / "classes.json").read_text())["classes"]
    lookup = np.arange(256)
    lookup[2] = 0
    change(masks_of(root, "train"), lookup)
    heard = Listener()
    train(recipe_of(root, steps=1), tmp_path / "run", talk=heard)
    said = [text for text in heard.warned if "never occur in the labelled data" in text]
    assert names[1]["name"] in said[0]


@pytest.mark.parametrize("how", ["list", "copies", "split"])
def test_videos_that_are_trained_on_and_validated_on_are_said(root: Path, tmp_path: Path, how: str) -> None:
    first, *_ = (root / "train.txt").read_text().split()
    if how == "list":
        (root / "val.txt").write_text(f"{first}\n")
    elif how == "copies":
        shutil.copytree(root / "data" / first, root / "data" / "again")
        (root / "val.txt").write_text("again\n")
    heard = Listener()
    recipe = recipe_of(root, steps=1, validate_every=1, data={"val": "train"} if how == "split" else {})
    train(recipe, tmp_path / "run", talk=heard)
    (said,) = [text for text in heard.warned if "both trained and validated on" in text]
    wanted = {"list": f"1 of 1 videos ({first})", "copies": f"(again (as {first}))", "split": "split 'train' is"}
    assert wanted[how] in said


def test_sound_splits_are_not_warned_of(root: Path, tmp_path: Path) -> None:
    heard = Listener()
    train(recipe_of(root, steps=1), tmp_path / "run", talk=heard)
    assert not [text for text in heard.warned if "validated on" in text or "no mask" in text]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_steps_are_kept_before_they_are_scored(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float | None
) -> None:
    recipe = recipe_of(root, steps=5, validate_every=3, checkpoint_every=50, ema=ema)
    whole = train(recipe, tmp_path / "whole")
    real, calls = loop.validate, []

    def fails_twice(*what: Any) -> dict[str, float | None]:
        calls.append(1)
        if len(calls) in (1, 3):
            raise VssError("the disk is gone")
        return real(*what)

    monkeypatch.setattr(loop, "validate", fails_twice)
    for step in (3, 5):
        with pytest.raises(VssError, match="the disk is gone"):
            train(recipe, tmp_path / "run", resume=step == 5)
        assert load_checkpoint(tmp_path / "run" / "last.pt", weights=False).step == step
        with pytest.raises(VssError, match="holds a run"):
            train(recipe, tmp_path / "run")  # it is not finished
    result = train(recipe, tmp_path / "run", resume=True)
    assert result.figures == whole.figures
    assert len(calls) == 4
    for name in ("last.pt", "best.pt"):
        one, other = (load_checkpoint(tmp_path / run / name) for run in ("whole", "run"))
        assert (one.step, one.figures, one.fingerprint) == (other.step, other.figures, other.fingerprint)
        assert all(torch.equal(one.weights[key], other.weights[key]) for key in one.weights)
    told = [
        [
            {key: line.get(key) for key in ("step", "loss", "miou", "vc8")}
            for line in read_journal(run / "journal.jsonl")
        ]
        for run in (tmp_path / "whole", tmp_path / "run")
    ]
    assert told[0] == told[1]


def test_the_images_of_a_split_may_lie_anywhere(tmp_path: Path) -> None:
    # A root without folders of splits is train and val at once.
    for clip in ("a", "b"):
        for part in ("", "mask"):
            (tmp_path / "data" / clip / part).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            Image.new("RGB", (64, 48), (number, 0, 0)).save(tmp_path / "data" / clip / f"{number}.png")
            mask = np.resize(np.array([1, 2], np.uint8), (48, 64))
            Image.fromarray(mask).save(tmp_path / "data" / clip / "mask" / f"{number}.png")
    (tmp_path / "data" / "classes.json").write_text('["one", "two"]')
    heard = Listener()
    recipe = recipe_of(tmp_path / "data", steps=1, data={"layout": "folders", "unlabelled": ()})
    train(recipe, tmp_path / "run", talk=heard)
    assert [text for text in heard.warned if "2 of 2 videos (a, b) of split 'val' are" in text]


def score_of(checkpoint: Path) -> dict[str, Any]:
    return load_checkpoint(checkpoint, weights=False).figures


def test_a_finished_run_is_scored_anew_when_the_masks_it_was_scored_on_have_changed(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(root, steps=4, validate_every=2, ema=0.9)
    first = train(recipe, tmp_path / "run")
    trained = load_checkpoint(first.last).fingerprint
    lines = [line for line in read_journal(tmp_path / "run" / "journal.jsonl") if "loss" in line]
    change(masks_of(root, "val"), np.r_[0, 2, 1, 3:256])  # two classes that were swapped
    # Nothing is said of masks that nobody looks at.
    assert train(recipe, tmp_path / "run", check=False) == first

    heard = Listener()
    again = train(recipe, tmp_path / "run", talk=heard)
    (warning,) = [text for text in heard.warned if "last.pt" in text]
    assert warning.startswith("frames or masks of split 'val' have changed")
    assert again.figures != first.figures
    last, best = (load_checkpoint(tmp_path / "run" / name) for name in ("last.pt", "best.pt"))
    assert last.fingerprint == trained
    assert [line for line in read_journal(tmp_path / "run" / "journal.jsonl") if "loss" in line] == lines

    # The right figures are those of a run that never saw the other masks.
    whole = train(recipe, tmp_path / "whole")
    assert again.figures == whole.figures
    assert last.figures == whole.figures
    assert best.figures == score_of(tmp_path / "whole" / "best.pt")

    heard = Listener()
    assert train(recipe, tmp_path / "run", talk=heard).figures == whole.figures
    assert any(text.startswith("cached: ") for text in heard.said)


def test_a_run_that_goes_on_compares_what_it_was_best_at_on_the_masks_of_today(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(root, steps=4, validate_every=2)
    save, steps = loop.Loop._save, []

    def cut_off(self: loop.Loop) -> None:
        save(self)
        steps.append(self.state.step)
        if steps == [2, 2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Loop, "_save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run")
    change(masks_of(root, "val"), np.r_[0, 2, 1, 3:256])
    heard = Listener()
    train(recipe, tmp_path / "run", resume=True, talk=heard)
    assert [text for text in heard.warned if "validated again" in text]
    monkeypatch.setattr(loop.Loop, "_save", save)
    train(recipe, tmp_path / "whole")
    for name in ("last.pt", "best.pt"):
        one, other = (load_checkpoint(tmp_path / run / name) for run in ("run", "whole"))
        assert (one.step, one.fingerprint, one.figures) == (other.step, other.fingerprint, other.figures)


def test_frames_that_have_masks_are_trained_on_and_the_others_are_unlabelled_data(root: Path, tmp_path: Path) -> None:
    masks = masks_of(root, "train")
    for path in masks[1:]:
        path.unlink()
    recipe = recipe_of(root, steps=1)
    heard = Listener()
    train(recipe, tmp_path / "run", talk=heard)
    assert "street: 1 of 12 frames of data.train have masks, the others are unlabelled data" in heard.warned
    dataset = open_dataset(recipe.data)
    (video,) = dataset.split("labelled")
    assert [frame.mask for frame in video.frames] == [masks[0]]
    first, second, *further = dataset.split("unlabelled")
    assert (len(first), len(second)) == (5, 6)
    assert masks[0].stem not in first.stems
    assert {video.name for video in further} == set((root / "unlabelled.txt").read_text().split())
    alone = recipe_of(root, data={"unlabelled": ()})
    assert [video.name for video in open_dataset(alone.data).split("unlabelled")] == [first.name, second.name]


def test_masks_that_cannot_be_read_do_not_make_their_frames_unlabelled(root: Path, tmp_path: Path) -> None:
    path = masks_of(root, "train")[3]
    Image.open(path).convert("RGB").save(path.with_suffix(".bmp"))
    path.unlink()
    with pytest.raises(VssError, match="only PNGs are read as masks"):
        train(recipe_of(root, steps=1), tmp_path / "run")
    assert not (tmp_path / "run" / "journal.jsonl").exists()
