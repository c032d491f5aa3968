"""Single images: upright, complete, 8 bits; otherwise helpful errors."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from png_samples import exif, jpeg_file, palette_file, png_file, rows_of

from vsscli.data import pixels
from vsscli.data.masks import read_colour_mask, read_mask, write_mask
from vsscli.data.pixels import image_size, read_image
from vsscli.data.png import chunk
from vsscli.errors import VssError

SMOOTH = np.stack(np.meshgrid(np.linspace(0, 250, 48), np.linspace(0, 250, 32)), axis=-1)
SMOOTH = np.concatenate([SMOOTH, SMOOTH[..., :1] * 0 + 90], axis=-1).astype(np.uint8)
MASK = np.arange(6 * 7, dtype=np.uint8).reshape(6, 7)


def test_images_become_rgb(tmp_path: Path) -> None:
    for mode, name in (("RGB", "a.jpg"), ("L", "b.jpg"), ("P", "c.png"), ("RGBA", "d.png"), ("CMYK", "e.jpg")):
        Image.new(mode, (5, 4)).save(tmp_path / name)
        image = read_image(tmp_path / name)
        assert (image.shape, image.dtype) == ((4, 5, 3), np.uint8)
        assert image.flags.writeable
        assert image_size(tmp_path / name) == (4, 5)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_missing_empty_junk_and_truncated_images_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"frame.{suffix}"
    with pytest.raises(VssError, match="does not exist") as caught:
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(VssError, match="empty"):
        read_image(path)
    path.write_bytes(b"no picture at all")
    with pytest.raises(VssError, match="damaged or not an image"):
        read_image(path)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format={"jpg": "JPEG", "png": "PNG"}[suffix])
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) * 2 // 3])
    with pytest.raises(VssError, match="is damaged") as caught:
        read_image(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


# Upright


@pytest.mark.parametrize("orientation", range(1, 10))
def test_images_stand_as_exif_says(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "f.jpg"
    path.write_bytes(jpeg_file(SMOOTH, orientation))
    upright = np.array(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_image(path), upright)
    assert image_size(path) == upright.shape[:2]
    assert image_size(path) == ((48, 32) if 5 <= orientation <= 8 else (32, 48))


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("kind", ["exif", "text"])
def test_a_png_may_say_it_before_or_behind_its_pixels(tmp_path: Path, place: str, kind: str) -> None:
    note = chunk(b"eXIf", exif(6))
    if kind == "text":  # as ImageMagick writes it
        block = b"Exif\0\0" + exif(6)
        note = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(block), block.hex().encode()))
    path = tmp_path / "m.png"
    path.write_bytes(png_file(MASK, **{place: note}))
    expected = np.rot90(MASK, -1)
    np.testing.assert_array_equal(read_mask(path), expected)
    np.testing.assert_array_equal(read_image(path)[..., 0], expected)
    assert image_size(path) == (7, 6)


def test_webp_and_tiff_stand_upright_too(tmp_path: Path) -> None:
    note = Image.Exif()
    note[0x0112] = 8
    for name, more in (("f.webp", {"lossless": True}), ("f.tif", {})):
        Image.fromarray(SMOOTH).save(tmp_path / name, exif=note, **more)
        np.testing.assert_array_equal(read_image(tmp_path / name), np.rot90(SMOOTH))
        assert image_size(tmp_path / name) == (48, 32)


def test_a_note_that_is_damaged_turns_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.png"
    for note in (b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"\x07" * 40):
        path.write_bytes(png_file(MASK, before=chunk(b"eXIf", note)))
        np.testing.assert_array_equal(read_mask(path), MASK)
        assert image_size(path) == MASK.shape


# Bits


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_16_bits_become_8_by_rounding(tmp_path: Path, colour: int, interlaced: bool) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    values = np.random.default_rng(colour).integers(0, 65536, (11, 9, channels))
    path = tmp_path / "deep.png"
    path.write_bytes(png_file(values, 16, colour, interlaced=interlaced))
    colours = values[..., :3] if channels >= 3 else values[..., [0, 0, 0]]
    np.testing.assert_array_equal(read_image(path), np.rint(colours * 255 / 65535).astype(np.uint8))


@pytest.mark.parametrize("brightest", [255, 1023, 4095, 16383])
def test_12_bits_in_16_are_refused_not_read_as_night(tmp_path: Path, brightest: int) -> None:
    values = np.linspace(0, brightest, 60).astype(int).reshape(4, 5, 3)
    (tmp_path / "deep.png").write_bytes(png_file(values, 16, 2))
    with pytest.raises(VssError, match=f"no value above {brightest} of 65535"):
        read_image(tmp_path / "deep.png")
    Image.fromarray(values[..., 0].astype(np.uint16)).save(tmp_path / "deep.tif")
    with pytest.raises(VssError, match="16 bits per channel"):
        read_image(tmp_path / "deep.tif")


def test_black_is_black_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(png_file(np.zeros((4, 5, 3), int), 16, 2))
    assert not read_image(tmp_path / "deep.png").any()


def test_values_of_32_bits_and_deep_tiffs_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 70000, np.int32)).save(tmp_path / "i.tif")
    Image.fromarray(np.full((4, 5), 0.5, np.float32)).save(tmp_path / "f.tif")
    (tmp_path / "rgb.tif").write_bytes(deep_tiff())
    for name in ("i.tif", "f.tif", "rgb.tif"):
        with pytest.raises(VssError, match="more than 8 bits"):
            read_image(tmp_path / name)


def deep_tiff() -> bytes:
    """An uncompressed TIFF of 2x1 pixels with 16 bits for each of three channels."""
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 220)]
    entries += [(277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 12)]
    body = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return body.ljust(200, b"\0") + struct.pack("<HHH", 16, 16, 16).ljust(20, b"\0") + bytes(range(12))


# Whole


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("depth", "colour"), [(8, 0), (1, 0), (4, 0), (8, 2), (16, 2), (8, 3), (2, 3), (8, 6), (16, 0)]
)
@pytest.mark.parametrize("missing", [1, 20])
def test_rows_that_are_missing_are_missed(
    tmp_path: Path, depth: int, colour: int, interlaced: bool, missing: int
) -> None:
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    values = np.random.default_rng(0).integers(0, 2**depth, (16, 24, channels))
    palette = chunk(b"PLTE", bytes(range(192)) if depth == 8 else bytes(range(12))) if colour == 3 else b""
    path = tmp_path / "short.png"
    whole = rows_of(values, depth, interlaced)
    path.write_bytes(png_file(values, depth, colour, interlaced=interlaced, before=palette, rows=whole[:-missing]))
    for read in (read_image, *((read_mask,) if colour in (0, 3) else ())):
        with pytest.raises(VssError, match=r"short\.png is damaged: it is truncated: its rows need \d+ bytes"):
            read(path)


def test_a_palette_image_of_which_nothing_is_there(tmp_path: Path) -> None:
    path = tmp_path / "short.png"
    path.write_bytes(png_file(MASK, rows=b"", size=(400, 500)))
    with pytest.raises(VssError, match="its rows need 200400 bytes, and there are 0"):
        read_mask(path)


def test_zeros_where_a_download_broke_off_are_noticed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for form in ("PNG", "JPEG"):
        file = io.BytesIO()
        Image.fromarray(noise).save(file, form)
        for share in (0.3, 0.5, 0.9, 0.99):
            keep = int(len(file.getvalue()) * share)
            (tmp_path / "f").write_bytes(file.getvalue()[:keep].ljust(len(file.getvalue()), b"\0"))
            with pytest.raises(VssError, match="is damaged"):
                read_image(tmp_path / "f")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, form: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file, form)
    whole = file.getvalue()
    for share in (0.05, 0.3, 0.7, 0.95):
        (tmp_path / "f").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(VssError, match="is damaged"):
            read_image(tmp_path / "f")


@pytest.mark.parametrize("more", [{}, {"subsampling": 0}, {"restart_marker_blocks": 3}, {"optimize": True}])
@pytest.mark.parametrize("size", [(120, 161), (48, 64), (33, 41)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_jpeg_that_was_cut_and_closed_again_is_refused(
    tmp_path: Path, more: dict[str, object], size: tuple[int, int], share: float
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).save(file, "JPEG", **more)
    whole = file.getvalue()
    start = whole.index(b"\xff\xda") + 14
    cut = whole[: start + int((len(whole) - 2 - start) * share)].rstrip(b"\xff")
    (tmp_path / "f.jpg").write_bytes(cut + b"\xff\xd9")
    with pytest.raises(VssError, match=r"is damaged: .*truncated"):
        read_image(tmp_path / "f.jpg")


@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 128, 128), (255, 255, 255), (90, 120, 30)])
@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}])
def test_a_flat_bottom_is_no_damage(tmp_path: Path, colour: tuple[int, int, int], more: dict[str, object]) -> None:
    for size in ((120, 161), (48, 64), (17, 9), (1, 1)):
        values = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
        values[size[0] // 2 :] = colour
        for behind in (b"", bytes(300), b"\xff\xd9 and more"):
            file = io.BytesIO()
            Image.fromarray(values).save(file, "JPEG", **more)
            (tmp_path / "f.jpg").write_bytes(file.getvalue() + behind)
            np.testing.assert_array_equal(read_image(tmp_path / "f.jpg"), np.array(Image.open(file)))


# Bounded


def test_what_claims_too_many_pixels_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    rows = zlib.compress(bytes(2**22))
    for size in ((65000, 65000), (12000, 12000), (2**31 - 1, 2**31 - 1)):
        path.write_bytes(png_file(MASK, rows=rows, size=size))
        for read in (read_image, image_size, read_mask):
            with pytest.raises(VssError, match=r"bomb\.png is (too large: .*\d+ pixels|damaged)") as caught:
                read(path)
        if size[0] < 2**31 - 1:
            assert str(size[0] * size[1]) in caught.value.message
            assert "tiles" in caught.value.hint


def test_other_formats_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "MOST_PIXELS", 1599)
    for name in ("f.png", "f.jpg", "f.bmp", "f.tif", "f.webp"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
        for read in (read_image, image_size):
            with pytest.raises(VssError, match="too large: 40x40 are 1600 pixels, and the limit is 1599"):
                read(tmp_path / name)


# Kinds


@pytest.mark.parametrize(("form", "kind"), [("GIF", "GIF"), ("AVIF", "AVIF"), ("JPEG2000", "JPEG 2000"), ("ICO", "")])
def test_what_is_not_read_is_called_by_its_name(tmp_path: Path, form: str, kind: str) -> None:
    if form == "AVIF":
        (tmp_path / "f.jpg").write_bytes(b"\0\0\0\x20ftypavif" + bytes(100))
    else:
        Image.fromarray(SMOOTH).save(tmp_path / "f.jpg", form)
    with pytest.raises(VssError, match=f"damaged or not an image file{kind and ': it is ' + kind}") as caught:
        read_image(tmp_path / "f.jpg")
    assert ("convert it to JPEG or PNG" in caught.value.hint) == bool(kind)


def test_heic_videos_and_deep_jpegs_are_called_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "f.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(VssError, match="it is HEIC"):
        read_image(path)
    path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    with pytest.raises(VssError, match="it is MP4 video"):
        image_size(path)
    path.write_bytes(jpeg_file(SMOOTH).replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"))
    with pytest.raises(VssError, match="a JPEG with 12 bits per channel"):
        read_image(path)


def test_a_lossy_mask_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(jpeg_file(SMOOTH))
    with pytest.raises(VssError, match="not a PNG file: it is a JPEG, which changes values") as caught:
        read_mask(tmp_path / "m.png")
    assert caught.value.hint == "export it as PNG from the original"


def test_animations_are_no_frames(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.roll(SMOOTH, shift, 1)) for shift in (0, 9, 18)]
    for name in ("f.png", "f.webp", "f.tif"):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
        with pytest.raises(VssError, match="holds 3 pictures"):
            read_image(tmp_path / name)


# Colours


def test_transparency_is_dropped(tmp_path: Path) -> None:
    values = np.dstack([SMOOTH, np.zeros(SMOOTH.shape[:2], np.uint8)])
    Image.fromarray(values).save(tmp_path / "f.png")
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), SMOOTH)
    (tmp_path / "p.png").write_bytes(palette_file(MASK % 2, [(9, 8, 7), (1, 2, 3)], alpha=b"\x00\x50"))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[0, 1], (1, 2, 3))


def test_segments_are_read_from_a_palette_as_from_colours(tmp_path: Path) -> None:
    colours = [(1, 2, 3), (200, 100, 0), (0, 0, 0)]
    (tmp_path / "p.png").write_bytes(palette_file(MASK % 3, colours))
    np.testing.assert_array_equal(read_colour_mask(tmp_path / "p.png"), np.array(colours, np.uint8)[MASK % 3])
    write_mask(tmp_path / "grey.png", MASK)
    with pytest.raises(VssError, match="one channel"):
        read_colour_mask(tmp_path / "grey.png")
    write_mask(tmp_path / "grey.png", MASK * 0)
    assert not read_colour_mask(tmp_path / "grey.png").any()
