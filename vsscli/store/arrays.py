"""The arrays of a video as Zarr v3 stores them on disk: metadata, shards, chunks.

They are written and read here byte by byte, for three reasons: the bytes do not depend on the installed version of
Zarr; nothing is allocated before a file's claims are compared with header and record; and a frame takes a tenth of the
time Zarr takes. `tests/test_store_zarr.py` compares the result with what Zarr itself writes and reads.

A shard is the chunks of its frames in order, then an index: the offset and length of each as 64-bit little-endian
numbers, all ones if there is no chunk, and a CRC-32C of the index (Zarr's codec ``sharding_indexed``, version 1.0). A
chunk is one frame compressed with Blosc, then a CRC-32C.

Entropies and probabilities are first turned into differences (``down``): each value less the one above, continued from
the bottom of a column to the top of the next, with several planes below each other. The differences are stored row by
row, because rows compress better. Zarr undoes this with ``numcodecs.shuffle``, which restores the columns,
``numcodecs.delta``, and ``transpose``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc

from vsscli.errors import VssError
from vsscli.store.encode import BLOCK_BYTES, ArraySpec, arrays_for, pseudo_arrays
from vsscli.store.files import read_metadata
from vsscli.store.header import Header

# Blosc's threads write blocks in the order in which they finish: different bytes each time.
blosc.use_threads = False

MAX_ARRAY_JSON = 2**16
"""Most bytes of an array's ``zarr.json``; ours has 1,500."""

ABSENT = 2**64 - 1
BLOSC_HEADER = 16
CHECKSUM = 4
SHUFFLES = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}


def specs_of(header: Header, size: tuple[int, int]) -> dict[str, ArraySpec]:
    """The arrays that a video of H, W has in a store with this header."""
    if header.kind == "pseudo":
        return pseudo_arrays(size)
    return arrays_for(header.parsed_encoding(), header.num_classes, size, header.differences)


def array_json(spec: ArraySpec, frames: int, segment: int) -> dict[str, Any]:
    """The ``zarr.json`` of an array of T frames: a chunk for each frame, a shard for each ``segment`` frames."""
    itemsize = np.dtype(spec.dtype).itemsize
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    compression = {
        "typesize": itemsize,
        "cname": "zstd",
        "clevel": spec.level,
        "shuffle": spec.shuffle,
        "blocksize": BLOCK_BYTES,
    }
    axes = range(len(spec.dims))
    down = spec.differences == "down"
    columns = [
        {"name": "transpose", "configuration": {"order": [0, axes[-1], *axes[1:-1]]}},
        {"name": "numcodecs.delta", "configuration": {"dtype": "|u1"}},
    ]
    rows = {"name": "numcodecs.shuffle", "configuration": {"elementsize": int(np.prod(spec.tail[:-1]))}}
    sharding = {
        "chunk_shape": [1, *spec.tail],
        # Blosc has no checksum: without the last codec a flipped bit would be read as data.
        "codecs": [
            *(columns if down else []),
            little if itemsize > 1 else {"name": "bytes"},
            *([rows] if down else []),
            {"name": "blosc", "configuration": compression},
            {"name": "crc32c"},
        ],
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [frames, *spec.tail],
        "data_type": spec.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [segment, *spec.tail]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN" if spec.fill != spec.fill else spec.fill,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": dict(spec.attributes),
        "dimension_names": list(spec.dims),
        "storage_transformers": [],
    }


def shard_name(number: int, spec: ArraySpec) -> str:
    """The path of a segment's file in its array's folder."""
    return "/".join(["c", str(number), *["0"] * len(spec.tail)])


def encode_chunk(spec: ArraySpec, frame: np.ndarray) -> bytes:
    """One frame as a shard holds it."""
    plain = np.ascontiguousarray(frame)
    if spec.differences == "down":
        values = plain.reshape(-1, plain.shape[-1])
        plain = values.copy()
        plain[1:] -= values[:-1]
        plain[0, 1:] -= values[-1, :-1]
    packed: bytes = blosc.compress(
        plain, b"zstd", spec.level, SHUFFLES[spec.shuffle], BLOCK_BYTES, typesize=np.dtype(spec.dtype).itemsize
    )
    return packed + _checksum(packed)


def encode_shard(chunks: Sequence[bytes], segment: int) -> bytes:
    """A shard of encoded frames with room for ``segment`` of them; the last one of a video may have fewer."""
    index = np.full((segment, 2), ABSENT, "<u8")
    lengths = np.array([len(chunk) for chunk in chunks], np.uint64)
    index[: len(chunks), 0] = np.cumsum(lengths) - lengths
    index[: len(chunks), 1] = lengths
    table = index.tobytes()
    return b"".join([*chunks, table, _checksum(table)])


