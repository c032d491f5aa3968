"""Several processes of one command: how many, what they share, and what can't be."""

from __future__ import annotations

import socket
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cli_process import vss
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import ModelParallelStrategy
from small import small_recipe, with_scene, write_network, write_recipe
from store_samples import snapshot
from torch import nn

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.inference import processes
from vsscli.inference.peers import is_lost
from vsscli.inference.processes import Alone, launch, processes_for
from vsscli.training.sharding import shard

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1"}
SRUN = {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


@pytest.mark.parametrize(("variables", "rank"), [(TORCHRUN, "RANK"), (SRUN, "SLURM_PROCID")])
def test_several_commands_do_not_ask_a_cluster_for_the_same_videos(
    variables: dict[str, str], rank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(engine="ray")
    assert isinstance(processes_for(context), Alone)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(VssError, match="--engine ray") as caught:
        processes_for(context)
    assert "torchrun" in caught.value.hint
    monkeypatch.setenv(rank, "0")
    assert isinstance(processes_for(context), Alone)  # it may be the first process of a pipeline that trains in four


@pytest.fixture(autouse=True)
def nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fabric, "launch", lambda fabric: None)
    monkeypatch.setattr(processes, "_launched", processes._launched.__wrapped__)
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_PORT", *SRUN):
        monkeypatch.delenv(name, raising=False)


def started(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_processes_wait_for_the_first_one_as_long_as_a_fusion_may_take() -> None:
    fabric = launch("cpu", 2)
    # What Fabric gives to torch.distributed.init_process_group; without it this is half an hour.
    assert fabric.strategy._timeout >= timedelta(days=1)
    assert fabric.strategy.distributed_sampler_kwargs["num_replicas"] == 2


@pytest.mark.parametrize(
    ("variables", "kind"), [(TORCHRUN, TorchElasticEnvironment), (SRUN, SLURMEnvironment)], ids=["torchrun", "srun"]
)
def test_processes_that_are_there_already_are_joined(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], kind: type
) -> None:
    started(monkeypatch, variables)
    for given in ((1, 1), (2, 2)):
        fabric = launch("cpu", given[0], nodes=given[1])
        assert isinstance(fabric.strategy.cluster_environment, kind)
        assert (fabric.world_size, fabric.global_rank, fabric.local_rank) == (4, 3, 1)
    with pytest.raises(VssError, match="started 2 processes on each of 2 machines, but --devices is 4") as caught:
        launch("cpu", 4)
    assert "leave both out" in caught.value.hint


def test_a_batch_script_is_not_one_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM tells a script how many tasks the job may have; it is alone all the same."""
    started(monkeypatch, {name: value for name, value in SRUN.items() if "STEP" not in name})
    assert launch("cpu", 1).world_size == 1
    assert launch("cpu", 2).strategy.distributed_sampler_kwargs["num_replicas"] == 2


def test_several_machines_need_a_launcher() -> None:
    with pytest.raises(VssError, match="--nodes 2 needs a program that starts vss on every machine") as caught:
        launch("cpu", 1, nodes=2)
    assert "torchrun" in caught.value.hint


def test_weights_are_not_shared_out_with_scaled_losses_or_in_another_way() -> None:
    assert isinstance(launch("cpu", 2, strategy="sharded").strategy, ModelParallelStrategy)
    with pytest.raises(VssError, match=r"train\.precision 16") as caught:
        launch("cpu", 2, "16", strategy="sharded")
    assert "bf16" in caught.value.hint
    with pytest.raises(VssError, match="--strategy zero3 is not known"):
        launch("cpu", 2, strategy="zero3")


def test_a_network_without_blocks_is_not_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelParallelStrategy, "device_mesh", {"data_parallel": None})
    fabric = launch("cpu", 2, strategy="sharded")
    network = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 3))
    with pytest.raises(VssError, match=r"has none: its largest parts are 0 \(1,240 weights\), 2 \(123 weights\)"):
        shard(network, fabric)


def test_what_gloo_says_of_a_dead_process_is_recognised() -> None:
    assert is_lost(RuntimeError("[../gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:58527."))
    assert not is_lost(RuntimeError("shape mismatch"))


@pytest.mark.slow
def test_a_port_in_use_is_an_error_and_no_wait(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", small_recipe(tmp_path / "data", steps=2))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = vss("train", recipe, "--device", "cpu", "--devices", "2", cwd=tmp_path, MASTER_PORT=port)
    assert done.returncode == 2
    assert f"another program uses 127.0.0.1:{port}" in done.stderr
    assert not subprocess.run(["pgrep", "-f", str(recipe)], capture_output=True, check=False).stdout


@pytest.mark.slow
def test_one_two_and_three_processes_predict_the_same_bytes(tmp_path: Path) -> None:
    recipe = with_scene(small_recipe(tmp_path / "data"), videos=5)
    line = ("predict", "--model", write_network(tmp_path / "m.pt", recipe), "--split", "train", "--device", "cpu", "-q")
    for devices in (1, 2, 3):
        done = vss(*line, "--devices", str(devices), "--out", tmp_path / f"{devices}.zarr", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert snapshot(tmp_path / f"{devices}.zarr") == snapshot(tmp_path / "1.zarr")
