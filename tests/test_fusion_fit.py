"""Weights and temperatures from labelled frames."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from listener import Listener
from PIL import Image
from store_samples import class_table, prediction_header, stems, write_predictions

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.data.layouts import plain_data
from vsscli.errors import VssError
from vsscli.fusion import fit as module
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.fit import fit_weights, sweep
from vsscli.pipeline.fitting import find_weights, plot_sweep
from vsscli.pipeline.truth import open_masks
from vsscli.store.header import Encoding, Header
from vsscli.store.reader import Store, open_store

CLASSES, SIZE, FRAMES = 6, (16, 20), 4
VIDEOS = ("alley", "lane")


def spoken(truth: np.ndarray, right: float, temperature: float, seed: int) -> np.ndarray:
    """A source that is right as often as it says at temperature 1, (T, C, H, W); hotter, it says too much."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(len(truth), CLASSES, *SIZE))
    noise += right * (truth[:, None] == np.arange(CLASSES)[:, None, None])
    # Equal-variance normal scores: the log-likelihood of class c is right * noise_c.
    scores = noise * right * temperature
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Store], dict[str, np.ndarray], Path]:
    """A good source that overstates itself, a poor one, what is true, and the data set on disk."""
    folder = tmp_path_factory.mktemp("fit")
    generator = np.random.default_rng(0)
    truth = {video: generator.integers(0, CLASSES, (FRAMES, *SIZE)).astype(np.uint8) for video in VIDEOS}
    root = folder / "street"
    for video, labels in truth.items():
        for kind in ("origin", "mask"):
            (root / "data" / video / kind).mkdir(parents=True)
        for stem, label in zip(stems(FRAMES), labels, strict=True):
            Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / "data" / video / "origin" / f"{stem}.jpg")
            Image.fromarray(label + 1).save(root / "data" / video / "mask" / f"{stem}.png")
    (root / "classes.json").write_text(json.dumps(class_table(CLASSES).to_dict()))
    (root / "val.txt").write_text("\n".join(VIDEOS))
    stores = []
    for name, right, temperature in (("good", 2.5, 2.0), ("poor", 0.7, 1.0)):
        header = prediction_header(CLASSES, Encoding(kept=6, drop=0, step=1), weights=name)
        header = Header(
            header.kind,
            header.table,
            header.scores,
            header.source,
            header.encoding,
            {"name": "street", "split": "val", "root": str(root)},
            {"data": plain_data(root).model_dump(mode="json")},
        )
        means = {video: spoken(labels, right, temperature, len(name + video)) for video, labels in truth.items()}
        stores.append(write_predictions(folder / f"{name}.zarr", header, means))
    return stores, truth, root


def test_the_better_source_weighs_more_and_what_overstates_is_cooled(made: tuple) -> None:
    stores, truth, _ = made
    frames = [(video, t) for video in VIDEOS for t in range(FRAMES)]
    found = fit_weights(stores, frames, lambda video, t: truth[video][t])
    assert sum(found.weights) == pytest.approx(1)
    assert found.weights[0] > 0.75
    assert found.temperatures[0] == pytest.approx(2, abs=0.5)  # its scores were doubled
    assert (found.fitted[0].frames, found.held_out[0].frames) == (4, 4)
    for before, after in (found.fitted, found.held_out):
        assert after.loss < before.loss - 0.02
        assert after.miou > before.miou


def test_a_single_video_is_held_out_by_half(made: tuple) -> None:
    stores, truth, _ = made
    frames = [("lane", t) for t in range(FRAMES)]
    heard = Listener()
    found = fit_weights(stores, frames, lambda video, t: truth[video][t], talk=heard)
    assert (found.fitted[0].frames, found.held_out[0].frames) == (2, 2)
    assert heard.said == ["only video lane has masks: fitting on its first 2 frames, the rest are held out"]
    assert not heard.warned
    with pytest.raises(VssError, match="1 frames"):
        fit_weights(stores, frames[:1], lambda video, t: truth[video][t])


