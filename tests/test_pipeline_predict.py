"""Predicting a split into a store, and the user's frames into masks: existing results are not mistaken for others."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listener import Listener
from PIL import Image
from small import small_recipe, write_network
from store_samples import change_group, snapshot

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.data.walk import MADE
from vsscli.errors import VssError
from vsscli.fusion.ensemble import fused_header
from vsscli.fusion.temporal import smoothed_header
from vsscli.fusion.threshold import Threshold, pseudo_header
from vsscli.models.build import read_config
from vsscli.pipeline.masks import predict_input
from vsscli.pipeline.predict import predict_split
from vsscli.store.reader import open_store


def write_model(path: Path, seed: int) -> Path:
    return write_network(path, small_recipe(path.parent / "data"), seed)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return write_model(folder / "a.pt", 0), write_model(folder / "b.pt", 1)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder with one video of two PNG frames."""
    (tmp_path / "own" / "clip").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for t in range(2):
        image = generator.integers(0, 256, (32, 64, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / "own" / "clip" / f"{t:03d}.png")
    return tmp_path / "own"


def test_masks_of_the_same_model_are_kept_and_of_another_refused(
    models: tuple[Path, Path], frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / "masks"
    assert predict_input(models[0], frames, out, context=Context(tmp_path, device="cpu")) == 2
    first = snapshot(out)
    assert sorted(first) == [MADE, "clip.json", "clip/000.png", "clip/001.png"]
    (out / "clip" / "001.png").unlink()
    assert predict_input(models[0], frames, out, context=Context(tmp_path, device="cpu")) == 1
    assert snapshot(out) == first
    with pytest.raises(VssError, match="weights = "):
        predict_input(models[1], frames, out, context=Context(tmp_path, device="cpu"))
    with pytest.raises(VssError, match="flip = False, not True"):
        predict_input(models[0], frames, out, plan="flip", context=Context(tmp_path, device="cpu"))
    assert snapshot(out) == first
    assert predict_input(models[1], frames, out, context=Context(tmp_path, device="cpu"), force=True) == 2
    assert all(snapshot(out)[name] != before for name, before in first.items() if name != MADE)
    assert predict_input(models[1], frames, out, context=Context(tmp_path, device="cpu")) == 0
    assert predict_input(models[1], frames, out, context=Context(tmp_path, device="cpu"), force=True) == 2


def test_a_place_of_ones_own_needs_none_in_the_workspace(models: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "stores").symlink_to(tmp_path / "elsewhere")
    context = Context(tmp_path / "runs", device="cpu")
    with pytest.raises(VssError, match="leads to"):
        predict_split(models[0], "val", context=context)
    assert predict_split(models[0], "val", context=context, out=tmp_path / "own.zarr").predicted
    assert not any((tmp_path / "elsewhere").iterdir())


def test_pictures_that_nothing_tells_the_origin_of_are_no_masks(
    models: tuple[Path, Path], frames: Path, tmp_path: Path
) -> None:
    shutil.copytree(frames, tmp_path / "copies")
    with pytest.raises(VssError, match=r"000\.png exists, but not .*clip\.json"):
        predict_input(models[0], frames, tmp_path / "copies", context=Context(tmp_path, device="cpu"))
    assert snapshot(tmp_path / "copies") == snapshot(frames)


@pytest.mark.parametrize(
    ("source", "out"),
    [("own", "own"), ("own", "own/masks"), ("own/clip", "own"), ("own", "link"), ("own/clip", "own/clip")],
)
def test_masks_do_not_go_among_the_frames(
    source: str, out: str, models: tuple[Path, Path], frames: Path, tmp_path: Path
) -> None:
    before = snapshot(frames)
    (tmp_path / "link").symlink_to(frames)
    for force in (False, True):
        with pytest.raises(VssError, match="is among the frames"):
            predict_input(
                models[0], tmp_path / source, tmp_path / out, context=Context(tmp_path, device="cpu"), force=force
            )
    assert snapshot(frames) == before


@pytest.mark.parametrize(
    "option", [["--split", "val"], ["--keep", "all"], ["--devices", "2"], ["--data", "x"], ["--engine", "ray"]]
)
def test_options_of_splits_mean_nothing_to_own_frames(
    option: list[str], models: tuple[Path, Path], frames: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    named = ["predict", "--model", str(models[0]), "--input", str(frames), "--out", str(tmp_path / "masks")]
    assert run([*named, *option]) == 2
    assert f"{option[0]} has no meaning with --input" in capfd.readouterr().err
    assert not (tmp_path / "masks").exists()


def test_force_predicts_again(
    models: tuple[Path, Path], frames: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    named = ["predict", "--input", str(frames), "--out", str(tmp_path / "masks"), "--device", "cpu", "--json", "-q"]
    assert run([*named, "--model", str(models[0])]) == 0
    assert run([*named, "--model", str(models[1])]) == 2
    assert "--force to predict these frames again" in capfd.readouterr().err
    assert run([*named, "--model", str(models[1]), "--force"]) == 0
    assert json.loads(capfd.readouterr().out)["predicted"] == 2


def test_an_empty_folder_is_where_a_store_may_go(models: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = predict_split(models[0], "val", context=Context(tmp_path, device="cpu"), out=tmp_path / "empty")
    assert (done.store, done.predicted, done.cached) == (tmp_path / "empty", 24, 0)
    again = predict_split(models[0], "val", context=Context(tmp_path, device="cpu"), out=tmp_path / "empty")
    assert (again.predicted, again.cached) == (0, 24)


def test_parts_make_the_store_that_one_run_makes(
    models: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = predict_split(models[0], "train", context=Context(tmp_path, device="cpu"), out=tmp_path / "whole.zarr")
    named = ["predict", "--model", str(models[0]), "--split", "train", "--device", "cpu", "--json"]
    predicted = []
    for part in ("2/2", "1/2", "1/2"):
        assert run([*named, "--out", str(tmp_path / "parts.zarr"), "--part", part]) == 0
        heard = capfd.readouterr()
        predicted.append(json.loads(heard.out)["predicted"])
    assert "part 1/2 of train; no network was loaded" in heard.err
    assert predicted[0] > 0
    assert predicted[0] + predicted[1] == whole.predicted
    assert predicted[2] == 0
    assert run([*named, "--out", str(tmp_path / "parts.zarr"), "--part", "9/9"]) == 0
    assert "part 9/9 of train has no video" in capfd.readouterr().err
    assert snapshot(tmp_path / "parts.zarr") == snapshot(whole.store)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--workers", "2"], "--devices"),
        (["--engine", "ray", "--devices", "2"], "--workers"),
        (["--engine", "dask"], "ray://HOST:PORT"),
    ],
)
def test_numbers_of_processes_are_those_of_the_engine(
    options: list[str], named: str, models: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.zarr"
    assert run(["predict", "--model", str(models[0]), "--out", str(out), "--device", "cpu", *options]) == 2
    assert named in capfd.readouterr().err
    assert not out.exists()


def test_weights_that_changed_meanwhile_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "m.pt", 1)
    monkeypatch.setattr("vsscli.pipeline.predict.say_order", lambda *_: write_model(model, 2))
    with pytest.raises(VssError, match=r"m\.pt has other weights"):
        predict_split(model, "val", context=Context(tmp_path, device="cpu"), out=tmp_path / "a.zarr")


def test_parts_of_several_models_are_what_pseudo_labels_are_made_of(
    models: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    named = ["pseudo", "--models", *map(str, models), "--split", "train", "--device", "cpu", "--json", "-q"]
    named += ["--workspace", str(tmp_path)]
    for part in ("1/2", "2/2"):
        assert run([*named, "--part", part]) == 0
        made = json.loads(capfd.readouterr().out)["predictions"]
        assert all(one["predicted"] > 0 for one in made)
    assert run(named) == 0
    assert json.loads(capfd.readouterr().out)["frames"] == 12
    assert predict_split(models[0], "train", context=Context(tmp_path, device="cpu")).predicted == 0


def test_the_documentation_names_what_headers_hold(models: tuple[Path, Path], tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "store.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| `source` |")]
    store = open_store(predict_split(models[0], "val", context=Context(tmp_path, device="cpu")).store)
    sources = [
        store.header.source,
        fused_header([store, store], [1.0, 1.0], tmp_path).source,
        smoothed_header(store, 1, tmp_path, motion=True).source,
        pseudo_header(store, Threshold(0.5, None, (127,) * 8), tmp_path).source,
    ]
    assert [name for source in sources for name in source if f"`{name}`" not in line] == []
    assert "normalisation" not in store.header.source


def masks_of(model: Path, source: Path, out: Path) -> dict[str, bytes]:
    predict_input(model, source, out, context=Context(out.parent, device="cpu"))
    return {path.name: path.read_bytes() for path in sorted((out / "clip").glob("*.png"))}


def write_frame(path: Path, seed: int) -> None:
    """Another image of the same size in bytes, pixels and time."""
    before = path.stat() if path.exists() else None
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 64, 3), np.uint8)).save(path)
    if before is not None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_masks_of_frames_that_hold_something_else_are_predicted_again(
    models: tuple[Path, Path], frames: Path, tmp_path: Path
) -> None:
    out, clip = tmp_path / "masks", frames / "clip"
    before = masks_of(models[0], frames, out)
    write_frame(clip / "001.png", 7)
    write_frame(clip / "002.png", 8)
    (clip / "000.png").touch()
    listener = Listener()
    assert predict_input(models[0], frames, out, context=Context(tmp_path, device="cpu", talk=listener)) == 2
    assert [said.partition(" since")[0] for said in listener.said[:-1]] == ["1 frames of video clip have changed"]
    assert re.fullmatch(r"the network computed for \d+% of the time", listener.said[-1])
    after = masks_of(models[0], frames, out)
    assert after == masks_of(models[0], frames, tmp_path / "fresh")
    assert after["000.png"] == before["000.png"]
    for one, other in (("000", "001"), ("002", "000")):  # swapped
        (clip / f"{one}.png").rename(clip / "x")
        (clip / f"{other}.png").rename(clip / f"{one}.png")
        (clip / "x").rename(clip / f"{other}.png")
    assert masks_of(models[0], frames, out) == masks_of(models[0], frames, tmp_path / "swapped")


def test_masks_of_a_frame_that_went_and_came_back_otherwise_are_predicted_again(
    models: tuple[Path, Path], frames: Path, tmp_path: Path
) -> None:
    out, clip = tmp_path / "masks", frames / "clip"
    masks_of(models[0], frames, out)
    (clip / "001.png").unlink()
    listener = Listener()
    assert predict_input(models[0], frames, out, context=Context(tmp_path, device="cpu", talk=listener)) == 0
    assert "1 predictions" in listener.warned[0]
    assert "no longer exist" in listener.warned[0]
    write_frame(clip / "001.png", 9)
    assert predict_input(models[0], frames, out, context=Context(tmp_path, device="cpu")) == 1


def test_masks_of_an_earlier_version_are_kept_with_a_word(
    models: tuple[Path, Path], frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / "masks"
    masks_of(models[0], frames, out)
    note = json.loads((out / "clip.json").read_text())
    del note["frames"]
    (out / "clip.json").write_text(json.dumps(note))
    for _ in range(2):  # an unknown state stays unknown after it is read
        listener = Listener()
        assert predict_input(models[0], frames, out, context=Context(tmp_path, device="cpu", talk=listener)) == 0
        assert "--force" in listener.warned[0]
    assert predict_input(models[0], frames, out, context=Context(tmp_path, device="cpu"), force=True) == 2
    listener = Listener()
    assert predict_input(models[0], frames, out, context=Context(tmp_path, device="cpu", talk=listener)) == 0
    assert listener.warned == []


class TestSplit:
    """Predicting a split again, after its frames changed."""

    @pytest.fixture
    def model(self, models: tuple[Path, Path], tmp_path: Path) -> Path:
        """A model whose data is a copy of its own."""
        shutil.copytree(models[0].parent / "data", tmp_path / "data")
        return models[0]

    def predict(self, model: Path, tmp_path: Path, *, force: bool = False) -> tuple[Path, int, Listener]:
        listener = Listener()
        done = predict_split(
            model, "train", context=Context(tmp_path / "runs", tmp_path / "data", "cpu", talk=listener), force=force
        )
        return done.store, done.predicted, listener

    def test_only_videos_that_changed_are_predicted_again(self, model: Path, tmp_path: Path) -> None:
        store, predicted, _ = self.predict(model, tmp_path)
        before = snapshot(store)
        assert predicted == 12
        assert self.predict(model, tmp_path)[1] == 0
        origin = tmp_path / "data/data/train-001/origin"
        shutil.copy2(origin / "00003.jpg", origin / "00001.jpg")
        _, predicted, listener = self.predict(model, tmp_path)
        assert predicted == 6
        assert listener.said[0] == (
            f"1 video has other frames than {store} was predicted from: train-001; predicted again"
        )
        after = snapshot(store)
        assert {name.split("/")[0] for name in after if after[name] != before[name]} == {"train-001"}
        shutil.rmtree(store)
        self.predict(model, tmp_path)
        assert snapshot(store) == after

    def test_frames_that_are_touched_renamed_added_or_taken_away(self, model: Path, tmp_path: Path) -> None:
        self.predict(model, tmp_path)
        data = tmp_path / "data/data/train-000"
        for path in data.rglob("*.*"):
            path.touch()
        assert self.predict(model, tmp_path)[1] == 0
        for part, suffix in (("origin", "jpg"), ("mask", "png")):
            (data / part / f"00005.{suffix}").rename(data / part / f"00007.{suffix}")
        assert self.predict(model, tmp_path)[1] == 6
        for part, suffix in (("origin", "jpg"), ("mask", "png")):
            (data / part / f"00007.{suffix}").unlink()
        assert self.predict(model, tmp_path)[1] == 5

    def test_a_store_of_an_earlier_version_is_kept_with_a_word(self, model: Path, tmp_path: Path) -> None:
        store, _, _ = self.predict(model, tmp_path)
        whole = snapshot(store)
        for path in store.glob("*/zarr.json"):
            change_group(path, lambda values: values.pop("frames"))
        old = open_store(store).content()
        _, predicted, listener = self.predict(model, tmp_path)
        assert predicted == 0
        assert "train-000, train-001" in listener.warned[0]
        assert "--force" in listener.warned[0]
        assert self.predict(model, tmp_path, force=True)[1] == 12
        assert snapshot(store) == whole
        assert open_store(store).content() == old  # what was made of it need not be made again


def of_format_3(header: dict[str, Any]) -> None:
    """A header as in format 3."""
    header["scores"] = header["source"].pop("family")
    header["encoding"]["predictor"] = "up"
    header["summary"] = {"data": header["data"].pop("section"), "learned": header["data"].pop("learned", None)}
    header["format"] = 3


def test_a_store_says_the_kind_of_its_scores_and_what_it_is_scored_against(tmp_path: Path) -> None:
    model, path = write_model(tmp_path / "m.pt", 1), tmp_path / "s.zarr"
    predict_split(model, "val", context=Context(tmp_path, device="cpu"), out=path)
    header = open_store(path).header
    assert (header.scores, header.source["family"]) == ("logits", "light")
    assert header.data["section"]["name"] == header.data["name"]
    change_group(path / "zarr.json", lambda values: values["data"]["section"].update(first_id=200))
    assert open_store(path).fingerprint == header.fingerprint
    assert predict_split(model, "val", context=Context(tmp_path, device="cpu"), out=path).predicted == 0
    assert open_store(path).header == header  # what the last run said of it holds


def test_predictions_of_an_earlier_format_are_read_and_made_anew_with_a_word(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.pt", 1)
    first = predict_split(model, "val", context=Context(tmp_path, device="cpu")).store
    now = open_store(first).header
    older = first.rename(first.with_name(f"{first.stem.rpartition('-')[0]}-01234567.zarr"))
    change_group(older / "zarr.json", of_format_3)
    then = open_store(older).header
    assert (then.scores, then.source["family"], then.data) == (
        "",
        "light",
        {**now.data, "learned": [now.data["section"]]},
    )
    assert then.fingerprint != now.fingerprint
    with pytest.raises(VssError, match="has format 3"):
        predict_split(model, "val", context=Context(tmp_path, device="cpu"), out=older)
    listener = Listener()
    here = Context(tmp_path, device="cpu", talk=listener)
    done = predict_split(model, "val", context=here)  # hours of a network that need not run again
    assert (done.store, done.predicted, done.cached) == (older, 0, 24)
    assert any(f"cached: {older}, in an earlier format" in said for said in listener.said)
    assert predict_split(model, "val", context=here, keep="compact").store not in (older, first)
    shutil.rmtree(older / "val-000" / "entropy")
    change_group(older / "val-000" / "zarr.json", lambda record: record.update(segments={}))
    assert predict_split(model, "val", context=here).store == first
    assert any(str(older) in said and "predicting all frames" in said for said in listener.said)


@pytest.mark.parametrize(
    ("config", "kind"),
    [({"family": "light"}, "logits"), ({"family": "mask2former", "backbone": "swin_tiny"}, "mask_scores")],
)
def test_the_kind_of_scores_is_known_before_a_network_is_built(config: dict[str, str], kind: str) -> None:
    assert read_config(config).scores == kind
