"""Figures of a run as Weights & Biases and MLflow keep them, without their servers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsscli.talk import SILENCE
from vsscli.training.trackers import NOTE, Tracked, Trackers

SETTINGS = {"name": "student", "train": {"steps": 3, "lr": 0.001}}


def follow(name: str, folder: Path) -> None:
    """A run that is interrupted after two steps, and continued."""
    folder.mkdir()
    trackers = Trackers([name], Tracked(folder, SETTINGS, 0), SILENCE)
    trackers.record(1, {"loss": 2.0})
    trackers.record(2, {"loss": 1.0, "miou": 0.5})
    trackers.close(ended=False)
    trackers = Trackers([name], Tracked(folder, SETTINGS, 2), SILENCE)
    trackers.record(3, {"loss": 0.5})
    trackers.close(ended=True)


def test_mlflow_has_one_run_with_all_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "server").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    follow("mlflow", tmp_path / "student")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("vss")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("student", "FINISHED")
    assert run.data.params == {"name": "student", "train.steps": "3", "train.lr": "0.001"}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert run.data.metrics["miou"] == 0.5


BLOCK = 2**15
"""W&B keeps records as LevelDB does: in blocks, each part with its checksum, length, and place within the record."""


def records(data: bytes) -> Iterator[bytes]:
    """The records of a ``.wandb`` file."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_wandb_keeps_both_parts_under_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    follow("wandb", tmp_path / "student")
    seen, names = {}, set()
    for path in (tmp_path / "student" / "wandb").glob("offline-run-*/*.wandb"):
        for data in records(path.read_bytes()):
            record = Record.FromString(data)
            if record.run.run_id:
                names.add((record.run.run_id, record.run.project, record.run.display_name))
            if record.HasField("history"):
                row = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
                seen[int(row["_step"])] = float(row["loss"])
    assert seen == {1: 2.0, 2: 1.0, 3: 0.5}
    ((number, project, name),) = names
    assert (project, name) == ("vss", "student")
    assert number in (tmp_path / "student" / NOTE).read_text()
