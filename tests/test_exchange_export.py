"""Predictions handed out: from a store and a folder, all frames or some, unsure pixels left out; and its commands."""

from __future__ import annotations

import ast
import json
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
from video_samples import SIZE as SIZE_OF_CLIPS
from video_samples import write_clip

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.data.layouts import open_dataset, plain_data
from vsscli.data.masks import write_mask
from vsscli.data.videos import Frame
from vsscli.errors import VssError
from vsscli.exchange.answers import StoreAnswers
from vsscli.exchange.functions import FUNCTIONS
from vsscli.exchange.items import Choices, Item
from vsscli.exchange.sink import Sink
from vsscli.exchange.video import VideoWriter
from vsscli.pipeline import export
from vsscli.pipeline.export import export_function, export_labels
from vsscli.pipeline.outgoing import Selection, outgoing


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "runs" / "stores" / "streets" / "val" / "a.zarr")


def test_a_store_is_handed_out_and_unsure_pixels_are_void(tmp_path: Path, store: Path) -> None:
    context = Context(tmp_path / "runs")
    everything = export_labels("png", tmp_path / "all", context=context)
    assert (everything.prediction, everything.frames, everything.void) == (store, 4, 0)
    export_labels("png", tmp_path / "sure", selection=Selection(min_certainty=0.5), context=context)
    for address, label in LABELS.items():
        np.testing.assert_array_equal(labels_in(tmp_path / "all")[address], np.where(label == 255, 0, label))
        np.testing.assert_array_equal(labels_in(tmp_path / "sure")[address], label)


def test_unsure_pixels_may_be_a_class_of_their_own(tmp_path: Path, store: Path) -> None:
    selection = Selection(min_certainty=0.5, unsure="look here")
    export_labels("coco", tmp_path / "a.json", prediction=store, selection=selection)
    found = read_as("coco", tmp_path / "a.json", changes={"look here": "ignore"})
    for label, drawn in zip(LABELS.values(), found.values(), strict=True):
        np.testing.assert_array_equal(drawn, label)
    with pytest.raises(VssError, match="'look here'"):
        read_as("coco", tmp_path / "a.json")
    with pytest.raises(VssError, match="--unsure"):
        export_labels("png", tmp_path / "b", prediction=store, selection=Selection(unsure="x"))
    with pytest.raises(VssError, match="--min-certainty 7"):
        export_labels("png", tmp_path / "b", prediction=store, selection=Selection(min_certainty=7))


def test_a_list_chooses_frames_or_whole_videos(tmp_path: Path, store: Path) -> None:
    (tmp_path / "list.txt").write_text("day2/007\nday1\n")
    done = export_labels("png", tmp_path / "a", prediction=store, selection=Selection(tmp_path / "list.txt"))
    assert done.frames == 3
    assert labels_in(tmp_path / "a").keys() == {"day1/000", "day1/001", "day2/007"}


