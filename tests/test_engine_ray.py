"""Work shared out to a Ray cluster of two nodes on this machine: run by `nox -s ray`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from cli_process import vss
from evaluation_samples import table_of, write_labels, write_video
from listener import Counting, Listener
from small import CHAIN, small_loop, small_recipe, with_scene, write_network
from store_samples import distributions, prediction_header, snapshot, write_predictions

from vsscli import __version__
from vsscli.context import Context
from vsscli.data.masks import MaskIds
from vsscli.engine.actor import Caller
from vsscli.engine.cluster import GRACE
from vsscli.engine.engine import Engine
from vsscli.engine.part import Part
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels
from vsscli.evaluation.score import score
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.threshold import Threshold, write_pseudo
from vsscli.pipeline.predict import predict_split
from vsscli.stages.job import open_job
from vsscli.stages.run import run_pipeline
from vsscli.store.reader import Store, open_store
from vsscli.store.remote import place_of
from vsscli.talk import SILENCE, Talk

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402
from ray_samples import Mortal  # noqa: E402

pytestmark = pytest.mark.ray

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
ON_RAY = Engine(place="ray")


class Ports(NamedTuple):
    """Where an S3 server, and commands from outside the cluster, may be listened for."""

    s3: int
    client: int


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    """Free ports; that of S3 and this folder are in the environment that the cluster's processes inherit."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        free = Ports(one.getsockname()[1], other.getsockname()[1])
    variables = {
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free.s3}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield free


@pytest.fixture
def bucket(ports: Ports) -> Iterator[str]:
    """The name of a bucket on an S3 server of this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", ports.s3, verbose=False)
    files = pytest.importorskip("s3fs").S3FileSystem()
    server.start()
    files.mkdir("bucket")
    yield "bucket"
    server.stop()


@pytest.fixture(scope="module")
def cluster(ports: Ports) -> Iterator[Any]:
    head = {**NODE, "include_dashboard": False, "ray_client_server_port": ports.client}
    cluster = Cluster(initialize_head=True, head_node_args=head)
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


def test_results_come_in_order_with_messages_and_the_first_error(
    cluster: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = Listener()
    assert list(ON_RAY.map("double", Doubling(), range(6), [16] * 6, heard)) == [0, 2, 4, 6, 8, 10]
    assert heard.warned == ["doubled"]
    with pytest.raises(VssError, match="-1 can't be doubled") as caught:
        list(ON_RAY.map("double", Doubling(), [1, -1, 2], [16] * 3))
    assert caught.value.hint == "leave it out"
    assert "Actor" not in capfd.readouterr().err  # Ray warns once of how it is started


@dataclass(frozen=True)
class Failing:
    """Warns of each number and fails, 1 after 3, which leaves a file."""

    failed: Path

    def __call__(self, numbers: Sequence[int], threads: int, talk: Talk) -> Iterator[int]:
        for number in numbers:
            talk.warn(f"{number} is odd")
            talk.warn(f"{number} has no half")
            while number == 1 and not self.failed.exists():
                time.sleep(0.1)
            self.failed.touch()
            time.sleep(4 - number)
            raise VssError(f"{number} can't be halved", "leave it out")
        yield 0


def test_the_first_error_in_order_is_raised_after_what_was_said_before_it(cluster: Any, tmp_path: Path) -> None:
    heard = Listener()
    with pytest.raises(VssError, match="1 can't be halved") as caught:
        list(ON_RAY.map("halve", Failing(tmp_path / "failed"), [1, 3], [16] * 2, heard))
    assert "in __call__" in str(caught.value.__cause__)
    assert sorted(heard.warned) == ["1 has no half", "1 is odd", "3 has no half", "3 is odd"]


class Impatient(Listener):
    def warn(self, text: str) -> None:
        raise VssError(text)


def test_waiting_for_a_machine_with_a_gpu_is_said(cluster: Any) -> None:
    with pytest.raises(VssError, match="cluster has no GPU"):
        list(Engine(place="ray", device="cuda").map("double", Doubling(), [1], [16], Impatient()))


def test_an_actor_that_waits_for_a_machine_is_not_waited_for(cluster: Any) -> None:
    timer = threading.Timer(2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(Engine(place="ray", device="cuda").map("double", Doubling(), [1], [16]))
    assert time.monotonic() - begun < GRACE / 2


def test_why_ray_does_not_start_or_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(address: str | None = None, **options: Any) -> None:
        raise ConnectionError("no cluster") if address else ValueError("object store\nexceeds /dev/shm")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(VssError, match=r"object store exceeds /dev/shm") as caught:
        list(ON_RAY.map("double", Doubling(), [1], [16]))
    assert "--engine local" in caught.value.hint
    with pytest.raises(VssError, match=r"ray://head:10001: no cluster") as caught:
        list(Engine(place="ray://head:10001").map("double", Doubling(), [1], [16]))
    assert "port" in caught.value.hint


def test_an_actor_has_one_thread_whatever_its_machine_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    packed = ray.cloudpickle.dumps(Doubling())
    assert Caller(packed, None, str(tmp_path), __version__, "name").settle() == Doubling()
    assert os.environ["OMP_NUM_THREADS"] == "1"
    for caller, named in (
        (Caller(packed, None, str(tmp_path), "0.1", "name"), "0.1"),
        (Caller(packed, None, str(tmp_path / "gone"), __version__, "name"), str(tmp_path / "gone")),
    ):
        with pytest.raises(VssError, match=named) as caught:
            caller.settle()
        assert "machine" in caught.value.hint


@dataclass(frozen=True)
class Waiting:
    """Goes on when its progress was heard."""

    heard: Path

    def __call__(self, numbers: Sequence[int], threads: int, talk: Talk) -> Iterator[int]:
        deadline = time.monotonic() + 120
        with talk.track("waiting", 0) as done:
            done(1)
            while not self.heard.exists():
                if time.monotonic() > deadline:
                    raise VssError("nobody heard")
                time.sleep(0.05)
        yield from numbers


class Answering(Counting):
    """Makes a file when it hears of progress."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def __call__(self, done: int) -> None:
        super().__call__(done)
        if done:
            self._file.touch()


