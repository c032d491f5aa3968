"""Options with several values: separated by spaces, by commas, or repeated."""

from __future__ import annotations

import os
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from cli_process import environment
from typer import Option, Typer
from typer.testing import CliRunner

from vsscli.cli.app import run
from vsscli.cli.options import RUNS, Assignments, Command, Json, Models, Program, Stores, Weights, Workspace

seen: dict[str, Any] = {}


class Fruit(Enum):
    apple = "apple"
    pear = "pear"


def probe(
    metric: Annotated[list[str] | None, Option("--metric", "-m", metavar="NAME...", help="Scores.")] = None,
    n: Annotated[list[int] | None, Option("--n", metavar="N...")] = None,
    kind: Annotated[list[Fruit] | None, Option("--kind")] = None,
    models: Models = None,
    stores: Stores = None,
    weights: Weights = None,
    assignments: Assignments = None,
    out: Annotated[Path | None, Option("--out")] = None,
    shift: Annotated[float, Option("--shift")] = 0.0,
    workspace: Workspace = RUNS,
    json: Json = False,
) -> None:
    """Probe options.

    A paragraph that is long enough to be filled up by the formatter of the help text, line by line.

      vss probe --metric miou
      vss probe --n 8
    """
    seen.clear()
    seen.update(locals())


def application() -> Typer:
    app = Typer(cls=Program, rich_markup_mode=None)
    app.command("probe", cls=Command)(probe)
    app.command("other", cls=Command)(lambda: None)
    return app


def given(line: str) -> dict[str, Any]:
    """What the function gets for a command line; fails when typer refuses it."""
    result = CliRunner().invoke(application(), ["probe", *line.split()])
    assert result.exit_code == 0, result.output
    return {name: value for name, value in seen.items() if value not in (None, False, 0.0, RUNS)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--metric miou vc8 vc16", {"metric": ["miou", "vc8", "vc16"]}),
        ("--metric miou --metric vc8", {"metric": ["miou", "vc8"]}),
        ("--metric miou,vc8,vc16", {"metric": ["miou", "vc8", "vc16"]}),
        ("--metric miou, vc8", {"metric": ["miou", "vc8"]}),
        ("--metric=miou,vc8", {"metric": ["miou", "vc8"]}),
        ("--metric=miou vc8", {"metric": ["miou", "vc8"]}),
        ("-m miou vc8 --json", {"metric": ["miou", "vc8"], "json": True}),
        ("--metric miou --json --metric vc8", {"metric": ["miou", "vc8"], "json": True}),
        ("--n 8 16", {"n": [8, 16]}),
        ("--weights 0.6 0.4", {"weights": [0.6, 0.4]}),
        ("--weights -0.5 .5 -.25", {"weights": [-0.5, 0.5, -0.25]}),
        ("--weights=-1,2", {"weights": [-1.0, 2.0]}),
        ("--models t.pt s.pt --json", {"models": [Path("t.pt"), Path("s.pt")], "json": True}),
        ("--models one,file.pt", {"models": [Path("one,file.pt")]}),
        ("--stores=a.zarr b.zarr", {"stores": [Path("a.zarr"), Path("b.zarr")]}),
        ("--set augment.crop=[1,2] seed=3", {"assignments": ["augment.crop=[1,2]", "seed=3"]}),
        ("--shift -1", {"shift": -1.0}),
        ("--out -x.png --n 8", {"out": Path("-x.png"), "n": [8]}),
        ("", {}),
    ],
)
def test_values_reach_the_command(line: str, expected: dict[str, Any]) -> None:
    assert given(line) == expected


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("--metric", "--metric"),
        ("--metric --json", "--metric"),
        ("--metric=", "--metric"),
        ("--metric ,", "--metric"),
        ("--json --models", "--models"),
        ("--out --metric miou", "--out"),
        ("--out --json", "--out"),
        ("--out", "--out"),
    ],
)
def test_a_missing_value_is_said_of_the_right_option(line: str, option: str) -> None:
    result = CliRunner().invoke(application(), ["probe", *line.split()])
    assert result.exit_code == 2
    assert f"Option '{option}' requires a value" in result.output


def test_a_value_of_the_wrong_type_is_refused() -> None:
    result = CliRunner().invoke(application(), ["probe", "--n", "8", "many"])
    assert result.exit_code == 2
    assert "--n" in result.output


def test_values_work_in_a_process_of_their_own(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1));"
        "import test_cli_options as t; t.application()(standalone_mode=False);"
        "print(t.seen['metric'], t.seen['weights'], t.seen['json'])"
    )
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", script, folder, "probe", "--metric", "miou", "vc8,vc16", "--weights", "-1", "2"]
    done = subprocess.run(
        [*command, "--json"], env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "['miou', 'vc8', 'vc16'] [-1.0, 2.0] True", done.stderr


def test_help_shows_that_several_values_go_and_keeps_the_lines_of_examples() -> None:
    text = CliRunner().invoke(application(), ["probe", "--help"]).output
    assert "--metric NAME..." in text
    assert "    vss probe --metric miou\n    vss probe --n 8\n" in text
    assert "env var: VSS_WORKSPACE" in text


def test_the_workspace_comes_from_the_environment() -> None:
    CliRunner().invoke(application(), ["probe"], env={"VSS_WORKSPACE": "elsewhere"})
    assert seen["workspace"] == Path("elsewhere")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vss probe --kind ", ["apple", "pear"]),
        ("vss probe --kind apple p", ["pear"]),
        ("vss probe --kind apple --jso", ["--json"]),
        ("vss pro", ["probe"]),
    ],
)
def test_the_shell_completes_later_values_too(words: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "_VSS_COMPLETE", "complete_bash")
    place = len(words.split()) - (0 if words.endswith(" ") else 1)
    result = CliRunner().invoke(application(), [], prog_name="vss", env={"COMP_WORDS": words, "COMP_CWORD": str(place)})
    assert result.output.split() == expected


@pytest.mark.parametrize(
    "line",
    [
        ["predict", "--split", "val"],
        ["predict", "--tta"],
        ["predict", "--workers", "2", "--engine", "ray"],
        ["pseudo", "--part", "1/2"],
        ["pseudo", "--weights", "1", "2"],
        ["train", "--init", "a.pt"],
    ],
)
def test_what_the_pipeline_of_a_project_decides_is_refused(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vss.yaml").write_text("name: street\nstages: {}\n")
    assert run(line) == 2
    error = capsys.readouterr().err
    assert line[1] in error
    assert "vss.yaml" in error
    assert [path.name for path in tmp_path.iterdir()] == ["vss.yaml"]
