"""The ensemble stage: weights given, by class or fitted, temperatures, smoothing; and its messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import small_loop

from vsscli.context import Context
from vsscli.drawn.canvas import CLASSES
from vsscli.errors import VssError
from vsscli.fusion.ensemble import fuse
from vsscli.pipeline.evaluate import evaluate
from vsscli.pipeline.fitting import find_weights
from vsscli.recipes.graph import faults
from vsscli.recipes.pipeline import Pipeline
from vsscli.stages.faults import value_faults
from vsscli.stages.forecast import forecast
from vsscli.stages.job import Job, open_job
from vsscli.stages.key import Frames
from vsscli.stages.needs import missing, refuse_leaks
from vsscli.stages.run import Ran, run_pipeline
from vsscli.store.reader import open_store

BY_CLASS = [[1.0, *[0.25] * (len(CLASSES) - 1)], [0.5, *[0.75] * (len(CLASSES) - 1)]]

STAGES = f"""
name: fits
stages:
  student: {{do: train, recipe: student.yaml}}
  teacher: {{do: train, recipe: teacher.yaml}}
  student-val: {{do: predict, model: student, tta: false}}
  teacher-val: {{do: predict, model: teacher, tta: false}}
  student-all: {{do: predict, model: student, tta: false, split: unlabelled}}
  teacher-all: {{do: predict, model: teacher, tta: false, split: unlabelled}}
  carried:
    {{do: ensemble, of: [student-all, teacher-all], weights: fit, fit_on: [student-val, teacher-val], temporal: 1}}
  zip: {{do: submit, of: carried}}
  fitted: {{do: ensemble, of: [student-val, teacher-val], weights: fit}}
  smooth: {{do: ensemble, of: [student-val], temporal: 1}}
  classes: {{do: ensemble, of: [student-val, teacher-val], weights: {BY_CLASS}, temperatures: [2.0, 0.5]}}
  scores:
    do: eval
    metrics: [miou]
    rows:
      - {{name: fitted, of: fitted, note: ours}}
      - {{name: smooth, of: smooth}}
