"""Small checkpoints with weights of all types, and tampered copies."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models.checkpoints import Checkpoint, load_checkpoint
from vsscli.models.network import Normalisation

CONFIG = {"family": "light", "encoder": "test_efficientnet", "channels": 16, "pretrained": "none"}


TABLE = ClassTable("three", ("road", "sky", "Straße"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))


HALF = Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


def tiny(**changes: Any) -> Checkpoint:
    """A checkpoint with weights of all types, not of a real network."""
    weights = {
        "b": torch.arange(4, dtype=torch.float32).view(2, 2),
        "a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "count": torch.tensor(3),
        "none": torch.zeros(0),
        "image": torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)),
    }
    plain = Checkpoint(dict(CONFIG), weights, TABLE, HALF, {"name": "demo", "seed": 1}, {"miou": 0.5}, 12)
    return replace(plain, **changes)


def refused(path: Path, message: str) -> VssError:
    """The error with which a checkpoint is not loaded: it names the file, is short and says what to do."""
    with pytest.raises(VssError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert len(caught.value.message) < 600
    return caught.value


def rewritten(path: Path, records: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    """A checkpoint rewritten with other records or compression."""
    with zipfile.ZipFile(path) as old:
        found = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", method) as new:
        for name, content in (found | records).items():
            new.writestr(name, content)
