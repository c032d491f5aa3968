"""Banks of several processes: they hold what one process with the same batch would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import Tensor

from vsscli.training.bank import Banks

LABELLED, UNLABELLED, CELLS, CLASSES, CHANNELS = 4, 8, 30, 5, 3
SIZES = [40, 40, 7, 40, 64]
KEYS: tuple[int | None, ...] = (8, None, 1, 500)


def batch(step: int) -> tuple[Tensor, Tensor]:
    """A step's crops, (slots, cells, D) and (slots, cells, C): labelled ones first; none of class 3, few of 4."""
    generator = torch.Generator().manual_seed(step)
    features = torch.randn(LABELLED + UNLABELLED, CELLS, CHANNELS, generator=generator)
    shares = torch.tensor([0.4, 0.9, 0.5, 0.0, 0.02])
    negative = torch.rand(*features.shape[:2], CLASSES, generator=generator) < shares
    negative[::3, :, 0] = False  # whole crops without
    return features, negative


def pushed(keys: int | None, rank: int = 0, world: int = 1) -> Banks:
    """Banks after three steps of this process's share of the batch, as `StepSampler` deals it out."""
    banks = Banks(SIZES, CHANNELS)
    slots = [*range(rank, LABELLED, world), *range(LABELLED + rank, LABELLED + UNLABELLED, world)]
    for step in range(3):
        features, negative = batch(step)
        # Pieces of two classes each.
        banks.push(features[slots].flatten(0, 1), negative[slots].flatten(0, 1), keys, 1300, crops=len(slots))
    return banks


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    found = {str(keys): pushed(keys, rank, world).state_dict() for keys in KEYS}
    dist.barrier()
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [1, 2, 4])
def test_banks_of_several_processes_are_those_of_one(world: int, tmp_path: Path) -> None:
    run_ranks(work, world, world, str(tmp_path))
    for keys in KEYS:
        expected = pushed(keys).state_dict()
        for rank in range(world):
            found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)[str(keys)]
            assert torch.equal(found["lengths"], expected["lengths"])
            assert torch.equal(found["features"], expected["features"])


def test_keys_are_a_total_so_that_a_bank_remembers() -> None:
    banks = pushed(8)
    assert banks.lengths.tolist() == [24, 24, 7, 0, banks.lengths[4]]
    # The oldest are the first step's: at even distances over all its crops.
    features, negative = batch(0)
    of_class = features.flatten(0, 1)[negative[..., 1].flatten()]
    assert torch.equal(banks.content(1)[:8], of_class[torch.arange(8) * len(of_class) // 8])
