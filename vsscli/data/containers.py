"""Video containers: which may be opened, and whether a file is cut off.

The number of frames in a header is unreliable: an edit list hides some of them, a capture drops others. Reliable are
the lengths that a file gives for its parts, and the positions of the pictures in its index.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from vsscli.data.kinds import is_playlist, picture_kind, read_head
from vsscli.data.pixels import MOST_PIXELS
from vsscli.errors import VssError

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,vc1,obu,ivf,asf,flv,ogg,dv,mxf,rm,"
    "nut,wtv,mjpeg,yuv4mpegpipe,wav,mp3,flac,aac"
)
"""FFmpeg's names of formats that contain their pictures. Playlists and lists of images would open other files, or the
network."""

OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file", "max_pixels": str(MOST_PIXELS)}

EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
ASF_PARTS = {bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")}
"""Header and data, which hold the pictures; an index may follow."""


def refuse_other_files(path: Path) -> None:
    """Refuse a file whose first bytes are those of a playlist or a picture, whatever its name."""
    head = read_head(path)
    if is_playlist(head):
        raise VssError(
            f"{path} is not a video but a playlist, a text that names other files or addresses",
            "give the video files themselves, or join them into one (ffmpeg -i PLAYLIST -c copy whole.mp4)",
        )
    kind = picture_kind(head)
    if kind:
        raise VssError(
            f"{path} is not a video but a picture or an animation ({kind}), whatever its name says",
            f"export its frames as JPEG or PNG into a folder (ffmpeg -i {path.name} %05d.png), and give that",
        )


def is_cut(path: Path) -> bool | None:
    """Whether a file ends before its structure does; `None` if the structure does not say where it ends."""
    size = os.path.getsize(path)
    with path.open("rb") as file:
        head = file.read(1024)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _row_is_cut(file, size, _box, least=8)
        if head[:4] == b"RIFF":
            return _row_is_cut(file, size, _riff_chunk, least=8, even=True)
        if head[:4] == EBML:
            return _segment_is_cut(file, size)
        if head[:16] in ASF_PARTS:
            return _row_is_cut(file, size, _asf_object, least=24)
        return _transport_is_cut(head, size)


def lacks_packets(entries: Iterable[Any], packets: int, size: int) -> bool:
    """Whether an index (PyAV's) lists more pictures than the ``packets`` with data that were read, or pictures beyond
    the end of the file of ``size`` bytes."""
    filled = [entry for entry in entries if entry.size > 0]
    return packets < len(filled) or any(entry.pos + entry.size > size for entry in filled)


def _row_is_cut(
    file: BinaryIO, size: int, measure: Callable[[bytes], int | None], *, least: int, even: bool = False
) -> bool | None:
    """Whether the last of several consecutive parts is incomplete.

    ``measure`` returns the total length of a part from its first bytes: 0 if they are not a part but data appended
    after the last one; negative if they are invalid; `None` if the part extends to the end of the file.
    """
    start = 0
    while start + least <= size:
        file.seek(start)
        length = measure(file.read(24))
        if length is None or length == 0:
            return None if length is None else False
        if length < 0 or start + length > size:
            return True
        start += length + length % 2 * even
    return False


def _box(head: bytes) -> int | None:
    """ISO/IEC 14496-12, 4.2: a box is its length, four letters, and its content; length 0 means up to the end."""
    length, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if not kind.isascii() or not kind.decode().isprintable():
        return 0
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
    return None if length == 0 else length if length >= 8 else -1


def _riff_chunk(head: bytes) -> int | None:
    """A RIFF chunk is four letters, its length, and its content; AVI files beyond 2 GB have several of them."""
    length = int.from_bytes(head[4:8], "little")
    if head[:4] != b"RIFF":
        return 0
    return None if length in (0, 2**32 - 1) else 8 + length  # the length was never filled in


def _asf_object(head: bytes) -> int | None:
    """An ASF object is a name of 16 bytes, its total length, and its content."""
    length = int.from_bytes(head[16:], "little")
    if head[:16] not in ASF_PARTS:
        return 0
    return length if length > 50 else None  # a data object with only its header, as in a live recording


def _segment_is_cut(file: BinaryIO, size: int) -> bool | None:
    """RFC 8794, 5 and 6: an element is its name, its length, and its content; a length of all ones is unknown."""
    file.seek(4)
    length = _vint(file)
    if length is None:
        return None
    file.seek(length, 1)
    if file.read(4) != SEGMENT:
        return None
    length = _vint(file)
    return None if length is None else file.tell() + length > size


def _vint(file: BinaryIO) -> int | None:
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + file.read(more), "big")
    return None if value == 2 ** (7 * (more + 1)) - 1 else value


def _transport_is_cut(head: bytes, size: int) -> bool | None:
    """ISO/IEC 13818-1, 2.4.3: packets of one length, each with 0x47 at one place; the total length is not recorded."""
    for length, place in ((188, 0), (192, 4), (204, 0)):
        marks = head[place::length]
        if len(marks) > 3 and set(marks) == {0x47}:
            return True if size % length else None
    return None