"""


TEST = {"of": ["stest", "ttest"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fits")
    small_loop(folder, STAGES, steps=2)
    return folder


@pytest.fixture(scope="module")
def job(folder: Path) -> Job:
    return open_job(folder / "loop.yaml", context=Context(folder / "runs"))


@pytest.fixture(scope="module")
def ran(job: Job) -> Ran:
    return run_pipeline(job)


def pipeline(**ensemble: object) -> Pipeline:
    stages: dict[str, dict[str, object]] = {
        name: {"do": "train", "recipe": "r"}
        if len(name) == 1
        else {"do": "predict", "model": name[0], "split": name[1:]}
        for name in ("s", "t", "sval", "tval", "stest", "ttest")
    }
    return Pipeline.model_validate({"name": "p", "stages": {**stages, "e": {"do": "ensemble", **ensemble}}})


def test_weights_fitted_on_one_split_fuse_another_and_it_is_smoothed_and_handed_in(job: Job, ran: Ran) -> None:
    facts = ran.result("carried").facts
    stores = [ran.result(name).path for name in ("student-val", "teacher-val")]
    found, _ = find_weights(stores)
    assert tuple(facts["weights"]) == found.weights
    assert tuple(facts["temperatures"]) == found.temperatures
    smoothed = open_store(ran.result("carried").path)
    assert (smoothed.header.source["method"], smoothed.header.source["reach"]) == ("temporal", 1)
    assert smoothed.header.source["motion"]
    assert smoothed.header.data["split"] == "unlabelled"
    fused = open_store(smoothed.path.parent / smoothed.header.source["stores"][0]["address"].rpartition("/")[2])
    assert tuple(fused.header.source["weights"]) == pytest.approx(found.weights)
    assert ran.result("zip").facts["frames"] == 12


def test_what_was_chosen_on_what_is_reported_is_said_in_the_table(job: Job, ran: Ran) -> None:
    assert ran.table is not None
    lines = ran.table.read_text().splitlines()
    assert lines[2].endswith("| ours; weights were chosen on what is reported |")
    assert lines[3].endswith("|  |")
    done = evaluate(prediction=ran.result("fitted").path, metrics=("miou",), protocol="vspw", context=job.context)
    assert done.chosen == done.figures.frames
    assert done.table()[0][-1] == "weights fitted on"
    assert "chosen on what is reported" in done.warnings[-1]


def test_weights_by_class_and_temperatures_are_those_of_the_fusion(ran: Ran, tmp_path: Path) -> None:
    stores = [open_store(ran.result(name).path) for name in ("student-val", "teacher-val")]
    plain = open_store(fuse(stores, BY_CLASS, tmp_path / "f.zarr", temperatures=(2.0, 0.5)))
    staged = open_store(ran.result("classes").path)
    (video,) = staged.videos()
    for name in ("label", "entropy", "top_class"):
        assert np.array_equal(staged.read(video, name, 3), plain.read(video, name, 3))


def test_the_second_time_nothing_runs(job: Job, ran: Ran) -> None:
    assert {outcome.status for outcome in run_pipeline(job).outcomes} == {"cached"}
    place = job.folder("carried")
    again = open_job(place.parents[2] / "loop.yaml", ["stages.carried.temporal=2"], context=job.context)
    rows = {step.name: step.reason for step, _ in forecast(again).rows if step.status != "cached"}
    assert rows == {"carried": "temporal: 1 → 2", "zip": "waits for carried"}


def test_what_is_not_asked_for_is_not_in_the_key(job: Job) -> None:
    plain = Job(pipeline(of=["sval", "tval"]), job.recipes)
    assert plain.kind("e").section() == {"of": ["sval", "tval"], "weights": None, "method": "arithmetic"}
    assert [*job.kind("carried").section()] == ["of", "weights", "fit_on", "method", "temporal"]
    reads = [(one.called, one.masks) for one in job.kind("carried").reads()]
    assert reads == [("unlabelled", False), ("val", True)]
    assert [(one.called, one.masks) for one in job.kind("fitted").reads()] == [("val", True)]


def test_the_plan_says_what_is_fitted_and_that_two_stores_are_written(job: Job, tmp_path: Path) -> None:
    costs = {step.name: cost for step, cost in forecast(Job(job.pipeline, job.recipes, Context(tmp_path))).rows}
    assert costs["carried"].work == "12 frames, weights fitted on 24 frames, smoothed"
    assert costs["carried"].stored == pytest.approx(2 * (costs["student-all"].stored or 0))
    assert costs["smooth"].stored == pytest.approx(costs["student-val"].stored or 0)


@pytest.mark.parametrize(
    ("ensemble", "place", "what"),
    [
        (
            {"of": ["stest", "ttest"], "weights": "fit", "fit_on": ["tval", "sval"]},
            ("fit_on", 0),
            "'tval' is of t, 'stest'",
        ),
        (
            {"of": ["stest", "ttest"], "weights": "fit", "fit_on": ["sval", "ttest"]},
            ("fit_on", 1),
            "of the same frames",
        ),
        ({"of": ["stest", "ttest"], "weights": "fit", "fit_on": ["sval"]}, (), "1 predictions for 2"),
        ({"of": ["stest", "ttest"], "fit_on": ["sval", "tval"]}, (), "no weights are fitted"),
        ({"of": ["sval", "tval"], "weights": "fit", "method": "geometric"}, (), "arithmetic mean"),
        ({"of": ["sval", "tval"], "weights": "fit", "temperatures": [1, 2]}, (), "fitted or given"),
        ({"of": ["sval", "tval"], "temperatures": [2]}, (), "1 temperatures for 2 stores"),
        ({"of": ["sval"]}, (), "1 store(s)"),
        ({"of": ["sval"], "temporal": 1, "method": "geometric"}, (), "there is only one"),
        ({"of": ["sval", "tval"], "weights": [1]}, ("weights",), "1 weights for 2 stores"),
        ({"of": ["sval", "tval"], "weights": [[1, 2], [1]]}, ("weights",), "one for every class"),
        ({"of": ["sval", "tval"], "weights": [[1, 0], [1, 0]]}, ("weights",), "all weights are 0"),
    ],
)
def test_what_can_not_be_is_found_before_anything_runs(
    ensemble: dict[str, Any], place: tuple[str | int, ...], what: str
) -> None:
    graph = pipeline(**ensemble)
    (key, told), *_ = [*faults(graph), *value_faults(graph)]
    assert key == ("stages", "e", *place)
    assert what in told


def test_what_fitting_and_smoothing_can_not_read_is_found_before_anything_runs(job: Job) -> None:
    coarse = {
        name: recipe.model_copy(update={"store": recipe.store.model_copy(update={"grid": 2, "keep": "all"})})
        for name, recipe in job.recipes.items()
    }
    found = missing(Job(job.pipeline, coarse, job.context), ["fitted", "smooth"], Frames(job))
    assert sum("at frame size: its recipe has store.grid 2" in line for line in found) == 2
    assert [line for line in found if line.startswith("lists of classes of 'student'")]


def test_weights_are_not_fitted_on_what_was_learned_from(job: Job) -> None:
    stages = {name: stage.model_dump(exclude_unset=True) for name, stage in job.pipeline.stages.items()}
    stages["student-val"]["split"] = stages["teacher-val"]["split"] = "train"
    learned = Job(Pipeline.model_validate({"name": "fits", "stages": stages}), job.recipes, job.context)
    with pytest.raises(VssError, match=r"stages.carried.fit_on.0: weights are fitted on 'train', which 'student'"):
        refuse_leaks(learned, ["carried"])
