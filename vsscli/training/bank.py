"""Memory banks: for each class, the latest features of cells that surely belong to another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed
from torch import Tensor

from vsscli.errors import VssError
from vsscli.training.losses import of_all, processes

CACHE_BYTES = 2 * 2**20
"""Size of the pieces worked on by a CPU: they stay in its cache, and their memory is reused."""


class Banks:
    """One ring buffer per class, first in, first out, all in one tensor that is allocated once.

    Nothing here waits for the device: the keys to push are found by counting along masks, and their shape does not
    depend on the masks. ``sizes`` are the rows of each class's bank, ``channels`` is D.
    """

    def __init__(self, sizes: Sequence[int], channels: int, device: torch.device | str = "cpu") -> None:
        self.sizes = torch.tensor(sizes, device=device)
        self.largest = max(sizes)
        self.offsets = self.sizes.cumsum(0) - self.sizes
        self.rows = sum(sizes)
        # The last row takes the surplus of a push, whose shape is fixed; it is never read.
        self.features = torch.zeros(self.rows + 1, channels, device=device)
        self.norms = torch.ones(self.rows + 1, device=device)
        self.heads = torch.zeros(len(sizes), dtype=torch.int64, device=device)
        self.lengths = torch.zeros(len(sizes), dtype=torch.int64, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes that the banks occupy."""
        return self.features.nbytes + self.norms.nbytes

    @torch.no_grad()
    def push(self, features: Tensor, negative: Tensor, keys: int | None, step_bytes: int, crops: int = 1) -> None:
        """Append each class's cells in order: the features (N, D) that the mask ``negative`` (N, C) selects.

        Several processes push what a single one with all their crops would, and so hold the same banks. A crop's place
        in the order is its slot in the batch (`data.order.StepSampler`): first the first crops of all processes. All
        processes have the same number of crops, and all crops the same number of cells.

        If there are more than ``keys`` per class, over all processes, that many are taken at even distances; None
        takes all. Classes are worked on in pieces that fit ``step_bytes``, of at least one class.
        """
        cells, channels = features.shape
        world = processes()
        most = min(cells * world, self.largest if keys is None else min(keys, self.largest))
        # Masks and their running counts; features only if they are exchanged.
        per_class = cells * 5 + most * (32 + (channels * 8 if world > 1 else 0))
        piece = max(step_bytes // per_class, 1)
        for start in range(0, len(self.sizes), piece):
            part = slice(start, start + piece)
            some, limit = negative[:, part].T, self.sizes[part].clamp_max(most)
            if world == 1:
                count = some.sum(1)
                kept = torch.minimum(count, limit)
                cell = nth_true(some, _ranks(count, kept, most, spread=keys is not None))
                self._append(part, features, cell, kept, step_bytes)
                continue
            cell, mine, kept = _pushed_by_all(some, limit, most, crops, spread=keys is not None)
            # Each key belongs to one process and the others add zeros, so the sum is the keys, the same everywhere.
            taken = torch.where(mine.reshape(-1, 1), features[cell.reshape(-1)], 0.0)
            torch.distributed.all_reduce(taken)
            place = torch.arange(cell.numel(), device=cell.device).view_as(cell)
            self._append(part, taken, place, kept, step_bytes)

    def _append(self, part: slice, features: Tensor, cell: Tensor, kept: Tensor, step_bytes: int) -> None:
        """Append rows ``cell[i, :kept[i]]`` of ``features`` to the bank of the i-th class of a piece."""
        place = torch.arange(cell.shape[1], device=cell.device)
        size, head = self.sizes[part, None], self.heads[part, None]
        row = self.offsets[part, None] + (head + place) % size
        valid = place < kept[:, None]
        if cell.device.type != "cpu":
            row, cell = torch.where(valid, row, self.rows).reshape(-1), cell.reshape(-1)
        else:  # a CPU never waits, so the shape need not be fixed
            row, cell = row[valid], cell[valid]
        self.norms.index_copy_(0, row, features.norm(dim=1).index_select(0, cell))
        length = piece_length(features.shape[1] * 4, step_bytes, cell.device)
        for to, of in zip(row.split(length), cell.split(length), strict=True):
            self.features.index_copy_(0, to, features.index_select(0, of))
        self.heads[part] = (self.heads[part] + kept) % self.sizes[part]
        self.lengths[part] = torch.minimum(self.lengths[part] + kept, self.sizes[part])

    def places(self, classes: Tensor, index: Tensor) -> Tensor:
        """Rows of ``features`` that hold the entries ``index`` (A, ...), oldest first, of classes (A,)."""
        classes = classes.view(-1, *(1 for _ in index.shape[1:]))
        oldest = self.heads[classes] - self.lengths[classes]
        return self.offsets[classes] + (oldest + index) % self.sizes[classes]

    def content(self, number: int) -> Tensor:
        """A class's bank, oldest first, (n, D)."""
        length = int(self.lengths[number])
        place = self.places(torch.tensor([number], device=self.heads.device), torch.arange(length)[None].to(self.heads))
        return self.features[place[0]]

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint must keep: the rows in use, class by class, oldest first, and their numbers."""
        index = torch.arange(self.largest, device=self.heads.device).expand(len(self.sizes), -1)
        place = self.places(torch.arange(len(self.sizes), device=self.heads.device), index)
        return {"features": self.features[place[index < self.lengths[:, None]]], "lengths": self.lengths.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from `state_dict`; refuse one of banks of other sizes."""
        lengths, features = state["lengths"], state["features"]
        if (
            lengths.shape != self.lengths.shape
            or bool((lengths.to(self.sizes) > self.sizes).any())
            or features.shape != (int(lengths.sum()), self.features.shape[1])
        ):
            raise VssError(
                "the checkpoint holds memory banks of other sizes", "continue with the recipe that it was begun with"
            )
        self.lengths.copy_(lengths)
        self.heads.copy_(self.lengths % self.sizes)
        index = torch.arange(self.largest, device=self.heads.device).expand(len(self.sizes), -1)
        place = (self.offsets[:, None] + index)[index < self.lengths[:, None]]
        self.features[place] = features.to(self.features)
        self.norms[place] = self.features[place].norm(dim=1)


def _ranks(count: Tensor, kept: Tensor, most: int, *, spread: bool) -> Tensor:
    """Ranks among each class's cells of those that are pushed, (c, most) int64: `kept` (c,) of `count` (c,), at even
    distances if ``spread``, otherwise the last ones, as a full queue would keep them. Entries past `kept` are
    meaningless."""
    place = torch.arange(most, device=count.device)
    if spread:
        return place * count[:, None] // kept.clamp_min(1)[:, None]
    return (count - kept)[:, None] + place


def _pushed_by_all(
    negative: Tensor, limit: Tensor, most: int, crops: int, *, spread: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the cells of all processes that are pushed.

    Takes this process's masks (c, N), crop by crop, and limits (c,) on the cells of all processes together. Returns
    cells of this process (c, most) int64, whether each entry is this process's (c, most) bool, and how many each class
    gets (c,); entries of other processes are meaningless.
    """
    rank, world = torch.distributed.get_rank(), processes()
    own = negative.unflatten(1, (crops, -1)).sum(2)  # (c, crops)
    # Crop i of process r has slot i * world + r of its kind of crops, and labelled ones come first for all.
    every = of_all(own).movedim(0, 2)  # (c, crops, world)
    until = every.flatten(1).cumsum(1)
    kept = torch.minimum(until[:, -1], limit)
    wanted = _ranks(until[:, -1], kept, most, spread=spread)
    slot = torch.searchsorted(until, wanted, right=True).clamp_max(crops * world - 1)
    before = until.gather(1, slot) - every.flatten(1).gather(1, slot)
    own_before = (own.cumsum(1) - own).gather(1, slot // world)
    cell = nth_true(negative, wanted - before + own_before)
    return cell, (slot % world == rank) & (torch.arange(most, device=kept.device) < kept[:, None]), kept


def piece_length(nbytes: int, step_bytes: int, device: torch.device) -> int:
    """How many items of ``nbytes`` to work on at a time: within ``step_bytes``, and on a CPU within its cache."""
    return max(min(step_bytes, CACHE_BYTES if device.type == "cpu" else step_bytes) // nbytes, 1)


def nth_true(mask: Tensor, rank: Tensor) -> Tensor:
    """The index of the rank-th True of each row: mask (c, N) and ranks (c, m) to (c, m).

    Past the last True the result is meaningless, but still an index into the row.
    """
    # The first index by which rank + 1 of them have been counted.
    running = mask.cumsum(1, dtype=torch.int32)
    return torch.searchsorted(running, (rank + 1).int()).clamp_max(mask.shape[1] - 1)
