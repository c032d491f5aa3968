"""Reading files of tensors, ours and others', without running code or allocating more than their size allows.

`vsscli.models.official.machine` reads all of them: torch's own reader, even with ``weights_only``, believes what a file
says of the memory it needs.
"""

from __future__ import annotations

import io
import mmap
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.official.machine import BrokenPickle, Machine, RefusedName
from vsscli.models.official.makers import HistoryBuffer, Settings, finish, storage_type, table_of, view_bytes, whole

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file of torch before 1.6
PROTOCOL = 1001
ZIP = b"PK\x03\x04"
TAR = b"ustar"
MOST_VALUES = 5_000_000  # as many as the machine's instructions
DEEPEST = 200

# A compressed file may grow to this many times its size: weights hardly compress, but index buffers beside them do.
MOST_UNPACKED, ALWAYS_UNPACKED = 20, 64 * 2**20
JUNK = ("__MACOSX/", ".DS_Store", "/.DS_Store")


def read_torch(path: Path, what: str = "checkpoint") -> Any:
    """Read a file of weights, in any format that vss, detectron2, mmsegmentation, timm or torch writes.

    Parameters
    ----------
    path
        A file of ``torch.save`` of any age; a pickle of NumPy arrays or tensors; safetensors; or a zip or tar that
        contains one of these. Recognised by its content, not by its name.
    what
        Its name in errors.

    Returns
    -------
    object
        Tensors on the CPU, NumPy arrays and numbers, `makers.HistoryBuffer` and `Settings`, in dicts, lists, tuples and
        sets. Tensors are mapped from the disk if the format allows it: copy them, do not write to them.

    Raises
    ------
    VssError
        The file is missing, empty, truncated, damaged or of another kind, claims more than it holds, or would run code:
        then the error names the function that it asks for, and nothing has been run.
    """
    check_file(path, what)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's about read-only bytes, and those about damaged text
            if path.suffix == ".safetensors" or file.read(9)[8:] == b"{":
                return read_safetensors(path, what)
            content = _read(file, packed=False)
            _check_values(content)
            return content
    except RefusedName as refusal:
        raise VssError(
            f"{what} {path} would run code when loaded: it asks for {refusal.name}",
            "vss loads tensors and plain values only; have its owner save a state dict, or use safetensors",
        ) from refusal
    except VssError:
        raise
    except Exception as error:  # damaged bytes lead to errors of struct, zipfile, text encodings, NumPy, …
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        said = f" ({reason[:200]})" if " " in reason else ""  # a lone word or number explains nothing
        raise VssError(
            f"{what} {path} can't be read: it is truncated, damaged or of another kind{said}",
            "copy or download it again",
        ) from error


def check_file(path: Path, what: str) -> None:
    """Refuse a path that is not a non-empty file."""
    if path.is_dir():
        raise VssError(f"{what} {path} is a folder", "name a file in it")
    try:
        size = path.stat().st_size
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
        raise VssError(f"{what} {path} {reason}", "check the path") from error
    if size == 0:
        raise VssError(f"{what} {path} is empty", "copy or download it again")


def read_safetensors(path: Path, what: str) -> dict[str, Tensor]:
    """Read a safetensors file."""
    check_file(path, what)
    try:
        # The library checks that header and bytes agree, and that no two tensors share some.
        return load_file(path)
    except Exception as error:  # its own, those of opening files, and torch's for unknown number types
        raise VssError(
            f"{what} {path} is not a complete safetensors file ({error})", "copy or download it again"
        ) from error


def _read(file: IO[bytes], *, packed: bool) -> Any:
    """Read an open file; ``packed`` if it came out of a zip or tar."""
    # Copy-on-write, because torch wants writable bytes: the file itself can't change.
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    # torch's zip holds tensors as they are in memory. Before 1.6 it wrote a sequence of pickles.
    if content[:4] == ZIP:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if any(_root_of(name) is not None for name in names):
                return _read_zip(archive, content)
            if packed:
                raise BrokenPickle("it is an archive in an archive")
            return _read_only_member(file, names, archive.open)
    if content[257:262] == TAR and not packed:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            names = [member.name for member in archive.getmembers() if member.isfile()]
            return _read_only_member(file, names, archive.extractfile)
    return _read_row(content, content)


