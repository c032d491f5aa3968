"""Relative positions of patches: rows of the bias table, and tables for other windows.

A table of BEiT (Bao et al. 2022, arXiv:2106.08254) has a row for each offset between two patches of a window, and three
more: class token to patch, patch to class token, and class token to itself.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

Window = tuple[int, int]  # patches down and across

TOKEN_ROWS = 3  # rows of a table for the class token
ALIGNMENT = 16


def table_rows(window: Window) -> int:
    """Rows of the table of a window with a class token."""
    return (2 * window[0] - 1) * (2 * window[1] - 1) + TOKEN_ROWS


def offset_index(window: Window, device: torch.device | None = None) -> Tensor:
    """Row of the table for each pair of patches: (N, N) for the N patches of a window, row by row."""
    height, width = window
    down = torch.arange(height, device=device)
    across = torch.arange(width, device=device)
    dy = down[:, None, None, None] - down[None, None, :, None] + height - 1
    dx = across[None, :, None, None] - across[None, None, None, :] + width - 1
    return (dy * (2 * width - 1) + dx).reshape(height * width, height * width)


def relative_position_index(window: Window, device: torch.device | None = None) -> Tensor:
    """Row of the table for each pair of tokens: (N + 1, N + 1), the class token first."""
    rows = table_rows(window)
    to_patch, to_token, itself = rows - 3, rows - 2, rows - 1
    index = F.pad(offset_index(window, device), (0, 0, 1, 0), value=to_patch)
    index = F.pad(index, (1, 0, 0, 0), value=to_token)
    first = F.pad(index.new_full((1,), itself), (0, index.shape[1] - 1), value=to_patch)
    return torch.cat([first[None], index[1:]])


def lookup_index(window: Window, device: torch.device | None = None) -> Tensor:
    """The index (N, M) for `gather_bias`: int32, with M the next multiple of `ALIGNMENT` to N."""
    index = relative_position_index(window, device).to(torch.int32)
    return F.pad(index, (0, -index.shape[1] % ALIGNMENT))


def gather_bias(table: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
    """Look up the bias of every pair of N tokens in a table (rows, heads), by the index (N, M) of `lookup_index`.

    The result (1, heads, N, N), of the queries' type, has a row stride of M, so that fused attention on CUDA, which
    requires alignment, takes it without a copy.
    """
    if not torch.is_grad_enabled():
        table = table.to(dtype)  # half the memory; a gradient is better summed in float32
    # Selecting along the second axis needs no transposition afterwards: three times as fast on a CPU.
    bias = table.t().contiguous().index_select(1, index.flatten()).view(1, -1, *index.shape)
    return bias[..., : len(index)].to(dtype)


def resize_table(table: Tensor, source: Window, target: Window) -> Tensor:
    """Resize the table (rows, heads) of a window to another window, as BEiT does.

    The offsets of the source are spread over those of the target in geometric progression, dense near 0, and
    interpolated by cubic splines. The official code uses SciPy's ``interp2d``, which SciPy 1.14 removed; the spline
    here gives the same numbers if targets are clipped to the outermost offsets. The three rows of the class token are
    copied.
    """
    if source == target:
        return table
    shape = (2 * source[0] - 1, 2 * source[1] - 1)
    axes = [_spread_offsets(old, 2 * new - 1) for old, new in zip(shape, target, strict=True)]
    wanted = [
        np.clip(np.arange(1 - new, new, dtype=np.float64), offsets[0], offsets[-1])
        for new, offsets in zip(target, axes, strict=True)
    ]
    offsets_part, token_part = table[:-TOKEN_ROWS], table[-TOKEN_ROWS:]
    heads = offsets_part.detach().float().cpu().numpy().T.reshape(-1, *shape)
    degrees = [min(3, side - 1) for side in shape]
    resized = np.stack([RectBivariateSpline(*axes, head, kx=degrees[0], ky=degrees[1], s=0)(*wanted) for head in heads])
    rows = torch.from_numpy(resized.reshape(len(heads), -1).T.copy())
    return torch.cat([rows.to(table), token_part])


def resize_positions(positions: Tensor, source: Window, target: Window) -> Tensor:
    """Resize position embeddings (1 + patches, D), the class token's first, bicubically, as ONE-PEACE does."""
    if source == target:
        return positions
    token, patches = positions[:1], positions[1:]
    map_ = patches.float().T.reshape(1, -1, *source)
    resized = F.interpolate(map_, target, mode="bicubic", align_corners=False)
    return torch.cat([token, resized.flatten(2)[0].T.to(positions)])


def windows_with_rows(rows: int) -> list[Window]:
    """All windows whose tables have this many rows, the squarest first; 4x6 has as many as 6x4, so there are several.

    Windows of a single row or column are left out if there are others.
    """
    offsets = rows - TOKEN_ROWS
    if offsets < 1 or offsets % 2 == 0:
        return []
    spans = [span for span in range(1, math.isqrt(offsets) + 1, 2) if offsets % span == 0]
    found = [((span + 1) // 2, (offsets // span + 1) // 2) for span in reversed(spans)]
    found = [window for window in found if window[0] > 1] or found
    return [turned for window in found for turned in dict.fromkeys([window, window[::-1]])]


def index_fits(index: Tensor, window: Window) -> bool:
    """Whether an index of relative positions in a published file is that of a window."""
    tokens = window[0] * window[1] + 1
    if tuple(index.shape) != (tokens, tokens) or index.is_meta:
        return False
    # The row of the first patch is enough: how far each patch is below and to the right of it.
    place = torch.arange(tokens - 1)
    down, across = place // window[1], place % window[1]
    expected = (window[0] - 1 - down) * (2 * window[1] - 1) + window[1] - 1 - across
    return torch.equal(index[1, 1:].long().cpu(), expected)


def _spread_offsets(count: int, target: int) -> np.ndarray:
    """Place ``count`` offsets symmetrically around 0, so that they reach about as far as ``target`` ones of step 1."""
    half = count // 2
    low, high = 1.01, 1.5
    ratio = low
    while high - low > 1e-6:
        ratio = (low + high) / 2.0
        reach = (1.0 - ratio**half) / (1.0 - ratio)
        low, high = (low, ratio) if reach > target // 2 else (ratio, high)
    distances = np.cumsum(ratio ** np.arange(half))
    return np.concatenate([-distances[::-1], [0.0], distances])
