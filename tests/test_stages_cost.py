"""The cost of a run is counted without running it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
import yaml
from small import CHAIN, small_loop

from vsscli.context import Context
from vsscli.drawn.canvas import CLASSES
from vsscli.inference.plans import NONE, PAPER
from vsscli.inference.readout import ReadOut, count_windows
from vsscli.models.build import build_network
from vsscli.models.cost import count_cost, outline
from vsscli.recipes.readout import Keep
from vsscli.stages.cost import BYTES_A_PIXEL, bytes_a_pixel, measured_rate
from vsscli.stages.forecast import forecast
from vsscli.stages.job import open_job
from vsscli.stages.key import Frames
from vsscli.stages.record import Record
from vsscli.stages.run import run_pipeline

FRAME = (480, 853)


def pixels(counted: dict[tuple[int, int], int]) -> int:
    return sum(math.prod(size) * number for size, number in counted.items())


@pytest.mark.parametrize("divisor", [1, 16, 32])
def test_the_papers_plan_is_82_windows_against_3(divisor: int) -> None:
    """With a short side of 896, as the paper tests; the divisor makes no difference."""

    def windows(plan: object) -> dict[tuple[int, int], int]:
        how = ReadOut(896, (896, 896), (512, 512), plan)  # type: ignore[arg-type]
        return count_windows(FRAME, how, None, divisor, 1)

    assert windows(PAPER) == {(896, 896): 82}
    assert windows(NONE) == {(896, 896): 3}


def test_the_papers_plan_is_20_times_the_pixels_of_a_single_pass_at_896() -> None:
    assert sum(2 * scale**2 for scale in PAPER.scales) == pytest.approx(20, abs=0.1)
    whole = [pixels(count_windows(FRAME, ReadOut(896, None, None, plan), None, 32, 4)) for plan in (PAPER, NONE)]
    assert whole[0] / whole[1] == pytest.approx(20, abs=0.3)


def test_windows_are_counted_as_the_predictor_cuts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import torch

    from vsscli.inference.predictor import Predictor

    config = {"family": "light", "encoder": "resnet10t", "channels": 16, "pretrained": "none"}
    network = build_network(config, 5, load_pretrained=False).eval()
    how = ReadOut(96, (64, 64), None, PAPER)
    seen = []
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda images: seen.append(images.shape) or forward(images))  # type: ignore[func-returns-value]
    predictor = Predictor(network, network.normalisation, how, torch.device("cpu"))
    predictor.label(np.zeros((48, 85, 3), np.uint8))
    counted = count_windows((48, 85), how, network.crop, network.divisor, network.stride)
    assert counted == {(64, 64): sum(shape[0] for shape in seen)}


def test_an_outline_counts_what_a_whole_count_counts() -> None:
    config = {"family": "light", "encoder": "resnet10t", "channels": 16, "pretrained": "none"}
    counted = count_cost(config, 7, (64, 96))
    found = outline(config, 7)
    assert (found.parameters, found.flops((64, 96))) == (counted.parameters, counted.flops)
    assert found.crop is None


def test_a_rate_is_that_of_stages_that_ran_in_one_go() -> None:
    records = [
        Record("done", {}, seconds=2.0, flops=6e9),
        Record("done", {}, seconds=None, flops=9e9),
        Record("done", {}, seconds=1.0, flops=0.0),
        Record("done", {}, seconds=1.0, flops=3e9),
    ]
    assert measured_rate(records) == pytest.approx(3e9)
    assert measured_rate(records[1:3]) is None


@pytest.mark.parametrize("classes", [11, 124])
def test_whatever_a_store_may_keep_has_a_size(classes: int) -> None:
    compact, top, fine, everything = (
        bytes_a_pixel(keep, 1, classes) for keep in sorted(get_args(Keep), key=("compact", "top", "fine", "all").index)
    )
    assert 0 < compact < top < fine < everything
    assert bytes_a_pixel("top", 4, classes) < bytes_a_pixel("top", 2, classes) < top


def test_a_forecast_runs_nothing_and_adds_up(tmp_path: Path) -> None:
    job = open_job(small_loop(tmp_path, CHAIN, steps=4), context=Context(tmp_path / "runs"))
    plan = forecast(job, tflops=0.001)
    assert not (tmp_path / "runs").exists()
    assert {step.status for step, _ in plan.rows} == {"run"}
    costs = {step.name: cost for step, cost in plan.rows}
    assert costs["student"].work == "4 steps x 4 crops of 32x64, forward and backward"
    assert costs["student"].passes == 16
    assert costs["again"].passes == 24
    assert costs["unlabelled"].passes == 2 * 6 * 2  # videos, frames, views
    assert costs["first"].passes == 24 * 2  # a drawn video to score on has 24 frames
    assert costs["first"].stored == pytest.approx(24 * 48 * 64 * BYTES_A_PIXEL["top"][0])
    one = job.kind("first").cost(Frames(job)).flops
    assert one is not None
    network = outline(job.recipe("student").model.model_dump(mode="json"), len(CLASSES))
    assert costs["student"].passes * 3 * network.flops((32, 64)) + one / 2 == pytest.approx(costs["student"].flops)
    total = plan.total.flops
    assert total == pytest.approx(sum(cost.flops or 0 for cost in costs.values()))
    assert plan.hours(plan.total) == pytest.approx((total or 0) / 1e9 / 3600)


def test_after_a_run_the_forecast_is_empty_and_the_rate_measured(tmp_path: Path) -> None:
    job = open_job(small_loop(tmp_path, CHAIN, steps=2), context=Context(tmp_path / "runs"))
    assert "--tflops" in forecast(job).rate_source
    run_pipeline(job, until="unlabelled")
    plan = forecast(job)
    assert [step.status for step, _ in plan.rows][:3] == ["cached", "cached", "run"]
    assert plan.measured
    assert plan.rate is not None
    assert plan.rate > 0
    changed = open_job(
        tmp_path / "loop.yaml", ["stages.student.set={train.steps: 3}"], context=Context(tmp_path / "runs")
    )
    rows = {step.name: step.reason for step, _ in forecast(changed).rows}
    assert rows["student"] == "train.steps: 2 → 3"
    assert rows["unlabelled"] == "waits for student"


def skeleton(root: Path, videos: int = 2, frames: int = 3) -> Path:
    """VSPW's tree of lists and folders, its files empty."""
    for split in ("train", "val", "test"):
        names = [f"{split}_{number}" for number in range(videos)]
        for name in names:
            for folder, suffix in (("origin", "jpg"), ("mask", "png")):
                (root / "data" / name / folder).mkdir(parents=True)
                for frame in range(frames):
                    (root / "data" / name / folder / f"{frame:08d}.{suffix}").touch()
        (root / f"{split}.txt").write_text("\n".join(names))
    return root


