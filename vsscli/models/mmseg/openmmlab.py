"""The packages of the extra ``vsscli[mmseg]``: importing them, and refusing names of other packages."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from vsscli.errors import VssError
from vsscli.models.mmseg.mmcv_ext import stand_in_for_compiled

INSTALL = 'pip install "vsscli[mmseg]"'
TOGETHER = "mmsegmentation 1.2.2, mmengine 0.10.7, mmcv-lite 2.1.0, mmdet 3.3.0, ftfy, regex, setuptools below 81"
PACKAGES = ("mmsegmentation", "mmengine", "mmcv-lite", "mmcv", "mmdet", "ftfy", "regex", "setuptools")

OWN = ("mmseg", "mmdet", "mmengine")
"""Packages whose registered modules a config may name; mmengine's registry holds mmcv's as well."""

GUEST = "mmpretrain"
"""Another one, which the extra does not install: some configs use its encoders."""


def import_mmseg() -> None:
    """Import mmsegmentation and mmdetection's networks, with a stand-in for mmcv's compiled half if it is missing."""
    if _version("mmsegmentation") is None:
        raise VssError("networks of mmsegmentation need an extra that is not installed", INSTALL)
    # About losses that are not computed here, and sizes in its own configs.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"mm(seg|det|cv|engine)\.")
    try:
        stand_in_for_compiled()
        for name in ("mmseg.models", "mmseg.datasets", "mmdet.models"):
            importlib.import_module(name)
    except (ImportError, AssertionError) as error:  # an assertion is how mmseg refuses a version of mmcv
        found = {name: version for name in PACKAGES if (version := _version(name)) is not None}
        installed = ", ".join(f"{name} {version}" for name, version in found.items())
        raise VssError(
            f"mmsegmentation can't be imported: {first_line(error)} (installed: {installed})",
            f"{INSTALL}; known to work together: {TOGETHER}",
        ) from error


def require_registered(model: Mapping[str, Any]) -> None:
    """Refuse a ``type`` that is not the name of a registered module.

    mmengine would import and call anything else, so that a config of plain values, or a checkpoint that carries one,
    could run code.
    """
    for name in types_of(model):
        family, dot, inner = name.rpartition(".")
        if dot and family not in (*OWN, GUEST):
            raise VssError(
                f"the config of mmsegmentation asks for {name}, from a package that vss does not use",
                f"it may name modules of {', '.join((*OWN, GUEST))}",
            )
        if not any(inner in _registered(package) for package in ((family,) if dot else OWN)):
            raise VssError(
                f"the config of mmsegmentation asks for {name}, which is not a registered module",
                "is it a config of mmsegmentation 1.x? Modules of your own are registered by a .py config's imports",
            )


def types_of(values: Any) -> Iterator[str]:
    """Every ``type`` in nested values."""
    if isinstance(values, Mapping):
        if "type" in values:
            yield str(values["type"])
        values = values.values()
    elif not isinstance(values, list | tuple):
        return
    for value in values:
        yield from types_of(value)


def first_line(error: BaseException) -> str:
    """The last line of an error, short enough for a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _registered(package: str) -> Mapping[str, Any]:
    """The registered modules of a package, by name."""
    try:
        if package == GUEST:
            importlib.import_module(f"{package}.models")
        modules: Mapping[str, Any] = importlib.import_module(f"{package}.registry").MODELS.module_dict
    except ImportError as error:
        raise VssError(f"{package} can't be imported: {first_line(error)}", f"pip install {package}") from error
    return modules


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
