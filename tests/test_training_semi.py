"""Semi-supervised training as a whole: both teachers work, banks fill, and a killed run continues bit for bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from cli_process import kill_training, vss
from listener import Listener
from PIL import Image
from small import read_journal, small_recipe, train
from store_samples import change_group

from vsscli.context import Context
from vsscli.data.augment import TrainAugment, apply_label, draw_geometry
from vsscli.data.config import Augment
from vsscli.data.content import Digests
from vsscli.data.layouts import open_dataset
from vsscli.data.samples import Sample
from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint, restore_network, save_checkpoint
from vsscli.pipeline.pseudo import pseudo
from vsscli.recipes.schema import Recipe
from vsscli.recipes.training import Contrast
from vsscli.store.reader import open_source, open_store
from vsscli.store.writer import StoreWriter
from vsscli.training.pseudo import PredictedFrames, open_unlabelled
from vsscli.training.ranks import rank_bounds

CONTRAST = {"queue": 64, "keys": 32, "anchors": 16, "negatives": 8, "channels": 16}


@dataclass(frozen=True)
class Begun:
    """A partly trained network, and its predictions of the unlabelled frames."""

    data: Path
    network: Path
    store: Path


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    root = tmp_path_factory.mktemp("semi")
    last = train(small_recipe(root / "data", steps=20, lr=3e-3), root / "base").last
    made = pseudo([last], context=Context(root, device="cpu"), percentile=60)
    return Begun(root / "data", last, made.store)


def semi_recipe(data: Path, unlabelled: dict[str, Any], **train: Any) -> Recipe:
    values = small_recipe(data, "semi", **train).model_dump()
    return Recipe.model_validate({**values, "unlabelled": {"batch_size": 4, **unlabelled}})


def figures(run: Path, name: str) -> list[float]:
    lines = read_journal(run / "journal.jsonl")
    return [float(line[name]) for line in lines if line.get(name) is not None]  # type: ignore[arg-type]


@pytest.mark.parametrize("teacher", ["store", "ema"])
def test_the_losses_fall_and_the_banks_fill(begun: Begun, tmp_path: Path, teacher: str) -> None:
    recipe = semi_recipe(begun.data, {"teacher": teacher, "contrast": CONTRAST}, steps=18, lr=2e-3)
    store = begun.store if teacher == "store" else None
    heard = Listener()
    result = train(recipe, tmp_path / "run", init=begun.network, pseudo_labels=store, talk=heard)
    # What a mean teacher calls reliable changes as it learns, so its own losses need not fall in so few steps.
    falling = ("loss_supervised", "loss_unsupervised", "loss_contrast") if teacher == "store" else ("loss_supervised",)
    for name in (*falling, "loss"):
        values = figures(tmp_path / "run", name)
        assert len(values) == 18
        assert sum(values[-6:]) < sum(values[:6])
    assert figures(tmp_path / "run", "banks")[-1] == 1.0
    assert 0.3 < figures(tmp_path / "run", "reliable")[-1] <= 1.0
    assert any("memory banks: 512 features" in text for text in heard.said)
    checkpoint = load_checkpoint(result.last)
    assert checkpoint.training is not None
    assert checkpoint.training["semi"]["banks"]["features"].shape == (512, 16)
    assert not [name for name in checkpoint.weights if "projection" in name]
    restore_network(checkpoint)
    assert load_checkpoint(result.best, weights=True).training is None


def test_stored_entropies_weigh_the_pixels(begun: Begun, tmp_path: Path) -> None:
    """Without the contrast, too, the predictions behind the pseudo-labels are read then."""
    losses = []
    for weights in ("alike", "certainty"):
        recipe = semi_recipe(begun.data, {"pixel_weights": weights}, steps=2)
        train(recipe, tmp_path / weights, init=begun.network, pseudo_labels=begun.store)
        losses.append(figures(tmp_path / weights, "loss_unsupervised")[0])
    # Less of the less certain pixels, whose loss is higher.
    assert losses[1] < losses[0]
    assert figures(tmp_path / "alike", "reliable")[0] == figures(tmp_path / "certainty", "reliable")[0]


@pytest.mark.parametrize(
    "unlabelled",
    [
        {"teacher": "store", "mixing": "cutmix", "contrast": CONTRAST},
        pytest.param(
            {"teacher": "ema", "mixing": "classmix", "contrast": CONTRAST, "scale_weight": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["store", "ema"],
)
def test_a_killed_run_resumes_bit_for_bit(begun: Begun, tmp_path: Path, unlabelled: dict[str, Any]) -> None:
    recipe = semi_recipe(begun.data, unlabelled, steps=8, ema=0.9)
    store = begun.store if unlabelled["teacher"] == "store" else None
    undisturbed = train(recipe, tmp_path / "undisturbed", init=begun.network, pseudo_labels=store)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    options = ["--recipe", str(path), "--out", str(tmp_path / "run"), "--init", str(begun.network)]
    options += ["--pseudo", str(store)] if store else []
    kill_training(options, tmp_path / "run" / "journal.jsonl", lines=3)
    done = vss("train", *options, "--resume", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 8
    ours, theirs = load_checkpoint(tmp_path / "run" / "last.pt"), load_checkpoint(undisturbed.last)
    assert ours.fingerprint == theirs.fingerprint
    assert ours.training is not None
    assert theirs.training is not None
    for part in ("projection", "teacher", "banks"):
        mine, other = ours.training["semi"][part], theirs.training["semi"][part]
        assert mine.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in mine.items()), part
    assert figures(tmp_path / "run", "loss") == figures(tmp_path / "undisturbed", "loss")


@pytest.mark.slow
def test_two_processes_share_keys_and_learn_from_both(begun: Begun, tmp_path: Path) -> None:
    recipe = semi_recipe(begun.data, {"contrast": CONTRAST}, steps=1)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    options = ("--init", begun.network, "--pseudo", begun.store, "--device", "cpu", "--devices", "2")
    done = vss("train", "--recipe", path, "--out", tmp_path / "run", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    training = load_checkpoint(tmp_path / "run" / "last.pt").training
    assert training is not None
    # A step adds at most 32 features to a bank, those of both together.
    assert int(training["semi"]["banks"]["lengths"].max()) == 32
    # Each process compares gradients of its own, between a forward pass and the way back that they share.
    assert figures(tmp_path / "run", "gradient_contrast")[0] > 0
    assert np.isfinite(figures(tmp_path / "run", "loss")).all()


def test_stored_maps_take_the_way_of_the_frame(begun: Begun) -> None:
    source = open_source(open_store(begun.store))
    video = source.videos()[0]
    labels, stored = PredictedFrames(source.path, 3)(video, 2)
    height, width = source.size(video)
    assert labels.shape == (height, width)
    assert np.array_equal(labels, source.label(video, 2))
    assert np.array_equal(stored.entropy, source.read(video, "entropy", 2))
    assert np.array_equal(stored.level, source.read(video, "top_probability", 2)[0])
    assert np.array_equal(stored.ranked, source.read(video, "top_class", 2)[:3])
    torch.manual_seed(3)
    image = np.repeat(labels[..., None], 3, axis=2)
    augment = Augment(crop=(48, 64), scale=(0.5, 1.5))
    crop = TrainAugment(augment)(Sample(image, labels, stored))
    torch.manual_seed(3)
    geometry = draw_geometry(augment, (height, width), labels)
    assert crop.stored is not None
    assert torch.equal(crop.labels, apply_label(labels, geometry))
    assert torch.equal(crop.padding, crop.labels == 255)
    for cut, maps in zip(crop.stored, stored, strict=True):
        assert torch.equal(cut, apply_label(maps, geometry))


def test_what_lies_on_a_coarse_grid_is_cut_out_of_it(begun: Begun, tmp_path: Path) -> None:
    values = small_recipe(begun.data, "coarse", steps=1).model_dump()
    recipe = Recipe.model_validate({**values, "store": {"grid": 2, "kept": 4}})
    last = train(recipe, tmp_path / "run").last
    made = pseudo([last], context=Context(tmp_path, device="cpu"))
    source = open_store(made.predictions)
    video = source.videos()[0]
    labels, stored = PredictedFrames(source.path, 2)(video, 0)
    assert stored.ranked.shape[1] < labels.shape[0] == stored.entropy.shape[0]
    torch.manual_seed(5)
    crop = TrainAugment(Augment(crop=(40, 56), scale=(0.5, 1.5)))(
        Sample(np.zeros((*labels.shape, 3), np.uint8), labels, stored)
    )
    # Each pixel takes the cell that its centre lies in; where lists are cut out, labels are most often their first.
    assert crop.stored is not None
    assert crop.stored.ranked.shape == (2, 40, 56)
    seen = ~crop.padding
    assert (crop.stored.ranked[0] == crop.labels)[seen].float().mean() > 0.9


def test_what_could_not_be_learnt_is_said_before_the_first_step(begun: Begun, tmp_path: Path) -> None:
    network = begun.network
    recipe = semi_recipe(begun.data, {"contrast": CONTRAST}, steps=2)
    dataset = open_dataset(recipe.data)

    def thresholded(**how: float) -> Path:
        made = pseudo([], store=open_source(open_store(begun.store)).path, context=Context(tmp_path), **how)  # type: ignore[arg-type]
        return made.store

    with pytest.raises(VssError, match="has no reliable pixel"):
        open_unlabelled(recipe, dataset, thresholded(threshold=0.0))
    heard = Listener()
    open_unlabelled(recipe, dataset, thresholded(percentile=100), heard)
    assert any("will give no negatives" in text for text in heard.warned)
    # A window that ends among what a store does not list is not what it says.
    heard = Listener()
    ends = semi_recipe(begun.data, {"contrast": {**CONTRAST, "high_rank": 5}}, steps=2)
    open_unlabelled(ends, dataset, begun.store, heard)
    assert any("lists no class less likely than 0.008" in text for text in heard.warned)
    heard = Listener()
    open_unlabelled(recipe, dataset, begun.store, heard)
    assert not heard.warned

    with pytest.raises(VssError, match=r"unlabelled\.teacher ema, which labels frames itself"):
        open_unlabelled(semi_recipe(begun.data, {"teacher": "ema"}), dataset, begun.store)
    nothing = recipe.model_copy(update={"data": recipe.data.model_copy(update={"unlabelled": ()})})
    ema = semi_recipe(begun.data, {"teacher": "ema"})
    with pytest.raises(VssError, match="has no unlabelled frames"):
        open_unlabelled(ema, open_dataset(nothing.data), None)
    with pytest.raises(VssError, match="finds no negative with teacher store"):
        train(
            semi_recipe(begun.data, {"contrast": {**CONTRAST, "variant": "official"}}, steps=2),
            tmp_path / "official",
            init=network,
            pseudo_labels=begun.store,
        )
    assert not (tmp_path / "official" / "last.pt").exists()


def test_a_store_that_does_not_fit_is_refused_before_the_first_step(begun: Begun, tmp_path: Path) -> None:
    contrast, plain = (semi_recipe(begun.data, values, steps=2) for values in ({"contrast": CONTRAST}, {}))
    dataset = open_dataset(contrast.data)
    with pytest.raises(VssError, match="prediction store, not pseudo-labels"):
        open_unlabelled(contrast, dataset, open_source(open_store(begun.store)).path)
    other = Path(shutil.copytree(begun.store, tmp_path / "other.zarr"))
    change_group(other / "zarr.json", lambda values: values["table"]["classes"][0].update(name="lava"))
    with pytest.raises(VssError, match=r"labels 8 classes of .*, the data set has 8 of"):
        open_unlabelled(contrast, dataset, other)

    data = Path(shutil.copytree(begun.data, tmp_path / "data"))
    moved = open_dataset(plain.data, data)
    image = moved.split("unlabelled")[1].frames[2].image
    assert image is not None
    image.rename(image.with_stem("99999"))
    with pytest.raises(VssError, match="has other frames of video"):
        open_unlabelled(plain, moved, begun.store)
    image.with_stem("99999").rename(image)
    for frame in moved.split("unlabelled")[0].frames:
        assert frame.image is not None
        Image.open(frame.image).resize((80, 60)).save(frame.image)
    with pytest.raises(VssError, match=r"in 64x48, its frames in .* are 80x60"):
        open_unlabelled(plain, moved, begun.store)
    shutil.rmtree(data)
    shutil.copytree(begun.data, data)
    labelled, learned = (open_unlabelled(recipe, moved, begun.store) for recipe in (plain, contrast))
    assert labelled is not None
    assert learned is not None
    labelled.require_images(Digests())
    first, second = (frame.image for frame in moved.split("unlabelled")[1].frames[:2])
    assert first is not None
    assert second is not None
    first.write_bytes(second.read_bytes())  # exported again under its name
    for data_of in (labelled, learned):
        with pytest.raises(VssError, match=r"the images of video .* have changed since") as caught:
            data_of.require_images(Digests())
        assert "vss pseudo" in caught.value.hint
    assert len(learned.stores) == 2
    with pytest.raises(VssError, match=r"the images of video .* have changed since"):
        train(plain, tmp_path / "run", data_root=data, init=begun.network, pseudo_labels=begun.store)
    missing = Path(shutil.copytree(begun.store, tmp_path / "missing.zarr"))
    name = dataset.split("unlabelled")[0].name
    shutil.rmtree(missing / name)
    with pytest.raises(VssError, match=f"lacks video {name}"):
        train(plain, tmp_path / "run", init=begun.network, pseudo_labels=missing)
    assert not (tmp_path / "run" / "last.pt").exists()
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_random_weights_are_refused_by_unlabelled_frames_and_warned_of_else(begun: Begun, tmp_path: Path) -> None:
    for store in (begun.store, None):
        recipe = semi_recipe(begun.data, {"teacher": "store" if store else "ema"}, steps=1)
        with pytest.raises(VssError, match="neither a checkpoint nor weights") as caught:
            train(recipe, tmp_path / "run", pseudo_labels=store)
        assert "--init CHECKPOINT" in caught.value.hint
    assert not (tmp_path / "run").exists()
    heard = Listener()
    begun_anew = train(small_recipe(begun.data, steps=1), tmp_path / "plain", talk=heard).last
    assert any("starts from random weights" in text for text in heard.warned)
    named = semi_recipe(begun.data, {"teacher": "ema"}, steps=1, init=str(begun_anew))
    heard = Listener()
    train(named, tmp_path / "semi", talk=heard)
    assert heard.warned == []


@pytest.mark.parametrize("mixing", ["cutmix", "classmix", "cutout", "none"])
def test_one_crop_alone_is_not_mixed_with_others_in_silence(begun: Begun, tmp_path: Path, mixing: str) -> None:
    recipe = semi_recipe(begun.data, {"teacher": "ema", "batch_size": 1, "mixing": mixing}, steps=1)
    if mixing in ("cutout", "none"):
        assert train(recipe, tmp_path / "run", init=begun.network).trained_steps == 1
        return
    with pytest.raises(VssError, match=f"{mixing} mixes .*batch_size 1 over 1 process") as caught:
        train(recipe, tmp_path / "run", init=begun.network)
    assert "unlabelled.batch_size to 2" in caught.value.hint


@pytest.mark.parametrize("teacher", ["store", "ema"])
def test_a_damaged_unlabelled_image_is_named_before_the_first_step(begun: Begun, tmp_path: Path, teacher: str) -> None:
    data = Path(shutil.copytree(begun.data, tmp_path / "data"))
    recipe = semi_recipe(data, {"teacher": teacher}, steps=2)
    image = open_dataset(recipe.data).split("unlabelled")[1].frames[3].image
    assert image is not None
    image.write_bytes(image.read_bytes()[:200])
    store = begun.store if teacher == "store" else None
    with pytest.raises(VssError, match=rf"{image.name}: .*"):
        train(recipe, tmp_path / "run", init=begun.network, pseudo_labels=store)
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_one_class_alone_is_refused_or_named(begun: Begun, tmp_path: Path) -> None:
    recipe = semi_recipe(begun.data, {"contrast": CONTRAST}, steps=2)
    dataset, store = open_dataset(recipe.data), open_store(begun.store)
    with StoreWriter(begun.store.with_name("sky.zarr"), store.header) as writer:
        for video in store.videos():
            for segment in writer.pending(video, store.stems(video), store.size(video)):
                label = np.full((len(segment), *store.size(video)), 1, np.uint8)
                label[:, :9] = 255
                writer.write(video, segment, {"pseudo_label": label})
    heard = Listener()
    open_unlabelled(recipe, dataset, begun.store.with_name("sky.zarr"), heard)
    assert heard.warned == [text for text in heard.warned if f"are {dataset.table.names[1]}: unlabelled frames" in text]
    assert len(heard.warned) == 1

    data = Path(shutil.copytree(begun.data, tmp_path / "data"))
    classes = json.loads((data / "classes.json").read_text())
    (data / "classes.json").write_text(json.dumps({**classes, "classes": classes["classes"][:1]}))
    for unlabelled in ({"teacher": "ema"}, {}):
        alone = semi_recipe(data, unlabelled, steps=2)
        with pytest.raises(VssError, match=r"has only the class .*would teach nothing"):
            open_unlabelled(alone, open_dataset(alone.data), None if unlabelled else begun.store)


def test_rank_bounds_adapt_to_few_classes_and_say_so() -> None:
    heard = Listener()
    assert rank_bounds(Contrast(), 124, talk=heard)[:2] == (3, 124)
    assert rank_bounds(Contrast(), 11, talk=heard)[:2] == (2, 11)
    assert rank_bounds(Contrast(low_rank=3, high_rank=20), 11, talk=heard)[:2] == (3, 11)
    assert rank_bounds(Contrast(), 2, talk=heard)[:2] == (1, 2)
    assert "9 classes ranked from 2 to 10 of 11" in heard.said[1]
    assert "3 is for 19" in heard.said[1]
    assert "3 is for 19" not in heard.said[0]
    with pytest.raises(VssError, match="two classes"):
        rank_bounds(Contrast(), 1)
    with pytest.raises(VssError, match="rank from 3 to before 3"):
        rank_bounds(Contrast(low_rank=3), 3)
    assert rank_bounds(Contrast(), 124, kept=3).listed == 3
    with pytest.raises(VssError, match="20 likeliest classes of each pixel; the store keeps 8"):
        rank_bounds(Contrast(high_rank=20), 124, kept=8)


def test_pseudo_labels_that_changed_in_their_place_are_another_run(begun: Begun, tmp_path: Path) -> None:
    recipe = semi_recipe(begun.data, {}, steps=1)
    store = shutil.copytree(begun.store, tmp_path / "p.zarr")

    def learn(**how: bool) -> tuple[Path, list[str]]:
        heard = Listener()
        last = train(recipe, tmp_path / "run", init=begun.network, pseudo_labels=store, talk=heard, **how).last
        return last, heard.warned

    last, warned = learn()
    assert not any("earlier version" in line for line in warned)
    stamp = last.stat().st_mtime_ns
    assert learn()[0].stat().st_mtime_ns == stamp
    source = open_store(begun.store)
    shutil.rmtree(store)
    with StoreWriter(store, source.header) as writer:
        for video in source.videos():
            for segment in writer.pending(video, source.stems(video), source.size(video), source.record(video).sources):
                label = 1 - np.minimum(source.read(video, "pseudo_label", slice(segment.start, segment.stop)), 1)
                writer.write(video, segment, {"pseudo_label": label})
    with pytest.raises(VssError, match="holds a run"):
        learn()
    with pytest.raises(VssError, match=r"trained differently: it had other pseudo-labels, by"):
        learn(resume=True)

    # As written by a version that recorded less: a change can't be detected, so the run is kept, with a warning.
    checkpoint = load_checkpoint(last)
    del checkpoint.inputs["pseudo_labels_content"]
    save_checkpoint(last, checkpoint)
    last, warned = learn()
    assert len(warned) == 1
    assert "earlier version" in warned[0]
    assert not any("earlier version" in line for line in learn(force=True)[1])


@pytest.mark.parametrize("contrast", [None, CONTRAST], ids=["plain", "contrast"])
def test_a_split_that_narrows_learns_from_every_pixel_in_the_end(
    begun: Begun, tmp_path: Path, contrast: dict[str, int] | None
) -> None:
    recipe = semi_recipe(begun.data, {"split": "narrowing", "drop": 60, "contrast": contrast}, steps=6)
    train(recipe, tmp_path / "run", init=begun.network, pseudo_labels=begun.store)
    reliable = figures(tmp_path / "run", "reliable")
    assert 0.3 < reliable[0] < 0.6  # what shares the bound's entropy counts too
    assert reliable[-1] > 0.85
    assert sorted(reliable) == reliable
