"""``import vsscli``: the library does what the command line does, with the same defaults, and imports nothing heavy."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import small_recipe

import vsscli
from vsscli.cli.app import run as vss
from vsscli.cli.ensemble import ensemble as ensemble_command
from vsscli.cli.eval import evaluate as eval_command
from vsscli.cli.pseudo import pseudo as pseudo_command
from vsscli.cli.train import train as train_command


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def context(home: Path) -> vsscli.Context:
    return vsscli.Context(workspace=str(home / "runs"), device="cpu")


@pytest.fixture(scope="module")
def trained(home: Path, context: vsscli.Context) -> Path:
    return vsscli.train(small_recipe(home / "data"), context=context).last


@pytest.fixture(scope="module")
def model(trained: Path, context: vsscli.Context) -> vsscli.Model:
    return vsscli.load(str(trained), context)


@pytest.fixture(scope="module")
def stores(model: vsscli.Model) -> list[vsscli.OpenStore]:
    return [model.predict(), model.predict(plan="flip")]


def test_importing_it_imports_nothing_heavy() -> None:
    script = "import sys, vsscli; assert not {'numpy', 'torch', 'pydantic'} & set(sys.modules); print(dir(vsscli))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"load", "open_store", "train", "Context"} <= set(eval(done.stdout))


def test_every_name_it_offers_is_there() -> None:
    assert all(getattr(vsscli, name) is not None for name in vsscli.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = vsscli.lode


def test_a_model_labels_frames_as_the_command_line_does(model: vsscli.Model, trained: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 256, (height, 64, 3), np.uint8) for height in (32, 48)]
    for number, frame in enumerate(frames):
        (tmp_path / "own" / f"v{number}").mkdir(parents=True)
        Image.fromarray(frame).save(tmp_path / "own" / f"v{number}" / "a.png")
    labels = model.label(frames)
    masks = tmp_path / "masks"
    where = ["--workspace", str(tmp_path / "runs"), "--device", "cpu"]
    assert vss(["predict", "--model", str(trained), "--input", str(tmp_path / "own"), "--out", str(masks), *where]) == 0
    for number, label in enumerate(labels):
        with Image.open(masks / f"v{number}" / "a.png") as image:
            assert np.array_equal(label, np.asarray(image))
    assert np.array_equal(model.label(frames[0]), labels[0])
    assert np.array_equal(model.label(np.stack([frames[0]] * 2))[1], labels[0])
    probabilities = model.probabilities(frames[1])
    assert probabilities.shape == (len(model.classes), 48, 64)
    assert np.allclose(probabilities.sum(0), 1, atol=1e-5)
    assert np.array_equal(probabilities.argmax(0), labels[1])
    assert model.palette[labels[0]].shape == (32, 64, 3)
    assert isinstance(model.network, torch.nn.Module)
    again = model.predict_files(str(tmp_path / "own"), tmp_path / "again")
    assert (again / "v0" / "a.png").read_bytes() == (masks / "v0" / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (np.zeros((4, 4), np.uint8), r"the frame has shape \(4, 4\)"),
        (np.zeros((4, 4, 3)), "float64, not uint8"),
        (Image.new("L", (4, 4)), r"the frame has shape \(4, 4\)"),
        (Path("a.jpg"), "a path, 'a.jpg', not pixels"),
        ("a.jpg", "a path, 'a.jpg', not pixels"),
        (["a.jpg"], "frame 0 is a path"),
    ],
)
def test_what_is_alone_and_no_frame_is_refused(model: vsscli.Model, frame: Any, what: str) -> None:
    """A fraction that is cast to uint8, as the remedy once said, is a black frame."""
    with pytest.raises(vsscli.VssError, match=what) as caught:
        model.label(frame)
    assert ": frame.astype" not in caught.value.hint


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\), not \(H, W, 3\)"),
        (np.zeros((4, 4, 3), np.float32), "float32, not uint8"),
        (np.zeros((3, 4, 4, 4), np.uint8), "frame 0 has shape"),
    ],
)
def test_what_is_no_frame_is_refused(model: vsscli.Model, frame: np.ndarray, what: str) -> None:
    with pytest.raises(vsscli.VssError, match=what):
        model.label(frame if frame.ndim == 4 else [frame])


def test_frames_are_no_split(model: vsscli.Model) -> None:
    with pytest.raises(vsscli.VssError, match="takes the name of a split, not list") as caught:
        model.predict([np.zeros((4, 4, 3), np.uint8)])  # type: ignore[arg-type]
    assert "model.label(frames)" in caught.value.hint


def test_a_store_gives_what_was_predicted(model: vsscli.Model, stores: list[vsscli.OpenStore], home: Path) -> None:
    store = vsscli.open_store(str(stores[0].path))
    assert (store.kind, store.classes) == ("prediction", model.classes)
    (video,) = store.values()
    assert len(video) == 24
    assert video.labels().shape == (24, *video.size)
    assert np.array_equal(video.labels(2), video.labels(slice(2, 4))[0])
    entropy = video.entropy()
    assert entropy.shape == (24, *video.size)
    assert 0 <= entropy.min() <= entropy.max() <= 1
    classes, probabilities = video.top(1, 2)
    assert classes.shape == probabilities.shape == (2, *video.size)
    assert np.array_equal(classes[0], video.labels(1))
    path = next(home.rglob(f"{video.name}/origin/{video.stems[1]}.*"))
    with Image.open(path) as image:
        dense = model.probabilities(np.asarray(image.convert("RGB")))
    assert np.abs(video.probabilities(1) - dense).max() < 0.02
    with pytest.raises(KeyError):
        _ = store["nowhere"]


def test_the_other_commands_do_what_the_command_line_does(
    stores: list[vsscli.OpenStore],
    trained: Path,
    context: vsscli.Context,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--workspace", str(home / "runs"), "--json", "--quiet"]

    def told(*arguments: object) -> dict[str, object]:
        capsys.readouterr()
        assert vss([*map(str, arguments), *where]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    fused = vsscli.ensemble([store.path for store in stores], [1, 3], context=context)
    assert told("ensemble", "--stores", *(store.path for store in stores), "--weights", 1, 3) == {
        "store": str(fused.store)
    }
    paths = [store.path for store in stores]
    assert vsscli.ensemble(paths, np.array([1, 3]), context=context).store == fused.store
    scored = vsscli.evaluate(fused.store, context=context).figures.to_json()
    assert scored.items() <= told("eval", "--pred", fused.store).items()
    assert vsscli.evaluate(fused.store, metrics="mIoU", context=context).figures.values == {"miou": scored["miou"]}
    pseudo = vsscli.pseudo([str(trained)], context=context)
    assert vsscli.pseudo(str(trained), context=context).store == pseudo.store
    assert pseudo.to_json() == told("pseudo", "--models", trained, "--device", "cpu")
    labels = vsscli.open_store(pseudo.store)
    reliable = sum(int((video.labels() != 255).sum()) for video in labels.values())
    assert reliable == pseudo.report.reliable


def test_a_loaded_recipe_takes_no_overrides(home: Path, context: vsscli.Context) -> None:
    with pytest.raises(vsscli.VssError, match="'small' is loaded already"):
        vsscli.train(small_recipe(home / "data"), overrides=["train.steps=3"], context=context)


def test_a_pipeline_runs(home: Path, trained: Path, context: vsscli.Context) -> None:
    """With a single stage, override and setting, each of which may stand alone."""
    recipe = home / "student.yaml"
    recipe.write_text(json.dumps(small_recipe(home / "data", steps=2).model_dump(mode="json")))
    (home / "p.yaml").write_text("name: p\nstages: {student: {do: train, recipe: student.yaml}}\n")
    ran = vsscli.run(home / "p.yaml", "student", overrides="stages.student.set={seed: 3}", context=context)
    assert ran.result("student").path.is_file()
    assert vsscli.load_recipe(recipe, "name=other").name == "other"
    assert vsscli.Context(trackers="wandb").trackers == ("wandb",)


@pytest.mark.parametrize(
    ("function", "command"),
    [
        (vsscli.train, train_command),
        (vsscli.pseudo, pseudo_command),
        (vsscli.ensemble, ensemble_command),
        (vsscli.evaluate, eval_command),
    ],
)
def test_defaults_are_those_of_the_command_line(function: object, command: object) -> None:
    mine, theirs = (inspect.signature(which).parameters for which in (function, command))  # type: ignore[arg-type]
    shared = {name for name in mine if name in theirs} - {"models", "stores", "recipe", "out", "weights"}
    assert shared
    for name in shared:
        assert mine[name].default == theirs[name].default or str(mine[name].default) == theirs[name].default, name
    if "metrics" in mine:
        assert list(mine["metrics"].default) == theirs["metric"].default
    hardware = inspect.signature(vsscli.Context).parameters
    for name in {"device", "devices", "precision", "batch_size", "workspace"} & set(theirs):
        assert str(hardware[name].default) == str(theirs[name].default), name
