"""The layout `files`: videos and masks of one's own, where they lie."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from video_samples import SIZE, write_clip

from vsscli.data.config import Data
from vsscli.data.content import Digests
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.masks import write_mask
from vsscli.data.matching import frame_number
from vsscli.data.overlap import shared_videos
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError


def opened(root: Path, **section: object) -> Dataset:
    classes = root / "classes.json"
    if not classes.exists():
        classes.write_text('{"classes": ["road", "sky", "car"]}')
    values = {"name": "own", "root": str(root), "layout": "files", "classes": "classes.json"}
    return open_dataset(Data.model_validate({**values, **section}))


def mask(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, np.full(SIZE, value, np.uint8))
    return path


def images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(np.full((*SIZE, 3), number, np.uint8)).save(folder / name)


def masked(videos: list[FolderVideo]) -> list[str]:
    return [frame.address for video in videos for frame in video.frames if frame.mask is not None]


def test_files_and_folders_are_videos_and_masks_are_found_by_their_names(tmp_path: Path) -> None:
    write_clip(tmp_path / "clips" / "street.mp4", frames=10)
    images(tmp_path / "clips" / "yard", ["img_8.jpg", "img_9.jpg", "img_10.jpg"])
    mask(tmp_path / "labels" / "street" / "frame_0007.png")
    mask(tmp_path / "labels" / "yard" / "img_9.png")
    data = opened(tmp_path, videos=["clips"], masks="labels/{video}/{frame}.png")
    videos = data.split("train")
    assert [(video.name, len(video)) for video in videos] == [("street", 10), ("yard", 3)]
    assert masked(videos) == ["street/000007", "yard/img_9"]
    assert [video.stems for video in data.split("labelled")] == [("000007",), ("img_9",)]
    assert [len(video) for video in data.split("unlabelled")] == [9, 2]
    np.testing.assert_array_equal(videos[0].read(7), next(videos[0].images(7)))
    assert videos[0].size == SIZE


def test_frames_that_are_pngs_may_lie_above_their_masks(tmp_path: Path) -> None:
    images(tmp_path / "clips" / "yard" / "seen", ["1.png", "2.png"])
    mask(tmp_path / "clips" / "yard" / "labels" / "2.png")
    section = {"videos": ["clips/*/seen/*.png"], "masks": "clips/yard/labels/{frame}.png"}
    assert masked(opened(tmp_path, **section).split("train")) == ["seen/2"]
    images(tmp_path / "flat" / "lane", ["1.png", "2.png"])
    mask(tmp_path / "flat" / "lane" / "labels" / "1.png")
    section = {"videos": ["flat"], "masks": "flat/{video}/labels/{frame}.png"}
    assert masked(opened(tmp_path, **section).split("train")) == ["lane/1"]
    with pytest.raises(VssError, match="3 masks belong to no frame"):
        opened(tmp_path, **(section | {"masks": "flat/{video}/{frame}_mask.png"})).split("train")


def test_masks_of_a_video_file_may_count_from_one(tmp_path: Path) -> None:
    write_clip(tmp_path / "street.mp4", frames=10)
    images(tmp_path / "yard", ["img_1.jpg", "img_2.jpg"])
    mask(tmp_path / "labels" / "street" / "000010.png")
    mask(tmp_path / "labels" / "yard" / "img_1.png")
    section = {"videos": ["street.mp4", "yard"], "masks": "labels/{video}/{frame}.png"}
    with pytest.raises(VssError) as error:
        opened(tmp_path, **section).split("train")
    assert "data.first_frame: 1" in error.value.hint
    assert masked(opened(tmp_path, **section, first_frame=1).split("train")) == ["street/000009", "yard/img_1"]


def test_what_is_held_out_is_val_and_not_train(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=10)
    write_clip(tmp_path / "b.mp4", frames=5, seed=1)
    write_clip(tmp_path / "c.mp4", frames=5, seed=2)
    data = opened(tmp_path, videos=["*.mp4"], held_out=["b", "a/000006..000008", "a/000001"])
    assert [(video.name, video.stems) for video in data.split("val")] == [
        ("a", ("000001", "000006", "000007", "000008")),
        ("b", tuple(f"{number:06d}" for number in range(5))),
    ]
    assert [(video.name, len(video)) for video in data.split("train")] == [("a", 6), ("c", 5)]
    assert [len(video) for video in data.split("all")] == [10, 5, 5]
    assert data.has("val")
    assert not data.has("test")
    with pytest.raises(VssError, match="has no split 'test'"):
        data.split("test")
    # Frames of one file that is split are not shared by the parts of it.
    assert shared_videos(data.split("train"), data.split("val"), Digests()) == []
    assert len(shared_videos(data.split("all"), data.split("val"), Digests())) == 2


def test_a_pattern_of_images_is_the_video_of_their_folder_alone(tmp_path: Path) -> None:
    for place in ("day1", "day1/masks", "day2"):
        images(tmp_path / place, ["0.png", "1.png"])
    for patterns in (["day?/*.png"], ["day1", "day2", "day1/*.png"]):
        videos = opened(tmp_path, videos=patterns).split("train")
        assert [(video.name, video.stems) for video in videos] == [("day1", ("0", "1")), ("day2", ("0", "1"))]


def test_a_frame_without_a_number_does_not_keep_others_from_being_found_by_theirs(tmp_path: Path) -> None:
    images(tmp_path / "a", ["000.jpg", "001.jpg", "cover.jpg"])
    mask(tmp_path / "labels" / "a" / "frame_1.png")
    assert masked(opened(tmp_path, videos=["a"], masks="labels/{video}/{frame}.png").split("train")) == ["a/001"]


def test_stills_are_videos_of_one_frame(tmp_path: Path) -> None:
    images(tmp_path / "photos", ["b.jpg", "a.png"])
    mask(tmp_path / "photos-masks" / "a.png")
    data = opened(tmp_path, stills=["photos"], masks="photos-masks/{frame}.png")
    assert [(video.name, video.stems) for video in data.split("train")] == [("a", ("a",)), ("b", ("b",))]
    assert masked(data.split("train")) == ["a/a"]


def test_stills_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    images(tmp_path / "day1", ["001.jpg", "002.jpg"])
    images(tmp_path / "b" / "day2", ["001.jpg", "cam.jpg"])
    write_clip(tmp_path / "cam.mp4", frames=2)
    mask(tmp_path / "labels" / "day1_001" / "day1_001.png")
    data = opened(tmp_path, videos=["*.mp4"], stills=["day1", "b/day2"], masks="labels/{video}/{frame}.png")
    assert [video.name for video in data.split("train")] == ["cam", "day1_001", "002", "b_day2_001", "b_day2_cam"]
    assert masked(data.split("train")) == ["day1_001/day1_001"]


def test_stills_of_an_absolute_folder_are_called_after_their_place_in_the_data(tmp_path: Path) -> None:
    for day in ("day1", "day2"):
        images(tmp_path / "x" / day, ["001.jpg"])
    data = opened(tmp_path / "x", stills=["./day1", str(tmp_path / "x" / "day2")])
    assert [video.name for video in data.split("train")] == ["day1_001", "day2_001"]


def test_videos_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for day in ("day1", "day2"):
        write_clip(tmp_path / day / "cam.mp4", frames=2)
    data = opened(tmp_path, videos=["day*"])
    assert [video.name for video in data.split("train")] == ["day1_cam", "day2_cam"]


def test_names_that_are_spelled_otherwise_meet(tmp_path: Path) -> None:
    write_clip(tmp_path / f"{unicodedata.normalize('NFD', 'café')}.mp4", frames=3)
    mask(tmp_path / "labels" / f"{unicodedata.normalize('NFC', 'café')}_2.png")
    data = opened(tmp_path, videos=["*.mp4"], masks="labels/{video}_{frame}.png", held_out=["café/000000"])
    assert len(masked(data.split("train"))) == 1
    assert data.split("val")[0].stems == ("000000",)


def test_the_content_of_a_frame_is_its_file_and_number(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=4)
    whole = opened(tmp_path, videos=["a.mp4"], held_out=["a/000003"])
    digests = Digests().frames(whole.split("train")[0])
    assert len(set(digests)) == 3
    assert Digests().frames(whole.split("all")[0])[:3] == digests
    assert Digests().split(whole.split("train"), whole.table, None) != Digests().split(
        whole.split("val"), whole.table, None
    )
    write_clip(tmp_path / "a.mp4", frames=4, seed=1)
    assert not set(digests) & set(Digests().frames(whole.split("train")[0]))


@pytest.mark.parametrize(
    ("masks", "wrong", "named"),
    [
        ("labels/{video}/{frame}.png", "labels/clip/frame_99.png", "labels/clip/frame_99.png"),
        ("labels/{video}/{frame}.png", "labels/other/000001.png", "labels/other/000001.png"),
        ("labels/{video}_{frame}.png", "labels/clip-000001.png", "labels/clip-000001.png"),
    ],
)
def test_a_mask_that_belongs_to_no_frame_is_refused(tmp_path: Path, masks: str, wrong: str, named: str) -> None:
    write_clip(tmp_path / "clip.mp4", frames=3)
    mask(tmp_path / wrong)
    with pytest.raises(VssError) as caught:
        opened(tmp_path, videos=["clip.mp4"], masks=masks).split("train")
    assert named in caught.value.message
    assert "clip (000000 to 000002)" in caught.value.hint


def test_two_masks_of_one_frame_and_a_mask_of_two_are_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", frames=3)
    mask(tmp_path / "labels" / "clip" / "1.png")
    mask(tmp_path / "labels" / "clip" / "frame_1.png")
    with pytest.raises(VssError, match="two masks of frame clip/000001"):
        opened(tmp_path, videos=["clip.mp4"], masks="labels/{video}/{frame}.png").split("train")
    write_clip(tmp_path / "clip_1.mp4", frames=3)
    for path in (tmp_path / "labels" / "clip").iterdir():
        path.unlink()
    mask(tmp_path / "labels" / "clip_1_2.png")
    with pytest.raises(VssError, match="may belong to clip/000002 and to clip_1/000002"):
        opened(tmp_path, videos=["*.mp4"], masks="labels/{video}_{frame}.png").split("train")


def test_names_that_lead_to_nothing_are_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", frames=3)
    with pytest.raises(VssError, match=r"nothing in .* matches more"):
        opened(tmp_path, videos=["clip.mp4", "more"]).split("train")
    with pytest.raises(VssError, match="held_out has 'cilp'"):
        opened(tmp_path, videos=["clip.mp4"], held_out=["cilp"]).split("train")
    with pytest.raises(VssError, match=r"held_out has 'clip/2\.\.9'.*000000 to 000002"):
        opened(tmp_path, videos=["clip.mp4"], held_out=["clip/2..9"]).split("val")
    with pytest.raises(VssError, match="split 'val' is empty: nothing is held out"):
        opened(tmp_path, videos=["clip.mp4"]).split("val")
    with pytest.raises(VssError, match="split 'train' is empty: everything is held out"):
        opened(tmp_path, videos=["clip.mp4"], held_out=["clip"]).split("train")


@pytest.mark.parametrize(
    ("section", "match"),
    [
        ({"layout": "files"}, "needs `videos`"),
        ({"layout": "files", "videos": ["a"], "masks": "labels"}, "pattern as in"),
        ({"layout": "files", "videos": ["a"], "masks": "labels/{split}/{frame}.png"}, "pattern as in"),
        ({"layout": "folders", "videos": ["a"]}, "belong to layout files"),
        ({"layout": "vspw", "held_out": ["a"]}, "belong to layout files"),
    ],
)
def test_sections_that_make_no_sense_are_refused(section: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Data.model_validate(section)


@pytest.mark.parametrize(
    ("name", "number"), [("000012", 12), ("frame_12", 12), ("a7_b", 7), ("none", None), ("1_2", 2), ("0", 0)]
)
def test_the_last_number_of_a_name_counts(name: str, number: int | None) -> None:
    assert frame_number(name) == number
