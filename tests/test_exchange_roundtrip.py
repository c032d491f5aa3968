"""What is written in a format comes back as it went out, and what a format can't hold is counted."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exchange_samples import (
    ADDRESSES,
    LABELS,
    SIZE,
    TABLE,
    labels_in,
    read_as,
    write_as,
    write_dataset,
    write_predictions_folder,
    write_store,
)
from listener import Listener
from PIL import Image

from vsscli.context import Context
from vsscli.data.classes import ClassTable
from vsscli.data.masks import write_mask
from vsscli.errors import VssError
from vsscli.exchange.catalogue import FORMATS, READ
from vsscli.exchange.guess import guess_format
from vsscli.exchange.items import Choices
from vsscli.exchange.source import open_source_files
from vsscli.pipeline.export import export_labels
from vsscli.pipeline.incoming import import_labels
from vsscli.recipes.schema import Recipe

OUTLINED = [name for name in READ if FORMATS[name].polygons]


def outs(form: str) -> list[str]:
    """The kinds of places that a format is written to."""
    return ["out", "out.zip", *(f"out{suffix}" for suffix in [FORMATS[form].single] if suffix)]


@pytest.mark.parametrize(("form", "place"), [(form, place) for form in READ for place in outs(form)])
def test_labels_come_back(tmp_path: Path, form: str, place: str) -> None:
    data, masks = write_dataset(tmp_path / "data"), write_predictions_folder(tmp_path / "masks")
    context = Context(tmp_path / "runs", data)
    done = export_labels(form, tmp_path / place, prediction=masks, context=context, workers=1)
    assert done.frames == len(ADDRESSES)
    assert done.figures.get("iou_kept", 1) == 1
    with open_source_files(tmp_path / place) as source:
        assert guess_format(source) == form
    back = import_labels(tmp_path / place, tmp_path / "back", context=context)
    assert (back.form, back.new, back.unmatched) == (form, [*ADDRESSES], [])
    found = labels_in(tmp_path / "back")
    assert found.keys() == LABELS.keys()
    for address, label in LABELS.items():
        np.testing.assert_array_equal(found[address], label)
        assert (tmp_path / "back" / f"{address}.png").read_bytes() == (masks / f"{address}.png").read_bytes()
    again = import_labels(tmp_path / place, tmp_path / "back", context=context, form=form)
    assert (again.unchanged, again.changed, again.new) == ([*ADDRESSES], {}, [])


@pytest.mark.parametrize("form", OUTLINED)
def test_outlines_that_keep_every_corner_lose_nothing(tmp_path: Path, form: str) -> None:
    figures = write_as(form, tmp_path / "out", Choices(polygons=True))
    assert figures == {"iou_kept": 1.0, "iou_least": 1.0}
    found = read_as(form, tmp_path / "out")
    for label, drawn in zip(LABELS.values(), found.values(), strict=True):
        np.testing.assert_array_equal(drawn, label)


@pytest.mark.parametrize("form", OUTLINED)
def test_what_simplified_outlines_lose_is_what_is_stated(tmp_path: Path, form: str) -> None:
    figures = write_as(form, tmp_path / "out", Choices(polygons=True, tolerance=1.5))
    found = read_as(form, tmp_path / "out")
    shares = []
    for label, drawn in zip(LABELS.values(), found.values(), strict=True):
        for index in np.unique(label[label < 255]):
            ours, theirs = label == index, drawn == index
            shares.append((ours & theirs).sum() / (ours | theirs).sum())
    assert 0.5 < figures["iou_kept"] < 1
    # Shapes of one class may be covered by those of the next, which the figure, by class, does not see.
    assert np.mean(shares) == pytest.approx(figures["iou_kept"], abs=0.15)


def test_two_zips_of_the_same_labels_are_the_same(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_as("cvat", tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_classes_go_by_name_whatever_the_order_of_the_table(tmp_path: Path) -> None:
    turned = ClassTable("t", TABLE.names[::-1], TABLE.colours[::-1])
    for form in READ:
        write_as(form, tmp_path / form)
        found = read_as(form, tmp_path / form, turned)
        for label, drawn in zip(LABELS.values(), found.values(), strict=True):
            np.testing.assert_array_equal(drawn, np.where(label == 255, 255, 2 - label % 3))


@pytest.mark.parametrize("form", READ)
def test_unknown_classes_are_refused_all_at_once_and_mapped_or_ignored(tmp_path: Path, form: str) -> None:
    write_as(form, tmp_path / "out")
    small = ClassTable("small", ("road", "tree"), ((128, 64, 128), (1, 2, 3)))
    with pytest.raises(VssError) as caught:
        read_as(form, tmp_path / "out", small)
    assert "traffic light" in caught.value.message
    assert "Gras" in caught.value.message
    assert "--map" in caught.value.hint
    changes = {"traffic light": "ignore", "Bäume & <Gras>": "tree"}
    found = read_as(form, tmp_path / "out", small, changes)
    expected = np.array([0, 255, 1])
    for label, drawn in zip(LABELS.values(), found.values(), strict=True):
        np.testing.assert_array_equal(drawn, np.where(label == 255, 255, expected[label % 3]))


@pytest.mark.parametrize("form", [form for form in READ if form != "png"])
def test_pixels_that_nobody_labelled_get_the_class_that_is_asked_for(tmp_path: Path, form: str) -> None:
    write_as(form, tmp_path / "out")
    found = read_as(form, tmp_path / "out", TABLE, {"background": "road"})
    for label, drawn in zip(LABELS.values(), found.values(), strict=True):
        np.testing.assert_array_equal(drawn, np.where(label == 255, 0, label))


@pytest.mark.parametrize("form", ["colour", "voc"])
def test_a_table_with_black_or_equal_colours_and_a_background_class_comes_back(tmp_path: Path, form: str) -> None:
    table = replace(TABLE, names=("background", "road", "sky"), colours=((0, 0, 0), (7, 7, 7), (7, 7, 7)))
    write_as(form, tmp_path / "out", table=table)
    found = read_as(form, tmp_path / "out", table)
    for label, drawn in zip(LABELS.values(), found.values(), strict=True):
        np.testing.assert_array_equal(drawn, label)


def test_a_correction_is_reported_by_its_pixels(tmp_path: Path) -> None:
    data, masks = write_dataset(tmp_path / "data"), write_predictions_folder(tmp_path / "masks")
    context = Context(tmp_path / "runs", data)
    import_labels(masks, tmp_path / "labels", context=context)
    label = LABELS["day2/007"].copy()
    label[0, :5] = 1
    write_predictions_folder(tmp_path / "again")
    from vsscli.data.masks import write_mask

    write_mask(tmp_path / "again" / "day2" / "007.png", label, TABLE)
    (tmp_path / "again" / "elsewhere").mkdir()
    shutil.copy(masks / "day1" / "000.png", tmp_path / "again" / "elsewhere" / "odd.png")
    planned = import_labels(tmp_path / "again", tmp_path / "labels", context=context, dry_run=True)
    assert planned.changed == {"day2/007": 5}
    np.testing.assert_array_equal(labels_in(tmp_path / "labels")["day2/007"], LABELS["day2/007"])
    done = import_labels(tmp_path / "again", tmp_path / "labels", context=context)
    assert (done.changed, len(done.unchanged), done.unmatched) == ({"day2/007": 5}, 3, ["elsewhere/odd.png"])
    np.testing.assert_array_equal(labels_in(tmp_path / "labels")["day2/007"], label)


def test_labels_of_another_video_are_not_taken_for_a_frame_with_the_same_stem(tmp_path: Path) -> None:
    listener, masks = Listener(), tmp_path / "masks"
    context = Context(tmp_path / "runs", write_dataset(tmp_path / "data"), talk=listener)
    for address in ("day1/000", "day1/007"):  # only day2 has a frame 007
        write_mask(masks / f"{address}.png", LABELS["day1/000"], TABLE)
    done = import_labels(masks, tmp_path / "labels", context=context)
    assert (done.new, done.unmatched, listener.warned) == (["day1/000"], ["day1/007.png"], [])
    (masks / "day1").rename(masks / "day3")  # may be a folder of the program that labelled it, or another video
    (masks / "day3" / "000.png").unlink()
    assert import_labels(masks, tmp_path / "labels", context=context).new == ["day2/007"]
    assert "'day3/007.png' as day2/007" in listener.warned[0]


def test_labels_of_stills_go_to_the_image_of_their_folder(tmp_path: Path) -> None:
    """Of those with a name of their own as well, which an absent image of another folder may have."""
    for image in ("001", "day1/001", "day2/002"):
        (tmp_path / image).parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(tmp_path / f"{image}.jpg")
    for image in ("day1/001", "day2/001", "day1/002"):
        write_mask(tmp_path / "masks" / f"{image}.png", LABELS["day1/000"], TABLE)
    (tmp_path / "names.txt").write_text("\n".join(TABLE.names))
    data = {"name": "own", "root": str(tmp_path), "layout": "files", "classes": "names.txt"}
    recipe = Recipe.model_validate({"name": "own", "data": {**data, "stills": [".", "day1", "day2"]}})
    done = import_labels(tmp_path / "masks", tmp_path / "labels", recipe=recipe)
    assert (done.new, done.unmatched) == (["day1_001/day1_001"], ["day1/002.png", "day2/001.png"])


def test_new_labels_are_compared_with_what_was_predicted(tmp_path: Path) -> None:
    data, store = write_dataset(tmp_path / "data"), write_store(tmp_path / "a.zarr")
    export_labels("coco", tmp_path / "draft.json", prediction=write_predictions_folder(tmp_path / "masks"))
    context = Context(tmp_path / "runs", data)
    done = import_labels(tmp_path / "draft.json", tmp_path / "labels", prediction=store, context=context)
    assert done.corrected == dict.fromkeys(ADDRESSES, 0.0)  # void counts nowhere
    other = np.zeros(SIZE, np.uint8)
    write_mask(tmp_path / "other" / "day1" / "000.png", other, TABLE)
    done = import_labels(tmp_path / "other", tmp_path / "new", prediction=store, context=context)
    predicted = np.where(LABELS["day1/000"] == 255, 0, LABELS["day1/000"])
    assert done.corrected == {"day1/000": pytest.approx((predicted != 0).mean())}
    for image in (data / "data" / "day1" / "origin").iterdir():  # exported again, larger, since it was predicted
        Image.new("RGB", (27, 20)).save(image)
    write_mask(tmp_path / "other" / "day1" / "000.png", np.zeros((20, 27), np.uint8), TABLE)
    done = import_labels(tmp_path / "other", tmp_path / "newer", prediction=store, context=context)
    assert (done.new, done.corrected) == (["day1/000"], {})


def test_what_has_no_data_set_keeps_its_names(tmp_path: Path) -> None:
    write_as("coco", tmp_path / "a.json")
    (tmp_path / "names.txt").write_text("\n".join(TABLE.names))
    done = import_labels(tmp_path / "a.json", tmp_path / "labels", classes=str(tmp_path / "names.txt"))
    assert done.new == [*ADDRESSES]
    assert labels_in(tmp_path / "labels").keys() == LABELS.keys()
    with pytest.raises(VssError, match="which classes") as caught:
        import_labels(tmp_path / "a.json", tmp_path / "labels")
    assert "--classes" in caught.value.hint


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    write_as("coco", tmp_path / "a.json")
    data = write_dataset(tmp_path / "data")
    for image in (data / "data").glob("*/origin/*"):
        Image.new("RGB", (SIZE[1], SIZE[0] + 1)).save(image)
    with pytest.raises(VssError, match="18x13, frame day1/000 is 18x14"):
        import_labels(tmp_path / "a.json", tmp_path / "labels", context=Context(tmp_path, data))