def _read_only_member(file: IO[bytes], names: list[str], open_member: Callable[[str], IO[bytes] | None]) -> Any:
    """Unpack the only file of an archive into a temporary one, and read that."""
    names = [name for name in names if not name.endswith("/") and not any(junk in name for junk in JUNK)]
    if len(names) != 1:
        raise BrokenPickle(f"it is an archive of {len(names)} files; unpack it and name one")
    most = max(ALWAYS_UNPACKED, MOST_UNPACKED * file.seek(0, io.SEEK_END))
    member = open_member(names[0])
    if member is None:
        raise BrokenPickle(f"{names[0]} in it is not a file")
    with tempfile.TemporaryFile() as unpacked, member:
        while block := member.read(2**20):
            unpacked.write(block)
            if unpacked.tell() > most:
                raise BrokenPickle(f"{names[0]} in it unpacks to more than {MOST_UNPACKED} times its size")
        unpacked.flush()
        return _read(unpacked, packed=True)


def _root_of(name: str) -> str | None:
    """The folder in a zip of torch whose pickle has this name; None for other names."""
    return name.removesuffix("data.pkl") if name.split("/")[1:] == ["data.pkl"] else None


def _read_zip(archive: zipfile.ZipFile, content: mmap.mmap) -> Any:
    """Read torch's zip: a pickle, and a record for each storage."""
    records = {info.filename: info for info in archive.infolist()}
    if len(records) != len(archive.infolist()):
        raise BrokenPickle("it holds two records of one name")
    if any(info.compress_type != zipfile.ZIP_STORED for info in records.values()):
        raise BrokenPickle("its records are compressed, which torch never does")
    roots = [root for name in records if (root := _root_of(name)) is not None]
    if len(roots) != 1:
        raise BrokenPickle(f"it holds {len(roots)} pickles instead of one")
    root = roots[0]
    if f"{root}byteorder" in records and _bytes_of(content, records[f"{root}byteorder"]) != b"little":
        raise BrokenPickle("its numbers are big-endian")
    storages: dict[tuple[str, torch.dtype], Tensor] = {}
    room = _Room(len(content))

    def storage(identifier: Any) -> Tensor:
        dtype, key, count, _ = _parts(identifier)
        if f"{root}data/{key}" not in records:
            raise BrokenPickle("a tensor's storage is missing")
        if (key, dtype) not in storages:
            offset = _place(content, records[f"{root}data/{key}"], room.take(count * dtype.itemsize))
            storages[key, dtype] = view_bytes(content, dtype, count, offset)
        return storages[key, dtype]

    # Storages are not compared with checksums: reading them all would undo the gain of mapping.
    pickle = _bytes_of(content, records[f"{root}data.pkl"])
    return Machine(io.BytesIO(pickle), table_of(_read_nested), finish, storage, len(pickle), len(content)).load()


