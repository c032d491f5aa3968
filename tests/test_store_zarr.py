"""The bytes written here are those that Zarr writes, and Zarr reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from vsscli.store.arrays import (
    array_json,
    check_array,
    encode_chunk,
    encode_shard,
    read_frames,
    read_index,
    shard_name,
)
from vsscli.store.encode import BLOCK_BYTES, ArraySpec

SPECS = [
    ArraySpec((5, 6), "uint8", ("t", "y", "x"), {"scale_factor": 0.5}, 255),
    ArraySpec((3, 5, 6), "uint8", ("t", "k", "y", "x"), {}, 255, level=5, shuffle="bitshuffle"),
    ArraySpec((3, 5, 6), "float16", ("t", "c", "y", "x"), {"units": "nat"}, float("nan"), shuffle="shuffle"),
    ArraySpec((4, 5, 6), "uint16", ("t", "k", "y", "x"), {}, 0, level=1, shuffle="shuffle"),
]


def frames_of(spec: ArraySpec, frames: int) -> np.ndarray:
    values = np.random.default_rng(3).integers(0, 7, (frames, *spec.tail))
    return values.astype(spec.dtype)


def ours(folder: Path, spec: ArraySpec, values: np.ndarray, segment: int) -> None:
    for number, start in enumerate(range(0, len(values), segment)):
        file = folder / shard_name(number, spec)
        file.parent.mkdir(parents=True)
        file.write_bytes(
            encode_shard([encode_chunk(spec, frame) for frame in values[start : start + segment]], segment)
        )
    (folder / "zarr.json").write_text(json.dumps(array_json(spec, len(values), segment)))


def theirs(folder: Path, spec: ArraySpec, values: np.ndarray, segment: int) -> None:
    itemsize = np.dtype(spec.dtype).itemsize
    blosc = BloscCodec(typesize=itemsize, cname="zstd", clevel=spec.level, shuffle=spec.shuffle, blocksize=BLOCK_BYTES)
    array = zarr.create_array(
        store=str(folder),
        shape=values.shape,
        chunks=(1, *spec.tail),
        shards=(segment, *spec.tail),
        dtype=spec.dtype,
        compressors=[blosc, Crc32cCodec()],
        fill_value=spec.fill,
        dimension_names=spec.dims,
        attributes=dict(spec.attributes),
        zarr_format=3,
        config={"write_empty_chunks": True},
    )
    array[...] = values


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.dtype}-{spec.shuffle}")
def test_zarr_writes_the_same_and_reads_ours(tmp_path: Path, spec: ArraySpec) -> None:
    values = frames_of(spec, 6)
    ours(tmp_path / "ours", spec, values, 4)
    theirs(tmp_path / "theirs", spec, values, 4)
    assert json.loads((tmp_path / "ours/zarr.json").read_text()) == json.loads(
        (tmp_path / "theirs/zarr.json").read_text()
    )
    for number in (0, 1):
        name = shard_name(number, spec)
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    assert (zarr.open_array(str(tmp_path / "ours"), mode="r")[...] == values).all()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.dtype}-{spec.shuffle}")
def test_what_zarr_writes_is_read(tmp_path: Path, spec: ArraySpec) -> None:
    values = frames_of(spec, 6)
    theirs(tmp_path / "a", spec, values, 4)
    check_array(tmp_path / "a", spec, 6, 4)
    shard = tmp_path / "a" / shard_name(1, spec)
    index = read_index(shard, 4)
    assert (index[2:] == -1).all()
    out = np.empty((2, *spec.tail), spec.dtype)
    read_frames(shard, spec, index[:2], out)
    assert (out == values[4:]).all()


@pytest.mark.parametrize("tail", [(5, 6), (3, 5, 6), (5, 1), (1, 6), (1, 1), (2, 1, 1)])
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
def test_differences_stand_in_the_file_and_zarr_undoes_them_too(tmp_path: Path, tail: tuple[int, ...]) -> None:
    dims = ("t", "k", "y", "x") if len(tail) == 3 else ("t", "y", "x")
    spec = ArraySpec(tail, "uint8", dims, {}, 255, differences="down")
    values = np.random.default_rng(4).integers(0, 256, (6, *tail)).astype(np.uint8)
    ours(tmp_path / "a", spec, values, 4)
    assert (np.asarray(zarr.open_array(str(tmp_path / "a"), mode="r")[...]) == values).all()
    shard = tmp_path / "a" / shard_name(0, spec)
    index = read_index(shard, 4)
    out = np.empty((3, *tail), np.uint8)
    read_frames(shard, spec, index[1:4], out)
    assert (out == values[1:4]).all()
    plain = np.empty((1, *tail), np.uint8)
    read_frames(shard, replace(spec, differences="none"), index[:1], plain)
    down = np.diff(values[0].reshape(-1, tail[-1]).T.reshape(-1), prepend=np.uint8(0))
    assert (plain[0].reshape(-1, tail[-1]).T.reshape(-1) == down).all()


def test_the_strength_of_the_compression_may_be_another(tmp_path: Path) -> None:
    spec = SPECS[0]
    other = ArraySpec(spec.tail, spec.dtype, spec.dims, spec.attributes, spec.fill, level=9, shuffle="bitshuffle")
    ours(tmp_path / "a", other, frames_of(spec, 2), 4)
    check_array(tmp_path / "a", spec, 2, 4)
