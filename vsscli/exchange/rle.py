"""Masks as lengths of runs, in the three ways that formats write them.

COCO counts down the columns, runs of 0 and 1 in turn, 0 first, as a list or packed in characters; CVAT counts along the
rows of a box, 0 first; Label Studio packs four equal channels, along the rows, into bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vsscli.exchange.items import Size

MOST_GROUPS = 7
"""Characters of a number in COCO's packed runs: 35 bits."""


def class_runs(label: np.ndarray, num_classes: int) -> Iterator[tuple[int, np.ndarray]]:
    """COCO's runs of each class that a label map holds, all found in one pass: class, and counts (int64)."""
    values = label.T.ravel()
    bounds = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1, [len(values)]])
    classes = values[bounds[:-1]]
    for index in np.unique(classes[classes < num_classes]).tolist():
        ours = np.flatnonzero(classes == index)
        edges = np.stack([bounds[ours], bounds[ours + 1]], axis=1).ravel()
        edges = edges if edges[-1] == len(values) else np.append(edges, len(values))
        yield index, np.diff(edges, prepend=0)


def decode_counts(counts: np.ndarray, size: Size, *, order: str = "F") -> np.ndarray:
    """The mask of some runs, (H, W) bool; ``order`` "F" goes down the columns, "C" along the rows.

    Raises
    ------
    ValueError
        They do not cover the image exactly.
    """
    height, width = size
    if len(counts) and (counts.min() < 0 or counts.max() > height * width):
        raise ValueError("a run is longer than the image")
    if int(counts.sum()) != height * width:
        raise ValueError(f"its runs cover {int(counts.sum())} pixels of {width}x{height}")
    mask = np.repeat(np.arange(len(counts)) & 1 == 1, counts)
    return mask.reshape(width, height).T if order == "F" else mask.reshape(height, width)


def pack_counts(counts: np.ndarray) -> str:
    """COCO's runs as its own tools pack them: from the fourth on as differences to the one before the last, 5 bits a
    character, lowest first."""
    left = counts.astype(np.int64)
    left[3:] -= counts[1:-2]
    letters, more = np.empty((len(left), MOST_GROUPS), np.uint8), np.ones(len(left), bool)
    used = np.zeros((len(left), MOST_GROUPS), bool)
    for group in range(MOST_GROUPS):
        bits = left & 31
        left = left >> 5
        used[:, group] = more
        more = more & np.where(bits & 16, left != -1, left != 0)
        letters[:, group] = bits + 32 * more + 48
    return letters[used].tobytes().decode("ascii")


def unpack_counts(text: str) -> np.ndarray:
    """What `pack_counts` packed, int64.

    Raises
    ------
    ValueError
        It is not such a text.
    """
    bits = np.frombuffer(text.encode("ascii", errors="replace"), np.uint8).astype(np.int64) - 48
    if len(bits) == 0:
        return np.zeros(0, np.int64)
    last = (bits & 32) == 0
    if bits.min() < 0 or bits.max() > 63 or not last[-1]:
        raise ValueError("its runs are no text of COCO's")
    number = np.cumsum(last) - last
    first = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    group = np.arange(len(bits)) - first[number]
    if group.max() >= MOST_GROUPS:
        raise ValueError("a run has too many digits")
    values = np.add.reduceat((bits & 31) << 5 * group, first)
    ends = np.flatnonzero(last)
    values -= np.where(bits[ends] & 16, np.int64(1) << 5 * (group[ends] + 1), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def row_counts(mask: np.ndarray) -> list[int]:
    """Runs of a mask (H, W) bool along its rows, of 0 first."""
    flat = np.concatenate([[False], mask.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.append(changes, mask.size), prepend=0).tolist()


# Label Studio: a number of 32 bits, the values; 5 bits, of a value, less one; four times 4 bits, of a length, less one;
# then for each run 1 bit, whether one value is repeated; 2 bits, which kind of length; the length less one; the values.

LENGTHS = (3, 4, 8, 16)
VALUE_BITS = 8
CHANNELS = 4


def pack_brush(mask: np.ndarray) -> list[int]:
    """A mask (H, W) bool as Label Studio's brush has it: bytes."""
    flat = mask.ravel()
    bounds = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    lengths, values = np.diff(bounds) * CHANNELS, flat[bounds[:-1]]
    parts = -(-lengths // 2**16)  # longer ones are several
    values = np.repeat(values, parts)
    pieces = np.full(len(values), 2**16, np.int64)
    pieces[np.cumsum(parts) - 1] = lengths - (parts - 1) * 2**16
    kind = np.searchsorted([2**bits for bits in LENGTHS], pieces)
    width = np.array(LENGTHS)[kind]
    code = (((4 | kind) << width) | (pieces - 1)) << VALUE_BITS | np.where(values, 255, 0)
    head = f"{flat.size * CHANNELS:032b}{VALUE_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in LENGTHS)
    count = 3 + width + VALUE_BITS
    ends = np.cumsum(count)
    which = np.repeat(np.arange(len(code)), count)
    bits = (code[which] >> (ends[which] - 1 - np.arange(len(which)))) & 1
    whole = np.concatenate([np.frombuffer(head.encode(), np.uint8) - 48, bits.astype(np.uint8)])
    return np.packbits(whole).tolist()


def unpack_brush(numbers: Sequence[int], size: Size) -> np.ndarray:
    """The mask of a brush, (H, W) bool: where it covers anything at all.

    Raises
    ------
    ValueError
        It is damaged, or of another size.
    """
    data = bytes(numbers) + bytes(8)
    place = 0

    def take(bits: int) -> int:
        nonlocal place
        start, place = place, place + bits
        if place > 8 * (len(data) - 8):
            raise ValueError("it ends before its last run")
        chunk = int.from_bytes(data[start >> 3 : (start >> 3) + 8], "big")
        return chunk >> (64 - (start & 7) - bits) & ((1 << bits) - 1)

    total, value_bits = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    height, width = size
    if total != CHANNELS * height * width:
        raise ValueError(f"it has {total} values, an image of {width}x{height} has {CHANNELS * height * width}")
    out, at = np.zeros(total, bool), 0
    while at < total:
        repeated, end = take(1), at + 1
        end += take(lengths[take(2)])
        if end > total:
            raise ValueError("a run is longer than the image")
        if repeated:
            out[at:end] = take(value_bits) > 0
        else:
            out[at:end] = [take(value_bits) > 0 for _ in range(end - at)]
        at = end
    return out.reshape(height, width, CHANNELS)[..., 3]
