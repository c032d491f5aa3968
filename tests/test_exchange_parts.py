"""What formats share: polygons, runs, JSON and XML part by part, names of frames."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.draw import polygon2mask

from vsscli import jsonparts
from vsscli.errors import VssError
from vsscli.exchange import jsonfiles, xmlparts
from vsscli.exchange.jsonfiles import json_parts
from vsscli.exchange.matching import Matcher, Place, is_elsewhere
from vsscli.exchange.polygons import paint, regions, simplified
from vsscli.exchange.rle import (
    class_runs,
    decode_counts,
    pack_brush,
    pack_counts,
    row_counts,
    unpack_brush,
    unpack_counts,
)
from vsscli.exchange.spool import Spool
from vsscli.exchange.xmlparts import xml_parts
from vsscli.structured import Limits


def blobs(seed: int) -> np.ndarray:
    """A mask of few or many pieces, by chance."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 14, 2)
    return generator.random((height, width)) < generator.random()


# Polygons


@pytest.mark.parametrize("seed", range(60))
def test_outlines_painted_again_are_the_mask(seed: int) -> None:
    mask = blobs(seed)
    found = list(regions(mask))
    assert len(found) == ndimage.label(mask)[1]
    for rings in (lambda region: region.rings(), lambda region: [region.keyhole()]):
        again = np.zeros(mask.shape, np.uint8)
        for region in found:
            paint(again, rings(region), 1)
        np.testing.assert_array_equal(again, mask)


def test_outlines_have_only_corners_and_holes_go_the_other_way() -> None:
    mask = np.ones((5, 6), bool)
    mask[2, 2:4] = False
    (region,) = regions(mask)
    (hole,) = region.holes
    assert sorted(map(tuple, region.outline.tolist())) == [(0, 0), (0, 5), (6, 0), (6, 5)]
    assert sorted(map(tuple, hole.tolist())) == [(2, 2), (2, 3), (4, 2), (4, 3)]


def test_a_pixel_belongs_to_the_polygon_that_its_centre_is_in() -> None:
    label = np.zeros((4, 4), np.uint8)
    paint(label, [np.array([[0.4, 0.4], [2.5, 0.4], [2.5, 2.6], [0.4, 2.6]])], 1)
    np.testing.assert_array_equal(label, [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])


def test_polygons_that_share_an_edge_neither_overlap_nor_leave_a_gap() -> None:
    generator = np.random.default_rng(3)
    for _ in range(40):
        size = tuple(generator.integers(2, 20, 2).tolist())
        corners = np.array([[0, 0], [size[1], 0], [size[1], size[0]], [0, size[0]]], float)
        middle = generator.uniform(0, size[::-1])
        count = np.zeros(size, int)
        for first, second in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            part = np.zeros(size, np.uint8)
            paint(part, [np.array([first, second, middle])], 1)
            count += part
        np.testing.assert_array_equal(count, 1)


