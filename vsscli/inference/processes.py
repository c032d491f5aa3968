"""Starting one process for each device, with Lightning Fabric; or joining those that torchrun or srun started."""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.inference.devices import resolve_device, set_float32
from vsscli.inference.memory import keep_freed_memory
from vsscli.inference.peers import announce, end_with, end_with_parent

PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}

PATIENCE = timedelta(days=7)
"""How long processes wait for each other: the first one fuses or packs alone, which may take hours."""


def launch(device: str, devices: int, precision: str = "32", *, nodes: int = 1, strategy: str = "auto") -> Fabric:
    """Start the processes of a command; each of them returns from here with its own fabric.

    Fabric starts the other processes by running the command line again, so all of them make the same calls. They are
    started once: the same arguments return the same fabric. Under torchrun or srun all processes are there already.

    Parameters
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    devices, nodes
        Number of processes on each machine, one for each device, and of machines; if both are 1, as many as torchrun
        or srun has started.
    precision
        Precision of what is set up with the fabric: ``32``, ``bf16`` or ``16``.
    strategy
        What the processes do with weights that are trained: ``ddp`` or ``auto``, each keeps them all; ``sharded``, each
        keeps a share (`vsscli.training.sharding`).

    Raises
    ------
    VssError
        There is no such device, or there are too few; other processes were started than asked for; the address of the
        first one is taken; or a strategy that does not exist or can't train with this precision.
    """
    fabric = _launched(device, devices, precision, nodes, strategy)
    if fabric.device.type == "cuda":
        set_float32(exact=precision == "32")
    return fabric


@lru_cache
def _launched(device: str, devices: int, precision: str, nodes: int, strategy: str) -> Fabric:
    started = _started(devices, nodes)
    place = resolve_device(device)
    chosen: int | list[int] = started.devices
    if place.type == "cpu":
        keep_freed_memory()
    if place.type == "cuda":
        if started.devices > torch.cuda.device_count():
            raise VssError(
                f"this machine has {torch.cuda.device_count()} GPUs, not {started.devices}", "ask for fewer --devices"
            )
        if started.devices == 1:
            chosen = [place.index]
        elif device.startswith("cuda:"):
            raise VssError(f"--device {device} is one GPU, but --devices is {started.devices}", "use --device cuda")
    fabric = Fabric(
        accelerator=place.type,
        devices=chosen,
        num_nodes=started.nodes,
        strategy=_strategy(strategy, started.devices * started.nodes, precision),
        precision=PRECISION[precision],
        plugins=[started.environment],
    )
    if isinstance(started.environment, LightningEnvironment):
        if "LOCAL_RANK" not in os.environ:
            announce()
        elif os.environ["LOCAL_RANK"] != "0":
            end_with_parent()
    try:
        fabric.launch()
    except RuntimeError as error:
        for child in _children(fabric):
            child.kill()
        if "EADDRINUSE" not in str(error):
            raise
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise VssError(
            f"another program uses {address}, where the processes of this command would meet",
            "set MASTER_PORT to another port; unset, a free one is chosen",
        ) from error
    if children := _children(fabric):
        end_with(tuple(children))
        children.clear()  # Fabric's own watch would kill this process without a word
    return fabric


def _children(fabric: Fabric) -> list[subprocess.Popen[bytes]]:
    """The processes that Fabric has started."""
    started: list[subprocess.Popen[bytes]] = getattr(fabric.strategy.launcher, "procs", [])
    return started


class Alone:
    """In place of `Fabric`: one process, which shares out work to a cluster and needs no device."""

    is_global_zero, global_rank, world_size = True, 0, 1
    device = torch.device("cpu")

    def barrier(self) -> None:
        """Wait for no one."""

    def rank_zero_first(self) -> AbstractContextManager[None]:
        """A context that changes nothing."""
        return nullcontext()


def processes_for(context: Context) -> Fabric | Alone:
    """The processes of this machine, or of several, that predict together: see `launch`. Where an engine shares out
    the videos, only the one that asks it to.

    Raises
    ------
    VssError
        As `launch`; or this is one of several that ask an engine, all for the same videos.
    """
    if context.on_cluster:
        if _started(1, 1).environment.global_rank() > 0:
            raise VssError(
                f"--engine {context.engine} shares out the videos of one command, and several were started",
                "start vss without torchrun, and by srun with one task",
            )
        return Alone()
    return launch(context.device, context.devices, nodes=context.nodes)


class _Started(NamedTuple):
    environment: ClusterEnvironment
    devices: int
    nodes: int


def _started(devices: int, nodes: int) -> _Started:
    """How the processes of this command are started, how many on each machine, and on how many machines."""
    env = os.environ
    launcher: type[ClusterEnvironment]
    if TorchElasticEnvironment.detect():
        launcher, who = TorchElasticEnvironment, "torchrun"
        each = int(env["LOCAL_WORLD_SIZE"])
        machines = int(env["WORLD_SIZE"]) // each
    elif int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_STEP_ID" in env:
        # A batch script itself has variables of SLURM's, too, but is not a step.
        launcher, who = SLURMEnvironment, "srun"
        machines = int(env.get("SLURM_STEP_NUM_NODES", env.get("SLURM_NNODES", "1")))
        each = int(env["SLURM_STEP_NUM_TASKS"]) // machines
    elif nodes > 1:
        raise VssError(
            f"--nodes {nodes} needs a program that starts vss on every machine",
            "start it with torchrun or srun: docs/scale.md shows how",
        )
    else:
        return _Started(LightningEnvironment(), devices, 1)
    if (devices, nodes) not in ((1, 1), (each, machines)):
        raise VssError(
            f"{who} started {each} processes on each of {machines} machines, but --devices is {devices} and --nodes is "
            f"{nodes}",
            f"leave both out: {who} says how many",
        )
    try:
        return _Started(launcher(), each, machines)
    except RuntimeError as error:  # of SLURM's variables
        raise VssError(str(error).replace(" HINT: ", "\n"), "docs/scale.md has a job that works") from error


def _strategy(name: str, processes: int, precision: str) -> Strategy | str:
    if name == "sharded":
        if precision == "16":
            raise VssError(
                "--strategy sharded does not train with train.precision 16: each process would scale its own gradients",
                "set train.precision to bf16 or 32",
            )
        return ModelParallelStrategy(_as_it_is, processes, 1, timeout=PATIENCE)
    if name not in ("auto", "ddp"):
        raise VssError(f"--strategy {name} is not known", "give auto, ddp or sharded")
    return DDPStrategy(timeout=PATIENCE) if processes > 1 else "auto"


def _as_it_is(module: nn.Module, mesh: object) -> nn.Module:
    """Weights are shared out before this, because optimisers and averages are made of the shares."""
    return module
