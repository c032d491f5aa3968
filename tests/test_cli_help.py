"""``vss --help`` is quick, and consistent for all commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import environment, vss

from vsscli import __version__
from vsscli.cli.app import build, run

COMMANDS = (
    *("init", "classes", "recipe", "remap", "model", "convert", "train", "predict", "pseudo", "ensemble"),
    *("eval", "vc", "compare", "show", "report", "submit", "next", "import", "export", "run", "runs", "demo"),
    *("cache", "doctor"),
)
NETWORKED = ("train", "predict", "pseudo", "demo")
HEAVY = ("torch", "torchvision", "timm", "zarr", "numpy", "scipy", "skimage", "PIL", "pydantic", "yaml", "rich")


def test_help_lists_the_commands_in_the_order_of_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(build().commands) == COMMANDS  # type: ignore[union-attr]
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(f"\n  {command} ") for command in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=lambda arguments: " ".join(arguments))
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from vsscli.cli.app import run\n"
        "code = run(sys.argv[2:])\n"
        "print('loaded:', *sorted(set(sys.argv[1].split(',')) & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, ",".join(HEAVY), *arguments, "--help"],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: vss")
    assert done.stdout.endswith("loaded:\n")
    assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_the_common_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"\n    vss {command}" in text
    for option in ("--quiet", "--debug", "--json"):
        assert option in text


@pytest.mark.parametrize("command", NETWORKED)
def test_every_command_with_a_network_takes_the_same_device(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([command, "--help"])
    assert "--device NAME" in capsys.readouterr().out


def test_vss_alone_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert capsys.readouterr().out.startswith("Usage: vss")


def test_the_version_is_told(tmp_path: Path) -> None:
    done = vss("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"vss {__version__}\n")


def test_a_flag_before_the_command_needs_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--debug"]) == 2
    assert "missing command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "replaces"), [("predict", False), ("pseudo", False), ("ensemble", False), ("train", True)]
)
def test_force_says_whether_it_replaces(command: str, replaces: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert ("Replace existing results." in text) == replaces
    assert ("write a new one beside it" in text) != replaces
