"""Metrics by name: each is found, built once and documented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vsscli.cli import eval as command
from vsscli.errors import VssError
from vsscli.metrics.metric import Setting
from vsscli.metrics.protocols import get_protocol
from vsscli.metrics.registry import METRICS, build_metrics, metric_names, title

NAMES = [name for metric in METRICS for name in metric.names]


def test_every_name_belongs_to_one_metric_and_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    for name in NAMES:
        assert sum(metric.answers(name) for metric in METRICS) == 1
        known = "vcN" if name.startswith("vc") else name
        assert f"`{known}`" in page
        assert known in Path(command.__file__).read_text()


def test_figures_that_are_counted_together_are_counted_once() -> None:
    setting = Setting(3, np.arange(256, dtype=np.uint8), get_protocol("vspw"))
    built = build_metrics(["vc16", "ece", "miou", "vc8", "acc"], setting)
    assert [type(metric).__name__ for metric in built] == ["ConfusionMatrix", "VideoConsistency", "CalibrationError"]
    assert list(built[1].figures()) == ["vc8", "vc16"]


def test_names_are_written_as_the_field_does() -> None:
    shown = [title(name) for name in ("miou", "wiou", "acc", "vc8", "biou", "ece", "tc", "pixels")]
    assert shown == ["mIoU", "wIoU", "ACC", "VC8", "BIoU", "ECE", "TC", "pixels"]


@pytest.mark.parametrize(
    ("metrics", "said", "hint"),
    [
        (["miuo"], "'miuo'", "did you mean miou"),
        (["mean"], "'mean'", "vcN for any N"),
        (["vc"], "'vc'", "vc8"),
        (["vc08"], "'vc08'", "vc8"),
        ([], "no metric", "miou"),
    ],
)
def test_an_unknown_metric_is_answered_with_the_nearest(metrics: list[str], said: str, hint: str) -> None:
    with pytest.raises(VssError) as error:
        metric_names(metrics)
    assert said in error.value.message
    assert hint in error.value.hint


def test_metrics_are_taken_once_and_in_any_case() -> None:
    assert metric_names(["vc16", "MIOU", "VC8", "vc16"]) == ("vc16", "miou", "vc8")
