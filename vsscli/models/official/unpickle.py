"""Reading checkpoints that other programs wrote, in whichever of their formats, without running what is in them.

Beside what ``torch.load(weights_only=True)`` reads, these hold NumPy arrays, pickles of other protocols, tensors
pickled by themselves, and mmengine's log. One machine reads them all (`vsscli.models.official.machine`), also those
that torch could read, because torch takes a file's word for how much memory it needs.
"""

from __future__ import annotations

import io
import mmap
import struct
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.official.machine import BrokenPickle, Machine, RefusedName
from vsscli.models.official.makers import finish, storage_type, table_of, view_bytes, whole
from vsscli.models.torchfile import check_file, damaged, read_safetensors, would_run_code

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file of torch before 1.6
PROTOCOL = 1001
ZIP, TAR = b"PK\x03\x04", b"ustar"
# A packed file may unpack to this many times its size: weights hardly shrink, but the index buffers beside them do.
MOST_UNPACKED, ALWAYS_UNPACKED = 20, 64 * 2**20
JUNK = ("__MACOSX/", ".DS_Store", "/.DS_Store")

Content = bytes | bytearray | mmap.mmap


def read_official(path: Path, what: str = "checkpoint") -> Any:
    """Read a checkpoint of detectron2, mmsegmentation, timm or torch, in any of their formats.

    Parameters
    ----------
    path
        A file of ``torch.save`` of any age; a pickle, of NumPy arrays or tensors; safetensors; or a zip or tar with one
        of these in it. Told by its content, not by its name.
    what
        What to call it in an error.

    Returns
    -------
    object
        Tensors on the CPU, NumPy arrays and numbers, `makers.HistoryBuffer`, in dicts, lists, tuples and sets. Tensors
        of large files are mapped from the disk. They are to be copied from, not written to.

    Raises
    ------
    VssError
        The file is missing, cut off, damaged, of another kind, claims more than it holds, or asks for something that is
        not admitted, which is named; nothing of it has been run.
    """
    path = Path(path)
    check_file(path, what)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, that bytes can't be written to; of damaged text
            start = file.read(9)
            if path.suffix == ".safetensors" or start[8:] == b"{":
                return read_safetensors(path, what)
            return _read(file, packed=False)
    except RefusedName as refusal:
        raise would_run_code(path, what, refusal.name) from refusal
    except VssError:
        raise
    except Exception as error:  # damaged bytes lead to errors of struct, zipfile, text encodings, NumPy, …
        raise damaged(path, what, error) from error


def _read(file: IO[bytes], *, packed: bool) -> Any:
    """Read an open file; ``packed`` where it came out of a zip or tar already."""
    # Copied on write, so that torch may have it; no byte of the file can change.
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if content[:4] == ZIP:
        with zipfile.ZipFile(file) as archive:
            records = [info.filename for info in archive.infolist()]
            roots = [name.removesuffix("data.pkl") for name in records if name.split("/")[1:] == ["data.pkl"]]
            if roots:
                return _read_zip(archive, roots[0], content)
            if packed:
                raise BrokenPickle("it is an archive in an archive")
            return _read_only_member(file, _only(records), archive.open)
    if content[257:262] == TAR and not packed:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            records = [member.name for member in archive.getmembers() if member.isfile()]
            return _read_only_member(file, _only(records), archive.extractfile)
    return _read_row(content, content)


def _only(records: list[str]) -> str:
    """The one file in an archive of which a checkpoint is made."""
    names = [name for name in records if not name.endswith("/") and not any(junk in name for junk in JUNK)]
    if len(names) != 1:
        raise BrokenPickle(f"it is an archive of {len(names)} files, none of them alone; unpack it and name one")
    return names[0]


def _read_only_member(file: IO[bytes], name: str, open_member: Callable[[str], IO[bytes] | None]) -> Any:
    """Unpack the one file of an archive into a nameless one, and read that."""
    most = max(ALWAYS_UNPACKED, MOST_UNPACKED * file.seek(0, io.SEEK_END))
    member = open_member(name)
    if member is None:
        raise BrokenPickle(f"{name} in it is no file")
    with tempfile.TemporaryFile() as unpacked, member:
        while block := member.read(2**20):
            unpacked.write(block)
            if unpacked.tell() > most:
                raise BrokenPickle(f"{name} in it unpacks to more than {MOST_UNPACKED} times its size")
        unpacked.flush()
        return _read(unpacked, packed=True)