def test_other_programs_agree_but_for_the_border() -> None:
    generator = np.random.default_rng(5)
    for _ in range(30):
        angles = np.sort(generator.uniform(0, 2 * np.pi, 7))
        points = 20 + generator.uniform(6, 18, (7, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        ours = np.zeros((40, 40), np.uint8)
        paint(ours, [points], 1)
        # skimage asks for (row, column), with centres at whole numbers; so does PIL, which adds the border.
        theirs = polygon2mask((40, 40), points[:, ::-1] - 0.5)
        picture = Image.new("1", (40, 40))
        ImageDraw.Draw(picture).polygon([tuple(point - 0.5) for point in points], fill=1, outline=1)
        np.testing.assert_array_equal(ours, theirs)
        border = np.hypot(*(points - np.roll(points, 1, axis=0)).T).sum()
        assert (ours.astype(bool) ^ np.array(picture)).sum() < border


@pytest.mark.parametrize(
    "ring", [[[0, 0], [1, 1]], [[0, 0, 0]] * 3, [[0, 0], [1, 1], [np.nan, 0]], [[0, 0]] * 2 + [[1e300, 0]]]
)
def test_polygons_that_are_none_are_refused(ring: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="polygon"):
        paint(np.zeros((3, 3), np.uint8), [np.array(ring)], 1)


def test_simplified_outlines_have_fewer_corners_and_stray_no_further() -> None:
    rows, columns = np.mgrid[:60, :60]
    (region,) = regions((rows - 30) ** 2 + (columns - 30) ** 2 < 500)
    simple = simplified(region, 1.0)
    assert simple is not None
    assert len(simple.outline) < len(region.outline) / 3
    assert simplified(region, 0) is region
    (dot,) = regions(np.ones((1, 1), bool))
    assert simplified(dot, 9.0) is None


# Runs


@pytest.mark.parametrize("seed", range(30))
def test_runs_come_back(seed: int) -> None:
    mask = blobs(seed)
    for index, counts in class_runs(np.where(mask, 0, 255).astype(np.uint8), 1):
        assert index == 0
        np.testing.assert_array_equal(decode_counts(counts, mask.shape), mask)
        np.testing.assert_array_equal(unpack_counts(pack_counts(counts)), counts)
    np.testing.assert_array_equal(decode_counts(np.array(row_counts(mask)), mask.shape, order="C"), mask)
    np.testing.assert_array_equal(unpack_brush(pack_brush(mask), mask.shape), mask)


def test_runs_are_as_others_write_them() -> None:
    mask = np.zeros((3, 5), bool)
    mask[1:, 1:3] = True
    ((_, counts),) = class_runs(np.where(mask, 0, 255).astype(np.uint8), 1)
    assert counts.tolist() == [4, 2, 1, 2, 6]
    assert pack_counts(counts) == "42105", "pycocotools gives this for it"
    assert row_counts(mask) == [6, 2, 3, 2, 2]
    assert row_counts(~mask) == [0, 6, 2, 3, 2, 2]


def test_long_runs_of_a_brush_are_split() -> None:
    mask = np.zeros((300, 300), bool)
    mask[100:] = True
    np.testing.assert_array_equal(unpack_brush(pack_brush(mask), mask.shape), mask)
    with pytest.raises(ValueError, match="an image of 300x299"):
        unpack_brush(pack_brush(mask), (299, 300))
    with pytest.raises(ValueError, match="ends before"):
        unpack_brush(pack_brush(mask)[:-3], mask.shape)


# JSON and XML


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("chunk", [1, 7, 2**20])
def test_json_is_read_part_by_part(monkeypatch: pytest.MonkeyPatch, indent: int | None, chunk: int) -> None:
    monkeypatch.setattr(jsonparts, "CHUNK", chunk)
    items = [{"a": 'ä"\\]}'}, 2, -3.5e3, True, None, "x", [], {}, [[1], {"b": [2]}]]
    values = {"info": {"images": [1, 2]}, "images": items, "none": [], "n": 12, "s": "t"}
    raw = json.dumps(values, indent=indent).encode()
    found = list(json_parts(io.BytesIO(raw), "f"))
    assert found == [("info", {"images": [1, 2]}), *(("images", item) for item in items), ("n", 12), ("s", "t")]
    assert [item for _, item in json_parts(io.BytesIO(json.dumps(items, indent=indent).encode()), "f")] == items
    for cut in range(len(raw)):
        with pytest.raises(VssError, match="f is not valid JSON"):
            list(json_parts(io.BytesIO(raw[:cut]), "f"))


@pytest.mark.parametrize(
    "raw",
    [b"", b"[1,]", b"[1 2]", b'{"a":1,"a":2}', b'{"a"}', b"[1]x", b"{1:2}", b"nul", b"[NaN]", b"\xff[", b'{"a":[1}'],
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(VssError, match="f is not valid JSON"):
        list(json_parts(io.BytesIO(raw), "f"))


@pytest.mark.parametrize("value", [12.5, -1e-7, 1234567890123, "\\\u00e4", True, None, [1.5, {"a": 2e5}]])
def test_values_end_where_they_end_wherever_the_file_is_cut_in_pieces(
    monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    raw = json.dumps([value, value]).encode()
    for chunk in range(1, len(raw)):
        monkeypatch.setattr(jsonparts, "CHUNK", chunk)
        assert [item for _, item in json_parts(io.BytesIO(raw), "f")] == [value, value]


def test_damage_is_found_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonparts, "CHUNK", 100)
    raw = b'[{"a": 1}, {"a": 2 "b": 3}' + b', {"a": 1}' * 100 + b"]"
    file = io.BytesIO(raw)
    with pytest.raises(VssError, match="delimiter, at"):
        list(json_parts(file, "f"))
    assert file.tell() < 300
    with pytest.raises(VssError, match="'a' occurs twice"):
        list(json_parts(io.BytesIO(b'[{"a": 1, "a": 2}' + b", 1" * 100 + b"]"), "f"))


def test_a_part_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonparts, "CHUNK", 2**10)
    monkeypatch.setattr(jsonfiles, "PART", Limits(2**12, 100, 4))
    for raw in (b'["' + b"a" * 2**14 + b'"]', b"[[" + b"1," * 200 + b"1]]", b"[[[[[[[1]]]]]]]"):
        with pytest.raises(VssError, match="f is not valid JSON"):
            list(json_parts(io.BytesIO(raw), "f"))


def test_a_text_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xmlparts, "LONGEST", 2**12)
    monkeypatch.setattr(xmlparts, "CHUNK", 2**10)
    raw = b'<a><b c="' + b"x" * 2**14 + b'"/></a>'
    with pytest.raises(VssError, match="longer than"):
        list(xml_parts(io.BytesIO(raw), "f", "a"))


def test_a_spool_gives_back_what_belongs_to_a_frame() -> None:
    with Spool() as spool:
        for number in range(6):
            spool.add(number % 2, [number, "ä"])
        assert list(spool.values(1)) == [[1, "ä"], [3, "ä"], [5, "ä"]]
        assert list(spool.values(7)) == []
        assert spool.places() == [0, 1]


# Names of frames


PLACES = [Place("day1", f"{t:05d}", (4, 4)) for t in range(3)] + [
    Place("day1_b", "00000", (4, 4)),
    Place("über", "frame-7", (4, 4)),
    Place("über", "last.one", (4, 4)),
]


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("day1/00001.jpg", "day1/00001"),
        ("images/default/day1/00001.PNG", "day1/00001"),
        ("images\\day1\\00001.png", "day1/00001"),
        ("day1_00001.png", "day1/00001"),
        ("day1-00001", "day1/00001"),
        ("day1_b_00000.png", "day1_b/00000"),
        ("/data/upload/3/0a1b2c3d-day1_00002.jpg", "day1/00002"),
        ("http://host/data/local-files/?d=x/day1/00002.jpg", "day1/00002"),
        ("/data/local-files/?d=%C3%BCber%2Fframe-7.jpg", "über/frame-7"),
        ("u\u0308ber/frame-7.png", "über/frame-7"),
        ("über/last.one.png", "über/last.one"),
        ("frame-7.jpg", "über/frame-7"),
        ("day1/1.png", "day1/00001"),
        ("day1/frame_000002.png", "day1/00002"),
        ("day1_2", "day1/00002"),
        ("00000.png", None),
        ("day1/00009.png", None),
        ("elsewhere/5.png", None),
        ("elsewhere/frame-7.png", "über/frame-7"),
        ("day1/frame-7.png", None),  # a frame of day1 that is not there, and not another video's
        ("day1_b/00002.png", None),
        ("", None),
    ],
)
def test_frames_are_found_by_what_others_call_them(name: str, address: str | None) -> None:
    found = Matcher(PLACES).find(name)
    assert (found.address if found else None) == address


