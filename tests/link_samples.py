"""A store with links in the place of its files."""

from __future__ import annotations

import shutil
from pathlib import Path

from store_samples import distributions, prediction_header

from vsscli.pipeline.workspace import store_path

MEANS = {"alley": distributions(2, 3), "street": distributions(1, 66)}


def work_of(store: Path) -> Path:
    return store.with_name(f".{store.name}.work")


def shard(path: Path, video: str, number: int) -> Path:
    return path / video / "label" / "c" / str(number) / "0" / "0"


def place_of_sample(workspace: Path) -> Path:
    return store_path(workspace, prediction_header(), "x")


def swap(place: Path, target: Path) -> None:
    """Put a link in the place of whatever is there."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
