"""Checking all files before long work starts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsscli.data.check import FileFault, check_videos, raise_faults
from vsscli.data.classes import ClassTable
from vsscli.data.folders import read_video_folder
from vsscli.data.masks import MaskIds
from vsscli.data.sound import check_once
from vsscli.data.verdict import Meaning
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.talk import Silence

TABLE = ClassTable("t", ("road", "sky"), ((1, 1, 1), (2, 2, 2)))
IDS = MaskIds()


class Listener(Silence):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound video of 20 frames of 8x6 pixels."""
    folder = tmp_path / "clip"
    for part in ("origin", "mask"):
        (folder / part).mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(folder / "origin" / f"{number:02d}.png")
        Image.new("L", (8, 6), number % 3).save(folder / "mask" / f"{number:02d}.png")
    return folder


def video(folder: Path) -> FolderVideo:
    return read_video_folder(folder, folder.name)


def faults_of(folder: Path, masks: bool = True, ids: MaskIds = IDS) -> list[tuple[str, str]]:
    found = check_videos([video(folder)], Meaning(TABLE, ids), masks=masks, workers=2).faults
    assert all(fault.remedy for fault in found)
    return [(f"{fault.path.parent.name}/{fault.path.name}", fault.what) for fault in found]


def test_sound_data_has_no_faults(folder: Path) -> None:
    assert faults_of(folder) == []


def test_all_faults_are_found_not_only_the_first(folder: Path) -> None:
    (folder / "origin" / "01.png").write_bytes(b"")
    content = (folder / "origin" / "02.png").read_bytes()
    (folder / "origin" / "02.png").write_bytes(content[:45])
    Image.new("RGB", (9, 6)).save(folder / "origin" / "03.png")
    Image.new("L", (9, 6), 1).save(folder / "mask" / "03.png")
    Image.new("L", (6, 8), 1).save(folder / "mask" / "04.png")
    Image.fromarray(np.full((6, 8), 77, np.uint8)).save(folder / "mask" / "05.png")
    (folder / "mask" / "06.png").unlink()
    (folder / "origin" / "07.png").unlink()
    (folder / "mask" / "08.png").write_text("junk")
    found = dict(faults_of(folder))
    assert list(found) == [
        "origin/01.png",
        "origin/02.png",
        "origin/03.png",
        "mask/04.png",
        "mask/05.png",
        "origin/06.png",
        "mask/07.png",
        "mask/08.png",
    ]
    assert "empty" in found["origin/01.png"]
    assert "damaged" in found["origin/02.png"]
    assert found["origin/03.png"] == "the frame is 9x6, the first of video clip is 8x6"
    assert found["mask/04.png"] == "the mask is 6x8, its image 8x6 (width x height)"
    assert found["mask/05.png"] == "the mask holds value 77, outside of the 2 classes of t (1..2)"
    assert found["origin/06.png"] == "the frame has no mask"
    assert found["mask/07.png"] == "this mask has no image"
    assert "damaged" in found["mask/08.png"]


def test_a_fault_does_not_name_its_file_twice(folder: Path) -> None:
    (folder / "origin" / "01.png").write_bytes(b"")
    ((_, what),) = faults_of(folder)
    assert str(folder) not in what


def test_unknown_values_come_with_the_remedy_and_are_no_fault_when_they_are_void(folder: Path) -> None:
    Image.fromarray(np.full((6, 8), 77, np.uint8)).save(folder / "mask" / "05.png")
    (fault,) = check_videos([video(folder)], Meaning(TABLE, IDS), masks=True).faults
    assert "data.unknown_ids: void" in fault.remedy
    assert "{target: t, map: {0: ignore, 1: road, 2: sky, 77: ignore}}" in fault.remedy
    assert faults_of(folder, ids=MaskIds(unknown="void")) == []


def test_without_masks_only_images_are_looked_at(folder: Path) -> None:
    for mask in (folder / "mask").iterdir():
        mask.write_text("junk")
    assert faults_of(folder, masks=False) == []


def test_an_image_beyond_pillows_limit_is_a_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (60, 60)).save(folder / "origin" / "01.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert [(path, "too large" in what) for path, what in faults_of(folder)] == [("origin/01.png", True)]


def test_the_error_lists_the_first_faults_and_how_many_more_there_are() -> None:
    raise_faults([])
    faults = [FileFault(Path(f"{number}.png"), "is empty", "fetch it again") for number in range(9)]
    with pytest.raises(VssError) as caught:
        raise_faults(faults)
    assert caught.value.message.splitlines() == [
        "9 faults in the data",
        *(f"  {number}.png: is empty; fetch it again" for number in range(4)),
        "  and 5 more",
    ]
    assert "vss doctor --data" in caught.value.hint
    with pytest.raises(VssError) as caught:
        raise_faults(faults[:1])
    assert (caught.value.message, caught.value.hint) == ("0.png: is empty", "fetch it again")


class TestOnce:
    """Sound data is not decoded again until it changes."""

    def check(self, folder: Path, record: Path, table: ClassTable = TABLE) -> list[str]:
        listener = Listener()
        check_once([video(folder)], Meaning(table, IDS), masks=True, record=record, workers=1, talk=listener)
        return listener.said

    def test_the_second_time_it_is_skipped_and_said_so(self, folder: Path, tmp_path: Path) -> None:
        record = tmp_path / "runs" / "checked.json"
        assert self.check(folder, record) == []
        (said,) = self.check(folder, record)
        assert "20 frames unchanged" in said
        assert sorted(path.name for path in record.parent.iterdir()) == ["checked.json"]

    def test_a_changed_file_is_looked_at_again(self, folder: Path, tmp_path: Path) -> None:
        record = tmp_path / "checked.json"
        self.check(folder, record)
        path = folder / "origin" / "03.png"
        path.write_bytes(path.read_bytes()[:45])
        with pytest.raises(VssError, match=r"03\.png: image is damaged"):
            self.check(folder, record)

    def test_a_touched_file_is_not(self, folder: Path, tmp_path: Path) -> None:
        record = tmp_path / "checked.json"
        self.check(folder, record)
        os.utime(folder / "origin" / "03.png", ns=(1, 1))
        assert len(self.check(folder, record)) == 1

    def test_a_file_that_changed_behind_its_size_and_time_is_looked_at_again(
        self, folder: Path, tmp_path: Path
    ) -> None:
        record, path = tmp_path / "checked.json", folder / "mask" / "03.png"
        self.check(folder, record)
        before, content = path.stat(), path.read_bytes()
        path.write_bytes(content[:-20] + bytes(20))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(VssError, match=r"03\.png"):
            self.check(folder, record)

    def test_another_question_is_another_check(self, folder: Path, tmp_path: Path) -> None:
        record = tmp_path / "checked.json"
        self.check(folder, record)
        with pytest.raises(VssError, match="outside of the 1 classes"):
            self.check(folder, record, ClassTable("u", ("road",), ((1, 1, 1),)))

    def test_faults_are_not_remembered_as_sound(self, folder: Path, tmp_path: Path) -> None:
        record = tmp_path / "checked.json"
        (folder / "mask" / "03.png").unlink()
        for _ in range(2):
            with pytest.raises(VssError, match="no mask"):
                self.check(folder, record)
        assert not record.exists()

    @pytest.mark.parametrize("content", ["", "[]", "{", '{"sound": 3}'])
    def test_a_damaged_record_is_started_anew(self, folder: Path, tmp_path: Path, content: str) -> None:
        record = tmp_path / "checked.json"
        record.write_text(content)
        assert self.check(folder, record) == []
        assert len(self.check(folder, record)) == 1