def test_what_does_not_carry_over_is_said(made: tuple) -> None:
    stores, truth, _ = made
    frames = [(video, t) for video in VIDEOS for t in range(FRAMES)]

    def changed(video: str, t: int) -> np.ndarray:
        # In one video the good source is right, in the other neither is.
        return truth[video][t] if video == VIDEOS[0] else (truth[video][t] + 1) % CLASSES

    heard = Listener()
    found = fit_weights(stores, frames, changed, talk=heard)
    before, after = found.held_out
    assert after.loss > before.loss
    assert len(heard.warned) == 1
    assert f"loss {after.loss:.4f} against {before.loss:.4f}" in heard.warned[0]


def test_the_loss_is_the_cross_entropy_of_the_mean(made: tuple) -> None:
    stores, truth, _ = made
    generator = np.random.default_rng(1)
    samples = module._sample(stores, lambda v, t: truth[v][t], [("lane", 0)], generator, lambda done: None)
    mean = np.zeros((CLASSES, *SIZE))
    for store, weight, temperature in zip(stores, (0.3, 0.7), (2, 0.8), strict=True):
        power = store.probabilities("lane", 0).astype(np.float64) ** (1 / temperature)
        mean += weight * power / power.sum(axis=0)
    right = np.take_along_axis(mean, truth["lane"][0][None].astype(np.intp), axis=0)
    loss = module._loss(samples, np.array([0.3, 0.7]), np.array([2, 0.8]))
    assert loss == pytest.approx(-np.log(np.maximum(right, 1e-4)).mean(), rel=1e-4)


def test_a_sweep_ends_at_the_sources_themselves(made: tuple) -> None:
    stores, truth, _ = made
    frames = [(video, t) for video in VIDEOS for t in range(FRAMES)]
    points = sweep(stores, frames, lambda video, t: truth[video][t], 5)
    assert [weight for weight, _ in points] == [0, 0.25, 0.5, 0.75, 1]
    right = [np.mean([store.label(v, t) == truth[v][t] for v, t in frames]) for store in stores]
    assert points[0][1] < points[-1][1]
    assert right[1] < right[0]
    with pytest.raises(VssError, match="one of two stores"):
        sweep(stores[:1], frames, lambda video, t: truth[video][t])


