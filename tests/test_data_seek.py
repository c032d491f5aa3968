"""Frames of video files by number are those that decoding from the start gives, in any order, in every codec."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from video_samples import write_clip

from vsscli.data import videofile
from vsscli.data.recall import cache_folder, recall
from vsscli.data.seek import Seeker, numbered_size, read_numbered
from vsscli.data.videofile import FileVideo, VideoIndex
from vsscli.errors import VssError

CODECS = {
    "b-frames.mp4": ("libx264", {"g": "12", "bf": "3"}),
    "open-gop.mp4": ("libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3"}),
    "no-keyframes.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}),
    "one-key.mkv": ("libx264", {"g": "600"}),
    "packed.avi": ("mpeg4", {"bf": "2", "g": "8"}),
    "stream.ts": ("libx264", {"g": "10"}),
    "program.mpg": ("mpeg2video", {"bf": "2", "g": "9"}),
    "web.webm": ("libvpx-vp9", {"g": "10", "deadline": "realtime", "cpu-used": "8"}),
}


@pytest.mark.parametrize("name", CODECS)
def test_every_frame_in_any_order(tmp_path: Path, name: str) -> None:
    codec, options = CODECS[name]
    path = write_clip(tmp_path / name, codec=codec, options=options)
    images = list(FileVideo(path).images())
    assert len(images) == 40
    order = np.random.default_rng(1).permutation(40).tolist()
    for number in [*order[:20], *range(40), *order[20:], 39, 38, 37]:
        np.testing.assert_array_equal(read_numbered(path, number), images[number], err_msg=f"frame {number}")


def test_an_index_that_promises_too_much_costs_time_and_no_pixel(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", options={"g": "12"})
    video = FileVideo(path)
    images = list(video.images())
    video.index.keys[:] = True  # decoding can begin nowhere but at each twelfth
    seeker = Seeker(video)
    for number in (30, 5, 17, 18, 39):
        np.testing.assert_array_equal(seeker.read(number), images[number])


def test_without_times_frames_are_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames=12)
    video = FileVideo(path)
    images = list(video.images())
    video.index.times[:] = videofile.UNTIMED
    assert not video.index.is_timed
    seeker = Seeker(video)
    for number in (7, 8, 2, 11):
        np.testing.assert_array_equal(seeker.read(number), images[number])


def test_threads_and_forked_processes_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", options={"g": "10"})
    images = list(FileVideo(path).images())
    read_numbered(path, 3)  # opened before the fork
    with ThreadPoolExecutor(4) as pool:
        for number, image in enumerate(pool.map(lambda n: read_numbered(path, n), range(40))):
            np.testing.assert_array_equal(image, images[number])
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as processes:
        sums = processes.starmap(_sum, [(path, number) for number in range(0, 40, 3)])
    assert sums == [int(images[number].sum()) for number in range(0, 40, 3)]


def _sum(path: Path, number: int) -> int:
    return int(read_numbered(path, number).sum())


def test_a_number_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames=5)
    with pytest.raises(VssError, match=r"clip\.mp4 has 5 frames, so none with number 5"):
        read_numbered(path, 5)
    with pytest.raises(VssError, match="none with number -1"):
        read_numbered(path, -1)
    with pytest.raises(VssError, match="does not exist"):
        read_numbered(tmp_path / "no.mp4", 0)


def test_a_file_is_decoded_once_for_its_index_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSS_CACHE", str(tmp_path / "cache"))
    path = write_clip(tmp_path / "clip.mp4", frames=9)
    first = FileVideo(path).index
    assert recall(path, videofile.INDEX) is not None
    monkeypatch.setattr(FileVideo, "_decoded_index", lambda video: pytest.fail("decoded again"))
    again = FileVideo(path).index
    assert (len(again), again.size) == (9, numbered_size(path)) == (9, first.size)
    np.testing.assert_array_equal(again.checks, first.checks)
    monkeypatch.undo()
    monkeypatch.setenv("VSS_CACHE", str(tmp_path / "cache"))
    write_clip(path, frames=7, seed=1)
    assert len(FileVideo(path)) == 7
    assert read_numbered(path, 6).shape == (48, 64, 3)


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 2000])
def test_a_damaged_memory_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("VSS_CACHE", str(tmp_path / "cache"))
    path = write_clip(tmp_path / "clip.mp4", frames=9)
    assert len(FileVideo(path)) == 9
    [kept] = (cache_folder() / videofile.INDEX).iterdir()
    kept.write_bytes(content)
    assert len(FileVideo(path)) == 9
    np.savez(kept, times=np.arange(3))
    assert len(FileVideo(path)) == 9


def test_where_nothing_can_be_remembered_everything_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("VSS_CACHE", str(blocked / "cache"))
    assert len(FileVideo(write_clip(tmp_path / "clip.mp4", frames=4))) == 4
    assert os.listdir(tmp_path) == ["file", "clip.mp4"] or set(os.listdir(tmp_path)) == {"file", "clip.mp4"}


def test_index_arrays_of_another_shape_are_none() -> None:
    index = VideoIndex((4, 6), np.arange(3), np.ones(3, bool), np.arange(3, dtype=np.uint32))
    arrays = index.arrays()
    assert VideoIndex.from_arrays(arrays) is not None
    assert VideoIndex.from_arrays({**arrays, "keys": np.ones(2, bool)}) is None
    assert VideoIndex.from_arrays({**arrays, "times": np.arange(3.0)}) is None
    assert VideoIndex.from_arrays({name: array[:0] for name, array in arrays.items()}) is None
