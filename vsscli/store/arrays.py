"""The arrays of a video as Zarr sees them: the one file that talks to Zarr.

Zarr is imported where it is used: headers and records are read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsscli.errors import VssError
from vsscli.store.encode import ArraySpec, arrays_for, pseudo_arrays
from vsscli.store.header import Encoding, Header

if TYPE_CHECKING:
    import zarr

COMPRESSION_LEVEL = 3
"""zstd: level 5 saves 6 % and takes twice as long, level 1 costs 16 % more."""


def specs_of(header: Header, size: tuple[int, int]) -> dict[str, ArraySpec]:
    """The arrays that a video of H, W has in the store with this header."""
    if header.kind == "pseudo":
        return pseudo_arrays(size)
    return arrays_for(Encoding.from_dict(header.encoding), header.num_classes, size)


def create_array(folder: Path, spec: ArraySpec, frames: int, segment: int) -> zarr.Array[Any]:
    """Make an empty array: a chunk per frame, a shard per segment.

    Parameters
    ----------
    folder
        The array's own folder, not there yet.
    spec
        Shape of a frame, type, axes and attributes.
    frames
        T.
    segment
        Frames per shard.
    """
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    itemsize = np.dtype(spec.dtype).itemsize
    blosc = BloscCodec(
        typesize=itemsize,
        cname="zstd",
        clevel=COMPRESSION_LEVEL,
        shuffle="shuffle" if itemsize > 1 else "noshuffle",
    )
    return zarr.create_array(
        store=str(folder),
        shape=(frames, *spec.tail),
        chunks=(1, *spec.tail),
        shards=(segment, *spec.tail),
        dtype=spec.dtype,
        # Blosc has no checksum of its own: without this codec a flipped bit would be read as data.
        compressors=[blosc, Crc32cCodec()],
        fill_value=spec.fill,
        dimension_names=spec.dims,
        attributes=dict(spec.attributes),
        zarr_format=3,
        # A frame that is all fill value is a prediction too and must be written.
        config={"write_empty_chunks": True},
    )


def shard_name(number: int, spec: ArraySpec) -> str:
    """Where in an array's folder the file of a segment lies."""
    return "/".join(["c", str(number), *["0"] * len(spec.tail)])


def write_shard(folder: Path, spec: ArraySpec, values: np.ndarray, segment: int) -> Path:
    """Encode the frames of one segment as the only shard of an array of their own.

    The bytes are those that the shard has in the video's array, whatever its number.

    Parameters
    ----------
    folder
        Folder of that array, not there yet.
    spec
        As for `create_array`.
    values
        The frames, (t, ...).
    segment
        Frames per shard; the last segment of a video may have fewer.

    Returns
    -------
    Path
        The file of the shard.
    """
    array = create_array(folder, spec, len(values), segment)
    array[...] = values
    return folder / shard_name(0, spec)


def open_array(folder: Path, spec: ArraySpec, frames: int, segment: int) -> zarr.Array[Any]:
    """Open an array and make sure that it is what header and record say, before anything is allocated for it.

    Raises
    ------
    VssError
        It is missing or of another shape, type or chunking.
    """
    import zarr

    remedy = "the store is damaged; remove the folder of that video and run the command that made it again"
    try:
        array = zarr.open_array(store=str(folder), mode="r", zarr_format=3)
        shards = array.shards
    except Exception as error:  # a hostile zarr.json makes Zarr raise almost anything
        raise VssError(f"{folder} is no readable array: {error}", remedy) from error
    wanted: Mapping[str, tuple[Any, Any]] = {
        "shape": (array.shape, (frames, *spec.tail)),
        "chunks": (array.chunks, (1, *spec.tail)),
        "shards": (shards, (segment, *spec.tail)),
        "type": (str(array.dtype), spec.dtype),
    }
    for name, (found, right) in wanted.items():
        if found != right:
            raise VssError(f"{folder} has {name} {found}, where header and record say {right}", remedy)
    return array
