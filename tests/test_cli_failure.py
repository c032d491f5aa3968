"""How a command fails: the message, and the exit code."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pydantic
import pytest
import torch
from cli_process import environment, start, vss
from typer import Option

from vsscli.cli import ensemble, failure, train, vc
from vsscli.cli.app import build, run
from vsscli.cli.failure import explain
from vsscli.errors import VssError

# A command that does what each test wants, run by the real program.
PRELUDE = """
import os, signal, sys, time
from vsscli.cli import app, doctor
def doctor_command(debug: bool = False) -> None:
    "Stand in."
    {body}
doctor.doctor = doctor_command
app.main(sys.argv[1:])
"""


def run_command(body: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    process = start(PRELUDE.format(body=body), *arguments, "doctor", **changes)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def test_a_users_error_is_message_blank_line_hint() -> None:
    done = run_command("from vsscli.errors import VssError; raise VssError('no recipe x.yaml', 'name another')")
    assert done.returncode == 2
    assert done.stderr == "error: no recipe x.yaml\n\nhint: name another\n"
    assert done.stdout == ""


def test_an_unexpected_error_is_one_line_and_asks_for_a_report() -> None:
    done = run_command("[][1]")
    assert done.returncode == 1
    assert done.stderr == (
        "error: unexpected IndexError: list index out of range\n\n"
        "hint: run again with --debug to see where, and please report it\n"
    )


@pytest.mark.parametrize("before", [True, False])
def test_debug_shows_the_traceback(before: bool) -> None:
    script = PRELUDE.format(body="[][1]")
    process = start(script, *(["--debug", "doctor"] if before else ["doctor", "--debug"]))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" in err
    assert err.endswith("please report it\n")


def test_warnings_of_libraries_are_not_shown_to_users() -> None:
    done = run_command("import warnings; warnings.warn('spam')")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["trian"], ["error: no such command 'trian'", "train", "hint: `vss --help`"]),
        (["doctor", "--jsn"], ["error: no such option: --jsn", "--json", "hint: `vss doctor --help`"]),
        (["doctor", "surplus"], ["error: got unexpected extra argument(s) (surplus)"]),
        (["show", "--frames", "many"], ["'--frames'", "a valid integer", "(got 'many')"]),
        (["show", "--frames", "0"], ["'--frames'", "greater than or equal to 1"]),
        (["show", "--out"], ["option '--out' requires a value"]),
        (["remap", "--masks", "x", "--out", "y"], ["error: missing option '--source'"]),
        (["remap", "--source", "camvid", "--out", "y"], ["error: missing option '--masks'"]),
        (["remap", "--source", "camvid", "--masks", "x"], ["error: missing option '--out'"]),
        (["remap", "--source", "camvit", "--show"], ["error: mapping camvit", "ade20k, camvid, cityscapes"]),
    ],
)
def test_wrong_usage_is_told_in_the_same_style(tmp_path: Path, arguments: list[str], wanted: list[str]) -> None:
    done = vss(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[-2] == ""
    assert lines[-1].startswith("hint: ")
    for part in wanted:
        assert part in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_says_what_becomes_of_it(number: signal.Signals, code: int) -> None:
    # The command gets its signal while it holds something open, which must be closed on the way out.
    body = "\n    ".join(
        ["try:", "    print('ready', flush=True); time.sleep(60)", "finally:", "    print('closed', flush=True)"]
    )
    process = start(PRELUDE.format(body=body), "doctor")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == "closed\n"
    assert err == "interrupted; the same command starts over\n"


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Replaces functions of commands; the program is made of these and then anew."""
    build.cache_clear()
    yield monkeypatch
    build.cache_clear()


