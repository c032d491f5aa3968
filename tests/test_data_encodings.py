"""Masks of other data sets, read through their mappings: small stand-ins, and real samples if available."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vsscli import jsonparts
from vsscli.data import panoptic
from vsscli.data.classes import load_class_table
from vsscli.data.mapping import load_mapping
from vsscli.data.masks import read_mask, write_mask
from vsscli.data.panoptic import load_segments
from vsscli.data.remap import remap_masks
from vsscli.errors import VssError
from vsscli.structured import Limits

VSPW = load_class_table("vspw124")
SAMPLES = Path(os.environ.get("VSS_SAMPLES", Path(__file__).parents[2] / "shared" / "data"))
needs_samples = pytest.mark.skipif(not (SAMPLES / "ade20k-sample").is_dir(), reason="the samples are not at hand")


def value(name: str | None) -> int:
    """The mask value of a VSPW class."""
    return 255 if name is None else VSPW.names.index(name) + 1


def values(*names: str | None) -> list[list[int]]:
    return [[value(name) for name in names]]


def mask(path: Path, *ids: int) -> Path:
    write_mask(path, np.array([ids], np.uint8))
    return path


def panoptic_set(folder: Path, images: dict[str, dict[int, int]], **changes: Any) -> Path:
    """A folder of one-row panoptic PNGs, segment ids from left to right with 0 behind them, and its JSON beside it."""
    for name, segments in images.items():
        ids = [*segments, 0]
        pixels = np.array([[[i & 255, i >> 8 & 255, i >> 16] for i in ids]], np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    annotations = [
        {"file_name": name, "segments_info": [{"id": i, "category_id": c} for i, c in segments.items()]}
        for name, segments in images.items()
    ]
    told = {"info": {"year": 2018}, "images": [], "annotations": annotations} | changes
    folder.with_name(f"{folder.name}.json").write_text(json.dumps(told))
    return folder


class TestPixelMaps:
    """Data sets whose masks hold ids."""

    def test_ade20k_counts_from_1_and_0_is_other(self, tmp_path: Path) -> None:
        path = mask(tmp_path / "ADE_val_00000001.png", 0, 1, 3, 31, 150)
        label = load_mapping("ade20k").read(path)
        np.testing.assert_array_equal(label, values(None, "wall", "sky", "chair_or_seat", "flag"))
        with pytest.raises(VssError, match=r"a\.png holds value 151, .*ade20k"):
            load_mapping("ade20k").read(mask(tmp_path / "a.png", 151))

    def test_cocostuffs_two_kinds_of_files_come_to_the_same(self, tmp_path: Path) -> None:
        mapping = load_mapping("cocostuff")
        raw = mapping.read(mask(tmp_path / "000000000139.png", 0, 12, 105, 181, 255))
        ranks = mapping.read(mask(tmp_path / "000000000139_labelTrainIds.png", 0, 11, 94, 170, 255))
        np.testing.assert_array_equal(raw, values("person", None, "sky", "wood", None))
        np.testing.assert_array_equal(ranks, raw)

    def test_cocostuffs_unused_and_surplus_ids_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(VssError, match=r"1\.png holds values 11, 182, .*cocostuff"):
            load_mapping("cocostuff").read(mask(tmp_path / "1.png", 182, 11, 10))
        with pytest.raises(VssError, match=r"1_labelTrainIds\.png holds value 171, which \*_labelTrainIds"):
            load_mapping("cocostuff").read(mask(tmp_path / "1_labelTrainIds.png", 171))

    def test_cityscapes_two_kinds_of_files_come_to_the_same(self, tmp_path: Path) -> None:
        mapping = load_mapping("cityscapes")
        stem = "aachen_000000_000019_gtFine"
        ids = mapping.read(mask(tmp_path / f"{stem}_labelIds.png", 0, 7, 8, 6, 21, 25, 31, 33, 30))
        ranks = mapping.read(mask(tmp_path / f"{stem}_labelTrainIds.png", 255, 0, 1, 255, 8, 12, 16, 18, 255))
        np.testing.assert_array_equal(ids, values(None, "road", "path", None, None, "person", "train", "bicycle", None))
        np.testing.assert_array_equal(ranks, ids)
        with pytest.raises(VssError, match=r"_labelIds\.png holds value 34"):
            mapping.read(mask(tmp_path / "x_gtFine_labelIds.png", 34))
        with pytest.raises(VssError, match=r"x_gtFine_color\.png is neither"):
            mapping.read(mask(tmp_path / "x_gtFine_color.png", 7))

    def test_camvid_counts_from_1_and_0_is_void(self, tmp_path: Path) -> None:
        label = load_mapping("camvid").read(mask(tmp_path / "a.png", 0, 1, 4, 7, 11))
        np.testing.assert_array_equal(label, values(None, "sky", "road", None, None))

    @pytest.mark.parametrize(
        ("source", "names", "wanted"),
        [
            ("ade20k", ["b.PNG", "a.png", "c.jpg", ".d.png"], {"a.png": "a.png", "b.png": "b.PNG"}),
            ("coco-panoptic", ["a.png", "a.json"], {"a.png": "a.png"}),
            (
                "cocostuff",
                ["1_labelTrainIds.png", "1.png", "2_labelTrainIds.png", "3.png"],
                {"1.png": "1.png", "2.png": "2_labelTrainIds.png", "3.png": "3.png"},
            ),
            (
                "cityscapes",
                ["u_1_2_gtFine_color.png", "u_1_2_gtFine_instanceIds.png", "u_1_2_gtFine_labelIds.png",
                 "u_1_2_gtFine_labelTrainIds.png", "u_1_2_gtFine_polygons.json", "v_gtCoarse_labelTrainIds.png"],
                {"u_1_2_leftImg8bit.png": "u_1_2_gtFine_labelIds.png",
                 "v_leftImg8bit.png": "v_gtCoarse_labelTrainIds.png"},
            ),
        ],
    )  # fmt: skip
    def test_masks_are_called_like_their_frames(self, source: str, names: list[str], wanted: dict[str, str]) -> None:
        assert load_mapping(source).masks(names) == wanted

    @pytest.mark.parametrize("source", ["ade20k", "cocostuff"])
    def test_two_files_for_one_mask_are_refused(self, source: str) -> None:
        with pytest.raises(VssError, match=r"a\.PNG and a\.png are masks of one frame"):
            load_mapping(source).masks(["a.png", "a.PNG"])

    def test_a_folder_without_the_data_sets_masks_is_refused(self, tmp_path: Path) -> None:
        mask(tmp_path / "masks" / "a.png", 1)
        with pytest.raises(VssError, match=r"no masks of cityscapes, only 1 \.png"):
            remap_masks(tmp_path / "masks", tmp_path / "out", load_mapping("cityscapes"))


class TestPanoptic:
    """COCO panoptic's PNGs and JSON."""

    def test_segments_become_their_categories(self, tmp_path: Path) -> None:
        # 1 + 256 * 2 + 65536 * 3 = 197121: all three channels count.
        folder = panoptic_set(tmp_path / "val", {"1.png": {197121: 1, 5: 187, 16777215: 11, 256: 1}, "2.png": {5: 21}})
        mapping = load_mapping("coco-panoptic")
        np.testing.assert_array_equal(mapping.read(folder / "1.png"), values("person", "sky", None, "person", None))
        np.testing.assert_array_equal(mapping.read(folder / "2.png"), values("cattle", None))

    def test_a_folder_is_rewritten_and_a_newer_json_is_noticed(self, tmp_path: Path) -> None:
        folder = panoptic_set(tmp_path / "val", {"1.png": {7: 1}, "2.png": {7: 187}})
        mapping, out = load_mapping("coco-panoptic"), tmp_path / "out"
        report = remap_masks(folder, out, mapping, workers=1)
        assert (report.masks, report.pixels, report.kept, report.counts) == (2, 4, 2, {"person": 1, "sky": 1})
        assert (report.source_classes, report.kept_classes) == (133, 113)
        assert remap_masks(folder, out, mapping, workers=1).skipped == 2
        panoptic_set(folder, {"1.png": {7: 17}, "2.png": {7: 187}})
        for path in (folder / "1.png", folder / "2.png"):
            os.utime(path, ns=(1, 1))
        os.utime(tmp_path / "val.json", ns=(2**62, 2**62))
        assert remap_masks(folder, out, mapping, workers=1).counts == {"cat": 1, "sky": 1}

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"annotations": []}, "has no list `annotations`"),
            ({"annotations": {}}, "without file_name or segments_info"),
            ({"annotations": [{"file_name": "1.png"}]}, "without file_name or segments_info"),
            ({"annotations": [{"file_name": "2.png", "segments_info": []}]}, r"no annotation with file_name '1\.png'"),
            ({"annotations": [{"file_name": "1.png", "segments_info": []}] * 2}, "two annotations"),
            (
                {"annotations": [{"file_name": "1.png", "segments_info": [{"id": 0}]}]},
                r"1\.png has a segment with id 0",
            ),
            (
                {"annotations": [{"file_name": "1.png", "segments_info": [{"id": 7, "category_id": 255}]}]},
                r"segment 7 of 1\.png has category_id 255",
            ),
            (
                {"annotations": [{"file_name": "1.png", "segments_info": [{"id": 8, "category_id": 1}]}]},
                r"1\.png holds segment 7, which .*val\.json does not list",
            ),
            (
                {"annotations": [{"file_name": "1.png", "segments_info": [{"id": 7, "category_id": 12}]}]},
                r"1\.png holds value 12, .*coco-panoptic",
            ),
            (
                {
                    "annotations": [
                        {"file_name": "1.png", "segments_info": [{"id": 7, "category_id": c} for c in (1, 2)]}
                    ]
                },
                r"gives segment 7 of 1\.png the categories 1 and 2",
            ),
            ({"categories": [{"id": 1, "name": "wall"}]}, "calls category 1 'wall', the mapping's source .* 'person'"),
        ],
    )
    def test_what_can_not_be_meant_is_refused_by_name(
        self, tmp_path: Path, changes: dict[str, Any], match: str
    ) -> None:
        folder = panoptic_set(tmp_path / "val", {"1.png": {7: 1}}, **changes)
        with pytest.raises(VssError, match=match):
            load_mapping("coco-panoptic").read(folder / "1.png")

    def test_a_missing_or_damaged_json_or_png_is_refused_by_name(self, tmp_path: Path) -> None:
        folder, mapping = panoptic_set(tmp_path / "val", {"1.png": {7: 1}}), load_mapping("coco-panoptic")
        text = (tmp_path / "val.json").read_text()
        for content in ("", "[]", text[:-20], text.replace(":", " ", 1), '{"annotations": [' + "[" * 100_000):
            (tmp_path / "val.json").write_text(content)
            with pytest.raises(VssError, match=r"val\.json (is damaged|is not a panoptic JSON|has an annotation)"):
                mapping.read(folder / "1.png")
        (tmp_path / "val.json").unlink()
        with pytest.raises(VssError, match=r"panoptic JSON .*val\.json can't be read") as caught:
            mapping.read(folder / "1.png")
        assert "panoptic_val2017.json" in caught.value.hint
        (tmp_path / "val.json").write_text(text)
        mask(folder / "1.png", 7)
        with pytest.raises(VssError, match=r"1\.png has one channel"):
            mapping.read(folder / "1.png")

    def test_the_json_is_read_in_pieces(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        images = {f"{n}.png": {n + 1: 1 + n % 10, 77_000: 187} for n in range(300)}
        panoptic_set(tmp_path / "val", images, categories=[{"id": 1, "name": "person"}, {"id": 187}], last=12.5)
        whole = load_segments(tmp_path / "val.json")
        monkeypatch.setattr(jsonparts, "CHUNK", 7)
        os.utime(tmp_path / "val.json", ns=(1, 1))  # another file, so it is not remembered
        pieces = load_segments(tmp_path / "val.json")
        assert pieces is not whole
        assert (pieces.places, pieces.names) == (whole.places, whole.names)
        for name, segments in images.items():
            ids, categories = pieces.of(Path(name))
            assert dict(zip(ids.tolist(), categories.tolist(), strict=True)) == segments
        assert load_segments(tmp_path / "val.json") is pieces

    def test_a_value_without_end_does_not_fill_the_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jsonparts, "CHUNK", 64)
        monkeypatch.setattr(panoptic, "PART", Limits(1000, 100, 4))
        (tmp_path / "val.json").write_text('{"annotations": ["' + "x" * 100_000 + '"]}')
        with pytest.raises(VssError, match="more than 1000 characters"):
            load_segments(tmp_path / "val.json")


