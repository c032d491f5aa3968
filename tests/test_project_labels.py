"""`vss init`: labels in the places and forms in which people have them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from listener import Listener
from PIL import Image
from video_samples import SIZE, write_clip

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.data.layouts import open_dataset
from vsscli.data.masks import to_classes
from vsscli.errors import VssError
from vsscli.pipeline.incoming import import_labels
from vsscli.project.init import Project, init_project
from vsscli.recipes.load import load_recipe


def mask(path: Path, *values: int) -> None:
    """A mask of numbers that stand one below the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(SIZE, np.uint8)
    for number, value in enumerate(values):
        pixels[number * 8 :] = value
    Image.fromarray(pixels).save(path)


def photo(path: Path, seed: int = 0, bits: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1000, 2**16, SIZE)
    Image.fromarray((pixels if bits == 16 else pixels >> 8).astype(f"u{bits // 8}")).save(path)


def classes(folder: Path, *names: str) -> None:
    (folder / "classes.txt").write_text("\n".join(names))


def started(folder: Path, talk: Listener | None = None) -> Project:
    return init_project(folder, measure=False, context=Context(folder / "runs", talk=talk or Listener()))


def labels(folder: Path) -> dict[str, list[int]]:
    """The classes of every labelled frame, from top to bottom."""
    data = open_dataset(load_recipe(folder / "dataset.yaml").data, folder)
    count = data.table.num_classes
    found = {f.address: f.mask for video in data.split("all") for f in video.frames if f.mask is not None}
    read = {name: to_classes(data.ids.read(path), data.ids, count, path) for name, path in found.items()}
    return {name: list(dict.fromkeys(label[:, 0].tolist())) for name, label in read.items()}


@pytest.mark.parametrize("name", ["a.png", "a_mask.png", "a-1_labelIds.png"])
def test_masks_among_their_images_are_refused(tmp_path: Path, name: str) -> None:
    photo(tmp_path / "day" / f"{name.split('_')[0].removesuffix('.png')}.jpg")
    for number in range(20):
        photo(tmp_path / "day" / f"b{number}.jpg", number)
    mask(tmp_path / "day" / name, 0, 1)
    classes(tmp_path, "road", "sky")
    with pytest.raises(VssError, match=f"day has masks beside what they are masks of.*{name}"):
        started(tmp_path)


@pytest.mark.parametrize("below", [".", "clips"])
def test_masks_among_clips_are_refused(tmp_path: Path, below: str) -> None:
    write_clip(tmp_path / below / "a.mp4", frames=4)
    mask(tmp_path / below / "a_000001.png", 0, 1)
    with pytest.raises(VssError, match=r"a\.mp4 and a_000001\.png"):
        started(tmp_path)


def test_several_masks_of_each_image_are_refused(tmp_path: Path) -> None:
    photo(tmp_path / "leftImg8bit" / "b_000001_000019_leftImg8bit.png", 1)
    for kind in ("color", "labelIds"):
        mask(tmp_path / "gtFine" / f"b_000001_000019_gtFine_{kind}.png", 0, 1)
    classes(tmp_path, "road", "sky")
    with pytest.raises(VssError, match="gtFine has Cityscapes' masks, several kinds of each image") as caught:
        started(tmp_path)
    assert "vss remap --source cityscapes" in caught.value.hint


def test_labels_of_yolo_are_not_overlooked(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg", 1)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0 0 1 0 1 1\n")
    (tmp_path / "data.yaml").write_text("names: [road]\n")
    with pytest.raises(VssError, match="holds labels of YOLO") as caught:
        started(tmp_path)
    assert "vss import ." in caught.value.hint


@pytest.mark.parametrize("later", [False, True])
def test_masks_in_a_folder_beside_each_clip_are_labels_and_no_frames(tmp_path: Path, later: bool) -> None:
    classes(tmp_path, "road", "sky")
    for seed, name in enumerate("ab"):
        write_clip(tmp_path / name / f"{name}.mp4", frames=4, seed=seed)
    if later:
        started(tmp_path)
    for seed, name in enumerate("ab"):
        mask(tmp_path / name / "masks" / f"{name}_000001.png", seed, 1 - seed)
    done = started(tmp_path)
    assert (done.videos, done.frames) == (2, 8)
    assert labels(tmp_path) == {"a/000001": [0, 1], "b/000001": [1, 0]}


