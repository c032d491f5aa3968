"""Files under unexpected names: read, or reported."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from listener import Listener
from PIL import Image
from store_samples import distributions, prediction_header, write_predictions
from submission_samples import zip_of

from vsscli.data.check import check_videos
from vsscli.data.config import Data
from vsscli.data.layouts import Dataset, open_dataset, plain_data
from vsscli.data.left import left_out, say_left_out
from vsscli.data.mapping import load_mapping
from vsscli.data.remap import remap_masks
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels, StoreLabels
from vsscli.evaluation.score import score
from vsscli.pipeline.inspection import inspect_data
from vsscli.submission.check import check_submission
from vsscli.submission.layout import Layout

STREET = "Straße é"


def spelled(form: str, name: str = STREET) -> str:
    return unicodedata.normalize(form, name)


def data_set(root: Path, image: str = "{}.jpg", mask: str = "{}.png", video: str = "v") -> Path:
    for number in range(3):
        for part, name, kind in (("origin", image, "RGB"), ("mask", mask, "L")):
            folder = root / "data" / video / part
            folder.mkdir(parents=True, exist_ok=True)
            Image.new(kind, (8, 6), 1 if kind == "L" else (9, 9, 9)).save(folder / name.format(number))
    (root / "classes.json").write_text('["road", "sky"]')
    (root / "val.txt").write_text(f"{video}\n")
    return root


def predictions(root: Path, name: str, video: str = "v") -> Path:
    for number in range(3):
        (root / video).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((6, 8), np.uint8)).save(root / video / name.format(number))
    return root


def miou(dataset: Dataset, labels: FolderLabels | StoreLabels) -> float:
    return score(dataset.split("val"), labels, dataset.table, dataset.ids, metrics=["miou"]).values["miou"]


def faults(root: Path, talk: Listener | None = None) -> list[str]:
    found = inspect_data(plain_data(root), None, described=False, splits=("val",), talk=talk or Listener()).faults
    return [f"{fault.path.name}: {fault.what}" for fault in found]


@pytest.mark.parametrize("suffix", ["PNG", "Png"])
def test_predictions_may_have_suffixes_in_capitals(suffix: str, tmp_path: Path) -> None:
    dataset = open_dataset(plain_data(data_set(tmp_path)))
    labels = FolderLabels(predictions(tmp_path / "p", "{}." + suffix))
    assert miou(dataset, labels) == 1.0
    assert labels.size("v", "0") == (6, 8)
    assert labels.place("v", "0").endswith(suffix)


@pytest.mark.parametrize(
    ("suffix", "why"),
    [("jpg", "JPEG changes the values"), ("bmp", "only PNGs are read"), ("tif", "only PNGs are read")],
)
def test_predictions_of_other_kinds_are_told_to_lie_there(suffix: str, why: str, tmp_path: Path) -> None:
    dataset = open_dataset(plain_data(data_set(tmp_path)))
    labels = FolderLabels(predictions(tmp_path / "p", "{}." + suffix))
    with pytest.raises(VssError, match=rf"v/0 has no prediction, only 0\.{suffix}: {why}") as caught:
        miou(dataset, labels)
    assert "PNGs" in str(caught.value.hint)


def test_where_the_video_is_missing_it_is_told_which_are_there(tmp_path: Path) -> None:
    dataset = open_dataset(plain_data(data_set(tmp_path)))
    with pytest.raises(VssError, match=r"has folders w"):
        miou(dataset, FolderLabels(predictions(tmp_path / "p", "{}.png", "w")))
    with pytest.raises(VssError, match="no folders of videos"):
        miou(dataset, FolderLabels(predictions(tmp_path / "q", "{}.png", ".")))


@pytest.mark.parametrize(("one", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
class TestSpelling:
    """macOS and archives spell é in two ways."""

    def test_a_list_finds_its_folders(self, one: str, other: str, tmp_path: Path) -> None:
        root = data_set(tmp_path, video=spelled(one))
        (root / "val.txt").write_text(spelled(other) + "\n", encoding="utf-8")
        (video,) = open_dataset(plain_data(root)).split("val")
        assert (video.name, len(video)) == (spelled(other), 3)

    def test_masks_and_predictions_find_their_frames(self, one: str, other: str, tmp_path: Path) -> None:
        names = [spelled(one, "é{}.jpg"), spelled(other, "é{}.png")]
        root = data_set(tmp_path, *names, video=spelled(one))
        dataset = open_dataset(plain_data(root))
        (video,) = dataset.split("val")
        assert all(frame.image and frame.mask for frame in video.frames)
        labels = FolderLabels(predictions(tmp_path / "p", spelled(other, "é{}.png"), spelled(other)))
        assert miou(dataset, labels) == 1.0
        assert labels.size(video.name, video.stems[0]) == (6, 8)

    def test_a_store_finds_frames(self, one: str, other: str, tmp_path: Path) -> None:
        means = {spelled(one): distributions(0, 2)}
        labels = StoreLabels(write_predictions(tmp_path / "a.zarr", prediction_header(), means))
        assert labels.size(spelled(other), "00001") == (5, 6)
        np.testing.assert_array_equal(labels.label(spelled(other), 1, "00001"), means[spelled(one)][1].argmax(axis=0))

    def test_a_list_of_labelled_frames_finds_them(self, one: str, other: str, tmp_path: Path) -> None:
        root = data_set(tmp_path, spelled(one, "é{}.jpg"), spelled(one, "é{}.png"))
        (root / "labelled.txt").write_text(spelled(other, "v/é1\n"), encoding="utf-8")
        data = Data(name="s", root=str(root), classes="classes.json", train="val", labelled="labelled.txt")
        dataset = open_dataset(data)
        assert [frame.stem for frame in dataset.split("labelled")[0].frames] == [spelled(one, "é1")]
        assert len(dataset.split("unlabelled")[0]) == 2

    def test_an_entry_of_a_submission_is_told_to_be_spelled_otherwise(
        self, one: str, other: str, tmp_path: Path
    ) -> None:
        videos = open_dataset(plain_data(data_set(tmp_path, video=spelled(one)))).split("val")
        path = zip_of(tmp_path / "s.zip", [(f"{spelled(other)}/0.png", b"x")])
        checked = check_submission(path, videos, Layout.for_classes(2))
        surplus = next(fault for fault in checked.faults if fault.kind == "surplus")
        assert "Unicode form" in surplus.what


class TestDoctor:
    """It says what lies there and is not read."""

    def test_masks_as_jpeg_are_a_fault(self, tmp_path: Path) -> None:
        assert faults(data_set(tmp_path, mask="{}.jpg")) == [
            "mask: files among the masks are not read (3 .jpg): JPEG changes the values of pixels"
        ]

    def test_masks_of_other_kinds_are_a_fault(self, tmp_path: Path) -> None:
        assert faults(data_set(tmp_path, mask="{}.bmp")) == [
            "mask: files among the masks are not read (3 .bmp): only PNGs are read as masks"
        ]

    def test_a_jpeg_beside_a_mask_is_a_note(self, tmp_path: Path) -> None:
        root = data_set(tmp_path)
        Image.new("L", (8, 6)).save(root / "data" / "v" / "mask" / "0.jpg")
        talk = Listener()
        assert faults(root, talk) == []
        assert "not read (1 .jpg)" in talk.warned[0]

    def test_frames_and_masks_in_capitals_and_other_suffixes_are_right(self, tmp_path: Path) -> None:
        talk = Listener()
        assert faults(data_set(tmp_path, "{}.JPG", "{}.PNG"), talk) == []
        assert faults(data_set(tmp_path / "b", "{}.bmp"), talk) == []
        assert not talk.warned

    def test_pictures_and_videos_among_images_and_folders_in_videos_are_said(self, tmp_path: Path) -> None:
        root = data_set(tmp_path)
        for name in ("7.heic", "8.gif", "clip.mp4", "notes.txt"):
            (root / "data" / "v" / "origin" / name).write_bytes(b"x")
        (root / "data" / "v" / "labels").mkdir()
        Image.new("L", (8, 6)).save(root / "data" / "v" / "labels" / "0.png")
        talk = Listener()
        assert faults(root, talk) == []
        assert any("(1 .heic, 1 .gif and 1 .mp4)" in text for text in talk.warned)
        assert any("folders in videos are not read: labels" in text for text in talk.warned)

    def test_beside_videos_in_folders_it_says_what_lies_deeper(self, tmp_path: Path) -> None:
        for place in ("a", "day2/cam1"):
            (tmp_path / place).mkdir(parents=True)
            Image.new("RGB", (8, 6)).save(tmp_path / place / "0.jpg")
        (tmp_path / "b.mp4").write_bytes(b"x")
        (tmp_path / "classes.json").write_text('["road", "sky"]')
        data = Data(name="s", root=str(tmp_path), layout="folders", classes="classes.json")
        dataset, talk = open_dataset(data), Listener()
        say_left_out(dataset, "train", dataset.split("train"), talk)
        assert "video files are not read (1 .mp4)" in talk.warned[0]
        assert "deeper are not read: day2" in talk.warned[1]


def test_of_a_part_of_the_frames_the_others_are_not_left_out(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    (root / "labelled.txt").write_text("v/1\n")
    data = Data(name="s", root=str(root), classes="classes.json", train="val", labelled="labelled.txt")
    dataset = open_dataset(data)
    for split in ("labelled", "unlabelled", "val"):
        assert left_out(dataset, split, dataset.split(split)) == []


def test_a_frame_whose_mask_is_no_png_is_told_so(tmp_path: Path) -> None:
    dataset = open_dataset(plain_data(data_set(tmp_path, mask="{}.tif")))
    (fault,) = check_videos(dataset.split("val"), dataset.meaning, masks=True).faults
    assert fault.what == "none of the 3 frames has a mask; this is the first; there is only 0.tif, which is not a PNG"


def test_remapping_says_what_it_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for name in ("a.png", "b.jpg"):
        Image.new("L", (8, 6), 1).save(tmp_path / "m" / name)
    (tmp_path / "m" / "loop").symlink_to(tmp_path / "m")
    talk = Listener()
    report = remap_masks(tmp_path / "m", tmp_path / "out", load_mapping("camvid"), talk=talk)
    assert report.masks == 1
    assert "1 .jpg" in talk.warned[0]
    assert "loop left out" in talk.warned[1]
    (tmp_path / "m" / "a.png").unlink()
    with pytest.raises(VssError, match=r"no PNG masks, only 1 \.jpg"):
        remap_masks(tmp_path / "m", tmp_path / "out2", load_mapping("camvid"))
