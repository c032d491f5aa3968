"""A crash costs at most the current segment, and never leaves a wrong byte."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from ranks import fork_server
from store_crashes import at_step, write_and_die, write_sample, write_video
from store_samples import distributions, prediction_header, snapshot, stems, write_predictions

from vsscli.errors import VssError
from vsscli.store.reader import open_store
from vsscli.store.verify import verify
from vsscli.store.work import WorkFolder, is_alive, this_process
from vsscli.store.writer import StoreWriter

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills and forks")


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    """Processes that run at the same time."""
    return fork_server()


def run(target: Callable[..., None], *arguments: Any) -> int:
    """Call a function in a forked process; return its exit code. The writer has no threads, so a bare fork is safe."""
    child = os.fork()
    if child == 0:
        try:
            target(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncing protects from power cuts, which these tests do not simulate."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize(
    ("kind", "points", "stride"),
    [("pseudo", 40, 1), ("prediction", 100, 3), pytest.param("prediction", 100, 1, marks=pytest.mark.slow)],
)
def test_killed_at_any_step_the_same_command_ends_with_the_same_bytes(
    tmp_path: Path, kind: str, points: int, stride: int
) -> None:
    write_sample(tmp_path / "whole.zarr", kind)
    undisturbed = snapshot(tmp_path / "whole.zarr")
    for step in range(0, 10**6, stride):
        path = tmp_path / str(step) / "a.zarr"
        code = run(write_and_die, path, kind, step)
        if code == 0:
            break
        assert code == 9
        if (path / "zarr.json").exists():
            # What the dead one recorded is whole, and what it did not record is not read.
            store = open_store(path)
            assert verify(store) == []
            for video in set(store.videos(complete=False)) - set(store.videos()):
                with pytest.raises(VssError, match="not there yet"):
                    store.read(video, "pseudo_label" if kind == "pseudo" else "label", 65)
        write_sample(path, kind)
        assert snapshot(path) == undisturbed, f"died at step {step}"
        assert os.listdir(path.parent) == ["a.zarr"]
    assert step >= points


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_refused_by_the_disk_or_stopped_by_hand_it_leaves_nothing_behind_and_goes_on(
    tmp_path: Path, error: BaseException
) -> None:
    write_sample(tmp_path / "whole.zarr", "prediction")
    undisturbed = snapshot(tmp_path / "whole.zarr")

    def fail() -> None:
        # Ctrl-C reaches the main thread only; Zarr writes from another.
        if isinstance(error, OSError) or threading.current_thread() is threading.main_thread():
            raise error

    for step in range(0, 10**6, 11):
        path = tmp_path / str(step) / "a.zarr"
        raised: BaseException | None = None
        try:
            with at_step(step, fail):
                write_sample(path, "prediction")
        except (VssError, KeyboardInterrupt) as caught:
            raised = caught
        if raised is None:
            break
        assert isinstance(raised, KeyboardInterrupt) or "No space left on device" in str(raised)
        left = os.listdir(path.parent) if path.parent.exists() else []
        assert left in ([], ["a.zarr"])
        write_sample(path, "prediction")
        assert snapshot(path) == undisturbed
    assert step > 30


def test_kill_minus_nine_of_a_real_process_costs_one_segment(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    means = distributions(4, 300)
    script = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from store_samples import distributions, prediction_header, write_predictions
        for t in range(40):
            write_predictions(Path({str(path)!r}), prediction_header(), {{f"v{{t}}": distributions(4, 300)}})
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 60
        while not (path / "v0" / "top_probability" / "c" / "1").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert verify(open_store(path)) == []
    assert len(open_store(path).record("v0").segments) >= 1
    write_predictions(path, prediction_header(), {"v0": means})
    whole = write_predictions(tmp_path / "b.zarr", prediction_header(), {"v0": means})
    assert snapshot(path / "v0") == snapshot(whole.path / "v0")


def test_processes_on_different_videos_of_one_store_all_succeed(tmp_path: Path, forks: ForkServerContext) -> None:
    path = tmp_path / "new" / "a.zarr"
    ready = forks.Event()
    videos = ["a", "bb", "ccc", "dddd"]
    processes = [forks.Process(target=write_video, args=(path, video, ready)) for video in videos]
    for process in processes:
        process.start()
    ready.set()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    together = {video: distributions(len(video), 3) for video in videos}
    alone = write_predictions(tmp_path / "alone" / "a.zarr", prediction_header(), together)
    assert snapshot(path) == snapshot(alone.path)
    assert os.listdir(path.parent) == ["a.zarr"]


def test_a_video_that_a_living_process_writes_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    with StoreWriter(path, prediction_header()) as first, StoreWriter(path, prediction_header()) as second:
        first.pending("street", stems(3), (5, 6))
        with pytest.raises(VssError, match=f"being written by process {os.getpid()}") as raised:
            second.pending("street", stems(3), (5, 6))
        assert "street.json" in raised.value.hint
        assert second.pending("alley", stems(3), (5, 6))
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_a_lock_is_taken_over_only_from_the_dead(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "a.zarr")
    work.lock("street")
    path = work.lock_path("street")
    me = this_process()

    def held_by(**changes: Any) -> None:
        path.write_text(json.dumps({**me, **changes}))

    held_by(host="another machine", pid=1)
    with pytest.raises(VssError, match="another machine"):
        work.lock("street")
    # This process's number, but it started at another time: the number was given out again.
    held_by(started=1)
    work.lock("street")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    held_by(pid=dead.pid, started=None)
    work.lock("street")
    path.write_text("{")
    work.lock("street")
    work.release("street")
    work.tidy()
    assert os.listdir(tmp_path) == []


def test_a_dead_child_that_nobody_buried_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    deadline = time.monotonic() + 10
    while is_alive({**this_process(), "pid": child.pid, "started": None}) and time.monotonic() < deadline:
        time.sleep(0.01)
    alive = is_alive({**this_process(), "pid": child.pid, "started": None})
    child.wait()
    assert not alive or not Path("/proc").is_dir()
