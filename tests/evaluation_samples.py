"""Small videos and labels as files, for the tests of evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vsscli.data.classes import ClassTable
from vsscli.data.masks import write_mask
from vsscli.data.png import encode_label
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError

Small = tuple[list[FolderVideo], Path]
"""Videos with masks, and the folder of labels for them."""


def table_of(num_classes: int) -> ClassTable:
    names = tuple(f"class {index}" for index in range(num_classes))
    return ClassTable("test", names, ((0, 0, 0),) * num_classes)


def write_video(root: Path, name: str, truths: np.ndarray) -> FolderVideo:
    frames = []
    for index, truth in enumerate(truths):
        path = root / "truth" / name / f"{index:04d}.png"
        write_mask(path, truth)
        frames.append(Frame(name, path.stem, None, path))
    return FolderVideo(name, tuple(frames))


def write_labels(root: Path, name: str, labels: np.ndarray, palette: bytes = b"") -> None:
    """Predictions as PNGs that do not name their classes, grey or with a palette."""
    folder = root / "labels" / name
    folder.mkdir(parents=True, exist_ok=True)
    for index, label in enumerate(labels):
        (folder / f"{index:04d}.png").write_bytes(encode_label(label, palette))


def write_small(root: Path) -> Small:
    """One video of three frames, two classes, all right."""
    write_labels(root, "street", np.array([[[0, 0, 1, 1]]] * 3, np.uint8))
    return [write_video(root, "street", np.array([[[1, 1, 2, 0]]] * 3, np.uint8))], root / "labels"


def refusal(work: Callable[[], object]) -> VssError:
    with pytest.raises(VssError) as error:
        work()
    assert error.value.hint
    return error.value
