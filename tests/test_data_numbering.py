"""Temporal order: numbers in names count as numbers, everywhere."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from listener import Listener
from PIL import Image
from store_samples import distributions, prediction_header, shrink, write_predictions

from vsscli.context import Context
from vsscli.data.config import Data
from vsscli.data.folders import read_video_folder
from vsscli.data.inputs import open_input
from vsscli.data.layouts import open_dataset, plain_data
from vsscli.data.masks import write_mask
from vsscli.data.numbering import gaps, in_time, is_in_time, same_numbers, say_numbering, say_order, uneven_padding
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels
from vsscli.evaluation.score import score
from vsscli.fusion.temporal import smooth
from vsscli.metrics.registry import compare_neighbours
from vsscli.pipeline.evaluate import evaluate
from vsscli.pipeline.inspection import inspect_data
from vsscli.recipes.schema import Recipe
from vsscli.store.encode import encode
from vsscli.store.header import Encoding
from vsscli.store.reader import Store, open_store
from vsscli.store.writer import StoreWriter
from vsscli.submission.archive import write_submission
from vsscli.submission.layout import Layout


@pytest.mark.parametrize(
    "names",
    [
        "1 2 10 11 100",
        "img_2 img_10",
        "img-2 img-10",
        "a_2 a_10 b_1",
        "cam1_1_2 cam1_2_1 cam1_10_1",
        "1_10 10_1",
        "frame9_v2 frame10_v2",
        "-2 -1 0 1",
        "-1 -2 -10",
        "t=-2 t=-1 t=0",
        "0.05 0.1 0.15 0.2",
        "12.25 12.5",
        "1403636579.5 1403636579.76 1403636580.25",
        "left1.25_c left1.5_c",
        "0 1 1.5 2",
        "1.9 1.10 1.11",
        "2023-01-02_9.59 2023-01-02_10.00",
        "98 99 100 0101",
        "0009 000a 000b 0010",
        "1fa9 20b3 9c00",
        f"{'9' * 240} 1{'0' * 240}",
        "a a1 a2 a10 b",
        "00001 00002 00010",
        "x",
    ],
)
def test_numbers_count_as_numbers(names: str) -> None:
    right = names.split()
    shuffled = random.Random(0).sample(right, len(right))
    assert in_time(shuffled) == right
    assert is_in_time(right)


@given(st.lists(st.text("0123456789.-_ab", min_size=1, max_size=8), unique=True))
def test_any_names_have_one_order_whatever_order_they_come_in(names: list[str]) -> None:
    ordered = in_time(names)
    assert sorted(ordered) == sorted(names)
    assert in_time(reversed(ordered)) == ordered


def test_names_of_one_width_stay_as_strings_are_sorted() -> None:
    names = [f"{number:08d}" for number in range(0, 5000, 7)]
    assert in_time(names) == sorted(names)


def test_what_is_odd_about_numbers_is_found() -> None:
    assert same_numbers(["1", "01", "2", "10"]) == [("01", "1")]
    assert same_numbers(["0.5", "0.50"]) == []  # counted: 5 and 50
    assert uneven_padding(["010", "9", "011"]) == ("010", "9")
    assert uneven_padding(["0", "5", "10"]) is None
    assert uneven_padding(["098", "999", "1000"]) is None
    assert gaps(["1", "2", "4", "5", "9"]) == [("2", "4"), ("5", "9")]
    assert gaps(["cam_0", "cam_5", "cam_10"]) == []
    assert gaps(["a", "b", "c"]) == []


def unpadded(root: Path, stem: str = "{}", frames: int = 12) -> Path:
    """A data set of one video whose frame n has the mask value of n's window of time; and predictions beside it."""
    rng = np.random.default_rng(0)
    for number in range(1, frames + 1):
        name = stem.format(number)
        folder = root / "data" / "v" / "origin"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (number, 0, 0)).save(folder / f"{name}.png")
        truth = np.full((6, 8), 1 + (number > frames // 2), np.uint8)
        write_mask(root / "data" / "v" / "mask" / f"{name}.png", truth)
        wrong = rng.random(truth.shape) < 0.1
        write_mask(root / "pred" / "v" / f"{name}.png", np.where(wrong, 2 - truth, truth - 1).astype(np.uint8))
    (root / "classes.json").write_text('["road", "sky"]')
    for split in ("val", "test"):
        (root / f"{split}.txt").write_text("v\n")
    return root


def test_consistency_is_that_of_the_padded_frames(tmp_path: Path) -> None:
    figures = []
    for stem in ("{:05d}", "{}", "img-{}"):
        root = unpadded(tmp_path / stem.replace(":", ""), stem)
        dataset = open_dataset(plain_data(root))
        figures.append(
            score(
                dataset.split("val"), FolderLabels(root / "pred"), dataset.table, dataset.ids, metrics=["vc4"]
            ).to_json()
        )
    assert figures[0] == figures[1] == figures[2]


def test_the_order_is_said_once_where_it_is_not_that_of_strings(tmp_path: Path) -> None:
    video = read_video_folder(unpadded(tmp_path) / "data" / "v", "v")
    assert video.stems == tuple(map(str, range(1, 13)))
    talk = Listener()
    say_order([video], talk)
    assert talk.said == ["frames are ordered by the numbers in their names: in video v '2' comes before '10'"]
    padded = read_video_folder(unpadded(tmp_path / "p", "{:05d}") / "data" / "v", "v")
    say_order([padded], talk)
    assert len(talk.said) == 1


def test_ones_own_frames_have_the_same_order(tmp_path: Path) -> None:
    talk = Listener()
    (video,) = open_input(unpadded(tmp_path) / "data" / "v", talk)
    assert video.stems == tuple(map(str, range(1, 13)))
    assert [int(image[0, 0, 0]) for image in video.images()] == list(range(1, 13))
    assert "by the numbers" in talk.said[0]


def test_the_doctor_names_twins_uneven_padding_and_gaps(tmp_path: Path) -> None:
    root = unpadded(tmp_path)
    video = root / "data" / "v"
    for folder in (video / "origin", video / "mask"):
        (folder / "5.png").unlink()
        (folder / "01.png").write_bytes((folder / "1.png").read_bytes())
    talk = Listener()
    faults = inspect_data(plain_data(root), None, described=False, splits=("val",), talk=talk).faults
    assert [fault.what.partition(",")[0] for fault in faults] == ["frames 01 and 1 of video v have the same number"]
    assert any("padded unevenly, such as 01 and 1 in v" in text for text in talk.warned)
    assert any("gaps in time, such as v between 4 and 6" in text for text in talk.said)
    say_numbering([read_video_folder(unpadded(tmp_path / "p", "{:03d}") / "data" / "v", "v")], quiet := Listener())
    assert not quiet.said
    assert not quiet.warned


def test_figures_of_neighbours_say_where_frames_are_none(tmp_path: Path) -> None:
    root = unpadded(tmp_path)
    (root / "data" / "v" / "origin").rename(root / "v")
    (root / "data" / "v" / "mask").rename(root / "mask")
    held_out = ("v/1..3", "v/8..12")
    places = {"videos": ("v",), "masks": "mask/{frame}.png", "held_out": held_out, "classes": "classes.json"}
    recipe = Recipe(name="r", data=Data(name="clips", root=str(root), layout="files", **places))
    said = {}
    for metric in ("miou", "vc2"):
        talk = Listener()
        evaluate(root / "pred", metrics=[metric], recipe=recipe, context=Context(root, talk=talk))
        said[metric] = [text for text in talk.said if "gaps in time" in text]
    gap = "1 of 1 videos have gaps in time, such as v between 3 and 8: metrics of consistency treat these as neighbours"
    assert said == {"miou": [], "vc2": [gap]}
    assert compare_neighbours(["miou", "tc"])


def as_strings(path: Path) -> Store:
    """A store of 12 frames as earlier versions wrote it: 1, 10, 11, 12, 2, …"""
    return named(path, sorted(map(str, range(1, 13))))


def named(path: Path, names: list[str]) -> Store:
    """A store of frames of these names."""
    header, means = prediction_header(3, Encoding(step=1)), distributions(0, len(names), 3)
    with StoreWriter(path, header) as writer:
        for segment in writer.pending("v", names, means.shape[2:]):
            encoding = header.parsed_encoding()
            frames = [encode(m, shrink(m, 1), encoding) for m in means[segment.start : segment.stop]]
            writer.write("v", segment, {name: np.stack([frame[name] for frame in frames]) for name in frames[0]})
    return open_store(path)


def test_a_store_in_the_order_of_strings_is_not_gone_on_with(tmp_path: Path) -> None:
    store = as_strings(tmp_path / "a.zarr")
    with (
        pytest.raises(VssError, match="same frames in another order, '10' in the place of '2'") as caught,
        StoreWriter(store.path, store.header) as writer,
    ):
        writer.pending("v", in_time(store.stems("v")), store.size("v"))
    assert "--force" in str(caught.value.hint)


def test_a_store_in_the_order_of_strings_is_not_smoothed_along_it(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="frames of video v in alphabetical order"):
        smooth(as_strings(tmp_path / "a.zarr"), 1, tmp_path / "s.zarr")
    padded = write_predictions(
        tmp_path / "p.zarr", prediction_header(3, Encoding(step=1)), {"v": distributions(0, 3, 3)}
    )
    smooth(padded, 1, tmp_path / "s.zarr")


def test_smoothing_says_where_frames_are_no_neighbours(tmp_path: Path) -> None:
    apart, whole = Listener(), Listener()
    smooth(named(tmp_path / "a.zarr", ["1", "2", "3", "8", "9"]), 1, tmp_path / "sa.zarr", talk=apart)
    smooth(named(tmp_path / "b.zarr", ["1", "2", "3", "4", "5"]), 1, tmp_path / "sb.zarr", talk=whole)
    gap = "1 of 1 videos have gaps in time, such as v between 3 and 8: smoothing along time treats these as neighbours"
    assert gap in apart.said
    assert not whole.said


def test_entries_of_a_submission_stay_in_the_order_of_their_names(tmp_path: Path) -> None:
    from zipfile import ZipFile

    root = unpadded(tmp_path)
    videos = open_dataset(plain_data(root)).split("test")
    write_submission(videos, FolderLabels(root / "pred"), tmp_path / "s.zip", Layout.for_classes(2))
    with ZipFile(tmp_path / "s.zip") as archive:
        names = archive.namelist()
        assert names == sorted(f"v/{number}.png" for number in range(1, 13))
        for name in names:  # each frame has its own labels
            with Image.open(archive.open(name)) as image, Image.open(root / "pred" / name) as wanted:
                np.testing.assert_array_equal(np.array(image), np.array(wanted))