def test_a_skeleton_of_vspw_is_enough_to_count_on(tmp_path: Path) -> None:
    recipe = {
        "name": "full",
        "data": {"unlabelled": ["test"]},
        "model": {"family": "mask2former", "backbone": "swin_tiny", "pretrained": "gone.pth"},
        "augment": {"crop": [896, 896]},
        "predict": {"size": 896, "window": [896, 896], "step": [512, 512]},
    }
    (tmp_path / "full.yaml").write_text(yaml.safe_dump(recipe))
    pipeline = {
        "name": "p",
        "stages": {
            "t": {"do": "train", "recipe": "full.yaml"},
            "test": {"do": "predict", "model": "t", "split": "test"},
            "zip": {"do": "submit", "of": "test"},
        },
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(pipeline))
    job = open_job(tmp_path / "p.yaml", context=Context(tmp_path / "runs", data_root=skeleton(tmp_path / "vspw")))
    plan = forecast(job, tflops=100)
    costs = {step.name: cost for step, cost in plan.rows}
    assert costs["t"].passes == 80_000 * 8
    assert costs["test"].work == "6 frames x 82 windows (16 views)"
    assert costs["test"].passes == 6 * 82
    assert costs["test"].stored == pytest.approx(6 * 480 * 853 * BYTES_A_PIXEL["top"][1])
    assert not plan.unknown
    assert any("480" in note and "assumed" in note for note in plan.notes)
    assert any(note.startswith("missing: no such file gone.pth") for note in plan.notes)


def test_what_can_not_be_counted_is_told(tmp_path: Path) -> None:
    job = open_job(
        small_loop(tmp_path, CHAIN),
        [
            "stages.student.set={data.scene: null, data.root: nowhere, data.classes: vspw124}",
            "stages.again.set={model.encoder: no_such_encoder}",
        ],
        context=Context(tmp_path / "runs"),
    )
    plan = forecast(job, tflops=1)
    costs = {step.name: cost for step, cost in plan.rows}
    assert plan.unknown
    assert costs["unlabelled"].flops is None
    assert any("nowhere" in note for note in plan.notes)
    assert any("no_such_encoder" in note for note in plan.notes)