@pytest.mark.parametrize(
    "name", ["day2/cam/00001.png", "masks/day2/cam_00001.png", "day2/cam/1.png", "day2/cam_1.png", "day2_cam/00001.png"]
)
def test_folders_name_a_video_that_is_called_after_its_path(name: str) -> None:
    places = [Place(video, f"{t:05d}", None) for video in ("cam", "day1_cam", "day2_cam") for t in range(3)]
    found = Matcher(places).find(name)
    assert found is not None
    assert found.address == "day2_cam/00001"
    assert not is_elsewhere(name, found)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("day1/cam_000001.png", "clips_day1_cam/000001"),
        ("day2/cam/000001.png", "clips_day2_cam/000001"),
        ("day2/cam_1.png", "clips_day2_cam/000001"),
        ("day1/003.png", "photos_day1_003/photos_day1_003"),
        ("elsewhere/day1/003.png", None),  # may be of another place's first day
        ("elsewhere/day1/cam_000001.png", None),
        ("cam_000001.png", None),
        ("front_cam/000001.png", None),
        ("roof/cam_000001.png", None),  # roof_cam is below both a and b
    ],
)
def test_folders_name_a_video_without_the_first_of_its_own(name: str, address: str | None) -> None:
    """As in clips/day1/cam.mp4 and masks/day1/cam_000001.png. What only sounds alike, old_front_cam, is no path."""
    paths = [("clips", "day1", "cam"), ("clips", "day2", "cam"), ("a", "roof", "cam"), ("b", "roof", "cam")]
    places = [Place("_".join(path), f"{t:06d}", None, t, path) for path in paths for t in range(3)]
    for day in ("day1", "day2"):
        places.append(Place(f"photos_{day}_003", f"photos_{day}_003", None, path=("photos", day, "003")))
    places += [Place("old_front_cam", f"{t:06d}", None, t) for t in range(3)]
    found = Matcher(places).find(name)
    assert (None if found is None else found.address) == address
    assert found is None or not is_elsewhere(name, found)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("day1/001.png", "day1_001/day1_001"),
        ("images/day1/a.b 1.png", "day1_a.b 1/day1_a.b 1"),
        ("u\u0308/001.png", "ü_001/ü_001"),
        ("001.png", "001/001"),
        ("elsewhere/001.png", "001/001"),
        ("ü/009.png", "009/009"),
        ("day1_a.b 1/a.b 1.jpg", "day1_a.b 1/day1_a.b 1"),
        ("day1_x/x.jpg", "day1_x/day1_x"),  # which no number tells
        ("day1/009.png", None),  # not there, and not that of another folder
        ("day/1_001.png", "1_001/1_001"),
    ],
)
def test_folders_name_a_still(name: str, address: str | None) -> None:
    """Those of day1/, ü/ and of the data set itself, called after their paths where several have one name."""
    paths = [("001",), ("ü", "001"), ("day1", "001"), ("day1", "a.b 1"), ("day1", "x")]
    places = [Place("_".join(path), "_".join(path), None, path=path) for path in paths]
    places += [Place(name, name, None, path=(folder, name)) for folder, name in (("ü", "009"), ("day", "1_001"))]
    found = Matcher(places).find(name)
    assert (None if found is None else found.address) == address


