"""CVAT's tasks of videos: written and read by the numbers of frames, whatever the frames are called here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exchange_samples import (
    ADDRESSES,
    LABELS,
    TABLE,
    labels_in,
    read_as,
    write_as,
    write_dataset,
    write_predictions_folder,
)
from listener import Listener

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.exchange.items import Choices
from vsscli.exchange.matching import skips_numbers
from vsscli.pipeline.export import export_labels
from vsscli.pipeline.incoming import Imported, import_labels
from vsscli.pipeline.outgoing import Selection

MASK = '<mask {} rle="0, 4" left="1" top="1" width="2" height="2" z_order="0"></mask>'
SIZE = "<original_size><width>18</width><height>13</height></original_size>"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path / "runs", write_dataset(tmp_path / "data"))


def xml(path: Path, meta: str, body: str) -> Path:
    """A file as CVAT writes it, and its place."""
    path.write_text(f'<?xml version="1.0"?><annotations><version>1.1</version><meta>{meta}</meta>{body}</annotations>')
    return path


def image(number: int, more: str = "") -> str:
    """Frame of a video, in the format for images: a "road" of four pixels."""
    mask = MASK.format('label="road" occluded="0"')
    return f'<image id="{number}" name="frame_{number:06d}" width="18" height="13"{more}>{mask}</image>'


def track(number: int, more: str = "") -> str:
    """The same in the format for videos."""
    masks = (MASK.format(f'frame="{number + n}" outside="{n}" occluded="0" keyframe="1"') for n in (0, 1))
    return f'<track id="0" label="road" source="manual"{more}>{"".join(masks)}</track>'


def task(name: str, more: str = "", mode: str = "interpolation") -> str:
    return f"<task><name>{name}</name><mode>{mode}</mode>{more}<labels><label><name>road</name></label></labels></task>"


def read(path: Path, context: Context) -> Imported:
    return import_labels(path, path.parent / "labels", context=context)


@pytest.mark.parametrize("choices", [Choices(), Choices(polygons=True)])
def test_masks_go_to_the_tasks_of_their_videos_and_come_back(
    tmp_path: Path, context: Context, choices: Choices
) -> None:
    masks = write_predictions_folder(tmp_path / "masks")
    export_labels("cvat-video", tmp_path / "out", prediction=masks, choices=choices, context=context)
    text = (tmp_path / "out" / "day2.xml").read_text()
    assert re.findall(r'<image id="(\d+)" name="(\w+)"', text) == [("0", "frame_000000"), ("1", "frame_000001")]
    for name in ("day1", "day2"):
        back = import_labels(tmp_path / "out" / f"{name}.xml", tmp_path / "back", context=context)
        assert (back.form, back.unmatched, len(back.new)) == ("cvat", [], 2)
    for address, label in LABELS.items():
        np.testing.assert_array_equal(labels_in(tmp_path / "back")[address], label)


def test_frames_of_a_list_keep_their_numbers(tmp_path: Path, context: Context) -> None:
    masks = write_predictions_folder(tmp_path / "masks")
    (tmp_path / "list.txt").write_text("day2/007\n")
    chosen = Selection(tmp_path / "list.txt")
    export_labels("cvat-video", tmp_path / "day2.xml", prediction=masks, selection=chosen, context=context)
    assert 'id="1" name="frame_000001"' in (tmp_path / "day2.xml").read_text()
    assert read(tmp_path / "day2.xml", context).new == ["day2/007"]


def test_places_are_said_to_be_no_numbers_where_the_names_of_frames_skip_some(tmp_path: Path, context: Context) -> None:
    masks, heard = write_predictions_folder(tmp_path / "masks"), Listener()
    heard_context = replace(context, talk=heard)
    for video in ("day1", "day2"):
        (tmp_path / "list.txt").write_text(f"{video}\n")
        chosen, out = Selection(tmp_path / "list.txt"), tmp_path / f"{video}.xml"
        export_labels("cvat-video", out, prediction=masks, selection=chosen, context=heard_context)
        read(out, heard_context)
    assert ["frames of day2 " in warning and "place N" in warning for warning in heard.warned] == [True, True]
    export_labels("cvat", tmp_path / "all", prediction=masks, context=heard_context)
    read(tmp_path / "all", heard_context)
    bare = import_labels(out, tmp_path / "bare", classes=str(tmp_path / "data" / "classes.json"))
    assert bare.new == ["day2/000000", "day2/000001"]
    assert len(heard.warned) == 2


@pytest.mark.parametrize(
    ("stems", "skips"),
    [
        (["000", "001", "002"], False),
        (["9", "10", "11"], False),
        (["a_5", "a_6", "a_8"], True),
        (["00", "10", "20"], True),
        (["7"], False),
        (["first", "second"], False),
        ([], False),
    ],
)
def test_names_that_skip_numbers(stems: list[str], skips: bool) -> None:
    assert skips_numbers(stems) == skips


def test_what_cannot_be_written_for_a_task_of_a_video_is_refused(tmp_path: Path, context: Context) -> None:
    masks = write_predictions_folder(tmp_path / "masks")
    with pytest.raises(VssError, match="several videos"):
        export_labels("cvat-video", tmp_path / "a.xml", prediction=masks, context=context)
    with pytest.raises(VssError, match=r"zip"):
        export_labels("cvat-video", tmp_path / "a.zip", prediction=masks, context=context)
    with pytest.raises(VssError, match="not at hand") as caught:
        export_labels("cvat-video", tmp_path / "a", prediction=masks)
    assert "--data" in caught.value.hint


def test_a_file_for_images_never_fits_the_frames_of_another_video(tmp_path: Path) -> None:
    write_as("cvat", tmp_path)
    numbers = re.findall(r'<image id="(\d+)"', (tmp_path / "annotations.xml").read_text())
    assert numbers == ["0", "1", "1000000", "1000007"]


@pytest.mark.parametrize("body", [image(1), track(1)], ids=["images", "tracks"])
@pytest.mark.parametrize(
    "meta",
    [task("t", "<source>day2.mp4</source>" + SIZE), task("day2", "<source>uploaded.mp4</source>"), task("day2")],
    ids=["source", "name", "name alone"],
)
def test_a_task_of_a_video_is_read_by_number(tmp_path: Path, context: Context, meta: str, body: str) -> None:
    done = read(xml(tmp_path / "a.xml", meta, body), context)
    assert (done.new, done.unmatched) == (["day2/007"], [])
    label = labels_in(tmp_path / "labels")["day2/007"]
    assert (label == 0).sum() == 4


def test_a_dot_in_the_name_of_a_task_begins_no_suffix_unless_of_a_video(tmp_path: Path, context: Context) -> None:
    other = task("day2.evening", "<source>uploaded.mp4</source>")
    with pytest.raises(VssError, match=r"uploaded/000001") as caught:
        read(xml(tmp_path / "a.xml", other, image(1)), context)
    assert "day1, day2" in caught.value.hint
    for name in ("day2", "day1"):
        (tmp_path / "data" / "data" / name).rename(tmp_path / "data" / "data" / f"{name}.evening")
    (tmp_path / "data" / "train.txt").write_text("day1.evening\nday2.evening\n")
    (tmp_path / "data" / "val.txt").unlink()
    for meta in (other, task("day2.evening.MOV"), task("t", "<source>C:\\clips\\day2.evening.mp4</source>")):
        done = read(xml(tmp_path / "a.xml", meta, image(1)), context)
        assert [*done.new, *done.unchanged] == ["day2.evening/007"]


@pytest.mark.parametrize("form", [image, track])
def test_tasks_of_a_project_count_on_after_each_other(tmp_path: Path, context: Context, form: object) -> None:
    def said(name: str, number: int, more: str = "") -> str:
        where = f"<id>{number}</id><size>2</size><start_frame>0</start_frame><stop_frame>1</stop_frame>"
        return task("", f"{where}<source>{name}.mp4</source>{more}")

    other = said("day1", 3, "<subset>Train</subset>")
    meta = f"<project><tasks>{said('day1', 7)}{said('day2', 8)}{other}</tasks></project>"
    body = form(3, ' task_id="8"') + form(1, ' task_id="3"')  # type: ignore[operator]
    assert sorted(read(xml(tmp_path / "a.xml", meta, body), context).new) == ["day1/001", "day2/007"]
    stepped = meta.replace("<size>2</size>", "<size>2</size><frame_filter>step=5</frame_filter>", 1)
    body = form(11, ' task_id="8"')  # type: ignore[operator]
    assert read(xml(tmp_path / "b.xml", stepped, body), context).unchanged == ["day2/007"]
    subsets = f"<project><tasks>{said('day1', 7)}{said('day2', 3, '<subset>Train</subset>')}</tasks></project>"
    body = form(1, ' task_id="7"') + form(1, ' task_id="3"')  # type: ignore[operator]
    assert read(xml(tmp_path / "c.xml", subsets, body), context).unchanged == ["day1/001", "day2/007"]


def test_a_job_says_no_video_which_is_enough_where_there_is_one(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    job = f"<job><id>4</id><mode>interpolation</mode><labels><label><name>day2</name></label></labels></job>{SIZE}"
    path = xml(tmp_path / "a.xml", job, image(1))
    with pytest.raises(VssError, match="video/000001") as caught:
        read(path, Context(tmp_path / "runs", data))
    assert "day1, day2" in caught.value.hint
    (data / "train.txt").write_text("day2\n")
    assert read(path, Context(tmp_path / "runs", data)).new == ["day2/007"]


def test_tracks_of_a_task_of_images_do_not_say_which_images(tmp_path: Path) -> None:
    path = xml(tmp_path / "a.xml", task("next", mode="annotation"), track(1))
    with pytest.raises(VssError, match="CVAT for video") as caught:
        read_as("cvat", path, TABLE)
    assert "CVAT for images" in caught.value.hint


def test_a_task_of_images_is_read_by_name(tmp_path: Path, context: Context) -> None:
    named = image(0).replace("frame_000000", "day2_007.png")
    assert read(xml(tmp_path / "a.xml", task("x", mode="annotation"), named), context).new == ["day2/007"]
    assert "day2/007" in ADDRESSES


def test_of_several_tasks_a_track_says_which_is_its(tmp_path: Path, context: Context) -> None:
    several = f"<project><tasks>{task('day1', '<id>1</id>')}{task('day2', '<id>2</id>')}</tasks></project>"
    for more in ("", ' task_id="3"'):
        with pytest.raises(VssError, match="task"):
            read(xml(tmp_path / "a.xml", several, track(1, more)), context)
    named = image(0).replace("frame_000000", "day2/007.png")
    assert read(xml(tmp_path / "b.xml", several, named), context).new == ["day2/007"]
