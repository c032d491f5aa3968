"""Published checkpoints that can't be converted are refused with a helpful error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from converted_samples import (
    official,
    our_name,
    write_detectron2,
    write_mmseg,
)

from vsscli.errors import VssError
from vsscli.pipeline.convert import convert_checkpoint, read_spans


@pytest.fixture(scope="module")
def mmseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mmseg")
    convert_checkpoint(write_mmseg(folder / "official.pth"), folder / "t.pt")
    return folder / "t.pt"


class TestRefusals:
    def refused(self, tmp_path: Path, state: dict[str, Any] | None = None, **options: Any) -> str:
        with pytest.raises(VssError) as caught:
            convert_checkpoint(write_mmseg(tmp_path / "o.pth", state), tmp_path / "t.pt", **options)
        assert caught.value.hint
        assert not (tmp_path / "t.pt").exists()
        return caught.value.message

    def test_a_missing_a_surplus_and_a_misshapen_tensor_are_named(self, tmp_path: Path) -> None:
        state = dict(official("full_vitadapter_mmseg")["state_dict"])
        lost = "decode_head.transformer_decoder.layers.1.norms.2.bias"
        without = {name: value for name, value in state.items() if name != lost}
        name = our_name(lost)
        assert re.search(rf"o\.pth .*missing \({re.escape(name)}\)", self.refused(tmp_path, without))
        assert "surplus (decode_head.conv_seg.weight)" in self.refused(
            tmp_path, {**state, "decode_head.conv_seg.weight": torch.ones(1)}
        )
        other = {**state, "backbone.blocks.1.mlp.fc1.weight": torch.ones(3, 32)}
        assert "blocks.1.mlp.fc1.weight is (3, 32), not (128, 32)" in self.refused(tmp_path, other)

    def test_other_classes_than_the_tables_are_refused_with_both_numbers(self, tmp_path: Path) -> None:
        assert "7 classes, class table vspw124 has 124" in self.refused(tmp_path, classes="vspw124")

    @pytest.mark.parametrize("crop", [70, 0, -32])
    def test_a_crop_that_is_no_multiple_of_32_is_refused(self, tmp_path: Path, crop: int) -> None:
        assert (f"crop: {crop}x{crop}" if crop > 0 else f"crop.0: {crop}") in self.refused(tmp_path, crop=crop)

    def test_a_crop_for_a_network_of_any_size_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(VssError, match="takes images of any size"):
            convert_checkpoint(write_detectron2(tmp_path / "m.pkl"), tmp_path / "t.pt", crop=64)

    def test_a_file_cut_short_and_one_of_another_network_are_refused(self, tmp_path: Path) -> None:
        whole = write_mmseg(tmp_path / "o.pth").read_bytes()
        (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(VssError, match=r"cut\.pth"):
            convert_checkpoint(tmp_path / "cut.pth", tmp_path / "t.pt")
        assert "no state dict" in self.refused(tmp_path, {"a": "b"})
        assert "of a network that vss does not know" in self.refused(tmp_path, {"conv1.weight": torch.ones(1)})

    def test_a_backbone_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        assert "become a one_peace_g" in self.refused(tmp_path, backbone="one_peace_g")

    def test_what_is_there_is_not_replaced_unasked(self, mmseg: Path) -> None:
        with pytest.raises(VssError, match="already exists"):
            convert_checkpoint(mmseg, mmseg)

    @pytest.mark.parametrize("text", ["0-5,6", "0..5", "a-b"])
    def test_spans_are_read_or_refused(self, text: str) -> None:
        assert read_spans("0-5, 6-11") == ((0, 5), (6, 11))
        with pytest.raises(VssError, match="--interactions"):
            read_spans(text)
