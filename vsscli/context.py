"""Where work takes place: the one object that every function that keeps results accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsscli.names import several
from vsscli.talk import SILENCE, Talk


@dataclass(frozen=True, init=False)
class Context:
    """Where results go, where the data is, what networks run on, and who is informed.

    Parameters
    ----------
    workspace
        Folder of all results.
    data_root
        Folder of the data set, if not the one that a recipe, checkpoint or store names.
    device
        "auto", "cpu", "cuda" or "cuda:N".
    devices, nodes
        Processes to run side by side on each machine, one per device; and machines, whose processes torchrun or srun
        starts. If both are 1, as many as these have started.
    precision
        Arithmetic of networks that predict, "32", "bf16" or "16"; `None`: the recipe's.
    batch_size
        Images at a time; halved automatically when memory runs short.
    talk
        Receives messages and progress.
    strategy
        What processes that train do with the weights: "ddp" or "auto", each keeps them all; "sharded", each keeps a
        share.
    engine
        Where work that falls into videos is done: "local", "ray" or "ray://HOST:PORT"; see docs/scale.md. Networks are
        trained, and frames that are no data set predicted, where the command runs.
    trackers
        Where figures of trainings go besides journal and TensorBoard: "wandb", "mlflow".
    """

    workspace: Path
    data_root: Path | None
    device: str
    devices: int
    precision: str | None
    batch_size: int
    talk: Talk
    engine: str
    trackers: tuple[str, ...]
    nodes: int
    strategy: str

    def __init__(
        self,
        workspace: str | Path = "runs",
        data_root: str | Path | None = None,
        device: str = "auto",
        devices: int = 1,
        precision: str | None = None,
        batch_size: int = 8,
        talk: Talk = SILENCE,
        engine: str = "local",
        trackers: str | Sequence[str] = (),
        nodes: int = 1,
        strategy: str = "auto",
    ) -> None:
        values = {
            "workspace": Path(workspace),
            "data_root": None if data_root is None else Path(data_root),
            "device": device,
            "devices": devices,
            "precision": precision,
            "batch_size": batch_size,
            "talk": talk,
            "engine": engine,
            "trackers": several(trackers),
            "nodes": nodes,
            "strategy": strategy,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def on_cluster(self) -> bool:
        """Whether work that falls into videos is sent to a cluster, in place of processes of this command."""
        return self.engine != "local"
