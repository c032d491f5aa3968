"""Augmentation plans: named ones, files, and invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsscli.errors import VssError
from vsscli.inference.plans import FLIP, NONE, PAPER, AugmentationPlan, load_plan


def test_the_papers_plan_has_eight_scales_seen_plain_and_mirrored() -> None:
    assert len(PAPER.views()) == 16
    assert [round(scale * 896) for scale in PAPER.scales] == [512, 640, 768, 896, 1024, 1152, 1280, 1408]
    assert PAPER.views()[6:8] == ((1.0, False), (1.0, True))


def test_plans_are_found_by_name() -> None:
    assert [load_plan(name) for name in ("paper", "flip", "none")] == [PAPER, FLIP, NONE]
    assert (len(FLIP.views()), len(NONE.views())) == (2, 1)


def test_a_plan_is_read_from_a_file_and_called_like_it(tmp_path: Path) -> None:
    (tmp_path / "three.yaml").write_text("scales: [0.75, 1, 1.25]\nflip: true\n")
    assert load_plan(tmp_path / "three.yaml") == AugmentationPlan("three", (0.75, 1.0, 1.25), True)
    (tmp_path / "one.yaml").write_text("scales: [2]\n")
    plan = load_plan(str(tmp_path / "one.yaml"))
    assert plan == AugmentationPlan("one", (2.0,), False)
    assert isinstance(plan.scales[0], float)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("scales: []", "no scales"),
        ("flip: true", "None"),
        ("scales: 1.0", "1.0"),
        ("scales: [0]", "0.0"),
        ("scales: [-1.0]", "-1.0"),
        ("scales: [8.5]", "8.5"),
        ("scales: [.nan]", "nan"),
        ("scales: [big]", "'big'"),
        ("scales: [true]", "True"),
        ("scales: [1.0, 1]", "twice"),
        ("scales: [1.0]\nflip: 3", "3"),
        ("scales: [1.0]\nflips: true", "flips"),
        ("", "empty"),
        ("- 1.0", "not a mapping"),
        ("scales: [1.0", "flow sequence"),
    ],
)
def test_nonsense_in_a_file_is_named_with_the_file(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(VssError) as raised:
        load_plan(path)
    assert str(path) in raised.value.message
    assert named in raised.value.message
    assert raised.value.hint


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(VssError) as raised:
        load_plan("papper")
    assert "'papper'" in raised.value.message
    assert "paper, flip, none" in raised.value.hint