def _bytes_of(content: mmap.mmap, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a record, after comparing its checksum."""
    offset = _place(content, info, info.file_size)
    found = content[offset : offset + info.file_size]
    if zlib.crc32(found) != info.CRC:
        raise BrokenPickle(f"{info.filename} in it does not match its checksum")
    return found


def _place(content: mmap.mmap, info: zipfile.ZipInfo, size: int) -> int:
    """Offset in the file of a record's bytes, which must be ``size`` many (zip specification 4.3.7)."""
    header = content[info.header_offset : info.header_offset + 30]
    if len(header) < 30 or header[:4] != ZIP:
        raise BrokenPickle("a record is not where the archive says")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    offset = info.header_offset + 30 + name_length + extra_length
    if size != info.file_size or offset + size > len(content):
        raise BrokenPickle(f"a storage of {size} bytes is recorded with {info.file_size}")
    return int(offset)


def _read_nested(content: bytes) -> Any:
    """Read a storage that was pickled separately: a file of old torch inside a pickle."""
    return _read_row(io.BytesIO(content), content, nested=True)


def _read_row(file: Any, content: bytes | mmap.mmap, *, nested: bool = False) -> Any:
    """Read a plain pickle, or the sequence of pickles and storages that torch wrote before 1.6."""

    def no_storage(_: Any) -> Any:
        raise BrokenPickle("it refers to a storage, but a plain pickle has none")

    def too_deep(_: bytes) -> Any:
        raise BrokenPickle("it is a pickle in a pickle in a pickle")

    def next_pickle(persistent: Callable[[Any], Any] = no_storage) -> Any:
        size = len(content)
        return Machine(file, table_of(too_deep if nested else _read_nested), finish, persistent, size, size).load()

    first = next_pickle()
    if type(first) is not int or first != MAGIC:
        return first
    protocol, system = next_pickle(), next_pickle()
    if type(system) is not dict or (protocol, system.get("little_endian")) != (PROTOCOL, True):
        raise BrokenPickle("it is of a protocol or a byte order that vss does not know")
    storages: dict[str, Tensor] = {}
    room = _Room(len(content))

    def storage(identifier: Any) -> Tensor:
        dtype, key, count, view = _parts(identifier)
        if key not in storages:
            # The numbers come later in the file, and are copied here then.
            storages[key] = view_bytes(bytearray(room.take(count * dtype.itemsize)), dtype, count, 0)
        if view is None:
            return storages[key]
        start, length = (whole(part, "a view of a storage") for part in view[1:3])
        return storages[key][start : start + length]

    made = next_pickle(storage)
    keys = next_pickle()
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        raise BrokenPickle("its storages are not those of its tensors")
    for key in keys:
        values = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        offset = file.tell()
        if count != values.numel() or offset + values.nbytes > len(content):
            raise BrokenPickle(f"storage {key} is incomplete")
        values.copy_(view_bytes(content, values.dtype, count, offset))
        file.seek(offset + values.nbytes)
    return made


class _Room:
    """The bytes of a file, which all its storages together must not exceed."""

    def __init__(self, size: int) -> None:
        self.size = self.left = size

    def take(self, size: int) -> int:
        self.left -= size
        if self.left < 0:
            raise BrokenPickle(f"its storages claim more than the {self.size} bytes that it has")
        return size


def _parts(identifier: Any) -> tuple[torch.dtype, str, int, tuple[Any, ...] | None]:
    """Type, name, length and view of a storage outside the pickle; its device does not matter."""
    if type(identifier) is not tuple or not 5 <= len(identifier) <= 6 or identifier[0] not in ("storage", b"storage"):
        raise BrokenPickle("it refers to something that is not a storage")
    kind, key, _, count = identifier[1:5]
    view = identifier[5] if len(identifier) == 6 else None
    if type(key) is not str or not (view is None or type(view) is tuple):
        raise BrokenPickle("a storage has no name")
    return storage_type(kind), key, whole(count, "the size of a storage"), view


def _check_values(content: Any) -> None:
    """Refuse values that can't be traversed: those that contain themselves, or are shared so often that they outnumber
    the instructions that made them. Also refuse text with lone surrogates.
    """
    level, count = [content], 0
    for _ in range(DEEPEST):
        below: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is dict:
                below.extend(value)
                below.extend(value.values())
            elif kind in (list, tuple, set, frozenset):
                below.extend(value)
            elif kind in (HistoryBuffer, Settings):
                below.append(value.state)
            elif kind is str:
                value.encode()  # raises for lone surrogates
        count += len(below)
        if count > MOST_VALUES:
            raise BrokenPickle(f"it holds more than {MOST_VALUES} values")
        if not below:
            return
        level = below
    raise BrokenPickle(f"it is nested more than {DEEPEST} deep")
