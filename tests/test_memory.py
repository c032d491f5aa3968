"""Computing from stores takes the same memory for many videos as for a few."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from store_samples import class_table, distributions, prediction_header, stems, write_predictions

from vsscli.data.masks import MaskIds, write_mask
from vsscli.data.videos import FolderVideo, Frame
from vsscli.engine.engine import Engine
from vsscli.evaluation.score import FolderLabels, StoreLabels, score
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.threshold import threshold_from_percentile, write_pseudo
from vsscli.store import reader
from vsscli.store.reader import open_store
from vsscli.submission.archive import write_submission
from vsscli.submission.check import check_submission
from vsscli.submission.layout import Layout

SIZE = (192, 256)
FRAMES = 2
FEW, MANY = 3, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources over few and over many videos of one size, and masks of the many."""
    folder = tmp_path_factory.mktemp("memory")
    means = {seed: distributions(seed, FRAMES, size=SIZE) for seed in (1, 2)}
    for count in (FEW, MANY):
        for seed, mean in means.items():
            header = prediction_header(weights=f"seed {seed}")
            write_predictions(folder / f"{count}-{seed}.zarr", header, {f"v{n}": mean for n in range(count)})
    for number in range(MANY):
        for stem, mean in zip(stems(FRAMES), means[1], strict=True):
            write_mask(folder / "truth" / f"v{number}" / f"{stem}.png", mean.argmax(axis=0).astype(np.uint8) + 1)
            write_mask(folder / "labels" / f"v{number}" / f"{stem}.png", mean.argmax(axis=0).astype(np.uint8))
    return folder


def videos(folder: Path, count: int) -> list[FolderVideo]:
    names = [f"v{number}" for number in range(count)]
    frames = {n: [Frame(n, stem, None, folder / "truth" / n / f"{stem}.png") for stem in stems(FRAMES)] for n in names}
    return [FolderVideo(name, tuple(frames[name])) for name in names]


def score_masks(folder: Path, count: int) -> None:
    labels = FolderLabels(folder / "labels")
    score(videos(folder, count), labels, class_table(), MaskIds(), metrics=("miou", "vc2"), engine=Engine(1))


def score_store(folder: Path, count: int) -> None:
    labels = StoreLabels(open_store(folder / f"{count}-1.zarr"))
    score(videos(folder, count), labels, class_table(), MaskIds(), metrics=("miou", "vc2"), engine=Engine(1))


def new(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


def ensemble(folder: Path, count: int) -> None:
    sources = [open_store(folder / f"{count}-{seed}.zarr") for seed in (1, 2)]
    fuse(sources, (0.5, 0.5), new(folder / f"{count}-fused.zarr"), engine=Engine(1))


def pseudo(folder: Path, count: int) -> None:
    store = open_store(folder / f"{count}-1.zarr")
    limit = threshold_from_percentile(store, 80, engine=Engine(1))
    write_pseudo(store, new(folder / f"{count}-pseudo.zarr"), limit, engine=Engine(1))


def submit(folder: Path, count: int) -> None:
    labels = StoreLabels(open_store(folder / f"{count}-1.zarr"))
    write_submission(videos(folder, count), labels, folder / f"{count}.zip", Layout(5), engine=Engine(1))


def check(folder: Path, count: int) -> None:
    submit(folder, count)
    assert check_submission(folder / f"{count}.zip", videos(folder, count), Layout(5), workers=1).ok


def peak(work: Callable[[Path, int], None], folder: Path, count: int) -> int:
    work(folder, count)  # what is imported or cached once does not count
    tracemalloc.start()
    try:
        work(folder, count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "work", [score_masks, score_store, ensemble, pseudo, submit, check], ids=lambda work: work.__name__
)
def test_memory_does_not_grow_with_the_number_of_videos(
    folder: Path, work: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "REMEMBERED", 2)  # what a reader remembers of videos is bounded, far above these few
    few, many = peak(work, folder, FEW), peak(work, folder, MANY)
    # Not equal, because garbage waits for its collector; in step with the videos it would be fourfold.
    assert many < 1.5 * few, f"{few} bytes for {FEW} videos, {many} for {MANY}"