def test_labels_of_frames_that_have_some_are_left_out(tmp_path: Path) -> None:
    classes(tmp_path, "road", "sky")
    write_clip(tmp_path / "clips" / "a.mp4", frames=4)
    mask(tmp_path / "SegmentationClass" / "a_000001.png", 1, 0)
    mask(tmp_path / "SegmentationObject" / "a_000001.png", 0, 1)
    mask(tmp_path / "other" / "icon.png", 0, 1)
    talk = Listener()
    started(tmp_path, talk)
    assert labels(tmp_path) == {"a/000001": [1, 0]}
    for left in ("SegmentationObject", "other"):
        assert any(text.startswith(f"{left} looks like labels (png), and was left out") for text in talk.warned)


def test_frames_of_16_bits_are_no_masks(tmp_path: Path) -> None:
    classes(tmp_path, "road", "sky")
    for number in range(6):
        photo(tmp_path / "clip" / f"{number:03d}.png", number, bits=16)
    assert started(tmp_path).frames == 6


@pytest.mark.parametrize("names", [("car",), ("other", "car")])
@pytest.mark.parametrize("where", ["masks", "labels"])
def test_masks_of_0_and_255_are_refused_with_the_way_to_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], where: str
) -> None:
    classes(tmp_path, *names)
    write_clip(tmp_path / "clips" / "a.mp4", frames=4)
    for number in range(4):
        mask(tmp_path / where / "a" / f"{number:06d}.png", 0, 255)
    with pytest.raises(VssError, match=f"{where} hold 0 and 255 alone.*255 is void and 0 '{names[0]}'") as refused:
        started(tmp_path)
    assert not (tmp_path / "classes.yaml").exists()

    monkeypatch.chdir(tmp_path)
    classes(tmp_path, "other", "object")
    assert refused.value.hint is not None
    (line,) = (part for part in refused.value.hint.split("; ") if "to ids.yaml" in part)
    Path("ids.yaml").write_text(line.removeprefix("write ").removesuffix(" to ids.yaml"))
    assert run(["remap", "--source", "ids.yaml", "--masks", where, "--out", "annotations", "--quiet"]) == 0
    shutil.rmtree(where)
    started(tmp_path)
    assert labels(tmp_path) == {f"a/{number:06d}": [0, 1] for number in range(4)}


def test_void_and_one_class_of_several_may_be_all_there_is(tmp_path: Path) -> None:
    classes(tmp_path, "road", "sky", "car")
    write_clip(tmp_path / "clips" / "a.mp4", frames=4)
    mask(tmp_path / "masks" / "a_000001.png", 0, 255)
    started(tmp_path)
    assert labels(tmp_path) == {"a/000001": [0, 255]}


def test_imported_masks_of_0_and_255_are_refused(tmp_path: Path) -> None:
    classes(tmp_path, "other", "car")
    mask(tmp_path / "masks" / "a_000001.png", 0, 255)
    with pytest.raises(VssError, match="hold 0 and 255 alone"):
        import_labels(tmp_path / "masks", tmp_path / "out", classes=str(tmp_path / "classes.txt"))
    assert not (tmp_path / "out").exists()


def test_masks_that_are_in_labels_already_count_from_1_if_they_must(tmp_path: Path) -> None:
    classes(tmp_path, "road", "sky", "car")
    write_clip(tmp_path / "clips" / "a.mp4", frames=4)
    mask(tmp_path / "labels" / "a" / "000001.png", 1, 3, 0)
    started(tmp_path)
    assert labels(tmp_path) == {"a/000001": [0, 2, 255]}


def test_labels_are_found_by_the_last_folders_of_a_clip(tmp_path: Path) -> None:
    """In the project's own folder of labels masks are called as frames are; what can't stay there is left as it is."""
    classes(tmp_path, "sky", "road", "car")
    for number in (1, 2):
        write_clip(tmp_path / "clips" / f"day{number}" / "cam.mp4", frames=6, seed=number)
        mask(tmp_path / "labels" / f"day{number}" / "cam_000003.png", 0, number)
    with pytest.raises(VssError, match="2 masks belong to no frame") as caught:
        started(tmp_path)
    assert "vss import" in caught.value.hint
    assert {path.name for path in (tmp_path / "labels").iterdir()} == {"day1", "day2"}
    (tmp_path / "labels").rename(tmp_path / "masks")
    started(tmp_path)
    assert labels(tmp_path) == {"clips_day1_cam/000003": [0, 1], "clips_day2_cam/000003": [0, 2]}


def test_labels_of_photos_of_one_name_go_by_folders(tmp_path: Path) -> None:
    classes(tmp_path, "sky", "road", "car")
    for day in (1, 2):
        for number in range(4):
            photo(tmp_path / "photos" / f"day{day}" / f"{number}.jpg", 10 * day + number)
        mask(tmp_path / "masks" / f"day{day}" / "3.png", 0, day)
    started(tmp_path)
    assert labels(tmp_path) == {f"photos_day{day}_3/photos_day{day}_3": [0, day] for day in (1, 2)}
