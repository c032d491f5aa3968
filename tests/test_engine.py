"""Work shared out by video: the same results in any number of processes, and one clear word when one of them ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from listener import Counting, Listener
from store_samples import CLASSES, distributions, prediction_header, snapshot, write_predictions

from vsscli.context import Context
from vsscli.engine.engine import Engine, grouped
from vsscli.engine.local import packed
from vsscli.engine.part import Part
from vsscli.engine.relay import EVERY, Relay
from vsscli.errors import VssError
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.temporal import smooth
from vsscli.fusion.threshold import threshold_from_percentile, write_pseudo
from vsscli.pipeline.ensemble import ensemble
from vsscli.store.reader import Store, open_store
from vsscli.store.remote import place_of
from vsscli.talk import Talk

TWO = Engine(2)


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers; ``trouble`` happens at 3."""

    trouble: str = ""

    def __call__(self, numbers: Sequence[int], threads: int, talk: Talk) -> Iterator[int]:
        with talk.track("doubling", 0) as done:
            for number in numbers:
                if number == 3:
                    self.meet(talk)
                done(1)
                yield 2 * number

    def meet(self, talk: Talk) -> None:
        if self.trouble == "error":
            raise VssError("3 can't be doubled", "leave it out")
        if self.trouble == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        talk.say("three")
        talk.warn("three!")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_with_messages_and_progress(workers: int) -> None:
    heard = Counting()
    numbers = [*range(5), 3]
    assert list(Engine(workers).map("double", Doubling(), numbers, [1] * 6, heard)) == [0, 2, 4, 6, 8, 6]
    assert (heard.said, heard.warned) == (["three"], ["three!"])
    assert heard.done == heard.total == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_in_order_comes_back(workers: int) -> None:
    results = Engine(workers).map("double", Doubling("error"), range(6), [1] * 6)
    taken = []
    with pytest.raises(VssError, match="3 can't be doubled") as caught:
        taken += [next(results) for _ in range(6)]
    assert caught.value.hint == "leave it out"


class Full(Counting):
    """A listener that takes no more."""

    def __call__(self, done: int) -> None:
        raise OSError("no room for progress")


@dataclass(frozen=True)
class Chatting:
    """Says more than a pipe holds."""

    def __call__(self, numbers: Sequence[int], threads: int, talk: Talk) -> Iterator[int]:
        with talk.track("chatting", 0) as done:
            for number in numbers:
                done(1)
                for line in range(200):
                    talk.say(f"{number} {line} {'.' * 1000}")
                yield number


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_listener_ends_the_work(workers: int) -> None:
    with pytest.raises(OSError, match="no room"):
        list(Engine(workers).map("chat", Chatting(), range(8), [1] * 8, Full()))


def test_progress_is_sent_at_once_and_then_in_tenths_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = [0.0], []
    monkeypatch.setattr("vsscli.engine.relay.monotonic", lambda: now[0])
    with Relay(lambda kind, value: sent.append((now[0], kind, value)), EVERY).track("doubling", 14) as done:
        for now[0], units in ((0.0, 1), (0.05, 2), (0.09, 3), (0.1, 4), (0.19, 1), (0.15, 3)):
            done(units)
    assert sent == [(0.0, "done", 1), (0.1, "done", 9), (0.15, "done", 4)]


def test_a_process_that_is_killed_ends_the_work_with_a_word_on_memory() -> None:
    with pytest.raises(VssError, match="worker process died") as caught:
        list(TWO.map("double", Doubling("killed"), range(6), [1] * 6))
    assert "--workers" in caught.value.hint


class Waiting:
    """Reports progress for ever."""

    def __call__(self, numbers: Sequence[int], threads: int, talk: Talk) -> Iterator[int]:
        with talk.track("wait", 0) as done:
            while True:
                done(1)
                time.sleep(0.01)
        yield 0


def test_ctrl_c_ends_the_processes_at_their_next_frame() -> None:
    timer = threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(TWO.map("wait", Waiting(), range(2), [1, 1]))
    assert time.monotonic() - began < 30


def test_what_can_not_be_sent_runs_in_this_process() -> None:
    here = threading.Lock()

    def task(numbers: Sequence[int], threads: int, talk: Talk) -> Iterator[tuple[int, int]]:
        with here:
            yield from ((os.getpid(), threads) for _ in numbers)

    assert list(TWO.map("here", task, range(2), [1, 1])) == [(os.getpid(), 2)] * 2
    assert packed(place_of("memory://store/a.zarr")) is None
    assert packed(place_of("http://store/a.zarr")) is not None


def test_short_videos_go_together() -> None:
    assert list(grouped("abcdef", [5, 1, 1, 1, 4, 1], 3)) == [["a"], ["b", "c", "d"], ["e"], ["f"]]


