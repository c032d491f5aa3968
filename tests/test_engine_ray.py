"""Work shared out to a Ray cluster of two nodes on this machine: run by `nox -s ray`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_samples import table_of, write_labels, write_video
from listener import Listener
from store_samples import distributions, prediction_header, snapshot, write_predictions

from vsscli.data.masks import MaskIds
from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels
from vsscli.evaluation.score import score
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.threshold import Threshold, write_pseudo
from vsscli.store.reader import Store, open_store
from vsscli.store.remote import place_of
from vsscli.talk import Talk

pytestmark = pytest.mark.ray

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
ON_RAY = Engine(place="ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    folder = tmp_path_factory.mktemp("sources")
    lengths = {"alley": 20, "lane": 70, "street": 20, "way": 20}
    return [
        write_predictions(
            folder / f"{seed}.zarr",
            prediction_header(weights=f"seed {seed}"),
            {name: distributions(seed + number, length) for number, (name, length) in enumerate(lengths.items())},
        )
        for seed in (1, 2)
    ]


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers, slowly if asked; dies at 3 unless a file says that it did; knows no -1."""

    died: Path | None = None
    seconds: float = 0

    def __call__(self, numbers: Sequence[int], threads: int, talk: Talk) -> Iterator[int]:
        with talk.track("doubling", 0) as done:
            for number in numbers:
                if number == -1:
                    raise VssError("-1 can't be doubled", "leave it out")
                if number == 3 and self.died is not None and not self.died.exists():
                    self.died.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(self.seconds)
                talk.warn("doubled")
                done(16)
                yield 2 * number


def test_results_come_in_order_with_messages_and_the_first_error(cluster: Any) -> None:
    heard = Listener()
    assert list(ON_RAY.map("double", Doubling(), range(6), [16] * 6, heard)) == [0, 2, 4, 6, 8, 10]
    assert heard.warned == ["doubled"]
    with pytest.raises(VssError, match="-1 can't be doubled") as caught:
        list(ON_RAY.map("double", Doubling(), [1, -1, 2], [16] * 3))
    assert caught.value.hint == "leave it out"


def test_figures_and_bytes_are_those_of_one_process(cluster: Any, tmp_path: Path, stores: list[Store]) -> None:
    made = []
    for engine, name in ((Engine(1), "one"), (ON_RAY, "ray")):
        fused = open_store(fuse(stores, [1, 2], tmp_path / name / "f.zarr", engine=engine))
        write_pseudo(fused, tmp_path / name / "p.zarr", Threshold(0.4), engine=engine)
        made.append(snapshot(tmp_path / name))
    assert made[0] == made[1]
    videos = []
    for seed, name in enumerate(("a", "b")):
        labels = np.random.default_rng(seed).integers(0, 3, (20, 8, 9), np.uint8)
        write_labels(tmp_path, name, labels)
        videos.append(write_video(tmp_path, name, np.random.default_rng(9).integers(0, 4, labels.shape, np.uint8)))
    one, ray = (
        score(videos, FolderLabels(tmp_path / "labels"), table_of(3), MaskIds(), engine=engine)
        for engine in (Engine(1), ON_RAY)
    )
    assert one.to_json(per_class=True, per_video=True) == ray.to_json(per_class=True, per_video=True)


def test_a_worker_that_dies_costs_its_video_only(cluster: Any, tmp_path: Path) -> None:
    assert list(ON_RAY.map("double", Doubling(tmp_path / "died"), range(6), [16] * 6)) == [0, 2, 4, 6, 8, 10]
    assert (tmp_path / "died").exists()


def test_a_node_that_is_lost_leaves_its_videos_to_the_others(cluster: Any) -> None:
    lost = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    results = ON_RAY.map("double", Doubling(seconds=0.5), range(12), [16] * 12)
    first = next(results)
    cluster.remove_node(lost, allow_graceful=False)
    assert [first, *results] == [2 * number for number in range(12)]


def test_what_stays_in_this_process_is_refused(cluster: Any) -> None:
    class Remote:
        def __init__(self) -> None:
            self.place = place_of("memory://a/b.zarr")

        def __call__(self, numbers: Sequence[int], threads: int, talk: Talk) -> Iterator[int]:
            yield from numbers

    with pytest.raises(VssError, match="in the memory of this process only"):
        list(ON_RAY.map("here", Remote(), range(2), [16, 16]))
