"""The benchmark for GPUs runs on a CPU, so that it works when a card is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent / "benchmarks/gpu.py"


@pytest.mark.slow
def test_every_part_runs_on_a_cpu_and_finds_both_devices_equal(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARK), "--quick", "--device", "cpu", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = json.loads(out.read_text())["rows"]
    # Graphs are CUDA's.
    assert {row["part"] for row in rows} == {
        *("ceilings", "equal", "forward", "contrast", "training", "prediction", "compiled")
    }
    assert all(row["equal"] for row in rows if row["part"] == "equal")
    assert not [row for row in rows if "failed" in row or "skipped" in row]
