"""The whole loop on drawn videos, small: it runs, it is cached, and damaged or missing files are named."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cli_process import Running, vss
from PIL import Image
from small import small_loop, train

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.pipeline import task
from vsscli.pipeline.ensemble import ensemble
from vsscli.pipeline.evaluate import evaluate
from vsscli.pipeline.predict import predict_split
from vsscli.pipeline.pseudo import pseudo
from vsscli.pipeline.workspace import find_stores, newest_store
from vsscli.stages.job import Job, open_job
from vsscli.stages.loop import LoopResult, loop_result, with_percentile
from vsscli.stages.run import run_pipeline
from vsscli.store.header import read_header
from vsscli.store.reader import open_store


@dataclass(frozen=True)
class Ran:
    job: Job
    result: LoopResult

    @property
    def workspace(self) -> Path:
        return self.job.workspace

    @property
    def models(self) -> list[Path]:
        return [self.job.folder(name) / "last.pt" for name in ("teacher", "student")]


def run_loop(job: Job) -> LoopResult:
    return loop_result(job, run_pipeline(job))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("loop")
    job = open_job(small_loop(folder, steps=8, lr=3e-3), context=Context(folder / "runs"))
    return Ran(job, run_loop(job))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(task, "restore_network", refuse)


def test_the_loop_ends_with_a_table_of_five_rows_and_pictures(ran: Ran) -> None:
    names = [row.name for row in ran.result.scores.rows]
    assert names == ["student", "student + TTA", "retrained + TTA", "teacher + TTA", "ensemble"]
    assert all(
        0 <= row.scores[metric] <= 1 for row in ran.result.scores.rows for metric in ("miou", "wiou", "vc8", "vc16")
    )
    assert "| ensemble |" in ran.result.table.read_text()
    assert len(list(ran.result.pictures.rglob("*.png"))) >= 1


def test_the_loop_run_again_loads_no_network_and_comes_to_the_same(ran: Ran, no_network: None) -> None:
    again = run_loop(ran.job)
    assert again.scores == ran.result.scores
    assert again.stores == ran.result.stores


def test_another_percentile_is_another_pseudo_label_stage(ran: Ran) -> None:
    job = with_percentile(ran.job, 30.0)
    assert job.stage("pseudo").percentile == 30.0  # type: ignore[union-attr]
    with pytest.raises(VssError, match="percentile 0"):
        with_percentile(ran.job, 0)


def test_another_threshold_reads_the_cache(ran: Ran, no_network: None) -> None:
    def made(**how: float) -> object:
        return pseudo(ran.models, context=Context(ran.workspace), tta=True, **how)  # type: ignore[arg-type]

    most, few = made(percentile=95.0), made(percentile=20.0)
    assert most.report.share >= 0.95 > few.report.share >= 0.2  # type: ignore[attr-defined]
    assert most.predictions == few.predictions  # type: ignore[attr-defined]
    exact = made(threshold=few.report.threshold.value)  # type: ignore[attr-defined]
    assert exact.store == few.store  # type: ignore[attr-defined]


def test_the_command_line_says_that_predictions_are_cached(ran: Ran) -> None:
    done = vss(
        "pseudo",
        "--models",
        *ran.models,
        "--tta",
        "--percentile",
        "50",
        "--workspace",
        ran.workspace,
        cwd=ran.workspace,
    )
    assert done.returncode == 0, done.stderr
    assert "no network was loaded" in done.stderr


def test_the_three_lines_work_from_a_workspace_without_options(ran: Ran) -> None:
    shutil.copy(ran.models[0], ran.workspace / "t.pt")
    shutil.copy(ran.models[1], ran.workspace / "s.pt")
    lines = (
        ("pseudo", "--models", "t.pt", "s.pt", "--tta"),
        ("eval", "--metric", "miou", "vc8", "vc16", "--json"),
    )
    for line in lines:
        done = vss(*line, cwd=ran.workspace, VSS_WORKSPACE=str(ran.workspace))
        assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["split"] == "val"
    assert figures["protocol"] == "vspw"
    assert Path(figures["pred"]) == newest_store(ran.workspace, "evaluation")
    assert 0 <= figures["miou"] <= 1


def test_a_store_scores_as_the_same_labels_in_a_folder_do(ran: Ran, tmp_path: Path) -> None:
    path = ran.result.stores["ensemble"]
    store = open_store(path)
    for video in store.videos():
        (tmp_path / video).mkdir()
        for index, stem in enumerate(store.stems(video)):
            Image.fromarray(store.label(video, index)).save(tmp_path / video / f"{stem}.png")
    data = Path(read_header(path).data["root"])

    def scores(prediction: Path) -> dict[str, object]:
        metrics = ["miou", "wiou", "vc8", "vc16"]
        done = evaluate(
            context=Context(ran.workspace, data_root=data), prediction=prediction, metrics=metrics, protocol="vspw"
        )
        return done.figures.to_json()

    assert scores(tmp_path) == scores(path)


def test_the_fusion_of_a_store_with_itself_is_the_store(ran: Ran, tmp_path: Path) -> None:
    path = ran.result.stores["student"]
    fused = open_store(ensemble([path, path], [0.3, 0.7], context=Context(tmp_path), out=tmp_path / "c.zarr").store)
    store = open_store(path)
    for video in store.videos():
        for index in range(len(store.stems(video))):
            np.testing.assert_array_equal(fused.label(video, index), store.label(video, index))
            np.testing.assert_allclose(fused.entropy(video, index), store.entropy(video, index), atol=1.01 / 255)


def test_networks_are_retrained_only_on_pseudo_labels_that_fit(ran: Ran, tmp_path: Path) -> None:
    with pytest.raises(VssError, match="names no store"):
        train(ran.job.recipe("retrained"), tmp_path / "run")
    with pytest.raises(VssError, match="not pseudo-labels"):
        train(
            ran.job.recipe("retrained"),
            tmp_path / "run",
            init=ran.job.folder("student") / "last.pt",
            pseudo_labels=ran.result.stores["student"],
        )
    pseudo = next(path for path in find_stores(ran.workspace) if ".pseudo-" in path.name)
    with pytest.raises(VssError, match="no `unlabelled` section"):
        train(ran.job.recipe("student"), tmp_path / "run", pseudo_labels=pseudo)


def test_predicting_with_other_weights_into_the_same_store_is_refused(ran: Ran, tmp_path: Path) -> None:
    out = tmp_path / "p.zarr"
    predict_split(ran.models[0], "val", context=Context(tmp_path), out=out)
    with pytest.raises(VssError, match="weights"):
        predict_split(ran.models[1], "val", context=Context(tmp_path), out=out)
    beside = predict_split(ran.models[1], "val", context=Context(tmp_path), out=out, force=True).store
    assert beside != out
    assert open_store(out).videos() == open_store(beside).videos()


def test_own_frames_become_masks(ran: Ran, tmp_path: Path) -> None:
    frames = next((Path(read_header(ran.result.stores["student"]).data["root"]) / "data").glob("*/origin"))
    done = vss(
        "predict", "--model", ran.models[1], "--input", frames, "--out", tmp_path / "masks", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predicted"] == len(list(frames.iterdir()))
    masks = sorted((tmp_path / "masks").rglob("*.png"))
    assert [mask.stem for mask in masks] == sorted(frame.stem for frame in frames.iterdir())
    assert Image.open(masks[0]).mode == "P"


def digests(workspace: Path) -> dict[str, dict[str, str]]:
    """The bytes of the videos of every store in a workspace, as digests."""
    stores = [open_store(path) for path in find_stores(workspace)]
    return {store.path.name: {video: store.digest(video) for video in store.videos()} for store in stores}


def test_two_processes_and_a_killed_one_end_with_the_bytes_of_one(ran: Ran, tmp_path: Path) -> None:
    line = ("pseudo", "--models", *map(str, ran.models), "--tta", "--device", "cpu")
    one = vss(*line, "--workspace", tmp_path / "one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    two = vss(*line, "--workspace", tmp_path / "two", "--devices", "2", "--json", cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    assert json.loads(two.stdout)["frames"] == 12
    killed = Running(*line, "--workspace", tmp_path / "killed", "--quiet", cwd=tmp_path)
    killed.wait_until(lambda: list((tmp_path / "killed").rglob("label/c")))
    killed.kill()
    again = vss(*line, "--workspace", tmp_path / "killed", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    expected = digests(tmp_path / "one")
    assert len(expected) == 4  # two predictions, their fusion, its pseudo-labels
    assert digests(tmp_path / "two") == expected
    assert digests(tmp_path / "killed") == expected
    assert not list((tmp_path / "killed").rglob("*.part"))
