"""Test-time augmentation plans: which scaled and mirrored views of a frame are predicted and averaged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vsscli.errors import VssError
from vsscli.structured import read_structured

LARGEST_SCALE = 8.0
"""A larger factor is taken for a typing error: 8 times a frame of 480 lines is 3840."""


class View(NamedTuple):
    """A view of a frame: resized by ``scale``, mirrored left to right if ``flip``."""

    scale: float
    flip: bool


@dataclass(frozen=True)
class AugmentationPlan:
    """Views whose probabilities are averaged with equal weights.

    Parameters
    ----------
    name
        Its name in messages and stores.
    scales
        Factors on the test size, without repetitions.
    flip
        Whether every scale is predicted mirrored, too.

    Raises
    ------
    VssError
        There are no scales, one is given twice, or one is not above 0 and at most 8.
    """

    name: str
    scales: tuple[float, ...]
    flip: bool

    def __post_init__(self) -> None:
        if not self.scales:
            raise VssError(f"augmentation plan {self.name} has no scales", "give at least one: scales: [1.0]")
        for scale in self.scales:
            # `not (... <= ...)` also refuses NaN.
            if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= LARGEST_SCALE:
                raise VssError(
                    f"augmentation plan {self.name} has scale {scale!r}",
                    f"a scale is a factor on the test size, above 0 and at most {LARGEST_SCALE:g}",
                )
        if len(set(self.scales)) < len(self.scales):
            raise VssError(f"augmentation plan {self.name} has a scale twice: {list(self.scales)}", "remove one")
        if not isinstance(self.flip, bool):
            raise VssError(f"augmentation plan {self.name} has flip {self.flip!r}", "set flip to true or false")

    @property
    def mirrored(self) -> tuple[bool, ...]:
        """The views of one scale: plain, and mirrored if the plan flips."""
        return (False, True) if self.flip else (False,)

    def views(self) -> tuple[View, ...]:
        """All views, scale by scale."""
        return tuple(View(scale, flip) for scale in self.scales for flip in self.mirrored)


# The eight sizes of the paper's test-time augmentation, as factors on its crop of 896 (specs/vss_teams.md).
PAPER = AugmentationPlan("paper", tuple(side / 896 for side in (512, 640, 768, 896, 1024, 1152, 1280, 1408)), True)
FLIP = AugmentationPlan("flip", (1.0,), True)
NONE = AugmentationPlan("none", (1.0,), False)

PLANS = {plan.name: plan for plan in (PAPER, FLIP, NONE)}


def load_plan(source: str | Path) -> AugmentationPlan:
    """Find a plan by name, or read one from a YAML file.

    Parameters
    ----------
    source
        ``paper``, ``flip``, ``none``, or a file such as ``{scales: [0.75, 1.0, 1.25], flip: true}``; the plan is then
        named after the file. ``flip`` defaults to false.

    Raises
    ------
    VssError
        There is no such plan or file, or the file is not a valid plan.
    """
    if str(source) in PLANS:
        return PLANS[str(source)]
    path = Path(source)
    if not path.is_file():
        raise VssError(
            f"there is no augmentation plan {str(source)!r}",
            f"use {', '.join(PLANS)}, or a YAML file with scales and flip",
        )
    values = _read_yaml(path)
    unknown = sorted(map(str, values.keys() - {"scales", "flip"}))
    if unknown:
        raise VssError(f"augmentation plan {path} has unknown keys: {', '.join(unknown)}", "use scales and flip")
    scales = values.get("scales")
    if not isinstance(scales, list):
        raise VssError(f"augmentation plan {path} has scales {scales!r}", "write a list: scales: [0.75, 1.0, 1.25]")
    try:
        return AugmentationPlan(path.stem, tuple(map(_number, scales)), values.get("flip", False))
    except VssError as error:
        raise VssError(f"{path}: {error.message}", error.hint) from error


def _number(scale: Any) -> Any:
    """A whole number as a float, so that 1 and 1.0 make the same plan; anything else unchanged."""
    return float(scale) if type(scale) is int and math.isfinite(scale) else scale


def _read_yaml(path: Path) -> dict[Any, Any]:
    values = read_structured(path, "augmentation plan")
    if not isinstance(values, dict):
        raise VssError(f"augmentation plan {path} is empty or not a mapping", "write: {scales: [1.0], flip: true}")
    return values
