"""The recipes for PVUW 2024 have the paper's values, and their twin on drawn videos has the same graph."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import cast

import pytest
import torch
from listener import Listener
from PIL import Image
from small import train

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.inference.plans import PAPER, AugmentationPlan
from vsscli.inference.readout import ReadOut, count_windows
from vsscli.models.build import build_network
from vsscli.models.mask2former.config import Mask2FormerModel
from vsscli.recipes.find import shipped_recipes
from vsscli.recipes.graph import chosen, in_order
from vsscli.recipes.load import load_any, load_pipeline, load_recipe
from vsscli.recipes.pipeline import AnyStage, EvalStage, Pipeline, PredictStage, TrainStage
from vsscli.recipes.shelf import list_recipes
from vsscli.stages.forecast import forecast
from vsscli.stages.job import Job, open_job
from vsscli.stages.kinds.predict import PredictKind
from vsscli.stages.needs import refuse_leaks

SHIPPED = {listed.name: listed for listed in list_recipes()}
PIPELINES = [name for name, listed in SHIPPED.items() if listed.kind == "pipeline"]
FULL = ["pvuw2024", "pvuw2024-holdout", "pvuw2024/table1", "pvuw2024/table2", "pvuw2024/table3"]
VSPW = 124


@cache
def job_of(name: str) -> Job:
    return open_job(name, context=Context(Path("runs")))


def shape(stage: AnyStage) -> tuple[object, ...]:
    """A stage without the differences between large and small: its kind and its inputs."""
    return stage.do, stage.takes(), getattr(stage, "optional", None)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_opens_with_the_recipes_of_its_stages_and_scores_nothing_it_learned_from(name: str) -> None:
    job = job_of(name)
    trained = {stage for stage, section in job.pipeline.stages.items() if isinstance(section, TrainStage)}
    assert trained == set(job.recipes)
    refuse_leaks(job, in_order(job.pipeline.stages))


def test_the_twin_has_the_graph_of_the_whole_and_runs_as_far_as_the_zip() -> None:
    whole, holdout, twin = (job_of(name).pipeline for name in ("pvuw2024", "pvuw2024-holdout", "tiny/pvuw2024"))
    assert list(twin.stages) == list(holdout.stages)
    for name, stage in holdout.stages.items():
        assert shape(twin.stages[name])[:2] == shape(stage)[:2]
    assert set(chosen(whole)) <= set(chosen(twin))
    assert {name: shape(stage) for name, stage in whole.stages.items()} == {
        name: shape(stage)
        if name not in ("semi-test", "teacher-semi-test", "fused-test", "submit")
        else (*shape(stage)[:2], False)
        for name, stage in holdout.stages.items()
        if name in whole.stages
    }
    assert {"submit", "scores"} <= set(chosen(twin))


@pytest.mark.parametrize("name", ["teacher", "student", "pvuw2024/teacher", "pvuw2024/student"])
def test_networks_are_trained_as_the_paper_says(name: str) -> None:
    recipe = load_recipe(name)
    model, train = recipe.model, recipe.train
    assert isinstance(model, Mask2FormerModel)
    assert model.backbone == ("one_peace_g" if "teacher" in name else "vit_adapter_l")
    assert recipe.augment.crop == model.crop == (896, 896)
    assert (recipe.augment.scale, recipe.augment.single_class_limit) == ((0.5, 2.0), 0.75)
    assert (train.steps, train.lr, train.betas, train.weight_decay) == (80_000, 1e-5, (0.9, 0.999), 0.05)
    assert train.warmup > 0


def test_the_submission_learns_from_vspw_train_and_val_and_ade20k_and_unlabelled_test() -> None:
    job = job_of("pvuw2024")
    for name in ("teacher", "student", "semi", "teacher-semi"):
        recipe = job.recipe(name)
        assert recipe.data.train_splits == ("train", "val")
        assert [(other.data.layout, other.data.remap) for other in recipe.also] == [("ade20k", "ade20k")]
    for name in ("pretrain-teacher", "pretrain-student"):
        data = job.recipe(name).data
        assert (data.layout, data.remap, data.classes) == ("cocostuff", "cocostuff", "vspw124")
        assert job.recipe(name).model.pretrained.startswith("weights/")
    assert job.recipe("semi").data.unlabelled == ("test",)
    assert job.recipe("semi").unlabelled is not None


def test_without_val_it_learns_from_train_alone_of_vspw() -> None:
    job = job_of("pvuw2024-holdout")
    names = ("teacher", "student", "semi", "teacher-semi")
    assert {job.recipe(name).data.train_splits for name in names} == {("train",)}
    assert job.pipeline.holdout == "val"


def test_the_papers_plan_takes_82_windows_of_a_frame_and_a_single_scale_3() -> None:
    job = job_of("pvuw2024")
    for name, stage in job.pipeline.stages.items():
        if isinstance(stage, PredictStage):
            predict, plan = job.recipe(name).predict, plan_of(job, name)
            assert plan == PAPER
            how = ReadOut(predict.size, predict.window, predict.step, plan)
            assert count_windows((480, 853), how, (896, 896), divisor=32, stride=4) == {(896, 896): 82}
    plain = job_of("pvuw2024-holdout")
    how = ReadOut(896, (896, 896), (512, 512), plan_of(plain, "student-plain"))
    assert count_windows((480, 853), how, (896, 896), divisor=32, stride=4) == {(896, 896): 3}


def test_rows_carry_the_papers_figures_marked_as_the_servers() -> None:
    papers = {}
    for name in (*FULL, "tiny/pvuw2024"):
        for stage in load_pipeline(name).stages.values():
            for row in stage.rows if isinstance(stage, EvalStage) else ():
                if row.paper:
                    assert row.note == "server, not comparable"
                    papers[name, row.name] = tuple(row.paper.get(metric) for metric in ("miou", "vc8", "vc16"))
    table3 = [(62.36, 93.30, 90.97), (62.76, 94.32, 92.14), (62.94, 94.33, 92.19), (63.38, 94.34, 92.18)]
    ensemble = (63.71, 94.75, 92.69)
    rows = {name: [papers[key] for key in papers if key[0] == name] for name in (*FULL, "tiny/pvuw2024")}
    assert [row[0] for row in rows["pvuw2024/table1"]] == [57.09, 58.54, 61.40, 61.96]
    assert [row[0] for row in rows["pvuw2024/table2"]] == [57.95, 58.90, 61.40, 61.69, 62.03]
    assert rows["pvuw2024/table3"] == [*table3, ensemble]
    assert rows["pvuw2024-holdout"] == [(62.03, None, None), *table3, ensemble]
    assert not rows["pvuw2024"]
    assert not rows["tiny/pvuw2024"]


def test_table_1_is_read_as_crop_640() -> None:
    for recipe in job_of("pvuw2024/table1").recipes.values():
        assert recipe.augment.crop == recipe.predict.window == (640, 640)
        assert recipe.augment.size == recipe.predict.size == 640


def plan_of(job: Job, name: str) -> AugmentationPlan:
    return cast("PredictKind", job.kind(name)).plan


def learned_from_unlabelled(job: Job) -> list[str]:
    return [name for name, recipe in job.recipes.items() if recipe.unlabelled is not None]


@pytest.mark.parametrize("name", [name for name in PIPELINES if name != "pvuw2024"])  # which scores nothing
def test_what_is_claimed_for_unlabelled_frames_has_its_control(name: str) -> None:
    """The same further steps from the same weights on labels alone, predicted alike, in the same table."""
    job = job_of(name)
    scored = {
        row.of: scores
        for scores, stage in job.pipeline.stages.items()
        if isinstance(stage, EvalStage)
        for row in stage.rows
    }
    read = {
        (stage.model, plan_of(job, store)): scored.get(store)
        for store, stage in job.pipeline.stages.items()
        if isinstance(stage, PredictStage) and stage.split == "val"
    }
    for learner in learned_from_unlabelled(job):
        recipe = job.recipe(learner)
        alike = recipe.model_copy(update={"unlabelled": None, "name": ""})
        controls = [
            other
            for other, section in job.pipeline.stages.items()
            if isinstance(section, TrainStage)
            and section.init == job.pipeline.stages[learner].init
            and job.recipe(other).model_copy(update={"name": ""}) == alike
        ]
        assert controls, learner
        plans = {plan: scores for (model, plan), scores in read.items() if model == learner}
        assert plans
        for plan, scores in plans.items():
            assert scores is not None
            assert any(read.get((control, plan)) == scores for control in controls), (learner, plan)


def test_table_2_is_of_the_papers_five_crops() -> None:
    job = job_of("pvuw2024/table2")
    crops = {name: recipe.augment.crop for name, recipe in job.recipes.items()}
    assert list(crops.values()) == [(side, side) for side in (224, 320, 640, 768, 896)]
    for name, (side, _) in crops.items():
        model, predict = job.recipe(name).model, job.recipe(name).predict
        assert isinstance(model, Mask2FormerModel)
        assert model.crop == predict.window == (side, side)
        assert predict.size == job.recipe(name).augment.size == side


def test_every_full_size_network_builds() -> None:
    # On the meta device: without memory for up to 1.8 billion weights.
    models = {
        json.dumps({**recipe.model.model_dump(mode="json"), "pretrained": "none"}, sort_keys=True)
        for name in FULL
        for recipe in job_of(name).recipes.values()
    }
    millions = []
    with torch.device("meta"):
        for model in models:
            network = build_network(json.loads(model), VSPW, load_pretrained=False)
            millions.append(sum(parameter.numel() for parameter in network.parameters()) / 1e6)
    assert len(millions) == 9  # Swin-L, BEiT-L, ONE-PEACE at two crops, and ViT-Adapter-L at five
    assert 1800 < max(millions) < 1850
    assert 200 < min(millions) < 230


@pytest.mark.parametrize("name", SHIPPED)
def test_every_recipe_opens_with_its_command_and_has_a_line_for_the_list(name: str) -> None:
    opening = shipped_recipes()[name].read_text(encoding="utf-8").split("\nname:")[0]
    assert "# vss " in opening or "#   vss " in opening
    assert SHIPPED[name].about
    assert isinstance(load_any(name), Pipeline) == (SHIPPED[name].kind == "pipeline")


@pytest.mark.parametrize("name", ["semi", "light/semi", "camvid/semi", "demo/semi"])
def test_the_mean_teacher_that_a_recipe_suggests_mixes_and_starts_from_a_checkpoint(name: str) -> None:
    opening = shipped_recipes()[name].read_text(encoding="utf-8").split("\nname:")[0]
    suggested = opening[opening.lower().index("a mean") :]
    assert "--init" in suggested
    assignments = re.findall(r"unlabelled\.\w+=\w+", suggested)
    unlabelled = load_recipe(name, assignments).unlabelled
    assert unlabelled is not None
    assert (unlabelled.teacher, unlabelled.mixing, unlabelled.scale_weight) == ("ema", "cutmix", True)


def test_weights_that_are_not_there_are_missed_before_the_data_is_looked_at(tmp_path: Path) -> None:
    scene = "{videos: 1, unlabelled_videos: 1, val_videos: 1, frames: 1, size: [32, 32]}"
    changes = [f"data.root={tmp_path / 'street'}", "data.remap=null", f"data.scene={scene}"]
    weights = f"model.pretrained={tmp_path / 'beit.pth'}"
    recipe = load_recipe("tiny/pvuw2024/student", [*changes, "also=[]", "model.backbone=vit_adapter_l", weights])
    listener = Listener()
    with pytest.raises(VssError, match=r"beit\.pth does not exist") as caught:
        train(recipe, tmp_path / "run", talk=listener)
    assert "is published at https://github.com/microsoft/unilm" in caught.value.hint
    assert not any("check data" in line for line in listener.said)


@pytest.mark.slow  # counts the operations of both networks at 896, without memory for them
def test_the_plan_is_counted_on_a_skeleton_of_vspw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val", "test"):
        origin = tmp_path / "vspw" / "data" / f"{split}-video" / "origin"
        origin.mkdir(parents=True)
        for stem in ("00000001", "00000002"):
            Image.new("RGB", (853, 480)).save(origin / f"{stem}.jpg")
        (tmp_path / "vspw" / f"{split}.txt").write_text(f"{split}-video\n")
    monkeypatch.setenv("VSPW_ROOT", str(tmp_path / "vspw"))
    plan = forecast(open_job("pvuw2024", context=Context(tmp_path / "runs")), tflops=100)
    costs = {step.name: cost for step, cost in plan.rows}
    assert list(costs) == chosen(load_pipeline("pvuw2024"))
    predicted = ("teacher-unlabelled", "student-unlabelled", "semi-test", "teacher-semi-test")
    assert [costs[name].passes for name in predicted] == [2 * 82] * 4
    assert all(costs[name].passes == 80_000 * 16 for name in ("teacher", "student", "semi", "teacher-semi"))
    assert all(costs[name].stored for name in (*predicted, "fused-unlabelled", "pseudo", "fused-test"))
    notes = "\n".join(plan.notes)
    for missing in ("one-peace-vision.pkl", "beit_large_patch16_224_pt22k_ft22k.pth", "COCO_ROOT", "ADE20K_ROOT"):
        assert missing in notes