def test_a_folder_that_is_no_video_of_the_frame_is_noticed() -> None:
    frame, still = Place("über", "frame-7", None), Place("still", "still", None)
    assert is_elsewhere("elsewhere/frame-7.png", frame)
    assert is_elsewhere("masks/b/00001.png", Place("a", "00001", None))  # there is an a in masks
    for name in ("frame-7.png", "u\u0308ber/frame-7.png", "x/über_frame-7.png", "/data/upload/3/0a1b2c3d-frame-7.png"):
        assert not is_elsewhere(name, frame)
    assert not is_elsewhere("train2017/still.jpg", still)
    assert not is_elsewhere("masks/day1/007/00001.png", Place("day1/007", "00001", None))
    assert not is_elsewhere("masks/cam00001.png", Place("cam", "00001", None))
    assert is_elsewhere("cam2/00001.png", Place("cam", "00001", None))


def test_numbers_alone_mean_the_frames_of_the_only_video() -> None:
    places = [Place("v", f"{t:05d}", None) for t in (3, 4)]
    found = Matcher(places).find("frame_000004.PNG")
    assert found is not None
    assert found.address == "v/00004"
    twice = Matcher([*places, Place("v", "x4", None)])
    assert twice.find("frame_000004") is None


@pytest.mark.parametrize("name", ["clip/000001.png", "clip_000001", "clip_1.png", "frame_0001"])
def test_numbers_of_a_video_file_may_begin_with_one(name: str) -> None:
    places = [Place("clip", f"{t:06d}", None, t) for t in range(3)]
    found = [Matcher(places, first).find(name) for first in (0, 1)]
    assert [place.number for place in found if place is not None] == [1, 0]
