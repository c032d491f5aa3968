"""Pictures of predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.report.overlay import ALPHA, GAP, LETTERS, PANEL_WIDTH, heat, overlay, save_picture

TABLE = ClassTable("t", ("road", "sky", "car"), ((200, 0, 0), (0, 200, 0), (0, 0, 200)))
SIZE = (PANEL_WIDTH // 2, PANEL_WIDTH)
TOP = GAP + LETTERS


def frame() -> tuple[np.ndarray, np.ndarray]:
    """A grey frame; road to the left, sky to the right, a void strip below."""
    image = np.full((*SIZE, 3), 100, np.uint8)
    label = np.zeros(SIZE, np.uint8)
    label[:, SIZE[1] // 2 :] = 1
    label[-20:] = 255
    return image, label


def pixel(picture: np.ndarray, y: int, x: int, panel: int = 0) -> tuple[int, ...]:
    """A pixel of the frame within a panel."""
    return tuple(picture[TOP + y, GAP + panel * (SIZE[1] + GAP) + x].tolist())


def test_classes_are_tinted_and_void_is_left_alone() -> None:
    image, label = frame()
    picture = overlay(image, label, None, None, TABLE)
    tint = tuple(round(100 * (1 - ALPHA) + ALPHA * channel) for channel in (200, 0, 0))
    assert pixel(picture, 10, 10) == tint
    assert pixel(picture, SIZE[0] - 5, 10) == (100, 100, 100)
    assert picture.dtype == np.uint8


def test_a_line_runs_where_two_classes_meet() -> None:
    image, label = frame()
    picture = overlay(image, label, None, None, TABLE).astype(int)
    middle = SIZE[1] // 2
    assert min(pixel(picture, 10, middle)) > min(pixel(picture, 10, middle + 10))
    assert sum(pixel(picture, 10, middle)) > sum(pixel(picture, 10, middle + 10)) + 150


def test_truth_and_entropy_stand_to_the_right() -> None:
    image, label = frame()
    truth = np.full(SIZE, 2, np.uint8)
    entropy = np.ones(SIZE, np.float32)
    picture = overlay(image, label, entropy, truth, TABLE)
    assert picture.shape[1] == 3 * (SIZE[1] + GAP) + GAP
    assert pixel(picture, 10, 10, panel=1) == tuple(round(100 * (1 - ALPHA) + ALPHA * c) for c in (0, 0, 200))
    assert min(pixel(picture, 10, 10, panel=2)) >= 235


def test_panels_that_do_not_fit_stand_below_each_other_or_shrink() -> None:
    image, label = frame()
    entropy, truth = np.ones(SIZE, np.float32), np.full(SIZE, 2, np.uint8)
    widths = {most: overlay(image, label, entropy, truth, TABLE, most).shape[1] for most in (2000, 700, 400, 200)}
    assert widths == {2000: 3 * (SIZE[1] + GAP) + GAP, 700: 2 * (SIZE[1] + GAP) + GAP, 400: SIZE[1] + 2 * GAP, 200: 200}
    picture = overlay(image, label, entropy, truth, TABLE, 700)
    wide = overlay(image, label, entropy, truth, TABLE)
    first = slice(GAP, GAP + SIZE[1])
    row = TOP + SIZE[0]
    assert (picture[TOP:row, first] == wide[TOP:row, first]).all()
    third = 2 * (SIZE[1] + GAP)
    assert (picture[row + TOP : 2 * row, first] == wide[TOP:row, third + GAP : third + GAP + SIZE[1]]).all()


def test_the_legend_names_the_classes_that_occur() -> None:
    image, label = frame()
    bottom = overlay(image, label, None, None, TABLE)[TOP + SIZE[0] :]
    assert (bottom == (200, 0, 0)).all(-1).any()
    assert (bottom == (0, 200, 0)).all(-1).any()
    assert not (bottom == (0, 0, 200)).all(-1).any()


def test_a_long_legend_takes_several_lines() -> None:
    names = tuple(f"a rather long name {number}" for number in range(12))
    table = ClassTable("t", names, tuple((number, 0, 0) for number in range(12)))
    label = np.repeat(np.arange(12, dtype=np.uint8), 10)[None].repeat(50, 0)
    image = np.zeros((50, 120, 3), np.uint8)
    one = overlay(image, np.zeros((50, 120), np.uint8), None, None, table)
    assert overlay(image, label, None, None, table).shape[0] > one.shape[0]


def test_small_frames_are_enlarged() -> None:
    picture = overlay(np.zeros((24, 32, 3), np.uint8), np.zeros((24, 32), np.uint8), None, None, TABLE)
    assert picture.shape[1] == PANEL_WIDTH + 2 * GAP


def test_heat_goes_from_black_to_white_and_never_gets_darker() -> None:
    colours = heat(np.linspace(-0.5, 1.5, 201)[None]).astype(float)
    assert tuple(colours[0, 0]) == (0, 0, 0)
    assert colours[0, -1].min() >= 235
    luminance = colours[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) >= -0.5).all()


def test_arrays_of_different_sizes_are_a_mistake() -> None:
    image, label = frame()
    with pytest.raises(ValueError, match="entropy is"):
        overlay(image, label, np.zeros((3, 3)), None, TABLE)


def test_a_picture_is_saved_whole(tmp_path: Path) -> None:
    path = tmp_path / "pictures" / "a.png"
    save_picture(path, np.full((4, 5, 3), 7, np.uint8))
    assert np.asarray(Image.open(path)).tolist() == np.full((4, 5, 3), 7).tolist()
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(VssError, match=r"a\.png"):
        save_picture(tmp_path / "a.png", np.zeros((4, 5, 3), np.uint8))
