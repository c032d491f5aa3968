"""The fast way to decode a mask gives what the careful one gives, in values and in errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsscli.data.masks import read_mask, write_mask
from vsscli.errors import VssError
from vsscli.evaluation import decode
from vsscli.evaluation.decode import read_label

VALUES = np.random.default_rng(0).integers(0, 256, (37, 53)).astype(np.uint8)


@pytest.mark.parametrize("palette", [None, bytes(range(256)) * 3])
def test_plain_masks_are_decoded_in_place(
    tmp_path: Path, palette: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mask.png"
    write_mask(path, VALUES, palette)
    monkeypatch.setattr(decode, "read_mask", None)  # the careful way is not needed
    label = read_label(path)
    np.testing.assert_array_equal(label, VALUES)
    assert label.dtype == np.uint8
    label[:] = 7
    assert (label == 7).all(), "the array is the caller's own"


@pytest.mark.parametrize("mode", ["1", "P", "L"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits_are_read_as_the_careful_way_reads_them(tmp_path: Path, mode: str, bits: int) -> None:
    path = tmp_path / "mask.png"
    image = Image.fromarray(VALUES % 2**bits)
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    image.convert(mode).save(path, bits=bits)
    np.testing.assert_array_equal(read_label(path), read_mask(path))


def test_a_transparent_colour_changes_no_value(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    image = Image.fromarray(VALUES)
    image.putpalette(bytes(range(256)) * 3)
    image.save(path, transparency=0)
    np.testing.assert_array_equal(read_label(path), VALUES)


def test_a_pillow_that_decodes_elsewhere_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mask.png"
    write_mask(path, VALUES)

    def load_elsewhere(image: Image.Image) -> None:
        image.im = Image.core.new(image.mode, image.size)

    with monkeypatch.context() as context:
        context.setattr("PIL.PngImagePlugin.PngImageFile.load", load_elsewhere)
        assert decode._decode_in_place(path) is None
    np.testing.assert_array_equal(read_label(path), VALUES)


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "text", "colour", "16 bits"])
def test_faults_are_told_as_the_careful_way_tells_them(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "mask.png"
    write_mask(path, VALUES)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("this is no image, whatever its name says")
    elif damage == "colour":
        Image.new("RGB", (4, 4)).save(path)
    else:
        Image.new("I;16", (4, 4)).save(path)
    with pytest.raises(VssError) as careful:
        read_mask(path)
    with pytest.raises(VssError) as fast:
        read_label(path)
    assert (fast.value.message, fast.value.hint) == (careful.value.message, careful.value.hint)
