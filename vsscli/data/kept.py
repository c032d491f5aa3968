"""Decoded frames of video files, kept in the cache folder.

Training reads the same frames again and again in random order. Decoding one from the last key frame on takes far longer
than reading an image, so decoded frames are kept, without loss, up to `MOST` bytes for all videos. They may be removed
at any time; if the cache folder can't be written, none is kept.
"""

from __future__ import annotations

import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import google_crc32c
import numpy as np

from vsscli.data.recall import cache_folder, identity
from vsscli.data.videos import Frame
from vsscli.errors import VssError
from vsscli.files import whole_file
from vsscli.inside import Inside

FOLDER = "frames"

MOST = 4 * 2**30
"""Most bytes of kept frames."""

FREE = 4 * 2**30
"""Bytes that are left free on the disk."""

HEAD = struct.Struct("<4sIII")
"""Before the pixels of a file: `MAGIC`, height, width, and the CRC-32C of the pixels."""

MAGIC = b"vssf"

_sizes: dict[tuple[int, Path], int] = {}
"""Bytes of kept frames as far as this process knows, by process and folder."""


def read_kept(frame: Frame) -> np.ndarray:
    """Read the image of a frame like `Frame.read`; a frame of a video file is decoded only once.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8, RGB.

    Raises
    ------
    VssError
        As `Frame.read`.
    """
    if frame.number is None or frame.image is None:
        return frame.read()
    try:
        place = cache_folder() / FOLDER / identity(frame.image) / f"{frame.number:06d}"
    except OSError:
        return frame.read()  # which says what is wrong
    image = _load(place)
    if image is None:
        image = frame.read()
        _keep(place, image)
    return image


def _load(place: Path) -> np.ndarray | None:
    """The pixels of a file; `None` if it does not exist, or is incomplete or damaged."""
    try:
        data = place.read_bytes()
    except OSError:
        return None
    if len(data) < HEAD.size:
        return None
    magic, height, width, check = HEAD.unpack_from(data)
    pixels = memoryview(data)[HEAD.size :]
    if magic != MAGIC or len(pixels) != height * width * 3 or google_crc32c.value(bytes(pixels)) != check:
        return None
    # Copied, since samples may be changed in place, and bytes can't be.
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy()


def _keep(place: Path, image: np.ndarray) -> None:
    folder = place.parent.parent
    with suppress(OSError, VssError):
        key = os.getpid(), folder
        if key not in _sizes:
            _sizes[key] = _make_room(folder)
        if _sizes[key] + image.nbytes > MOST:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < FREE + image.nbytes:
            return
        pixels = np.ascontiguousarray(image).tobytes()
        head = HEAD.pack(MAGIC, image.shape[0], image.shape[1], google_crc32c.value(pixels))
        with whole_file(place, sync=False) as part, part.open("wb") as file:
            file.write(head)
            file.write(pixels)
        _sizes[key] += image.nbytes


def _make_room(folder: Path) -> int:
    """The bytes of kept frames; if there is hardly room for more, the oldest half is removed first."""
    found = []
    for path in folder.glob("*/*"):
        with suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in found)
    if total < 0.9 * MOST:
        return total
    inside = Inside(folder)
    for _, size, path in sorted(found):
        if total < MOST / 2:
            break
        inside.unlink(path)
        total -= size
    return total
