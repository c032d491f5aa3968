"""Trainings that are cut off and go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from small import train

from vsscli.models.checkpoints import load_checkpoint
from vsscli.recipes.schema import Recipe
from vsscli.talk import Silence


class Interrupting(Silence):
    """A listener that interrupts after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def track(self, label: str, total: int, unit: str = "frame") -> Iterator[Callable[[int], None]]:
        def count(done: int) -> None:
            if unit == "step" and done:
                self.left -= done
                if self.left == 0:
                    raise KeyboardInterrupt

        yield count


def require_same_weights(recipe: Recipe, folder: Path, **options: Any) -> None:
    """Train ``recipe``, which saves at step 2 of 4, in one piece, and cut off after step 3 and continued."""
    train(recipe, folder / "whole", device="cpu", **options)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder / "parts", device="cpu", talk=Interrupting(3), **options)
    assert load_checkpoint(folder / "parts" / "last.pt", weights=False).step == 2
    train(recipe, folder / "parts", device="cpu", resume=True, **options)
    whole, parts = (load_checkpoint(folder / name / "last.pt") for name in ("whole", "parts"))
    assert (whole.step, parts.step) == (4, 4)
    assert whole.fingerprint == parts.fingerprint
