"""A stand-in for ``mmcv._ext``, the compiled half of mmcv, which does not install on current Python.

mmcv imports it by name, checks that it has certain operators, and calls one only if a network uses it. So a module that
has every name is enough for all but a few networks; for these the error names the operator.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from torch import Tensor

from vsscli.errors import VssError

NAME = "mmcv._ext"


class StandIn(ModuleType):
    """A module that has every operator; calling one raises an error with its name, except the one in plain PyTorch."""

    def __init__(self) -> None:
        super().__init__(NAME, __doc__)
        self.__spec__ = ModuleSpec(
            NAME, loader=None
        )  # mmengine reads it, and `find_spec` fails for a module without one
        self.ms_deform_attn_forward = ms_deform_attn_forward

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*arguments: Any, **options: Any) -> Any:
            raise VssError(
                f"this network needs {name}, an operator of the compiled mmcv, which is not installed",
                "compile mmcv 2.1.0 in place of mmcv-lite, or choose a network without deformable convolutions or "
                "point-wise spatial attention",
            )

        return refuse


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention on a GPU by mmcv's plain PyTorch code, which mmcv itself uses on a CPU.

    The parameters are those of the compiled operator; two of them are not needed here.
    """
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, value_spatial_shapes, sampling_locations, attention_weights)


def stand_in_for_compiled() -> bool:
    """Register the stand-in before mmcv's operators are imported; return whether it is in use.

    Raises
    ------
    ImportError
        mmcv is not installed.
    """
    known = sys.modules.get(NAME)
    if known is None and importlib.util.find_spec(NAME) is None:
        known = sys.modules[NAME] = StandIn()
    return isinstance(known, StandIn)
