"""Memory banks: for each class, the latest features of cells that are surely not of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed
from torch import Tensor

from vsscli.errors import VssError

CACHE_BYTES = 2 * 2**20
"""What a CPU keeps at hand. Pieces of this size are faster there than larger ones, whose memory is new each time."""


class Banks:
    """One ring buffer per class, first in, first out, all in one tensor that is allocated once.

    Nothing here waits for the device: what is pushed is found by counting along masks, and has one shape whatever the
    masks hold. Sizes are the rows of each class's bank, channels D.
    """

    def __init__(self, sizes: Sequence[int], channels: int, device: torch.device | str = "cpu") -> None:
        self.sizes = torch.tensor(sizes, device=device)
        self.largest = max(sizes)
        self.offsets = self.sizes.cumsum(0) - self.sizes
        self.rows = sum(sizes)
        # The last row takes what a push of fixed shape has too many; nobody reads it.
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
        """Append each class's cells, in their order: features (N, D) of those that the mask (N, C) has.

        Several processes push what one would that had all their crops, and so hold the same banks: a crop's place in
        the order is its slot in the batch (`data.order.StepSampler`), first those of all processes' first crops. All
        have as many crops, and all crops as many cells.

        Where there are more than ``keys`` per class, of all processes together, so many are taken, at even
        distances; None takes all. Classes are worked on in pieces for which ``step_bytes`` are enough, one class at
        least.
        """
        cells, channels = features.shape
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        most = min(cells * world, self.largest if keys is None else min(keys, self.largest))
        # Masks and their running counts; features only where they must travel.
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
            cell, mine, kept = _pushed_by_all(some, limit, most, world, crops, spread=keys is not None)
            # Each key is one process's, the others add zeros: their sum is the keys, the same everywhere.
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
        if cell.is_cuda:
            row, cell = torch.where(valid, row, self.rows).reshape(-1), cell.reshape(-1)
        else:  # nothing waits on a CPU, so nothing needs to be moved for its shape's sake
            row, cell = row[valid], cell[valid]
        self.norms.index_copy_(0, row, features.norm(dim=1).index_select(0, cell))
        length = piece_length(features.shape[1] * 4, step_bytes, cell.device)
        for to, of in zip(row.split(length), cell.split(length), strict=True):
            self.features.index_copy_(0, to, features.index_select(0, of))
        self.heads[part] = (self.heads[part] + kept) % self.sizes[part]
        self.lengths[part] = torch.minimum(self.lengths[part] + kept, self.sizes[part])

    def places(self, classes: Tensor, index: Tensor) -> Tensor:
        """Rows of ``features`` where the entries of classes (A,) numbered index (A, ...), oldest first, lie."""
        classes = classes.view(-1, *(1 for _ in index.shape[1:]))
        oldest = self.heads[classes] - self.lengths[classes]
        return self.offsets[classes] + (oldest + index) % self.sizes[classes]

    def content(self, number: int) -> Tensor:
        """A class's bank, oldest first, (n, D)."""
        length = int(self.lengths[number])
        place = self.places(torch.tensor([number], device=self.heads.device), torch.arange(length)[None].to(self.heads))
        return self.features[place[0]]

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint must keep: the rows in use, class by class and oldest first, and how many there are."""
        index = torch.arange(self.largest, device=self.heads.device).expand(len(self.sizes), -1)
        place = self.places(torch.arange(len(self.sizes), device=self.heads.device), index)
        return {"features": self.features[place[index < self.lengths[:, None]]], "lengths": self.lengths.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`; that of other banks is refused."""
        lengths, features = state["lengths"], state["features"]
        if (
            lengths.shape != self.lengths.shape
            or bool((lengths.to(self.sizes) > self.sizes).any())
            or features.shape != (int(lengths.sum()), self.features.shape[1])
        ):
            raise VssError(
                "the checkpoint holds memory banks of other sizes", "go on with the recipe it was begun with"
            )
        self.lengths.copy_(lengths)
        self.heads.copy_(self.lengths % self.sizes)
        index = torch.arange(self.largest, device=self.heads.device).expand(len(self.sizes), -1)
        place = (self.offsets[:, None] + index)[index < self.lengths[:, None]]
        self.features[place] = features.to(self.features)
        self.norms[place] = self.features[place].norm(dim=1)


def _ranks(count: Tensor, kept: Tensor, most: int, *, spread: bool) -> Tensor:
    """Which of a class's cells are pushed, as numbers among them (c, most) int64: `kept` (c,) of the `count` (c,) that
    there are, at even distances, or the last ones, as a queue that forgets would keep them. Places past `kept` mean
    nothing."""
    place = torch.arange(most, device=count.device)
    if spread:
        return place * count[:, None] // kept.clamp_min(1)[:, None]
    return (count - kept)[:, None] + place


def _pushed_by_all(
    negative: Tensor, limit: Tensor, most: int, world: int, crops: int, *, spread: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Which cells of all processes are pushed.

    Parameters are masks of this process (c, N), crop by crop, and limits (c,) on the cells of all processes
    together. Returns cells of this process (c, most) int64, whether each of them is its own (c, most) bool, and how
    many each class gets (c,); a cell that is not its own means nothing.
    """
    rank = torch.distributed.get_rank()
    own = negative.unflatten(1, (crops, -1)).sum(2)  # (c, crops)
    # Crop i of process r has slot i * world + r of its kind of crops, and labelled ones come first for all.
    every = torch.stack(_gathered(own, world), dim=2)  # (c, crops, world)
    until = every.flatten(1).cumsum(1)
    kept = torch.minimum(until[:, -1], limit)
    wanted = _ranks(until[:, -1], kept, most, spread=spread)
    slot = torch.searchsorted(until, wanted, right=True).clamp_max(crops * world - 1)
    before = until.gather(1, slot) - every.flatten(1).gather(1, slot)
    own_before = (own.cumsum(1) - own).gather(1, slot // world)
    cell = nth_true(negative, wanted - before + own_before)
    return cell, (slot % world == rank) & (torch.arange(most, device=kept.device) < kept[:, None]), kept


def piece_length(nbytes: int, step_bytes: int, device: torch.device) -> int:
    """How many things of so many bytes to work on at a time: as the bound allows; on a CPU, as its cache does."""
    return max(min(step_bytes, step_bytes if device.type == "cuda" else CACHE_BYTES) // nbytes, 1)


def nth_true(mask: Tensor, rank: Tensor) -> Tensor:
    """Where the rank-th True of each row is: mask (c, N) and whole numbers (c, m) to (c, m).

    Past the last True the result means nothing, but is a place in the row.
    """
    # It is the first place up to which rank + 1 of them are counted.
    running = mask.cumsum(1, dtype=torch.int32)
    return torch.searchsorted(running, (rank + 1).int()).clamp_max(mask.shape[1] - 1)


def _gathered(tensor: Tensor, world: int) -> list[Tensor]:
    """The tensor of every process, in their order."""
    parts = [torch.empty_like(tensor) for _ in range(world)]
    torch.distributed.all_gather(parts, tensor.contiguous())
    return parts
