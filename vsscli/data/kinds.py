"""Recognising files by their first bytes, whatever their names, for helpful error messages."""

from __future__ import annotations

import re
from pathlib import Path

HEAD = 64

MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker in a JPEG's image data: not a value of 255 (followed by 0), a fill byte or a restart marker."""

BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"heim": "HEIC",
    b"heis": "HEIC",
    b"hevc": "HEIC",
    b"hevx": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"crx ": "Canon raw",
    b"jp2 ": "JPEG 2000",
}
"""Pictures in boxes like those of MP4 (ISO/IEC 23008-12 and others), by the brand in the first box."""

PICTURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"v/1\x01", "OpenEXR"),
    (b"qoif", "QOI"),
)

VIDEOS = ((b"\x1aE\xdf\xa3", "Matroska video"), (b"\0\0\x01\xba", "MPEG video"), (b"0&\xb2u\x8ef\xcf\x11", "WMV video"))

PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<?xml", b"<MPD", b"<smil", b"<SMIL", b"<asx", b"<ASX", b"v=0")


def picture_kind(head: bytes) -> str:
    """The kind of picture that begins with these bytes, such as ``HEIC``; empty if it is unknown."""
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return next((kind for start, kind in PICTURES if head.startswith(start)), "")


def video_kind(head: bytes) -> str:
    """The kind of video that begins with these bytes; empty if it is unknown."""
    if head[4:8] == b"ftyp" and head[8:12] not in BRANDS:
        return "MP4 video"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI video"
    return next((kind for start, kind in VIDEOS if head.startswith(start)), "")


def is_playlist(head: bytes) -> bool:
    """Whether these bytes begin a text that names other files or addresses."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(PLAYLISTS)


def read_head(path: Path) -> bytes:
    """A file's first bytes; empty if it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def jpeg_bits(path: Path) -> int | None:
    """Bits per value according to a JPEG's frame header (ITU-T T.81, B.2.2); `None` if it has none."""
    try:
        with path.open("rb") as file:
            file.seek(2)
            while len(head := file.read(4)) == 4 and head[0] == 0xFF:
                if head[1] in range(0xC0, 0xD0) and head[1] not in (0xC4, 0xC8, 0xCC):
                    return (file.read(1) or b"\0")[0] or None
                file.seek(int.from_bytes(head[2:], "big") - 2, 1)
    except OSError:
        pass
    return None


def jpeg_end(data: bytes) -> int | None:
    """Position of the marker that ends a JPEG, after all scans (ITU-T T.81, B.1); `None` if it is missing.

    If a download was interrupted and the rest of the file is zeros, these decode to grey, and no end marker follows.
    """
    start = 2
    while len(data) >= start + 2:
        marker = MARKER.search(data, start)
        if marker is None:
            return None
        kind, start = data[marker.start() + 1], marker.end()
        if kind == 0xD9:
            return marker.start()
        if kind != 0x01:
            start += int.from_bytes(data[start : start + 2], "big")
    return None
