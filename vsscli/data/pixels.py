"""Images: a file decoded to upright 8-bit RGB, as annotation tools show it.

Nothing is repaired: a file whose pixels do not all decode is an error that names it. Colour profiles are not applied
and transparency is dropped, as in the pipelines that published networks were trained with.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vsscli.data.kinds import jpeg_bits, jpeg_end, picture_kind, read_head, video_kind
from vsscli.data.orientation import image_turn
from vsscli.data.png import SIGNATURE, Png, parse_png, read_notes
from vsscli.errors import VssError

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")

MOST_PIXELS = 2**27
"""Limit for images, masks and frames of videos: 16,384 x 8,192. A few kilobytes can claim thousands of times more."""

TILES = "cut it into tiles, each a separate frame, or scale it down"

DARKEST = 2**14
"""A 16-bit image whose brightest value is lower may hold 10, 12 or 14 bits of a sensor, or a dark scene."""


def read_image(path: Path) -> np.ndarray:
    """Decode an image, turned upright by its EXIF orientation: (H, W, 3) uint8, RGB.

    Grey becomes three equal channels, transparency is dropped, and 16 bits become 8 by rounding (255 v / 65535).
    `VssError` if the file is missing, empty, damaged, truncated, too large, an animation, or has values of more than 8
    bits whose range is unknown.
    """
    with _opened(path) as (image, png):
        turn = image_turn(image)
        if png is not None and png.depth == 16:
            values = _narrowed(_deep(png, image), path)
        elif image.mode.startswith("I;"):
            values = _narrowed(np.asarray(image)[..., None], path)
        else:
            values = _colours(image, path)
        if values.shape[2] < 3:
            values = np.repeat(values[..., :1], 3, axis=2)
        return turn.apply(np.ascontiguousarray(values[..., :3]))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright image from the file's header; pixels are not decoded."""
    with named(path, IMAGE_FORMATS, "image"):
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            height, width = image.height, image.width
            require_pixels(height, width, f"image {path}")
            if image.format != "PNG":
                return image_turn(image).size(height, width)
        notes = read_notes(path)
        if not notes:
            return height, width
        dot = Png(1, 1, 8, 0, False, notes=notes)  # to find them, Pillow would decode everything
        return image_turn(dot.open(b"\0\0")).size(height, width)


def require_pixels(height: int, width: int, what: str) -> None:
    """Refuse pictures with more pixels than the limit."""
    if height * width > MOST_PIXELS:
        raise VssError(
            f"{what} is too large: {width}x{height} are {height * width} pixels, and the limit is {MOST_PIXELS}",
            TILES,
        )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, Png | None]]:
    """Open a complete image file, not yet turned upright; a PNG is already inflated, and comes with its chunks."""
    with named(path, IMAGE_FORMATS, "image"):
        data = path.read_bytes()
        if data.startswith(SIGNATURE):
            png = require_png(data, path, "image")
            yield png.open(png.inflate()), png
            return
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            require_pixels(image.height, image.width, f"image {path}")
            _require_single(_pictures(image), path, "image")
            if image.format in ("JPEG", "MPO"):
                _require_scans(image, data)
            yield image, None


def require_png(data: bytes, path: Path, what: str) -> Png:
    """The chunks of a file, which must be a PNG with one picture that is not too large."""
    if not data.startswith(SIGNATURE):
        raise Image.UnidentifiedImageError
    png = parse_png(data)
    require_pixels(png.height, png.width, f"{what} {path}")
    _require_single(png.frames, path, what)
    return png


@contextmanager
def named(path: Path, formats: tuple[str, ...], what: str) -> Iterator[None]:
    """Turn any error of the block into a `VssError` that names the file."""
    try:
        yield
    except VssError:
        raise
    except FileNotFoundError as cause:
        raise VssError(f"{what} {path} does not exist", "check the path, or download the file again") from cause
    except PermissionError as cause:
        raise VssError(f"{what} {path} can't be read by this user", "change the file's permissions") from cause
    except Image.UnidentifiedImageError as cause:
        raise _unidentified(path, formats, what) from cause
    except Image.DecompressionBombError as cause:
        pixels = re.search(r"\d+", str(cause))
        size = f"{pixels[0]} pixels" if pixels else str(cause)
        raise VssError(f"{what} {path} is too large: {size}, and the limit is {MOST_PIXELS}", TILES) from cause
    except Exception as cause:  # a damaged file can make Pillow raise almost anything
        raise VssError(f"{what} {path} is damaged: {cause}", "download or extract it again") from cause