@needs_samples
class TestSamples:
    """Three images of ADE20K and two of COCO panoptic, as their owners publish them."""

    def test_ade20k(self, tmp_path: Path) -> None:
        folder = SAMPLES / "ade20k-sample" / "annotations"
        report = remap_masks(folder, tmp_path / "out", load_mapping("ade20k"), workers=1)
        assert (report.masks, report.pixels, report.kept) == (3, 651696, 628772)
        raw = read_mask(folder / "ADE_val_00000001.png")
        assert report.counts["sky"] == sum(int((read_mask(path) == 3).sum()) for path in folder.glob("*.png"))
        label = read_mask(tmp_path / "out" / "ADE_val_00000001.png")
        assert set(label[raw == 3].tolist()) == {value("sky")}
        assert set(label[raw == 0].tolist()) == {255}

    def test_coco_panoptic(self, tmp_path: Path) -> None:
        folder = SAMPLES / "coco-panoptic-sample" / "panoptic"
        report = remap_masks(folder, tmp_path / "out", load_mapping("coco-panoptic"), workers=1)
        told = json.loads(folder.with_name("panoptic.json").read_text())
        # The JSON counts each segment's pixels itself.
        areas: dict[int, int] = {}
        for annotation in told["annotations"]:
            for segment in annotation["segments_info"]:
                areas[segment["category_id"]] = areas.get(segment["category_id"], 0) + segment["area"]
        assert report.counts["person"] == areas[1]
        assert report.counts["horse"] == areas[19]
        assert report.counts["tree"] == areas[184]
        assert (report.masks, report.pixels) == (2, 640 * 427 + 640 * 360)
