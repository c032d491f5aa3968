"""Messages go to stderr, data to stdout."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vsscli.cli import console as console_module
from vsscli.cli.console import Console
from vsscli.report.progress import Pace, duration, pace


@dataclass
class Clock:
    """A clock that advances on demand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_talk_goes_to_stderr_and_results_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.say("reading")
    console.warn("no weights")
    console.print("result")
    captured = capsys.readouterr()
    assert captured.err == "reading\nwarning: no weights\n"
    assert captured.out == "result\n"


def test_quiet_silences_all_but_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.say("reading")
    console.warn("no weights")
    with console.track("predict", 3) as advance:
        advance(3)
    assert capsys.readouterr().err == "warning: no weights\n"


def test_only_the_first_of_several_processes_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    console = Console()
    console.say("reading")
    console.warn("no weights")
    console.print_json({"miou": 1.0})
    console.print_table(("a",), [("b",)])
    assert capsys.readouterr() == ("", "")


def test_json_is_one_line_of_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    values = {
        "miou": np.float32(0.5),
        "absent": float("nan"),
        "iou": np.array([0.25, np.inf]),
        "videos": np.int64(3),
        "store": Path("runs") / "a.zarr",
        "name": "größe",
        8: (True, None),
    }
    Console().print_json(values)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "miou": 0.5,
        "absent": None,
        "iou": [0.25, None],
        "videos": 3,
        "store": str(Path("runs") / "a.zarr"),
        "name": "größe",
        "8": [True, None],
    }


def test_a_table_without_a_terminal_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    Console().print_table(("class", "IoU"), [("road", 0.5), ("pole", float("nan"))])
    assert capsys.readouterr().out == "class     IoU\nroad   0.5000\npole        -\n"


def test_progress_without_a_terminal_is_a_line_every_ten_seconds() -> None:
    clock = Clock()
    pace = Pace("predict", 1000, "frame", clock)
    clock.now = 9.0
    assert pace.advance(20) == ""
    clock.now = 10.0
    assert pace.advance(20) == "predict: 40/1000 frames (4 %), 4.0 frames/s, 4 min 00 s left"
    clock.now = 12.0
    assert pace.advance(1) == ""


def test_progress_without_a_terminal_tells_each_tenth_unless_that_is_too_often() -> None:
    clock = Clock()
    pace = Pace("remap", 10, "mask", clock)
    clock.now = 1.0
    assert pace.advance(1) == ""
    clock.now = 4.0
    assert pace.advance(1) == "remap: 2/10 masks (20 %), 30.0 masks/min, 16 s left"
    clock.now = 5.0
    assert pace.advance(8) == ""
    assert pace.summary() == "remap: 10 masks in 5 s, 2.0 masks/s"


def test_progress_of_unknown_length_has_a_rate_only() -> None:
    clock = Clock()
    pace = Pace("read", 0, "frame", clock)
    clock.now = 20.0
    assert pace.advance(10) == "read: 10 frames, 30.0 frames/min"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12.4, "12 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_failure_leaves_no_line_that_claims_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), Console().track("predict", 3):
        raise ValueError("broken")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_progress_is_a_bar_and_talk_goes_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    console = Console()
    with console.track("predict", 4) as outer, console.track("write", 2, "segment") as inner:
        outer(4)
        console.say("halved the batch to [4]")
        inner(2)
    text = stream.getvalue()
    assert "predict" in text
    assert "4/4" in text
    assert "2/2" in text
    assert "halved the batch to [4]\n" in text.replace("\r", "")


def test_no_color_is_honoured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    Console().print_table(("method", "mIoU"), [("student", "*63.75"), ("teacher", "62.00")])
    assert "63.75" in stream.getvalue()
    assert "\x1b[3" not in stream.getvalue()


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (250.0, ("250", "s")),
        (1.0, ("1.0", "s")),
        (0.04, ("2.4", "min")),
        (0.9, ("54.0", "min")),
        (0.01, ("36.0", "h")),
        (0.0, ("0.0", "s")),
    ],
)
def test_a_slow_pace_is_one_a_minute(rate: float, text: tuple[str, str]) -> None:
    assert pace(rate) == text


def test_what_was_there_before_does_not_count_for_the_time_that_is_left() -> None:
    clock = Clock()
    resumed = Pace("student", 1000, "step", clock)
    assert resumed.advance(500) == ""
    clock.now = 50.0
    assert resumed.advance(10) == "student: 510/1000 steps (51 %), 12.0 steps/min, 40 min 50 s left"


LONG = "runs/stores/camvid/val/student-with-a-name-as-long-as-people-give-them-paper-0123abcd.zarr"


@pytest.mark.parametrize("width", [40, 80, 100])
def test_names_to_copy_are_whole_on_narrow_screens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(console_module, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    why = "recipe.train.steps changed from 1000 to 2000, and more words of that kind follow here"
    Console().print_table(("stage", "why", "frames", "store"), [("student", why, 101, LONG), ("b", "", 7, LONG)])
    said = capsys.readouterr().out
    assert said.count(LONG) == 2
    assert all(word in said.split() for word in why.split())
    assert all(len(line) <= width for line in said.splitlines() if LONG not in line)
    assert [line.split() for line in said.splitlines()[:2]] == [["stage", "frames"], ["student", "101"]]


def test_a_table_that_fits_is_drawn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    Console().print_table(("stage", "frames"), [("student", 101)])
    assert "──" in capsys.readouterr().out
