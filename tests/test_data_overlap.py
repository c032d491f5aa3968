"""The same videos under other names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from PIL import Image

from vsscli.data.content import Digests
from vsscli.data.folders import read_video_folder
from vsscli.data.overlap import Shared, shared_videos
from vsscli.data.videos import FolderVideo


def draw(folder: Path, *shades: int) -> FolderVideo:
    folder.mkdir(parents=True)
    for number, shade in enumerate(shades):
        Image.new("RGB", (8, 6), (shade, 0, 0)).save(folder / f"{number:03d}.png")
    return read_video_folder(folder, folder.name)


def test_videos_of_their_own_share_nothing(tmp_path: Path) -> None:
    # Files of equal size, so that contents are compared.
    one, other = draw(tmp_path / "one", *range(20)), draw(tmp_path / "other", *range(100, 120))
    assert shared_videos([one], [other], Digests()) == []


def test_a_video_is_found_again_under_its_name_another_name_and_through_links(tmp_path: Path) -> None:
    one, other = draw(tmp_path / "one", *range(12)), draw(tmp_path / "other", *range(100, 104))
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    os.symlink(tmp_path / "one", tmp_path / "link")
    copy, link = (read_video_folder(tmp_path / name, name) for name in ("copy", "link"))
    assert shared_videos([one], [one], Digests()) == [Shared("one", "one")]
    assert [str(shared) for shared in shared_videos([copy, other], [one], Digests())] == ["copy (as one)"]
    assert shared_videos([other, link], [one], Digests()) == [Shared("link", "one")]


def test_a_few_frames_with_labels_are_found_among_all_of_a_video(tmp_path: Path) -> None:
    draw(tmp_path / "one", *range(40))
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    one, copy = (read_video_folder(tmp_path / name, name) for name in ("one", "copy"))
    some = FolderVideo("one", one.frames[::4])
    assert shared_videos([copy], [some], Digests()) == [Shared("copy", "one")]
    assert shared_videos([FolderVideo("copy", copy.frames[8:9])], [some], Digests()) == [Shared("copy", "one")]


def test_files_that_are_gone_count_for_nothing(tmp_path: Path) -> None:
    one, other = draw(tmp_path / "one", 1, 2), draw(tmp_path / "other", 3, 4)
    shutil.rmtree(tmp_path / "one")
    assert shared_videos([one], [other], Digests()) == shared_videos([other], [one], Digests()) == []