def check_array(folder: Path, spec: ArraySpec, frames: int, segment: int) -> None:
    """Refuse an array that differs from what header and record say, before anything is allocated for it.

    The compression's level and shuffling may be any that Blosc knows.
    """
    remedy = "the store is damaged: vss cache repair"
    values = read_metadata(folder / "zarr.json", MAX_ARRAY_JSON)
    right = array_json(spec, frames, segment)
    if not isinstance(values, dict) or values.get("node_type") != "array":
        raise VssError(f"{folder} is not a readable array", remedy)
    for name, wanted in right.items():
        found = values.get(name, [] if name == "storage_transformers" else None)
        if name == "codecs":
            wanted = _with_compression_of(found, wanted)
        if name != "attributes" and found != wanted:
            raise VssError(f"{folder} has {name} {_short(found)}, where header and record say {_short(wanted)}", remedy)


def read_index(shard: Path, segment: int) -> np.ndarray:
    """The index of a shard: offset and length of every frame, (segment, 2) int64, -1 for a missing one.

    `ValueError` if it is damaged, `OSError` if the file can't be read.
    """
    length = 16 * segment + CHECKSUM
    with shard.open("rb") as file:
        size = file.seek(0, 2)
        if size < length:
            raise ValueError("it is cut off")
        file.seek(size - length)
        table = file.read(length)
    if _checksum(table[:-CHECKSUM]) != table[-CHECKSUM:]:
        raise ValueError("the checksum of its index does not match")
    index = np.frombuffer(table[:-CHECKSUM], "<i8").reshape(segment, 2)
    there = index[index[:, 0] != -1]
    if (there < 0).any() or (there > size - length).any() or (there.sum(axis=1) > size - length).any():
        raise ValueError("its index points outside")
    return index


def read_frames(shard: Path, spec: ArraySpec, index: np.ndarray, out: np.ndarray) -> None:
    """Decode the t frames that these rows of `read_index` point to into ``out``, (t, ...), contiguous.

    `ValueError` if one is missing or damaged, `OSError` if the file can't be read.
    """
    with shard.open("rb") as file:
        for (offset, length), frame in zip(index.tolist(), out, strict=True):
            if offset == -1:
                raise ValueError("a frame is missing")
            if not BLOSC_HEADER + CHECKSUM <= length <= spec.frame_bytes + BLOSC_HEADER + CHECKSUM:
                raise ValueError(f"a frame takes {length} bytes")
            file.seek(offset)
            decode_chunk(spec, file.read(length), frame)


def decode_chunk(spec: ArraySpec, chunk: bytes, out: np.ndarray) -> None:
    """Decode one frame into ``out``; `ValueError` if it is damaged."""
    packed = chunk[:-CHECKSUM]
    if _checksum(packed) != chunk[-CHECKSUM:]:
        raise ValueError("the checksum of a frame does not match")
    # Blosc would allocate whatever the chunk's header claims.
    claimed = int.from_bytes(packed[4:8], "little"), int.from_bytes(packed[12:16], "little")
    if claimed != (spec.frame_bytes, len(packed)):
        raise ValueError(f"a frame claims {claimed[0]} bytes")
    try:
        blosc.decompress(packed, out)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    if spec.differences == "up":
        np.add.accumulate(out, axis=-2, out=out)
    elif spec.differences == "down":
        values = out.reshape(-1, out.shape[-1])
        np.add.accumulate(values, axis=0, out=values)
        values[:, 1:] += np.cumsum(values[-1, :-1], dtype=np.uint8)


def _checksum(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(CHECKSUM, "little")


def _with_compression_of(found: Any, codecs: Any) -> Any:
    """Our codecs with the compression level, shuffling and block size that were found, which do not change the data."""
    try:
        own = next(codec for codec in codecs[0]["configuration"]["codecs"] if codec["name"] == "blosc")["configuration"]
        blocks = found[0]["configuration"]["codecs"]
        theirs = next(codec for codec in blocks if codec["name"] == "blosc")["configuration"]
        if theirs["clevel"] in range(10) and theirs["shuffle"] in SHUFFLES:
            own |= {name: theirs[name] for name in ("clevel", "shuffle", "blocksize")}
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError):
        pass
    return codecs


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:196]} ..."
