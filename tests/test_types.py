"""Types of the package: a minute for one core, which the other tests leave time for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_types_agree() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