def test_the_command_fits_fuses_and_draws(made: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores, _, root = made
    named = ["ensemble", "--stores", *(str(store.path) for store in stores), "--split", "val", "--data", str(root)]
    out = tmp_path / "f.zarr"
    assert run([*named, "--fit-weights", "--out", str(out), "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    source = open_store(out).header.source
    assert source["weights"] == pytest.approx(said["weights"])
    assert source["temperatures"] == pytest.approx(said["temperatures"])
    assert said["held_out"][1]["miou"] > said["held_out"][0]["miou"]
    assert run([*named, "--sweep", str(tmp_path / "w.svg"), "--quiet"]) == 0
    plot = ET.parse(tmp_path / "w.svg").getroot()
    words = [text.text for text in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert "weight of good" in words
    assert any(" at 100%" in (word or "") or " at 90%" in (word or "") for word in words)
    assert run([*named, "--fit-weights", "--weights", "1", "1"]) == 2
    assert run([*named, "--method", "geometric", "--out", str(tmp_path / "g.zarr"), "--quiet"]) == 0
    assert open_store(tmp_path / "g.zarr").header.source["method"] == "geometric"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fit-weights", "--method", "geometric"], "arithmetic mean"),
        (["--sweep", "w.svg", "--weights", "1", "2"], "--weights has no meaning"),
        (["--sweep", "w.svg", "--out", "f.zarr"], "--out has no meaning"),
        (["--sweep", "w.svg", "--temporal", "1"], "--temporal has no meaning"),
        (["--sweep", "w.svg", "--fit-weights"], "--fit-weights has no meaning"),
    ],
)
def test_options_that_would_be_dropped_are_refused(
    options: list[str],
    message: str,
    made: tuple,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["ensemble", "--stores", *(str(store.path) for store in made[0]), *options]) == 2
    assert message in capfd.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("option", [["--fit-weights"], ["--sweep", "w.svg"], []])
def test_without_stores_the_remedy_is_told(option: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ensemble", *option]) == 2
    assert "name two or more: --stores a.zarr b.zarr" in capfd.readouterr().err


def test_one_store_has_no_weights(made: tuple, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ensemble", "--stores", str(made[0][0].path), "--temporal", "1", "--weights", "2"]) == 2
    assert "there is only one" in capfd.readouterr().err


def test_a_sweep_is_of_the_mean_that_is_asked_for(made: tuple, tmp_path: Path) -> None:
    stores, truth, root = made
    paths = [store.path for store in stores]
    plain = plot_sweep(paths, tmp_path / "a.svg", context=Context(data_root=root))
    product = plot_sweep(paths, tmp_path / "g.svg", context=Context(data_root=root), method="geometric")
    assert (product[0], product[-1]) == (plain[0], plain[-1])
    weight, miou = product[5]
    fused = open_store(fuse(stores, [weight, 1 - weight], tmp_path / "g.zarr", method="geometric"))
    pairs = [(truth[video][t], fused.label(video, t)) for video in VIDEOS for t in range(FRAMES)]
    ious = [
        sum(((real == c) & (label == c)).sum() for real, label in pairs)
        / sum(((real == c) | (label == c)).sum() for real, label in pairs)
        for c in range(CLASSES)
    ]
    assert miou == pytest.approx(np.mean(ious))
    assert miou != plain[5][1]


def test_what_was_fitted_on_is_noted_wherever_it_was_called(made: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    stores, _, root = made
    monkeypatch.chdir(root)
    _, note = find_weights([store.path for store in stores], context=Context(data_root=Path()), split="val")
    assert note == {"data": plain_data(root).model_dump(mode="json") | {"root": str(root.resolve())}, "split": "val"}


def test_masks_that_fit_no_frame_or_label_nothing_are_refused(made: tuple) -> None:
    stores, truth, _ = made
    frames = [(video, t) for video in VIDEOS for t in range(FRAMES)]
    for attempt in (fit_weights, sweep):
        with pytest.raises(VssError, match=r"the mask of alley/00000 is 40x32, its prediction 20x16"):
            attempt(stores, frames, lambda video, t: np.kron(truth[video][t], np.ones((2, 2), np.uint8)))
    with pytest.raises(VssError, match="masks of 4 frames from lane on label no pixel"):
        fit_weights(stores, frames, lambda video, t: truth[video][t] if video == "alley" else np.full(SIZE, 255, "u1"))


def test_masks_are_found_where_a_name_is_spelled_otherwise_than_in_the_store(tmp_path: Path) -> None:
    composed, decomposed = "all\u00e9e", "alle\u0301e"
    frames = np.full((2, CLASSES, *SIZE), 1 / CLASSES, np.float32)
    store = write_predictions(tmp_path / "a.zarr", prediction_header(CLASSES), {composed: frames})
    for kind in ("origin", "mask"):
        folder = tmp_path / "street" / "data" / decomposed / kind
        folder.mkdir(parents=True)
        for stem in stems(2):
            picture = np.ones(SIZE, np.uint8) if kind == "mask" else np.zeros((*SIZE, 3), np.uint8)
            Image.fromarray(picture).save(folder / f"{stem}.png")
    (tmp_path / "street" / "classes.json").write_text(json.dumps(store.header.table.to_dict()))
    (tmp_path / "street" / "val.txt").write_text(decomposed)
    masks = open_masks(store, tmp_path / "street", "val")
    assert [*masks.frames] == [(composed, 0), (composed, 1)]
    assert masks.label(composed, 0).max() == 0
