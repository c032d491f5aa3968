"""An interrupted stage continues its own work, and never work made from something else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import small_loop

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint, save_checkpoint
from vsscli.pipeline.predict import Prediction
from vsscli.stages.job import Job, open_job
from vsscli.stages.record import read_stage_record
from vsscli.stages.run import Ran, run_pipeline
from vsscli.store.reader import open_store

STAGES = """
name: chain
stages:
  student: {do: train, recipe: student.yaml}
  unlabelled: {do: predict, model: student, split: unlabelled, tta: false}
  mirrored: {do: predict, model: student, split: unlabelled, tta: flip, optional: true}
  fused: {do: ensemble, of: [unlabelled, mirrored], optional: true}
  pseudo: {do: pseudo, of: fused, threshold: 0.9, optional: true}
  again: {do: train, recipe: again.yaml, init: student, pseudo: pseudo, optional: true}
"""
FRAMES = 12
OF_OTHERS = 6
"""Frames of the videos of which none is changed."""


class Power(Exception):
    """Ends a run here, like a power cut."""


class Place:
    """A pipeline that ran, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.recipe, self.workspace = folder / "loop.yaml", folder / "runs"

    def run(self, *overrides: str, force: bool = False) -> Ran:
        return run_pipeline(self.job(*overrides), force=["unlabelled"] if force else [])

    def job(self, *overrides: str) -> Job:
        data = self.workspace / "data"  # drawn by the first run; a checkpoint in a copy names the folder of the first
        return open_job(
            self.recipe, overrides, context=Context(self.workspace, data_root=data if data.is_dir() else None)
        )

    def cached(self, *overrides: str, force: bool = False) -> int:
        """Frames that a run did not predict again."""
        return int(self.run(*overrides, force=force).result("unlabelled").facts["cached"])

    def cut(self, monkeypatch: pytest.MonkeyPatch, name: str, *overrides: str, force: bool = False) -> None:
        """A run that is cut off where the stage calls a function."""
        with monkeypatch.context() as patch:

            def end(*_: object, **__: object) -> Prediction:
                raise Power

            patch.setattr(name, end)
            with pytest.raises(Power):
                self.run(*overrides, force=force)
        record = read_stage_record(self.workspace / "chain/unlabelled")
        assert record is not None
        assert record.status == "begun"

    def change_a_frame(self, *, unnoticed: bool = False) -> None:
        """Another image under the same name; with ``unnoticed``, of the same size in bytes."""
        frame = min(self.workspace.glob("data/data/unlabelled-*/origin/*.jpg"))
        image, size = np.asarray(Image.open(frame)), frame.stat().st_size
        Image.fromarray(255 - image).save(frame, quality=30)
        if unnoticed:
            frame.write_bytes(frame.read_bytes().ljust(size, b"\0"))
            assert frame.stat().st_size == size


