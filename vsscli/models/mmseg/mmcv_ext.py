"""A stand-in for ``mmcv._ext``, the compiled half of mmcv, which does not install on current Python.

mmcv imports it by name, asks whether it has this or that operator, and calls one only where a network uses it. So a
module that has every name is enough for all networks but those few; they are told which operator they lack.
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
    """A module in which every operator is there; calling one names it, except for the one that PyTorch can do."""

    def __init__(self) -> None:
        super().__init__(NAME, __doc__)
        self.__spec__ = ModuleSpec(NAME, loader=None)  # mmengine asks for it, and `find_spec` of a module without fails
        self.ms_deform_attn_forward = deformable_attention

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*arguments: Any, **options: Any) -> Any:
            raise VssError(
                f"this network needs {name}, an operator of the compiled mmcv, which is not installed",
                "compile mmcv 2.1.0 in place of mmcv-lite, or take a configuration without deformable convolutions, "
                "point-wise spatial attention and the like",
            )

        return refuse


def deformable_attention(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention on a GPU, by mmcv's own plain PyTorch, which it takes on a CPU by itself.

    The parameters are those of the compiled operator; two of them only serve its memory.
    """
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, value_spatial_shapes, sampling_locations, attention_weights)


def stand_in_for_compiled() -> bool:
    """Register the stand-in before mmcv's operators are imported; say whether it is needed, and so in place.

    Raises
    ------
    ImportError
        There is no mmcv at all.
    """
    known = sys.modules.get(NAME)
    if known is None and importlib.util.find_spec(NAME) is None:
        known = sys.modules[NAME] = StandIn()
    return isinstance(known, StandIn)
