"""Reading checkpoints that other programs wrote, in whichever of their formats, without running what is in them.

Beside what torch writes today, these are safetensors, pickles of NumPy arrays of any protocol, tensors pickled by
themselves, mmengine's log, and any of them in an archive. What a file may hold, `vsscli.models.torchfile` says.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from vsscli.models.official.machine import BrokenPickle
from vsscli.models.torchfile import ZIP, guarded, mapped, pickles_in, read_row, read_safetensors, read_zip

TAR = b"ustar"
# A packed file may unpack to this many times its size: weights hardly shrink, but the index buffers beside them do.
MOST_UNPACKED, ALWAYS_UNPACKED = 20, 64 * 2**20
JUNK = ("__MACOSX/", ".DS_Store", "/.DS_Store")


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
        Tensors on the CPU, NumPy arrays and numbers, `makers.HistoryBuffer` and `Settings`, in dicts, lists, tuples and
        sets. Tensors
        of large files are mapped from the disk. They are to be copied from, not written to.

    Raises
    ------
    VssError
        The file is missing, cut off, damaged, of another kind, claims more than it holds, or asks for something that is
        not admitted, which is named; nothing of it has been run.
    """
    path = Path(path)

    def read(file: IO[bytes]) -> Any:
        start = file.read(9)
        if path.suffix == ".safetensors" or start[8:] == b"{":
            return read_safetensors(path, what)
        return _read(file, packed=False)

    return guarded(path, what, read)


def _read(file: IO[bytes], *, packed: bool) -> Any:
    """Read an open file; ``packed`` where it came out of a zip or tar already."""
    content = mapped(file)
    if content[:4] == ZIP:
        with zipfile.ZipFile(file) as archive:
            records = [info.filename for info in archive.infolist()]
            if pickles_in(records):
                return read_zip(archive, content)
            if packed:
                raise BrokenPickle("it is an archive in an archive")
            return _read_only_member(file, _only(records), archive.open)
    if content[257:262] == TAR and not packed:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            records = [member.name for member in archive.getmembers() if member.isfile()]
            return _read_only_member(file, _only(records), archive.extractfile)
    return read_row(content, content)


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
