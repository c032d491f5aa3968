"""From the files of pretrained trunks to the tensors of our trunks: names and sizes, no disk.

Tables of indices and masks in these files are recomputed, and count as used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vsscli.errors import VssError
from vsscli.models.mask2former.beit import BeitPatches, blocks_of
from vsscli.models.mask2former.one_peace import ImageAdapter, OnePeaceEncoder
from vsscli.models.mask2former.relative_position import (
    Window,
    resize_positions,
    resize_table,
    table_rows,
    windows_with_rows,
)
from vsscli.models.mask2former.swin import Swin
from vsscli.models.mask2former.trunks import OnePeaceConfig, Pretraining, SwinConfig, TrunkConfig
from vsscli.models.misfits import first_of, misfits

COMPUTED = ("relative_position_index", "rp_bucket", "attn_mask")


@dataclass(frozen=True)
class Pretrained:
    """Tensors of a trunk, under the names of our backbones, in float32; names in the file that were not used; and our
    names of resized tables."""

    state: dict[str, Tensor]
    unused: tuple[str, ...]
    resized: frozenset[str] = frozenset()


def beit_pretraining(state: Mapping[str, Tensor], config: TrunkConfig, grid: Window | None = None) -> Pretrained:
    """The trunk of a BEiT or BEiTv2, pretrained or fine-tuned for classification, official or timm's, for the
    configuration of a `Beit` or a `VitAdapter`.

    Pretraining shares one table of relative positions, which is copied to every block. Tables are resized to the
    window of the configuration from ``grid``, patches down and across, by default the square with their number of rows.
    Missing and misshapen tensors are errors, as is a table whose rows do not fit a square window.
    """
    with torch.device("meta"):
        trunk = nn.ModuleDict({"patch_embed": BeitPatches(config.width), "blocks": blocks_of(config)})
        expected = {"cls_token": torch.empty(1, 1, config.width), **trunk.state_dict()}
    shared = "rel_pos_bias.relative_position_bias_table"
    tables = [f"blocks.{block}.attn.relative_position_bias_table" for block in range(config.depth)]
    found, used, resized = _with_tables(state, shared, tables, grid, config.grid)
    return replace(_checked("BEiT", state, found, used, expected), resized=resized)


def one_peace_pretraining(
    state: Mapping[str, Tensor], config: OnePeaceConfig, grid: Window | None = None
) -> Pretrained:
    """The vision trunk of ``one-peace-vision.pkl``, or of the complete ``one-peace.pt``, as in `beit_pretraining`;
    position embeddings are resized bicubically."""
    with torch.device("meta"):
        trunk = nn.ModuleDict(
            {"image_adapter": ImageAdapter(config.width, config.grid), "encoder": OnePeaceEncoder(config)}
        )
    names = {_one_peace_name(name): name for name in state}
    renamed = {name: state[original] for name, original in names.items()}
    shared = "image_adapter.rel_pos_table_list.0.weight"
    tables = [f"encoder.layers.{layer}.rel_pos_table.weight" for layer in range(config.depth)]
    found, used, resized = _with_tables(renamed, shared, tables, grid, config.grid)
    places = "image_adapter.pos_embed"
    if places in found:
        positions = found[places]
        side = math.isqrt(max(0, len(positions) - 1))
        source = grid if grid is not None and len(positions) == grid[0] * grid[1] + 1 else (side, side)
        if len(positions) != source[0] * source[1] + 1 or side == 0:
            raise _no_window(names[places], positions)
        if source != config.grid:
            found[places] = resize_positions(positions, source, config.grid)
            resized |= {places}
    pretrained = _checked("ONE-PEACE", renamed, found, used, trunk.state_dict())
    return Pretrained(pretrained.state, tuple(names[name] for name in pretrained.unused), resized)


def swin_pretraining(state: Mapping[str, Tensor], config: SwinConfig, grid: Window | None = None) -> Pretrained:
    """The trunk of a Swin trained for classification, official or timm's, whose window must be that of the
    configuration; it does not contain the norms of our maps. A ``grid`` means nothing to it."""
    with torch.device("meta"):
        trunk = Swin(config).state_dict()
    expected = {name: tensor for name, tensor in trunk.items() if name.startswith(("patch_embed.", "layers."))}
    # timm puts the downsampling at the start of a stage, other code at the end of the one before.
    begins = not any(name.startswith("layers.0.downsample.") for name in state)
    names = {downsample_ends(name) if begins else name: name for name in state}
    found = {name: state[original].float() for name, original in names.items() if name in expected}
    pretrained = _checked("Swin", {name: state[names[name]] for name in names}, found, set(found), expected)
    return Pretrained(pretrained.state, tuple(names[name] for name in pretrained.unused))


PRETRAINING: Mapping[Pretraining, Callable[[Mapping[str, Tensor], Any, Window | None], Pretrained]] = {
    "swin": swin_pretraining,
    "beit": beit_pretraining,
    "one_peace": one_peace_pretraining,
}
"""From the tensors of a file's trunk, the configuration of a backbone that begins from such files, and the grid of its
position tables; `BackboneConfig.pretraining` chooses."""


def _with_tables(
    state: Mapping[str, Tensor], shared: str, tables: list[str], source: Window | None, grid: Window
) -> tuple[dict[str, Tensor], set[str], frozenset[str]]:
    """All tensors in float32, with a table for every block, resized to the grid; the names of shared tables used; and
    the names of resized tables."""
    found = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    used = {shared} & found.keys()
    first = found.pop(shared, None)
    copied: Tensor | None = None
    resized = set()
    for name in tables:
        table = first if first is not None else found.get(name)
        if table is None:
            continue
        window = _window_of(shared if first is not None else name, table, source)
        if first is None:
            found[name] = resize_table(table, window, grid)
        else:
            copied = resize_table(table, window, grid) if copied is None else copied
            found[name] = copied.clone()
        if window != grid:
            resized.add(name)
    return found, used, frozenset(resized)


def _window_of(name: str, table: Tensor, source: Window | None) -> Window:
    """The window of a table: the known one if its number of rows matches, else a square."""
    if source is not None and len(table) == table_rows(source):
        return source
    square = next((window for window in windows_with_rows(len(table)) if window[0] == window[1]), None)
    if square is None:
        raise _no_window(name, table)
    return square


def _no_window(name: str, tensor: Tensor) -> VssError:
    return VssError(
        f"{name} is {tuple(tensor.shape)}, which fits no square window",
        "convert the file first with the size of its images: vss convert FILE --to OURS.pt --crop H W",
    )


def _checked(
    what: str, state: Mapping[str, Tensor], found: Mapping[str, Tensor], used: set[str], expected: Mapping[str, Tensor]
) -> Pretrained:
    trunk = {name: found[name] for name in expected if name in found}
    faults = misfits(trunk, expected)
    if faults:
        raise VssError(
            f"these weights do not fit the {what} of the recipe: {faults}",
            f"check the sizes of the network; the file begins with {first_of(list(state))}",
        )
    unused = [name for name in state if name not in expected and name not in used and not name.endswith(COMPUTED)]
    return Pretrained(trunk, tuple(unused))


def _one_peace_name(name: str) -> str:
    """The name in the vision-only file of a tensor in the complete file."""
    name = name.removeprefix("encoder_wrapper.")
    return re.sub(r"^fusion_model\.", "encoder.", name)


def downsample_ends(name: str) -> str:
    """The official name of a tensor of timm's Swin, whose downsampling belongs to the stage after it."""
    found = re.match(r"((?:backbone\.)?layers\.)(\d{1,3})(\.downsample\..*)", name)
    return f"{found[1]}{int(found[2]) - 1}{found[3]}" if found else name