def _read_zip(archive: zipfile.ZipFile, root: str, content: mmap.mmap) -> Any:
    """Read a zip of torch: a pickle, and a record for each storage."""
    records = {info.filename: info for info in archive.infolist()}
    if any(info.compress_type != zipfile.ZIP_STORED for info in records.values()):
        raise BrokenPickle("its records are compressed, which torch never does")
    if f"{root}byteorder" in records and archive.read(f"{root}byteorder") != b"little":
        raise BrokenPickle("its numbers are big-endian")
    storages: dict[tuple[str, torch.dtype], Tensor] = {}
    room = Room(len(content))

    def storage(identifier: Any) -> Tensor:
        dtype, key, count, _ = _parts(identifier)
        if f"{root}data/{key}" not in records:
            raise BrokenPickle("a tensor's storage is not there")
        if (key, dtype) not in storages:
            offset = _place(content, records[f"{root}data/{key}"], room.take(count * dtype.itemsize))
            storages[key, dtype] = view_bytes(content, dtype, count, offset)
        return storages[key, dtype]

    # Through zipfile, which compares it with its checksum.
    pickle = archive.read(f"{root}data.pkl")
    return Machine(table_of(_read_nested), finish, storage, len(pickle)).run(io.BytesIO(pickle))


def _place(content: mmap.mmap, info: zipfile.ZipInfo, size: int) -> int:
    """Where in the file a record's bytes start, of which there must be ``size`` (zip specification 4.3.7)."""
    header = content[info.header_offset : info.header_offset + 30]
    if len(header) < 30 or header[:4] != ZIP:
        raise BrokenPickle("a storage is not where the archive says")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    offset = info.header_offset + 30 + name_length + extra_length
    if size != info.file_size or offset + size > len(content):
        raise BrokenPickle(f"a storage of {size} bytes is recorded with {info.file_size}")
    return int(offset)


def _read_nested(content: bytes) -> Any:
    """Read a storage that was pickled by itself: a file of old torch, in a pickle."""
    return _read_row(io.BytesIO(content), content, nested=True)


def _read_row(file: Any, content: Content, *, nested: bool = False) -> Any:
    """Read a plain pickle, or the row of pickles and storages that torch wrote before 1.6."""

    def no_storage(_: Any) -> Any:
        raise BrokenPickle("it refers to a storage, which a plain pickle has not")

    def too_deep(_: bytes) -> Any:
        raise BrokenPickle("it is a pickle in a pickle in a pickle")

    def next_pickle(persistent: Callable[[Any], Any] = no_storage) -> Any:
        return Machine(table_of(too_deep if nested else _read_nested), finish, persistent, len(content)).run(file)

    first = next_pickle()
    if type(first) is not int or first != MAGIC:
        return first
    protocol, system = next_pickle(), next_pickle()
    if type(system) is not dict or (protocol, system.get("little_endian")) != (PROTOCOL, True):
        raise BrokenPickle("it is of a protocol or a byte order that vss does not know")
    storages: dict[str, Tensor] = {}
    room = Room(len(content))

    def storage(identifier: Any) -> Tensor:
        dtype, key, count, view = _parts(identifier)
        if key not in storages:
            # The numbers follow later in the file, and are copied here then.
            storages[key] = view_bytes(bytearray(room.take(count * dtype.itemsize)), dtype, count, 0)
        if view is None:
            return storages[key]
        start, length = (whole(part, "a view of a storage") for part in view[1:3])
        return storages[key][start : start + length]

    made = next_pickle(storage)
    keys = next_pickle()
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        raise BrokenPickle("its storages are not those that its tensors lie in")
    for key in keys:
        values = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        offset = file.tell()
        if count != values.numel() or offset + values.nbytes > len(content):
            raise BrokenPickle(f"storage {key} is not whole")
        values.copy_(view_bytes(content, values.dtype, count, offset))
        file.seek(offset + values.nbytes)
    return made


class Room:
    """The bytes of a file, which all its storages together must fit into."""

    def __init__(self, size: int) -> None:
        self.size = self.left = size

    def take(self, size: int) -> int:
        self.left -= size
        if self.left < 0:
            raise BrokenPickle(f"its storages claim more than the {self.size} bytes that it has")
        return size


def _parts(identifier: Any) -> tuple[torch.dtype, str, int, tuple[Any, ...] | None]:
    """Type, name, numbers and view of a storage that lies outside the pickle; its device does not matter."""
    if type(identifier) is not tuple or not 5 <= len(identifier) <= 6 or identifier[0] not in ("storage", b"storage"):
        raise BrokenPickle("it refers to something that is no storage")
    kind, key, _, count = identifier[1:5]
    view = identifier[5] if len(identifier) == 6 else None
    if type(key) is not str or not (view is None or type(view) is tuple):
        raise BrokenPickle("a storage has no name")
    return storage_type(kind), key, whole(count, "the size of a storage"), view