class Modules:
    def __call__(self, numbers: Sequence[int], threads: int, talk: Talk) -> Iterator[bool]:
        yield from ("torch" in sys.modules for _ in numbers)


def test_a_script_without_a_guard_starts_processes_once_and_without_torch(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from test_engine import Modules, TWO\n"
        "print(list(TWO.map('modules', Modules(), range(2), [1, 1])))\n"
    )
    place = {**os.environ, "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), *filter(None, sys.path)))}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=place, check=False)
    assert done.stdout == "once\n[False, False]\n", done.stderr


# What uses it


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    folder = tmp_path_factory.mktemp("sources")
    lengths = {"alley": 3, "lane": 70, "street": 6}
    return [
        write_predictions(
            folder / f"{seed}.zarr",
            prediction_header(weights=f"seed {seed}"),
            {name: distributions(seed + number, length) for number, (name, length) in enumerate(lengths.items())},
        )
        for seed in (1, 2)
    ]


def test_stores_have_the_same_bytes_from_any_number_of_processes(tmp_path: Path, stores: list[Store]) -> None:
    made = []
    for engine in (Engine(1), TWO):
        folder = tmp_path / str(engine.workers)
        fused = open_store(fuse(stores, [1, 2], folder / "fused.zarr", engine=engine))
        smooth(fused, 1, folder / "smooth.zarr", engine=engine)
        limit = threshold_from_percentile(fused, 70, by_class=True, engine=engine)
        report = write_pseudo(fused, folder / "pseudo.zarr", limit, engine=engine)
        made.append((snapshot(folder), limit, report.class_pixels, report.class_reliable))
        assert len(report.class_pixels) == CLASSES
    assert made[0] == made[1]
    assert not any(".work" in name for name in made[1][0])


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_all_videos_once_and_about_as_long(count: int) -> None:
    lengths = [5, 90, 7, 80, 6, 70, 60]
    parts = [Part(number + 1, count).of(range(7), lengths) for number in range(count)]
    assert sorted(index for part in parts for index in part) == [*range(7)]
    assert all(part == sorted(part) for part in parts)
    frames = [sum(lengths[index] for index in part) for part in parts]
    assert max(frames) - min(frames) <= 90


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(VssError) as caught:
        Part.parse(text)
    assert "--part 1/4" in caught.value.hint


def test_parts_of_a_fusion_have_the_bytes_of_the_whole(tmp_path: Path, stores: list[Store]) -> None:
    whole = fuse(stores, [1, 2], tmp_path / "whole.zarr", engine=Engine(1))
    for number in (2, 1):
        parts = fuse(stores, [1, 2], tmp_path / "parts.zarr", engine=Engine(1), part=Part(number, 2))
    assert snapshot(parts) == snapshot(whole)
    for number in (1, 2):
        smooth(open_store(parts), 1, tmp_path / "smooth.zarr", engine=Engine(1), part=Part(number, 2))
    assert snapshot(tmp_path / "smooth.zarr") == snapshot(smooth(open_store(parts), 1, tmp_path / "all.zarr"))


def test_a_part_of_a_fusion_is_not_said_to_be_the_whole(tmp_path: Path, stores: list[Store]) -> None:
    talk = Listener()
    ensemble([store.path for store in stores], part=Part(2, 2), context=Context(tmp_path, talk=talk))
    assert talk.said[-1].startswith("fused part 2/2 of 2 stores")
    assert "whole once all parts are there" in talk.said[-1]


def test_a_part_is_not_smoothed_before_the_whole_is_fused(stores: list[Store]) -> None:
    with pytest.raises(VssError, match="smoothing needs the whole fusion"):
        ensemble([store.path for store in stores], temporal=1, part=Part(1, 2))


class Dying(Store):
    """Kills the process that reads frame 66 of a video."""

    def label(self, video: str, t: int | slice) -> np.ndarray:
        if (video, t) == ("lane", 66):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().label(video, t)


def test_a_fusion_that_lost_a_process_goes_on_with_the_same_bytes(tmp_path: Path, stores: list[Store]) -> None:
    whole = snapshot(fuse(stores, [1, 2], tmp_path / "whole.zarr", engine=Engine(1)))
    dying = Dying(stores[0].path, stores[0].header)
    with pytest.raises(VssError, match="worker process died"):
        fuse([dying, stores[1]], [1, 2], tmp_path / "f.zarr", engine=TWO)
    assert not open_store(tmp_path / "f.zarr").record("lane").is_complete
    assert snapshot(fuse(stores, [1, 2], tmp_path / "f.zarr", engine=TWO)) == whole