def test_images_are_called_as_the_data_set_calls_them(tmp_path: Path) -> None:
    data, masks = write_dataset(tmp_path / "data"), write_predictions_folder(tmp_path / "masks")
    export_labels("coco", tmp_path / "a.json", prediction=masks, context=Context(tmp_path, data))
    images = json.loads((tmp_path / "a.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [f"{address}.jpg" for address in ADDRESSES]


def test_masks_that_name_no_classes_need_a_data_set(tmp_path: Path) -> None:
    for address, label in LABELS.items():
        write_mask(tmp_path / "masks" / f"{address}.png", label)
    with pytest.raises(VssError, match="does not name its classes") as caught:
        export_labels("coco", tmp_path / "a.json", prediction=tmp_path / "masks")
    assert "--data" in caught.value.hint
    context = Context(tmp_path, write_dataset(tmp_path / "data"))
    assert export_labels("coco", tmp_path / "a.json", prediction=tmp_path / "masks", context=context).frames == 4


def test_masks_of_a_folder_go_out_in_the_order_of_time(tmp_path: Path) -> None:
    for stem in ("1", "2", "10"):
        write_mask(tmp_path / "masks" / "clip" / f"{stem}.png", LABELS["day1/000"], TABLE)
    given = outgoing(tmp_path / "masks", Selection(), Context(tmp_path), None, images=False)
    assert [(item.stem, item.number) for item in (read() for read in given.items)] == [("1", 0), ("2", 1), ("10", 2)]


@pytest.mark.parametrize("out", ["out", "out.zip"])
def test_two_frames_whose_names_are_joined_to_one_are_refused(tmp_path: Path, out: str) -> None:
    for address in ("a/b_1", "a_b/1"):
        write_mask(tmp_path / "masks" / f"{address}.png", LABELS["day1/000"], TABLE)
    with pytest.raises(VssError, match="a_b_1") as caught:
        export_labels("yolo", tmp_path / out, prediction=tmp_path / "masks")
    assert "rename" in caught.value.hint
    assert export_labels("png", tmp_path / "png", prediction=tmp_path / "masks").frames == 2


def test_a_video_has_a_frame_for_each_in_the_classes_colours(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    data, masks = write_dataset(tmp_path / "data"), write_predictions_folder(tmp_path / "masks")
    context = Context(tmp_path, data)
    for overlay in (False, True):
        out = tmp_path / f"videos{overlay}"
        export_labels("video", out, prediction=masks, choices=Choices(overlay=overlay, fps=5), context=context)
        assert sorted(path.name for path in out.glob("*.mp4")) == ["day1.mp4", "day2.mp4"]
        with av.open(str(out / "day1.mp4")) as file:
            frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
            assert float(file.streams.video[0].average_rate) == 5
        assert len(frames) == 2
        assert frames[0].shape == (SIZE[0] & ~1, SIZE[1] & ~1, 3)
        colour = np.array(TABLE.colours[0]) * (0.55 if overlay else 1) + np.array([90, 120, 40]) * (
            0.45 if overlay else 0
        )
        assert np.abs(frames[0][:1, -3:].astype(int) - colour).mean() < 12
    # A frame of a video file knows the file's rate.
    clip = write_clip(tmp_path / "a.mp4", frames=2, size=SIZE_OF_CLIPS)
    label = np.zeros(SIZE_OF_CLIPS, np.uint8)
    with Sink(tmp_path / "of clips") as sink:
        writer = VideoWriter(sink, TABLE, Choices())
        writer.add(Item("a", "000000", label, 0, Frame("a", "000000", clip, number=0)))
        writer.finish()
    with av.open(str(tmp_path / "of clips" / "a.mp4")) as file:
        assert float(file.streams.video[0].average_rate) == 25
    with pytest.raises(VssError, match="several videos"):
        export_labels("video", tmp_path / "one.mp4", prediction=masks, context=context)
    assert not (tmp_path / "one.mp4").exists()
    with pytest.raises(VssError, match="not at hand"):
        export_labels("video", tmp_path / "b", prediction=masks, choices=Choices(overlay=True))


def test_fiftyone_gets_masks_with_zero_for_void(tmp_path: Path) -> None:
    write_as("fiftyone", tmp_path)
    samples = json.loads((tmp_path / "samples.json").read_text())["samples"]
    assert [sample["filepath"] for sample in samples] == [f"{address}.png" for address in ADDRESSES]
    for sample, label in zip(samples, LABELS.values(), strict=True):
        values = np.array(Image.open(tmp_path / sample["labels"]["mask_path"]))
        np.testing.assert_array_equal(values, np.where(label == 255, 0, label + 1))
    targets = json.loads((tmp_path / "metadata.json").read_text())["info"]["mask_targets"]
    assert targets == {str(index + 1): name for index, name in enumerate(TABLE.names)}


def test_datumaro_gets_runs(tmp_path: Path) -> None:
    from vsscli.exchange.coco import decode_segmentation

    write_as("datumaro", tmp_path / "a.json")
    values = json.loads((tmp_path / "a.json").read_text())
    assert [label["name"] for label in values["categories"]["label"]["labels"]] == list(TABLE.names)
    for item, label in zip(values["items"], LABELS.values(), strict=True):
        drawn = np.full(SIZE, 255, np.uint8)
        for mask in item["annotations"]:
            drawn[decode_segmentation(mask["rle"], SIZE)] = mask["label_id"]
        np.testing.assert_array_equal(drawn, label)


# Functions


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_are_python_that_names_the_store(tmp_path: Path, store: Path, kind: str) -> None:
    done = export_function(kind, tmp_path / "f.py", min_certainty=0.5, context=Context(tmp_path / "runs"))
    text = (tmp_path / "f.py").read_text()
    assert (done.store, done.model) == (store, None)
    assert repr(str(store.resolve())) in text
    assert "min_certainty=0.5" in text
    ast.parse(text)
    with pytest.raises(VssError, match="is there already"):
        export_function(kind, tmp_path / "f.py", prediction=store)
    with pytest.raises(VssError, match="--model"):
        export_function(kind, tmp_path / "g.py", prediction=store, model=tmp_path / "m.pt")
    with pytest.raises(VssError, match=r"m\.pt"):
        export_function(kind, tmp_path / "g.py", model=tmp_path / "m.pt")


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_where_names_skip_numbers_it_is_said_how_the_function_counts(
    tmp_path: Path, store: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, talk = open_dataset(plain_data(write_dataset(tmp_path / "data"))), Listener()
    monkeypatch.setattr(export, "noted_dataset", lambda *given: dataset)
    export_function(kind, tmp_path / "f.py", prediction=store, context=Context(tmp_path / "runs", talk=talk))
    assert [text.partition(" skip")[0] for text in talk.warned] == (
        ["the names of frames of day2"] if kind == "cvat-function" else []
    )


def test_a_store_answers_by_what_others_call_frames(store: Path) -> None:
    answers = StoreAnswers(store, 0.5)
    np.testing.assert_array_equal(answers.label("upload/0a1b2c3d-day2_007.jpg", SIZE), LABELS["day2/007"])
    assert answers.label("elsewhere.jpg", SIZE) is None
    with pytest.raises(VssError, match="day2/007"):
        answers.label("day2/007.jpg", (5, 5))


def test_a_video_whose_frames_are_not_numbered_from_0_on_is_not_guessed_at(tmp_path: Path, store: Path) -> None:
    assert StoreAnswers(store).numbering("day2") == 0
    answers = StoreAnswers(write_store(tmp_path / "b.zarr", first=1))
    with pytest.raises(VssError, match="day2 begin with number 1") as raised:
        answers.numbering("day2")
    assert "first=int:1" in (raised.value.hint or "")
    assert [answers.numbering("day2", first) for first in (0, 1)] == [0, 1]
    with pytest.raises(VssError, match="no video 'day9'"):
        answers.numbering("day9")


# The commands


def test_out_and_back_on_the_command_line(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, runs = write_dataset(tmp_path / "data"), str(tmp_path / "runs")
    out, labels = str(tmp_path / "a.zip"), str(tmp_path / "labels")
    assert run(["export", "--to", "cvat", "--out", out, "--min-certainty", "0.5", "--workspace", runs, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["frames"], told["pred"]) == (4, str(store))
    again = ["import", out, "--data", str(data), "--out", labels, "--workspace", runs]
    assert run([*again, "--map", "background=road", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["from"], told["new"], told["unmatched"]) == ("cvat", [*ADDRESSES], [])
    assert run(again) == 0
    said = capsys.readouterr()
    assert "changed: day2/007" in said.err
    assert said.out.split()[:1] == ["out"]
    assert run([*again, "--map", "road"]) == 2
    assert "OLD=NEW" in capsys.readouterr().err
    assert run([*again, "--from", "cocoa"]) == 2
    assert "did you mean coco" in capsys.readouterr().err


def test_what_is_left_out_is_named_on_the_command_line(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data")
    write_as("labelme", tmp_path / "a")
    (tmp_path / "a" / "day1" / "001.json").rename(tmp_path / "a" / "day1" / "odd.json")
    values = json.loads((tmp_path / "a" / "day1" / "000.json").read_text())
    values["shapes"].append({"label": "road", "points": [[0, 0]], "shape_type": "point"})
    (tmp_path / "a" / "day1" / "000.json").write_text(json.dumps(values))
    assert run(["import", str(tmp_path / "a"), "--data", str(data), "--out", str(tmp_path / "labels")]) == 0
    said = capsys.readouterr().err
    assert "'day1/odd'" in said
    assert "left out: 1 points" in said
    function = ["export", "--to", "cvat-function", "--out", str(tmp_path / "f.py"), "--pred", str(store)]
    assert run(function) == 0
    assert str(store) in capsys.readouterr().out
    assert run(["export", "--to", "png", "--out", str(tmp_path / "x"), "--model", "m.pt"]) == 2
    assert "--model is for" in capsys.readouterr().err
