"""A full disk: a clear error, nothing incomplete is recorded, and the run continues once there is space."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import pytest
from cli_process import start
from store_samples import distributions, prediction_header, snapshot, write_predictions

from vsscli.store.reader import open_store
from vsscli.store.verify import verify

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")

MEANS = {"alley": distributions(5, 8), "street": distributions(4, 70)}
WRITE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from store_samples import distributions, prediction_header, write_predictions
from vsscli.errors import VssError
try:
    write_predictions(
        Path(sys.argv[1]), prediction_header(), {{"alley": distributions(5, 8), "street": distributions(4, 70)}}
    )
except VssError as error:
    print(error.message, "|", error.hint)
    sys.exit(2)
"""


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_write_that_the_disk_cuts_off_is_told_and_gone_on_with(tmp_path: Path, share: float) -> None:
    whole = snapshot(write_predictions(tmp_path / "whole" / "a.zarr", prediction_header(), MEANS).path)
    limit = max(int(share * max(map(len, whole.values()))), 1100)
    path = tmp_path / "full" / "a.zarr"
    # The kernel cuts every file at the limit, in the middle of a write, as a full disk does.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        process = start(WRITE, str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 2, complaint
    assert "cannot write" in said
    assert "File too large" in said
    assert "make room" in said
    assert os.listdir(path.parent) in ([], ["a.zarr"])
    if (path / "zarr.json").exists():
        assert verify(open_store(path)) == []
        assert "street" not in open_store(path).videos()
    write_predictions(path, prediction_header(), MEANS)
    assert snapshot(path) == whole
    assert os.listdir(path.parent) == ["a.zarr"]
