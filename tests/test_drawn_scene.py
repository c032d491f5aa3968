"""Synthetic street videos: complete, reproducible, labelled, and hard enough to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vsscli.data.classes import IGNORE
from vsscli.data.config import Data
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.masks import read_mask, to_classes
from vsscli.data.pixels import read_image
from vsscli.drawn import scene as scene_module
from vsscli.drawn.config import Scene
from vsscli.drawn.scene import draw_scene
from vsscli.drawn.street import Street
from vsscli.errors import VssError

SMALL = Scene(videos=2, unlabelled_videos=1, val_videos=1, frames=5, size=(48, 64))
TINY = Scene(videos=1, unlabelled_videos=1, val_videos=1, frames=1, size=(12, 16))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scene") / "street"
    draw_scene(SMALL, root)
    return root


def open_street(root: Path) -> Dataset:
    return open_dataset(Data(name="street", root=str(root), classes="classes.json", unlabelled=("unlabelled",)))


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_pairs(dataset: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    for frame in (frame for video in dataset.split("train") for frame in video.frames):
        assert frame.image is not None
        assert frame.mask is not None
        label = to_classes(read_mask(frame.mask), dataset.ids, dataset.table.num_classes, frame.mask)
        pairs.append((read_image(frame.image), label))
    return pairs


def test_the_same_parameters_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    draw_scene(SMALL, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(root)


def test_another_seed_gives_other_pictures(tmp_path: Path) -> None:
    draw_scene(TINY, tmp_path / "a")
    draw_scene(TINY.model_copy(update={"seed": 1}), tmp_path / "b")
    name = "data/train-000/origin/00000.jpg"
    assert contents(tmp_path / "a")[name] != contents(tmp_path / "b")[name]


def test_more_videos_leave_the_others_as_they_were(root: Path, tmp_path: Path) -> None:
    draw_scene(SMALL.model_copy(update={"videos": 1, "val_videos": 1}), tmp_path / "fewer")
    fewer, more = contents(tmp_path / "fewer"), contents(root)
    frames = [name for name in fewer if name.startswith("data/")]
    assert all(fewer[name] == more[name] for name in frames)


def test_it_opens_as_a_data_set_in_vspw_layout(root: Path) -> None:
    dataset = open_street(root)
    assert dataset.table.names == ("road", "pavement", "building", "sky", "tree", "car", "person", "pole")
    assert [(video.name, len(video), video.size) for video in dataset.split("train")] == [
        ("train-000", 5, (48, 64)),
        ("train-001", 5, (48, 64)),
    ]


def test_videos_to_score_on_are_long_enough_for_vc16(root: Path) -> None:
    assert [len(video) for video in open_street(root).split("val")] == [24]


def test_unlabelled_videos_have_images_only(root: Path) -> None:
    [video] = open_street(root).split("unlabelled")
    assert len(video) == 5
    assert not (root / "data" / video.name / "mask").exists()


def test_masks_hold_every_class_and_a_little_void(root: Path) -> None:
    labels = np.stack([label for _, label in read_pairs(open_street(root))])
    counts = np.bincount(labels.ravel(), minlength=256)
    assert (counts[:8] > 0).all()
    assert counts[8:IGNORE].sum() == 0
    assert 0 < counts[IGNORE] < 0.02 * labels.size


def test_colour_alone_does_not_tell_the_classes_apart() -> None:
    frames = [Street(np.random.default_rng([0, 0, video]), (48, 64)).frame(0) for video in range(12)]
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in frames]).astype(float)
    label = np.concatenate([label.ravel() for _, label in frames])
    pixels, label = pixels[label != IGNORE], label[label != IGNORE]
    means = np.stack([pixels[label == index].mean(axis=0) for index in range(8)])
    nearest = ((pixels[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == label).mean() < 0.6


def test_things_move_and_most_labels_stay_from_frame_to_frame() -> None:
    for video in range(4):
        street = Street(np.random.default_rng([0, 0, video]), (48, 64))
        (_, before), (_, after) = street.frame(0), street.frame(1)
        assert 0.75 < (before == after).mean() < 1


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (40, 7)])
def test_frames_of_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    image, label = Street(np.random.default_rng(0), size).frame(0)
    assert image.shape == (*size, 3)
    assert label.shape == size


def test_a_scene_that_is_there_is_used_again(tmp_path: Path) -> None:
    draw_scene(TINY, tmp_path)  # an empty folder is taken
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    draw_scene(TINY, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_scene_of_other_parameters_is_refused(tmp_path: Path) -> None:
    draw_scene(TINY, tmp_path / "street")
    before = contents(tmp_path / "street")
    with pytest.raises(VssError, match="frames: 1 there, 2 wanted") as caught:
        draw_scene(TINY.model_copy(update={"frames": 2}), tmp_path / "street")
    assert "delete" in caught.value.hint
    assert contents(tmp_path / "street") == before


@pytest.mark.parametrize("name", ["holiday.jpg", "scene.json"])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(VssError, match=str(tmp_path)) as caught:
        draw_scene(TINY, tmp_path)
    assert caught.value.hint
    assert contents(tmp_path) == {name: b"mine"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VssError, match="file"):
        draw_scene(TINY, tmp_path / "file" / "street")
    with pytest.raises(VssError, match="file"):
        draw_scene(TINY, tmp_path / "file")


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scene_module, "_draw_video", interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw_scene(TINY, tmp_path / "street")
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_that_draw_at_once_the_second_takes_what_the_first_drew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = scene_module._draw

    def draw_while_another_finishes(scene: Scene, folder: Path, talk: object) -> None:
        draw(scene, folder, scene_module.SILENCE)
        if not (tmp_path / "street").exists():
            draw(scene, tmp_path / "street", scene_module.SILENCE)

    monkeypatch.setattr(scene_module, "_draw", draw_while_another_finishes)
    draw_scene(TINY, tmp_path / "street")
    assert [path.name for path in tmp_path.iterdir()] == ["street"]
