"""Trackers take a run's figures; one that fails is left out, and the training goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from listener import Listener
from small import read_journal, small_recipe

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.training import run as training
from vsscli.training import trackers
from vsscli.training.trackers import NOTE, Numbers, Tracked, require_trackers


class Notes:
    """A tracker that keeps what it is given."""

    made: ClassVar[list[Notes]] = []

    def __init__(self, tracked: Tracked, known: str | None) -> None:
        self.tracked, self.known, self.rows, self.ended = tracked, known, [], None
        self.name = known or f"run {len(self.made)}"
        self.made.append(self)

    def record(self, step: int, figures: Numbers) -> None:
        if figures.get("loss") == -1:
            raise RuntimeError("no route to host\nand more")
        self.rows.append((step, dict(figures)))

    def close(self, *, ended: bool) -> None:
        self.ended = ended


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch) -> type[Notes]:
    monkeypatch.setattr(trackers, "TRACKERS", {"notes": ("json", Notes), "absent": ("no_such_module", Notes)})
    monkeypatch.setattr(Notes, "made", [])
    return Notes


def test_a_tracker_gets_what_the_journal_gets_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    context = Context(tmp_path, trackers=["notes"])
    recipe = small_recipe(tmp_path / "data", steps=2, validate_every=0)
    training.train(recipe, tmp_path / "small", context=context)
    (one,) = Notes.made
    lines = read_journal(tmp_path / "small" / "journal.jsonl")
    assert [{"step": step, **row} for step, row in one.rows] == [
        {key: value for key, value in line.items() if isinstance(value, int | float)} for line in lines
    ]
    assert one.ended is True
    assert one.tracked.settings["train"]["steps"] == 2
    assert json.loads((tmp_path / "small" / NOTE).read_text()) == {"notes": "run 0"}
    trackers.Trackers(["notes"], Tracked(tmp_path / "small", {}, 1), Listener())
    trackers.Trackers(["notes"], Tracked(tmp_path / "small", {}, 0), Listener())
    assert [made.known for made in Notes.made] == [None, "run 0", None]


def test_a_tracker_that_fails_is_left_out_with_a_word(tmp_path: Path) -> None:
    heard = Listener()
    open_ones = trackers.Trackers(["notes"], Tracked(tmp_path, {}, 0), heard)
    open_ones.record(1, {"loss": 1.0})
    open_ones.record(2, {"loss": -1})
    open_ones.record(3, {"loss": 0.5})
    open_ones.close(ended=True)
    assert [step for step, _ in Notes.made[0].rows] == [1]
    assert heard.warned == ["notes takes no more figures of this run: no route to host"]


def test_what_is_not_installed_or_not_known_is_refused_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VssError, match="absent is not installed"):
        require_trackers(["absent"])
    with pytest.raises(VssError, match="absent is not installed"):
        training.train(small_recipe(tmp_path / "data"), tmp_path / "a", context=Context(tmp_path, trackers=["absent"]))
    assert not (tmp_path / "a").exists()
    arguments = ["train", "recipes/demo/student.yaml", "--track", "tensorflow", "--workspace", str(tmp_path)]
    assert run(arguments) == 2
    assert "there is no tracker 'tensorflow'" in capsys.readouterr().err
