"""Bad input to `vss import` and `vss export`: one clear error each, before anything is harmed."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exchange_samples import ADDRESSES, SIZE, TABLE, read_as, write_as, write_dataset, write_predictions_folder
from PIL import Image
from test_exchange_formats import COCO, CVAT_IMAGES, CVAT_VIDEO, LABELME

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.exchange.guess import guess_format
from vsscli.exchange.source import open_source_files
from vsscli.pipeline.export import export_labels
from vsscli.pipeline.incoming import import_labels
from vsscli.pipeline.outgoing import Selection

STREETS = {"road": "road", "car": "ignore"}


def refusal(work: Callable[[], object]) -> VssError:
    with pytest.raises(VssError) as caught:
        work()
    assert caught.value.hint
    return caught.value


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


# Zips and XML


@pytest.mark.parametrize(
    "name", ["../up.xml", "/etc/up.xml", "a/../../up.xml", "C:/up.xml", "a\\..\\..\\up.xml", "a/\x07", "/"]
)
def test_zips_that_climb_out_are_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.zip", {name: CVAT_IMAGES.encode()})
    assert "entry" in refusal(lambda: read_as("cvat", path)).message


def test_links_in_zips_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("annotations.xml")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert "link" in refusal(lambda: read_as("cvat", tmp_path / "a.zip")).message


def test_a_zip_bomb_is_refused_before_anything_is_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsscli.exchange.source.SPARE", 2**20)
    path = zipped(tmp_path / "a.zip", {"annotations.xml": bytes(2**24)})
    monkeypatch.setattr(zlib, "decompressobj", lambda *a, **k: pytest.fail("it was inflated"))
    assert "bomb" in refusal(lambda: read_as("cvat", path)).message


def test_a_mask_in_a_zip_is_inflated_no_further_than_a_mask_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsscli.exchange.source.MOST_BYTES", 2**16)
    path = zipped(tmp_path / "a.zip", {"v/0.png": b"\x89PNG\r\n\x1a\n" + bytes(2**20)})
    with open_source_files(path) as source:
        assert "larger than" in refusal(lambda: source.read("v/0.png", 2**16)).message


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"PK\x05\x06" + bytes(17), b"PK" + bytes(99)])
def test_damaged_zips_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    refusal(lambda: read_as("cvat", tmp_path / "a.zip"))


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><annotations>&b;</annotations>'
FETCH = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "document type"),
        (FETCH, "document type"),
        ("<annotations>", "no element"),
        ("<other></other>", "root"),
        ("", "no element"),
        ("<annotations>" + "<a>" * 99, "nested"),
        (CVAT_IMAGES.replace('rle="0, 8"', 'rle="0, 9"'), "can't be drawn"),
        (CVAT_IMAGES.replace('rle="0, 8"', 'rle="0, x"'), "can't be drawn"),
        (CVAT_IMAGES.replace('left="0"', 'left="1"'), "does not fit"),
        (CVAT_IMAGES.replace('width="4" height="3"', 'width="4000000" height="3000000"'), "too large"),
        (CVAT_IMAGES.replace('width="4" height="3"', 'height="3"'), "can't be read"),
        (CVAT_IMAGES.replace("1.00,1.00;3.00,1.00;", ""), "three"),
        (CVAT_IMAGES.replace("1.00,1.00;", "nan,1.00;"), "no image has"),
        (CVAT_VIDEO.replace('<polygon frame="1"', '<polygon frame="0"'), "twice"),
        (CVAT_VIDEO.replace('frame="1" outside="0" occluded="0" keyframe="0"', 'frame="3" outside="0" keyframe="0"')
         .replace('frame="2" outside="1" occluded="0" keyframe="1" points', 'frame="4" outside="0" points'),
         "key frames alone"),
    ],
)  # fmt: skip
def test_bad_xml_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "annotations.xml").write_text(text)
    table = TABLE.__class__("t", ("road", "car"), ((1, 1, 1), (2, 2, 2)))
    error = refusal(lambda: read_as("cvat", tmp_path, table))
    assert said in error.message
    assert "annotations.xml" in error.message


# Shapes


def test_polygons_outside_of_the_image_are_cut_off(tmp_path: Path) -> None:
    values = {**LABELME, "shapes": [{**LABELME["shapes"][0], "points": [[-50, -9e8], [2, -9e8], [2, 9e8], [-50, 9e8]]}]}  # type: ignore[index]
    (tmp_path / "0.json").write_text(json.dumps(values))
    table = TABLE.__class__("t", ("road", "car"), ((1, 1, 1), (2, 2, 2)))
    (label,) = read_as("labelme", tmp_path, table).values()
    np.testing.assert_array_equal(label, [[0, 0, 255, 255]] * 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": [{"id": 9, "file_name": "a.jpg", "height": 4, "width": 4}]}, "can't be drawn"),
        ({"images": [{"id": 9, "file_name": "a.jpg", "width": 4}]}, "lacks 'height'"),
        ({"images": [{"id": 9, "file_name": "a.jpg", "height": 10**9, "width": 4}]}, "too large"),
        ({"categories": [{"id": 7, "name": "car"}]}, "category 3"),
        ({"annotations": [{"image_id": 9}]}, "category_id"),
        ({"annotations": 7}, "no COCO JSON"),
        ({"images": []}, "no COCO JSON"),
    ],
)
def test_bad_coco_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**COCO, **change}))
    table = TABLE.__class__("t", ("road", "car"), ((1, 1, 1), (2, 2, 2)))
    assert said in refusal(lambda: read_as("coco", tmp_path / "a.json", table)).message


@pytest.mark.parametrize("counts", ["", "0", "zz", "ä", "o" * 40, [3], [13], [-1, 13], [1, 2**70]])
def test_bad_runs_are_refused(tmp_path: Path, counts: object) -> None:
    annotation = {**COCO["annotations"][0], "segmentation": {"size": [3, 4], "counts": counts}}  # type: ignore[dict-item]
    (tmp_path / "a.json").write_text(json.dumps({**COCO, "annotations": [annotation]}))
    table = TABLE.__class__("t", ("road", "car"), ((1, 1, 1), (2, 2, 2)))
    assert "can't be drawn" in refusal(lambda: read_as("coco", tmp_path / "a.json", table)).message


# Colours and masks


def test_an_unknown_colour_is_refused_with_the_nearest_class(tmp_path: Path) -> None:
    write_as("colour", tmp_path / "a")
    path = tmp_path / "a" / "day1" / "000.png"
    pixels = np.array(Image.open(path))
    pixels[0, :3] = (127, 66, 128)
    pixels[1, 0] = (1, 1, 1)
    Image.fromarray(pixels).save(path)
    error = refusal(lambda: read_as("colour", tmp_path / "a"))
    assert "000.png has 4 pixels in (127, 66, 128)" in error.message
    assert "'road', (128, 64, 128)" in error.message


def test_masks_that_are_no_pngs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "v").mkdir(parents=True)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a" / "v" / "0.png", "JPEG")
    for form in ("png", "colour"):
        assert "0.png" in refusal(lambda form=form: read_as(form, tmp_path / "a")).message  # type: ignore[misc]
    (tmp_path / "a" / "v" / "0.png").write_bytes(b"")
    assert "0.png is empty (0 bytes)" in refusal(lambda: read_as("png", tmp_path / "a")).message


# Frames


def test_two_labels_of_one_frame_are_refused(tmp_path: Path) -> None:
    data, masks = write_dataset(tmp_path / "data"), write_predictions_folder(tmp_path / "masks")
    (masks / "day1_000.png").write_bytes((masks / "day1" / "000.png").read_bytes())
    error = refusal(lambda: import_labels(masks, tmp_path / "out", context=Context(tmp_path, data)))
    assert "day1/000" in error.message


@pytest.mark.parametrize("other", ["alley", "wall"])
def test_frames_of_videos_that_are_not_here_are_left_out(tmp_path: Path, other: str) -> None:
    """Their stems may be those of frames that are here, and were labelled under their own names."""
    data, masks = write_dataset(tmp_path / "data"), write_predictions_folder(tmp_path / "masks")
    shutil.rmtree(data / "data" / "day2")
    (data / "val.txt").write_text("day1\n")
    (masks / "day2").rename(masks / other)
    for number, mask in enumerate(sorted((masks / other).iterdir())):
        mask.rename(mask.with_name(f"{number:03d}.png"))
    done = import_labels(masks, tmp_path / "out", context=Context(tmp_path, data))
    ours = [address for address in ADDRESSES if address.startswith("day1/")]
    assert (done.new, [name.split("/")[0] for name in done.unmatched]) == (ours, [other] * len(done.unmatched))
    for address in ours:
        assert (tmp_path / "out" / f"{address}.png").read_bytes() == (masks / f"{address}.png").read_bytes()


def test_names_of_no_frame_are_refused_when_there_is_no_other(tmp_path: Path) -> None:
    data, masks = write_dataset(tmp_path / "data"), write_predictions_folder(tmp_path / "masks")
    for folder in list(masks.iterdir()):
        folder.rename(masks / f"x{folder.name}")
        for mask in list((masks / f"x{folder.name}").iterdir()):
            mask.rename(mask.with_name(f"z{mask.name}"))
    error = refusal(lambda: import_labels(masks, tmp_path / "out", context=Context(tmp_path, data)))
    assert "none of the 4 frames" in error.message
    assert "xday1/z000.png" in error.message


def test_an_empty_selection_is_refused(tmp_path: Path) -> None:
    masks = write_predictions_folder(tmp_path / "masks")
    (tmp_path / "list.txt").write_text("day9/000\n")

    def export(**changes: object) -> object:
        return export_labels("png", tmp_path / "out", prediction=masks, **changes)  # type: ignore[arg-type]

    assert "day9/000" in refusal(lambda: export(selection=Selection(tmp_path / "list.txt"))).message
    (tmp_path / "list.txt").write_text("\n")
    assert "empty" in refusal(lambda: export(selection=Selection(tmp_path / "list.txt"))).message
    assert "how sure" in refusal(lambda: export(selection=Selection(min_certainty=0.5))).message
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    masks = write_predictions_folder(tmp_path / "masks")
    for place in ("a.zip", "a.json", "folder"):
        export_labels("coco", tmp_path / place, prediction=masks)
        assert "--force" in refusal(lambda place=place: export_labels("coco", tmp_path / place, prediction=masks)).hint  # type: ignore[misc]
        export_labels("coco", tmp_path / place, prediction=masks, force=True)
    assert (
        "no polygons"
        in refusal(lambda: export_labels("png", tmp_path / "b", prediction=masks, choices=_outlines())).message
    )
    assert "zip" in refusal(lambda: export_labels("video", tmp_path / "b.zip", prediction=masks)).message
    assert "did you mean coco" in refusal(lambda: export_labels("cocoa", tmp_path / "b", prediction=masks)).hint


def _outlines():  # type: ignore[no-untyped-def]
    from vsscli.exchange.items import Choices

    return Choices(polygons=True)


def test_nothing_is_left_of_a_file_that_could_not_be_finished(tmp_path: Path) -> None:
    masks = write_predictions_folder(tmp_path / "masks")
    (masks / "day2" / "007.png").write_bytes(b"")
    for place in ("a.zip", "a.json"):
        refusal(lambda place=place: export_labels("coco", tmp_path / place, prediction=masks, workers=1))  # type: ignore[misc]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks"]


def test_a_folder_of_nothing_is_in_no_format(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with open_source_files(tmp_path / "a") as source:
        assert "--from" in refusal(lambda: guess_format(source)).hint
    assert "not there" in refusal(lambda: read_as("coco", tmp_path / "b.json")).message


def test_datumaros_own_format_is_told_from_cocos(tmp_path: Path) -> None:
    write_as("datumaro", tmp_path / "a.json")
    with open_source_files(tmp_path / "a.json") as source:
        assert "Datumaro" in refusal(lambda: guess_format(source)).message
