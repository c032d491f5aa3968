"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell that starts the tests in the background lets them ignore Ctrl-C, and nohup the end of the terminal; every
# process that they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


gc.disable()  # while tests are imported


@pytest.fixture(scope="session", autouse=True)
def _cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests find out about files is not remembered where users' programs look for it."""
    os.environ["VSS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _videos_drawn_once() -> Iterator[None]:
    """Recipes' videos are copies of those that another test had drawn."""
    from drawn_once import copy_scene

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vsscli.data.layouts.draw_scene", copy_scene)
        yield


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Somebody else's folder, which must not change."""
    folder = tmp_path / "others"
    for name in ("alley", "street", "c/0/0/0", "x/1/0/0"):
        (folder / name).mkdir(parents=True)
    for name in ("a.txt", "0.json", "alley.json", "street/b", "c/0/0/0/0", "x/1/0/0/0", "last.pt", "00000.png"):
        (folder / name).write_text(f"of somebody: {name}")
    return folder


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mask classifiers train in this process in a third of the time (`small.compare_few_points`)."""
    from small import compare_few_points

    compare_few_points(monkeypatch)


def pytest_collection_finish() -> None:
    """What is imported stays: looking through it for garbage, again and again, takes a tenth of all time."""
    gc.enable()
    gc.freeze()
