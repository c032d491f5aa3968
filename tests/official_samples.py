"""Official checkpoints without their numbers: the names and shapes of every tensor.

The lists of the three published networks at full size were generated from the official classes; those of shrunken ones
are read off the parity fixtures.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch

FIXTURES = Path(__file__).parent / "fixtures"
LISTS = {
    "mask2former_swin_l": "keys_mask2former_swinL_ade20k_d2.json",
    "vit_adapter_l": "keys_vitadapter_beitL_mmseg.json",
    "one_peace_g": "keys_onepeace_g_mmseg.json",
}
INDEX = ("relative_position_index", "rp_bucket", "num_batches_tracked")


@cache
def shapes(name: str) -> dict[str, list[int]]:
    """Names of tensors to their shapes."""
    if name in LISTS:
        return json.loads((FIXTURES / LISTS[name]).read_text())
    state = torch.load(FIXTURES / f"{name}.pt", weights_only=True)["state_dict"]
    return {key: list(tensor.shape) for key, tensor in state.items()}


def official_state(name: str, device: str = "meta") -> dict[str, torch.Tensor]:
    """A state dict of those names and shapes, on a device: ``meta`` costs nothing at any size."""
    return {
        key: torch.zeros(shape, device=device, dtype=torch.int64 if key.endswith(INDEX) else torch.float32)
        for key, shape in shapes(name).items()
    }
