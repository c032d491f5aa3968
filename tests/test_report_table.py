"""Tables of figures."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from vsscli.report.table import ScoreRow, markdown_table, plain_table, rich_table, score_table

# Three lines of the paper's table of single networks, mIoU only; VC made up.
ROWS = (
    ScoreRow("student", {"miou": 0.6101, "vc8": 0.9}),
    ScoreRow("teacher", {"miou": 0.6348, "vc8": math.nan}),
    ScoreRow("ensemble | both", {"miou": 0.6784}),
)


def test_scores_are_per_cent_with_the_best_marked() -> None:
    columns, cells = score_table(ROWS, ("miou", "vc8"))
    assert columns == ["method", "mIoU", "VC8"]
    assert cells == [["student", "61.01", "*90.00"], ["teacher", "63.48", "-"], ["ensemble | both", "*67.84", "-"]]


def test_figures_that_look_alike_are_both_the_best() -> None:
    rows = (ScoreRow("a", {"miou": 0.50001}), ScoreRow("b", {"miou": 0.50002}))
    assert [line[1] for line in score_table(rows, ("miou",))[1]] == ["*50.00", "*50.00"]


def test_of_an_error_the_lowest_is_best() -> None:
    rows = (ScoreRow("a", {"ece": 0.02, "biou": 0.4}), ScoreRow("b", {"ece": 0.1, "biou": 0.5}))
    columns, cells = score_table(rows, ("ece", "biou"))
    assert columns == ["method", "ECE", "BIoU"]
    assert cells == [["a", "*2.00", "40.00"], ["b", "10.00", "*50.00"]]


def test_a_single_line_has_no_best() -> None:
    assert score_table(ROWS[:1], ("miou",))[1] == [["student", "61.01"]]


def test_markdown_aligns_numbers_and_makes_the_best_bold() -> None:
    assert markdown_table(*score_table(ROWS, ("miou", "vc8"))).splitlines() == [
        "| method | mIoU | VC8 |",
        "| --- | ---: | ---: |",
        "| student | 61.01 | **90.00** |",
        "| teacher | 63.48 | - |",
        r"| ensemble \| both | **67.84** | - |",
    ]


def test_plain_text_is_aligned_and_has_no_trailing_blanks() -> None:
    text = plain_table(("class", "IoU", "note"), [("road", 0.98765, "a"), ("traffic light", None, "")], "IoU by class")
    assert text.splitlines() == [
        "IoU by class",
        "class             IoU  note",
        "road           0.9877  a",
        "traffic light       -",
    ]


def test_a_table_without_lines_shows_its_headings() -> None:
    assert plain_table(("a", "b"), []) == "a  b"


def test_a_line_of_another_length_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="3 cells under 2 headings"):
        plain_table(("a", "b"), [(1, 2, 3)])


def test_the_table_for_terminals_shows_text_as_it_is() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(rich_table(("[b]name", "mIoU"), [("[red]", 0.5), ("b", 0.25)], "[x] title"))
    text = stream.getvalue()
    for part in ("[b]name", "[red]", "0.5000", "[x] title"):
        assert part in text