def test_progress_is_heard_while_a_video_is_worked_on(cluster: Any, tmp_path: Path) -> None:
    file = tmp_path / "heard"
    answering = Answering(file)
    assert list(ON_RAY.map("wait", Waiting(file), [7], [1], answering)) == [7]
    assert answering.done == 1


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


# Networks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose split ``train`` has videos of more than one segment."""
    folder = tmp_path_factory.mktemp("model")
    recipe = with_scene(small_recipe(folder / "data"), videos=6, unlabelled_videos=1, frames=70)
    return write_network(folder / "m.pt", recipe)


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a store that this process predicted."""
    folder = tmp_path_factory.mktemp("whole")
    return snapshot(predict_split(model, "train", context=Context(folder, device="cpu"), plan="flip").store)


def on_ray(folder: Path, talk: Talk = SILENCE, data_root: Path | None = None) -> Context:
    return Context(folder, data_root, "cpu", talk=talk, engine="ray")


def test_predictions_are_those_of_one_and_two_processes_and_of_parts(
    cluster: Any, model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    heard = Counting()
    done = predict_split(model, "train", context=on_ray(tmp_path, heard), plan="flip", out=tmp_path / "ray.zarr")
    assert (done.predicted, done.cached) == (420, 0)
    assert heard.done == heard.total == 420
    assert [said.partition(",")[0] for said in heard.said] == ["predicting 420 frames of street"]
    assert snapshot(tmp_path / "ray.zarr") == whole
    again = predict_split(model, "train", context=on_ray(tmp_path), plan="flip", out=tmp_path / "ray.zarr")
    assert (again.predicted, again.cached) == (0, 420)
    line = ("predict", "--model", model, "--split", "train", "--tta-plan", "flip", "--device", "cpu", "-q")
    two = vss(*line, "--devices", "2", "--out", tmp_path / "two.zarr", cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    assert snapshot(tmp_path / "two.zarr") == whole
    for part in (2, 1):
        here = Context(tmp_path, device="cpu")
        predict_split(model, "train", context=here, plan="flip", out=tmp_path / "parts.zarr", part=Part(part, 2))
    assert snapshot(tmp_path / "parts.zarr") == whole


def test_a_command_outside_the_cluster_connects_to_it(
    cluster: Any, ports: Ports, model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    line = ("predict", "--model", model, "--split", "train", "--tta-plan", "flip", "--device", "cpu", "-q", "--json")
    done = vss(*line, "--engine", f"ray://127.0.0.1:{ports.client}", "--out", tmp_path / "s.zarr", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["predicted"] == 420
    assert snapshot(tmp_path / "s.zarr") == whole


def dying(monkeypatch: pytest.MonkeyPatch, deaths: Path, most: int) -> None:
    """Let processes that predict die at random, ``most`` times."""
    deaths.mkdir()
    monkeypatch.setattr("vsscli.pipeline.predict.Predicting", partial(Mortal, deaths=deaths, most=most))


def test_ten_random_deaths_change_no_byte(
    cluster: Any, model: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying(monkeypatch, tmp_path / "deaths", 8)
    heard, deaths = Counting(), 0
    with ThreadPoolExecutor(1) as pool:  # Ray starts nodes in the main thread only
        done = pool.submit(
            predict_split, model, "train", context=on_ray(tmp_path, heard), plan="flip", out=tmp_path / "s.zarr"
        )
        for after in (2, 5):
            while deaths < after and not done.done():
                time.sleep(0.1)
                deaths = len(list((tmp_path / "deaths").iterdir()))
            node = next(iter(cluster.worker_nodes))
            cluster.add_node(**NODE)
            cluster.remove_node(node, allow_graceful=False)
            assert not done.done()
        done.result()
    assert len(list((tmp_path / "deaths").iterdir())) == 8
    assert snapshot(tmp_path / "s.zarr") == whole
    assert heard.done == 420
    assert not list(tmp_path.glob(".*.work"))


def test_an_error_is_the_one_that_this_process_raises_and_leaves_no_lock(
    cluster: Any, model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    shutil.copytree(model.parent / "data", tmp_path / "data")
    broken = next((tmp_path / "data").rglob("train-003/origin/00040.jpg"))
    before = broken.read_bytes()
    broken.write_bytes(before[:200])
    errors = []
    for name in ("ray", "local"):
        context = Context(tmp_path, tmp_path / "data", "cpu", engine=name)
        with pytest.raises(VssError, match=r"00040\.jpg") as caught:
            predict_split(model, "train", context=context, plan="flip", out=tmp_path / f"{name}.zarr")
        errors.append((caught.value.message, caught.value.hint))
    assert errors[0] == errors[1]
    assert not list(tmp_path.glob(".*.work"))
    broken.write_bytes(before)
    continued = on_ray(tmp_path, data_root=tmp_path / "data")
    store = predict_split(model, "train", context=continued, plan="flip", out=tmp_path / "ray.zarr").store
    assert {name for name, data in snapshot(store).items() if data != whole[name]} <= {"zarr.json"}  # names the root


def test_a_pipeline_leaves_the_stores_figures_and_zip_of_this_process(cluster: Any, tmp_path: Path) -> None:
    pipeline, left = small_loop(tmp_path, CHAIN, steps=2), {}
    for name in ("local", "ray"):
        run_pipeline(open_job(pipeline, context=Context(tmp_path / name, device="cpu", engine=name)))
        left[name] = snapshot(tmp_path / name)
    scores = [json.loads(files["chain/summary.json"])["tables"] for files in left.values()]
    assert scores[0] == scores[1]
    # The header of a store names the folder of its data, which is drawn in the workspace.
    same = [name for name in left["local"] if name.startswith("stores/") and not name.endswith(".zarr/zarr.json")]
    same.append("chain/zip/submission.zip")
    assert len(same) > 50
    assert [name for name in same if left["local"][name] != left["ray"].get(name)] == []


def test_predictions_in_a_bucket_are_those_on_a_disk(
    cluster: Any, bucket: str, model: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    url = f"s3://{bucket}/runs/a.zarr"
    dying(monkeypatch, tmp_path / "deaths", 2)
    predict_split(model, "train", context=on_ray(tmp_path), plan="flip", out=Path(url))
    files = fsspec.filesystem("s3", use_listings_cache=False)
    below = files.find(f"{bucket}/runs")
    assert {key.removeprefix(f"{bucket}/runs/a.zarr/"): files.cat_file(key) for key in below} == whole
    assert open_store(place_of(url)).videos() == tuple(f"train-00{number}" for number in range(6))
