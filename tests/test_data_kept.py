"""Decoded frames of video files are kept, without loss, in bounded space."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_samples import write_clip

from vsscli.data import kept
from vsscli.data.kept import read_kept
from vsscli.data.recall import cache_folder, identity
from vsscli.data.videofile import FileVideo
from vsscli.data.videos import Frame


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VSS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "_sizes", {})
    return write_clip(tmp_path / "clip.mp4", frames=9)


def frame(clip: Path, number: int) -> Frame:
    return Frame("clip", f"{number:06d}", clip, number=number)


def files() -> list[Path]:
    return sorted((cache_folder() / "frames").glob("*/*"))


def test_a_frame_is_decoded_once_and_is_the_same_every_time(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = list(FileVideo(clip).images())
    for number in (5, 2, 8):
        np.testing.assert_array_equal(read_kept(frame(clip, number)), wanted[number])
    assert [path.name for path in files()] == ["000002", "000005", "000008"]
    monkeypatch.setattr(Frame, "read", lambda self: pytest.fail("decoded again"))
    again = read_kept(frame(clip, 5))
    np.testing.assert_array_equal(again, wanted[5])
    again[:] = 0  # an own copy
    np.testing.assert_array_equal(read_kept(frame(clip, 5)), wanted[5])


def test_another_file_under_the_name_is_decoded(clip: Path) -> None:
    before, known = read_kept(frame(clip, 3)), identity(clip)
    write_clip(clip, frames=9, seed=1)
    assert identity(clip) != known
    assert (read_kept(frame(clip, 3)) != before).any()


@pytest.mark.parametrize("damage", [b"", b"x" * 5000, "cut", "flipped"])
def test_a_damaged_file_is_decoded_again(clip: Path, damage: bytes | str) -> None:
    before = read_kept(frame(clip, 3))
    [path] = files()
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[-7] ^= 1
    path.write_bytes(damage if isinstance(damage, bytes) else data[:-1] if damage == "cut" else flipped)
    np.testing.assert_array_equal(read_kept(frame(clip, 3)), before)
    assert path.read_bytes() == data


def test_space_is_bounded_and_the_oldest_go_first(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 48 * 64 * 3
    monkeypatch.setattr(kept, "MOST", 4 * size + 4 * kept.HEAD.size)
    for number in range(6):
        read_kept(frame(clip, number))
    assert [path.name for path in files()] == ["000000", "000001", "000002", "000003"]
    for age, path in enumerate(files()):
        os.utime(path, ns=(10**9 * age, 10**9 * age))
    monkeypatch.setattr(kept, "_sizes", {})  # another process
    read_kept(frame(clip, 5))
    assert [path.name for path in files()] == ["000003", "000005"] or [path.name for path in files()] == [
        "000002",
        "000003",
        "000005",
    ]


def test_images_and_what_can_not_be_kept_are_read_as_ever(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.full((4, 6, 3), 7, np.uint8)).save(tmp_path / "a.png")
    assert read_kept(Frame("v", "a", tmp_path / "a.png")).shape == (4, 6, 3)
    assert not files()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VSS_CACHE", str(tmp_path / "file" / "cache"))
    assert read_kept(frame(clip, 1)).shape == (48, 64, 3)
    monkeypatch.setattr(kept, "FREE", 2**60)
    monkeypatch.setenv("VSS_CACHE", str(tmp_path / "other"))
    assert read_kept(frame(clip, 1)).shape == (48, 64, 3)
    assert not files()