def _unidentified(path: Path, formats: tuple[str, ...], what: str) -> VssError:
    """The error for a file of another format, which says what it is instead, if known."""
    wanted = f"a {' or '.join(formats)} file" if len(formats) < 3 else "an image file"
    head = read_head(path)
    kind, this = picture_kind(head), f"{what} {path}"
    if os.path.getsize(path) == 0:
        return VssError(f"{this} is empty (0 bytes)", "download or extract it again")
    if kind == "JPEG" and "JPEG" in formats and (jpeg_bits(path) or 8) > 8:
        return VssError(f"{this} is a JPEG with {jpeg_bits(path)} bits per channel", "save it with 8 bits")
    if kind == "JPEG" and "JPEG" not in formats:
        return VssError(
            f"{this} is damaged or not {wanted}: it is a JPEG, which changes values near edges",
            f"export it as {' or '.join(formats)} from the original",
        )
    if kind and kind.upper() not in formats:
        better = "PNG" if "JPEG" not in formats else "JPEG or PNG"
        return VssError(f"{this} is damaged or not {wanted}: it is {kind}", f"convert it to {better}")
    if video_kind(head):
        return VssError(
            f"{this} is damaged or not {wanted}: it is {video_kind(head)}",
            "give it a video's suffix, such as .mp4",
        )
    return VssError(f"{this} is damaged or not {wanted}", "download or extract it again")


def _pictures(image: Image.Image) -> int:
    """Number of pictures in a file, without smaller copies of the first."""
    if image.format not in ("WEBP", "TIFF"):
        return 1  # further pictures of a JPEG are previews and the second view of a stereo pair
    count: int = getattr(image, "n_frames", 1)
    if image.format != "TIFF" or count == 1:
        return count
    pages = 1
    for page in range(1, min(count, 16)):
        image.seek(page)
        pages += not image.tag_v2.get(254, 0) & 5  # type: ignore[attr-defined]  # NewSubfileType: smaller, or a mask
    image.seek(0)
    return pages


def _require_scans(image: Image.Image, data: bytes) -> None:
    """Refuse a JPEG that was cut off, even if an end marker was added; the image is loaded.

    The decoder fills missing blocks before the end marker with a flat colour, up to the last corner. If that is flat,
    the end is replaced by zeros: with these, the decoder asks for more data unless it has all blocks.
    """
    end = jpeg_end(data)
    if end is None:
        raise ValueError("it is truncated: the end marker is missing")
    image.load()
    width, height = image.size
    corner = (max(width - 1 - (width - 1) % 8, width - 4), max(height - 1 - (height - 1) % 8, height - 4))
    if "progressive" in image.info or image.crop((*corner, width, height)).getcolors(1) is None:
        return
    with Image.open(io.BytesIO(data[:end] + bytes(12)), formats=("JPEG",)) as again:
        again.load()


def _require_single(pictures: int, path: Path, what: str) -> None:
    if pictures > 1:
        raise VssError(
            f"{what} {path} holds {pictures} pictures: an animation, or several pages",
            f"export each of them as a separate file (ffmpeg -i {path.name} %05d.png)",
        )


def _colours(image: Image.Image, path: Path) -> np.ndarray:
    """RGB of an 8-bit image, (H, W, 3) uint8."""
    deep = image.mode in ("F", "I")
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, 8)  # type: ignore[attr-defined]  # BitsPerSample
        deep = deep or max(bits if isinstance(bits, tuple) else (bits,)) > 8
    if deep:
        raise VssError(
            f"image {path} has more than 8 bits per channel (mode {image.mode})",
            "save it with 8 bits, or as a 16-bit PNG",
        )
    image.load()
    if image.mode == "P":
        image.info.pop("transparency", None)  # dropped like any other, without Pillow's warning
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _deep(png: Png, image: Image.Image) -> np.ndarray:
    """All channels of a 16-bit PNG, (H, W, channels) uint16."""
    if png.colour == 0:
        return np.asarray(image).astype(np.uint16)[..., None]
    rows = png.inflate()
    if png.colour == 4:  # four bytes per pixel, read as 8-bit RGBA, of which Pillow keeps all
        four = Png(png.width, png.height, 8, 6, png.interlaced).open(rows)
        return np.array(four).view(">u2").astype(np.uint16)
    return np.array(image).astype(np.uint16) << 8 | np.asarray(png.open(png.swapped(rows)))


def _narrowed(values: np.ndarray, path: Path) -> np.ndarray:
    """16-bit values (H, W, channels) rounded to 8 bits. Transparency is ignored in judging the brightness."""
    colours = values[..., : 1 if values.shape[2] < 3 else 3]
    brightest = int(colours.max())
    if 0 < brightest < DARKEST:
        raise VssError(
            f"image {path} has 16 bits per channel, but no value above {brightest} of 65535: it may hold "
            f"{brightest.bit_length()} bits of a sensor, or a very dark scene",
            "save it with 8 bits, at the intended brightness",
        )
    return ((colours.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