WHEN_WRITTEN, BEFORE_WRITING = "vsscli.stages.kind.StoreKind.result", "vsscli.pipeline.predict.predict_split"
"""What a stage calls once its store is there, and before."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain") / "all"
    folder.mkdir()
    small_loop(folder, STAGES, steps=1)
    assert Place(folder).cached() == 0
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Place:
    shutil.copytree(finished, tmp_path / "all")
    return Place(tmp_path / "all")


def test_what_was_cut_off_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.cut(monkeypatch, WHEN_WRITTEN, force=True)
    assert place.cached() == FRAMES


def test_frames_that_changed_after_a_cut_are_predicted_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.cut(monkeypatch, WHEN_WRITTEN, force=True)
    place.change_a_frame()
    assert place.cached() == OF_OTHERS


def test_the_first_run_of_all_can_be_cut_off_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(place.workspace / "stores")
    shutil.rmtree(place.workspace / "chain/unlabelled")
    place.cut(monkeypatch, WHEN_WRITTEN)
    place.change_a_frame()
    assert place.cached() == OF_OTHERS


def test_cut_off_before_the_old_frames_were_gone_they_go_the_next_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.cut(monkeypatch, WHEN_WRITTEN, force=True)  # no record says any more what was left
    place.change_a_frame()
    place.cut(monkeypatch, BEFORE_WRITING)
    place.cut(monkeypatch, BEFORE_WRITING)
    assert place.cached() == OF_OTHERS


def test_force_after_a_cut_starts_over_and_goes_on_if_it_was_cut_off_itself(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.change_a_frame()
    place.cut(monkeypatch, WHEN_WRITTEN)
    assert place.cached(force=True) == 0
    place.cut(monkeypatch, WHEN_WRITTEN, force=True)
    assert place.cached(force=True) == FRAMES


def test_stores_of_earlier_settings_are_not_taken_for_those_of_new_frames(place: Place) -> None:
    assert place.cached("stages.unlabelled.tta=flip") == 0
    assert place.cached() == FRAMES
    place.change_a_frame()
    assert place.cached() == OF_OTHERS
    assert place.cached("stages.unlabelled.tta=flip") == OF_OTHERS


def test_what_is_made_of_predictions_that_changed_in_their_place_is_made_anew(place: Place) -> None:
    def made() -> dict[str, str]:
        return {one.name: one.status for one in run_pipeline(place.job(), names=["pseudo"]).outcomes}

    every = {"student": "cached", **dict.fromkeys(("unlabelled", "mirrored", "fused", "pseudo"), "done")}
    assert made() == {**every, "unlabelled": "cached"}
    pseudo = read_stage_record(place.workspace / "chain/pseudo")
    place.change_a_frame()
    assert made() == every
    assert made() == dict.fromkeys(every, "cached")
    split = place.workspace / "data/unlabelled.txt"
    gone, *left = split.read_text().splitlines()
    split.write_text("\n".join(left))
    assert made() == every
    after = read_stage_record(place.workspace / "chain/pseudo")
    assert pseudo is not None
    assert pseudo.result is not None
    assert after is not None
    assert after.result is not None
    assert after.result.path == pseudo.result.path
    assert gone in left or open_store(after.result.path).videos() == tuple(left)


@pytest.mark.parametrize("noted", [True, False])
def test_a_network_learns_anew_from_pseudo_labels_that_changed_in_their_place(place: Place, noted: bool) -> None:
    before = run_pipeline(place.job(), names=["again"]).result("again")
    learned = load_checkpoint(before.path, weights=False).inputs["pseudo_labels_content"]
    if not noted:  # as versions wrote it that did not note the labels
        checkpoint = load_checkpoint(before.path)
        del checkpoint.inputs["pseudo_labels_content"]
        save_checkpoint(before.path, checkpoint)
    place.change_a_frame(unnoticed=True)
    after = run_pipeline(place.job(), names=["again"], force=["unlabelled"]).result("again")
    assert after.path == before.path
    assert load_checkpoint(after.path, weights=False).inputs["pseudo_labels_content"] != learned


def test_a_store_in_the_way_of_a_stage_that_never_ran_is_no_hindrance(place: Place) -> None:
    run = run_pipeline(place.job(), names=["pseudo"])
    shutil.rmtree(place.workspace / "chain/fused")
    shutil.rmtree(place.workspace / "chain/pseudo")
    place.change_a_frame()
    again = run_pipeline(place.job(), names=["pseudo"])
    assert again.result("pseudo").path == run.result("pseudo").path
    assert again.result("pseudo").fingerprint != run.result("pseudo").fingerprint


def test_a_store_outside_the_workspace_is_never_removed(place: Place, tmp_path: Path) -> None:
    job = place.job()
    store = next(place.workspace.glob("stores/*/*/*.zarr"))
    shutil.copytree(store, tmp_path / "mine.zarr")
    discard = job.kind("unlabelled").discard
    discard([tmp_path / "mine.zarr", place.workspace / "chain"])
    assert (tmp_path / "mine.zarr/zarr.json").is_file()
    assert (place.workspace / "chain").is_dir()
    discard([store])
    assert not store.exists()
    assert not list(store.parent.iterdir())


def test_what_the_disk_refuses_to_remove_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    job = place.job()
    store = next(place.workspace.glob("stores/*/*/*.zarr"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(VssError, match=rf"cannot remove .*{store.name}: Permission denied"):
        job.kind("unlabelled").discard([store])
    assert store.is_dir()
