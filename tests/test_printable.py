"""Foreign names control neither terminal nor page: invisible characters are shown."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from vsscli.cli import console as console_module
from vsscli.cli.console import Console
from vsscli.cli.failure import explain
from vsscli.errors import VssError
from vsscli.printable import printable, printable_text
from vsscli.report.chart import line_chart
from vsscli.report.table import ScoreRow, markdown_table, plain_table, score_table

EVIL = "a\x1b[2J\x1b]0;t\x07\x9b1m\r\nerror: b\x7f\u202eabc\u200b\ufeff\u2028c\udc80"
SHOWN = r"a\x1b[2J\x1b]0;t\x07\x9b1m\r\nerror: b\x7f\u202eabc\u200b\ufeff\u2028c\udc80"


def test_what_steers_or_hides_is_shown_and_the_rest_stays() -> None:
    assert printable(EVIL) == SHOWN
    assert printable("Straße 7 道路\u3000é été") == "Straße 7 道路\u3000é été"
    assert printable_text("a:\n\tb\x1b") == "a:\n\tb\\x1b"


def calm(text: str) -> bool:
    return all(sign.isprintable() or sign == "\n" for sign in text)


@pytest.mark.parametrize("terminal", [False, True])
def test_the_console_shows_it_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(console_module, "is_terminal", lambda stream: terminal)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")
    console = Console()
    console.print(EVIL, EVIL)
    console.print_text(EVIL)
    console.print_table([EVIL, "n"], [[EVIL, 1]], title=EVIL)
    console.print_json({EVIL[:-1]: EVIL})
    said = capsys.readouterr().out
    assert calm(said.replace(json.dumps(EVIL[:-1]), ""))
    assert said.count(SHOWN) >= 5
    console.say(EVIL)
    console.warn(EVIL)
    with console.track(EVIL, 2) as done:
        done(1)
        console.say(EVIL)
        done(1)
    told = capsys.readouterr().err
    if not terminal:
        assert calm(told)
        assert told.count(SHOWN) == 4
        assert told.count("\n") == 4
    else:
        assert "]0;t" not in told.replace(SHOWN, "")


def test_an_error_has_no_line_that_it_did_not_write(capsys: pytest.CaptureFixture[str]) -> None:
    fault = VssError(f"2 faults\n  {EVIL}\n  second", f"remove {EVIL}")
    explain(fault, debug=True)
    assert calm(capsys.readouterr().err)
    explain(fault, debug=False)
    said = capsys.readouterr().err
    assert calm(said)
    shown = [line for line in said.splitlines() if line.startswith("error:")]
    assert shown == ["error: 2 faults"]
    assert f"\n  {SHOWN}\n  second\n" in said


def test_a_markdown_table_is_a_table_whatever_names_hold() -> None:
    name = f"<img src=x onerror=1>|`*_[a](javascript:1)\\{EVIL}"
    table = markdown_table(*score_table([ScoreRow(name, {"miou": 0.5}), ScoreRow("*b", {"miou": 0.4})], ("miou",)))
    lines = table.splitlines()
    assert calm(table)
    assert len(lines) == 4
    assert lines[2].startswith(r"| &lt;img src=x onerror=1&gt;\|\`\*_\[a\](javascript:1)\\a")
    assert lines[2].endswith("| **50.00** |")
    assert lines[3] == r"| \*b | 40.00 |"
    assert plain_table(["a"], [[EVIL]]).count("\n") == 1


def test_a_chart_is_xml_whatever_names_hold() -> None:
    name = f'</text><script>alert("1")</script>{EVIL}\0'
    chart = line_chart(name, [(name, [(0, 0), (1, 1)])], x_title=name, y_title=name, x_range=(0, 1), y_range=(0, 1))
    assert calm(chart)
    assert "<script" not in chart
    assert sum(SHOWN in (text.text or "") for text in ElementTree.fromstring(chart).iter()) == 4