def test_an_interrupted_training_is_continued_with_resume(
    replaced: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(resume: Annotated[bool, Option("--resume")] = False) -> None:
        raise KeyboardInterrupt

    replaced.setattr(train, "train", interrupted)
    assert run(["train"]) == 130
    assert capsys.readouterr().err == "interrupted; run the same command with --resume to continue\n"
    assert run(["train", "--resume"]) == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to continue\n"


def test_commands_that_keep_what_is_finished_and_those_that_start_over(
    replaced: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(sweep: Annotated[str, Option("--sweep")] = "") -> None:
        raise KeyboardInterrupt

    replaced.setattr(ensemble, "ensemble", interrupted)
    replaced.setattr(vc, "consistency", interrupted)
    for arguments, said in (
        (["ensemble"], "run the same command again to continue"),
        (["ensemble", "--sweep", "a.svg"], "the same command starts over"),
        (["vc"], "the same command starts over"),
    ):
        assert run(arguments) == 130
        assert capsys.readouterr().err == f"interrupted; {said}\n"


def test_a_worker_that_is_terminated_dies_quietly() -> None:
    body = "\n    ".join(
        [
            "ears, mouth = os.pipe()",
            "child = os.fork()",
            "if child == 0:",
            "    os.write(mouth, b'ready'); time.sleep(30); os._exit(9)",
            "os.read(ears, 5)",
            "os.kill(child, signal.SIGTERM)",
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
        ]
    )
    done = run_command(body)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{-signal.SIGTERM}\n", "")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "vsscli", "--help"]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, env=environment(), cwd=tmp_path, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_processes_started_beside_the_first_run_the_same_command(tmp_path: Path) -> None:
    # What Fabric's launcher does: `python -m` with the name of the running module, and sys.argv as it is.
    script = PRELUDE.format(
        body="from lightning_fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd as c;"
        "print(c()[1:])"
    ).replace("app.main(sys.argv[1:])", "import runpy; runpy.run_module('vsscli', run_name='__main__', alter_sys=True)")
    process = start(script, "doctor", "--debug")
    out, err = process.communicate(timeout=120)
    assert out == "['-m', 'vsscli.__main__', 'doctor', '--debug']\n", err
    again = subprocess.run(
        [sys.executable, "-m", "vsscli.__main__", "--version"],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.stdout.startswith("vss ")


def told(cause: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = explain(cause, debug=False)
    return code, capsys.readouterr().err.splitlines()


def test_a_long_list_is_cut_to_a_dozen_lines(capsys: pytest.CaptureFixture[str]) -> None:
    message = "\n".join(["90 faults", *(f"  file {number}" for number in range(90))])
    code, lines = told(VssError(message, "mend them"), capsys)
    assert code == 2
    assert len(lines) == 12
    assert lines[0] == "error: 90 faults"
    assert lines[-3] == "  … and 82 more lines"
    assert lines[-1] == "hint: mend them"


def test_a_line_that_never_ends_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = told(VssError("x" * 100_000), capsys)
    assert len(lines) == 1
    assert len(lines[0]) < 500


def test_control_characters_in_names_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = told(VssError("no file a\x1b[2Jb\rc", "rename\x07it"), capsys)
    assert lines[0] == r"error: no file a\x1b[2Jb\rc"
    assert lines[2] == r"hint: rename\x07it"


def test_a_full_disk_is_the_users_to_mend(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = told(OSError(errno.ENOSPC, "No space left on device", "runs/last.pt"), capsys)
    assert code == 2
    assert lines == ["error: runs/last.pt: No space left on device", "", f"hint: {failure.REMEDIES[errno.ENOSPC]}"]


@pytest.mark.parametrize("claim", [None, (2**45,), (2**62, 4)])
def test_missing_memory_is_the_users_to_mend(claim: tuple[int, ...] | None, capsys: pytest.CaptureFixture[str]) -> None:
    cause: Exception = MemoryError()
    if claim is not None:
        with pytest.raises(RuntimeError) as caught:
            torch.empty(claim)
        cause = caught.value
    code, lines = told(cause, capsys)
    assert code == 2
    assert lines[0] == "error: not enough memory"


@pytest.mark.parametrize(
    "cause",
    [
        ModuleNotFoundError("No module named 'timm'", name="timm"),
        RuntimeError("operator torchvision::nms does not exist"),
    ],
)
def test_a_broken_installation_is_sent_to_the_doctor(cause: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = told(cause, capsys)
    assert code == 2
    assert str(cause) in lines[0]
    assert "vss doctor" in lines[-1]


def test_a_missing_module_of_our_own_is_our_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(ImportError("cannot import name 'x'", name="vsscli.data"), capsys)[0] == 1


def test_a_validation_error_of_pydantic_is_put_into_our_words(capsys: pytest.CaptureFixture[str]) -> None:
    class Point(pydantic.BaseModel):
        x: int

    with pytest.raises(pydantic.ValidationError) as caught:
        Point.model_validate({"x": "left"})
    code, lines = told(caught.value, capsys)
    assert code == 2
    assert lines[0] == "error: not a valid Point"
    assert lines[1].startswith("  x: Input should be a valid integer")
    assert "pydantic" not in "".join(lines)


def test_colour_is_for_terminals_that_want_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert told(VssError("broken"), capsys)[1] == ["\x1b[1;31merror\x1b[0m: broken"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert told(VssError("broken"), capsys)[1] == ["error: broken"]


LOAD_OPENMP = (
    "import ctypes, importlib.util, pathlib; "
    "ctypes.CDLL(next(pathlib.Path(importlib.util.find_spec('torch').origin).parent.glob('lib/lib*omp*')))"
)
"""What ``import torch`` does to the same end, in a tenth of its time."""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "passive"}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_threads_of_torch_soon_sleep_while_they_wait_unless_the_user_says_otherwise(
    given: dict[str, str], found: dict[str, str]
) -> None:
    # OpenMP prints what it found in the environment at the moment that torch loaded it.
    done = run_command(LOAD_OPENMP if given else "import torch", OMP_DISPLAY_ENV="verbose", **given)
    for name, value in found.items():
        assert f"{name} = '{value}'" in done.stderr
