"""A file is identified by its content: no change of content goes unnoticed, whatever its name, size and times."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vsscli.data import content
from vsscli.data.classes import ClassTable
from vsscli.data.content import INDEX, Digests
from vsscli.data.folders import read_video_folder
from vsscli.data.masks import MaskIds
from vsscli.errors import VssError

TABLE = ClassTable("t", ("road", "sky"), ((1, 1, 1), (2, 2, 2)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(b"first content")
    return path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all files had been there for a while."""
    monkeypatch.setattr(content, "SETTLED", -(10**12))


def in_place(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"other content")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touched_like(path: Path) -> None:
    shutil.copy2(path, path.with_name("reference"))
    path.write_bytes(b"other content")
    subprocess.run(["touch", "-r", path.with_name("reference"), path], check=True)


def copied_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other content")
    shutil.copystat(path, other)
    subprocess.run(["cp", "-p", other, path], check=True)


def moved_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other content")
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.rename(path)


def older(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other content")
    os.utime(other, ns=(0, 10**18))
    other.rename(path)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", [in_place, touched_like, copied_over, moved_over, older])
def test_another_content_is_noticed_however_it_came(file: Path, change: Callable[[Path], None]) -> None:
    with Digests(file.with_name(INDEX)) as digests:
        before = digests.of(file)
    time.sleep(0.02)  # the clock of the file system is a coarse one
    change(file)
    assert file.stat().st_size == 13
    assert Digests(file.with_name(INDEX)).of(file) != before
    assert digests.of(file) != before


@pytest.mark.usefixtures("settled")
def test_a_file_that_stays_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Digests(file.with_name(INDEX)) as digests:
        before = digests.of(file)
    again = Digests(file.with_name(INDEX))
    monkeypatch.setattr(Digests, "_read", None)
    assert again.of(file) == before


@pytest.mark.usefixtures("settled")
def test_an_index_is_not_written_again_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, index = shutil.copy(file, file.with_name("other")), file.with_name(INDEX)
    clock = iter([100.0, 102.0, 139.0, 141.0, 143.0])  # writing takes two seconds
    times = SimpleNamespace(monotonic=lambda: next(clock), time_ns=time.time_ns)
    monkeypatch.setattr(content, "time", times)
    digests = Digests(index)
    for path, written in ((file, True), (other, False), (file, True)):
        with digests:
            digests.of(path)
        assert (str(path) in index.read_text()) is written
    assert str(other) in index.read_text()


@pytest.mark.usefixtures("settled")
def test_touched_copied_and_moved_files_keep_their_digest(file: Path, tmp_path: Path) -> None:
    digests = Digests(tmp_path / INDEX)
    before = digests.of(file)
    file.touch()
    assert digests.of(file) == before
    assert digests.of(shutil.copy(file, tmp_path / "copy")) == before
    file.rename(tmp_path / "moved")
    assert digests.of(tmp_path / "moved") == before


def test_what_has_just_changed_is_not_remembered(file: Path) -> None:
    """It may change again within the same tick of the file system's clock."""
    with Digests(file.with_name(INDEX)) as digests:
        digests.of(file)
    assert not file.with_name(INDEX).exists()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("junk", [b"", b"\xff\xfe", b"vss digests 1\n" + b"0" * 64 + b" x\nno line", b"{}\n"])
def test_an_index_that_is_none_is_started_anew(file: Path, junk: bytes) -> None:
    index = file.with_name(INDEX)
    index.write_bytes(junk)
    with Digests(index) as digests:
        digests.of(file)
    assert str(file) in index.read_text()


@pytest.mark.usefixtures("settled")
def test_names_that_are_no_text_are_remembered(tmp_path: Path) -> None:
    names = [b"\xff.bin", "ä b\r.bin".encode(), b"line\nbreak.bin"]
    paths = [tmp_path / os.fsdecode(name) for name in names]
    for path in paths:
        path.write_bytes(path.name.encode(errors="surrogateescape"))
    with Digests(tmp_path / INDEX) as digests:
        before = digests.of_all(paths)
    assert len({*before}) == 3
    again = Digests(tmp_path / INDEX)
    assert again.of_all(paths) == before
    assert {os.fspath(path) for path in paths[:2]} <= again._known.keys()


def test_without_a_folder_nothing_is_written(file: Path, tmp_path: Path) -> None:
    with Digests(tmp_path / "none" / INDEX) as digests:
        digests.of(file)
    assert not (tmp_path / "none").exists()


def test_what_is_no_file_is_an_error_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("pipe.png", "none.png", "."):
        with pytest.raises(VssError):
            Digests().of(tmp_path / name)


class TestSplit:
    """The frames of a split, with masks or without."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for part, suffix in (("origin", "png"), ("mask", "png")):
            (tmp_path / "v" / part).mkdir(parents=True)
            for t in range(3):
                Image.fromarray(np.full((4, 4), t, np.uint8)).save(tmp_path / "v" / part / f"{t}.{suffix}")
        return tmp_path / "v"

    def digests(self, folder: Path, ids: MaskIds = MaskIds()) -> tuple[str, str, str]:
        video, digests = read_video_folder(folder, "v"), Digests()
        return digests.video(video), digests.split([video], TABLE, None), digests.split([video], TABLE, ids)

    def test_a_mask_counts_only_where_masks_are_read(self, folder: Path) -> None:
        before = self.digests(folder)
        Image.fromarray(np.full((4, 4), 9, np.uint8)).save(folder / "mask/1.png")
        after = self.digests(folder)
        assert after[:2] == before[:2]
        assert after[2] != before[2]

    def test_so_does_what_its_values_mean(self, folder: Path) -> None:
        assert self.digests(folder)[2] != self.digests(folder, MaskIds(first=0, void=(255,)))[2]

    def test_so_do_former_names_of_classes(self, folder: Path) -> None:
        videos = [read_video_folder(folder, "v")]
        tables = [TABLE, *(replace(TABLE, former=(("old", index),)) for index in (0, 1, 255))]
        assert len({Digests().split(videos, table, MaskIds()) for table in tables}) == 4
        assert len({Digests().split(videos, table, None) for table in tables}) == 1

    def test_frames_that_are_swapped_renamed_added_or_taken_away_count(self, folder: Path) -> None:
        seen = {self.digests(folder)}
        origin = folder / "origin"
        content = (origin / "0.png").read_bytes(), (origin / "1.png").read_bytes()
        (origin / "0.png").write_bytes(content[1])
        (origin / "1.png").write_bytes(content[0])
        seen.add(self.digests(folder))
        shutil.copy(origin / "2.png", origin / "3.png")
        shutil.copy(folder / "mask/2.png", folder / "mask/3.png")
        seen.add(self.digests(folder))
        for part in ("origin", "mask"):
            (folder / part / "0.png").unlink()
        seen.add(self.digests(folder))
        for part in ("origin", "mask"):
            (folder / part / "3.png").rename(folder / part / "4.png")
        renamed = self.digests(folder)
        assert renamed[1:] not in [one[1:] for one in seen]  # names of a video's frames stand in its record already
        assert len(seen) == 4

    def test_a_frame_that_is_gone_is_no_error_here(self, folder: Path) -> None:
        video = read_video_folder(folder, "v")
        (folder / "mask/1.png").unlink()
        assert Digests().split([video], TABLE, MaskIds())
