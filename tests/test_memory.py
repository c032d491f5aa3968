"""Computing from stores takes the same memory for many videos as for a few, and an overlay the same for a long one."""

from __future__ import annotations

import os
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_process import start
from store_samples import class_table, distributions, prediction_header, stems, write_predictions

from vsscli.data.masks import MaskIds, write_mask
from vsscli.data.videofile import FileVideo
from vsscli.data.videos import FolderVideo, Frame
from vsscli.engine.engine import Engine
from vsscli.evaluation.score import FolderLabels, StoreLabels, score
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.threshold import threshold_from_percentile, write_pseudo
from vsscli.report.film import Film
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


FILM = """
import re, sys
from pathlib import Path
from vsscli.data.classes import ClassTable
from vsscli.data.videofile import FileVideo
from vsscli.pipeline.masks import film_masks

table = ClassTable("a", ("sky", "road"), ((1, 2, 3), (200, 100, 0)))
for clip in map(Path, sys.argv[1:]):
    film_masks(FileVideo(clip), clip.parent / "out", table)
    print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""
SHORT, LONG = 100, 1000
"""Frames; the encoder keeps the last fifty or so, whatever the length."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read as Linux gives it")
def test_memory_of_an_overlay_video_does_not_grow_with_its_length(tmp_path: Path) -> None:
    clips = [tmp_path / "short.mp4", tmp_path / "long.mp4"]
    for clip, frames in zip(clips, (SHORT, LONG), strict=True):
        mask = tmp_path / "out" / clip.stem / "000000.png"
        write_mask(mask, np.eye(*SIZE, dtype=np.uint8))
        with Film(clip, SIZE) as film:
            for number in range(frames):
                film.add(np.full((*SIZE, 3), number % 250, np.uint8))
                if number:
                    os.link(mask, mask.with_stem(f"{number:06d}"))
    short, long = map(str, clips)
    child = start(FILM, short, short, short, long)  # the first few make decoder and allocator as large as they get
    said, error = child.communicate(timeout=240)
    assert child.returncode == 0, error
    assert len(FileVideo(tmp_path / "out" / "long.mp4")) == LONG
    *_, few, many = (int(line) / 1024 for line in said.split())
    kept = (LONG - SHORT) * np.prod((*SIZE, 3)) / 2**20  # what all the frames would take at once
    assert many - few < kept / 2, f"{few:.0f} MiB for {SHORT} frames, {many:.0f} for {LONG}"
