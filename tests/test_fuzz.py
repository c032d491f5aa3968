"""Changed files before every reader and every command: success or one clear error, soon, and in little memory.

``tests/fuzz_readers.py`` does it, in a process of its own whose memory is bounded; a fault is told with the number of
its input, and ``python tests/fuzz_readers.py readers SEED COUNT FOLDER`` makes the same inputs again and keeps those
that fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_process import environment, vss

SCRIPT = Path(__file__).parent / "fuzz_readers.py"


def fuzz(what: str, seed: int, count: int, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), what, str(seed), str(count), str(folder)],
        capture_output=True,
        text=True,
        env={**environment(), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def faults(told: dict[str, Any]) -> str:
    return "\n\n".join(f"input {one['number']}, {one['sample']}: {one['wrong']}" for one in told["failures"][:10])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_reader_fails_otherwise_than_it_may(seed: int, tmp_path: Path) -> None:
    told = fuzz("readers", seed, 5000, tmp_path)
    assert told["tried"] == 5000
    assert not told["failures"], faults(told)


@pytest.mark.slow
def test_no_command_asks_for_a_report(tmp_path: Path) -> None:
    told = fuzz("commands", 1, 500, tmp_path)
    assert not told["failures"], faults(told)


@pytest.mark.slow
def test_no_process_asks_for_a_report(tmp_path: Path) -> None:
    """Some of it as a user's shell sees it: what is printed to a pipe, and the code of the process."""
    told = fuzz("kept", 7, 8, tmp_path)
    for arguments in told["arguments"]:
        done = vss(*arguments, cwd=tmp_path)
        assert done.returncode in (0, 2), done.stderr
        assert "please report" not in done.stderr
        assert "Traceback" not in done.stderr


def test_a_few_changed_files_of_every_kind(tmp_path: Path) -> None:
    told = fuzz("readers", 3, 60, tmp_path)
    assert not told["failures"], faults(told)
