"""Checkpoints that would run code, or allocate more than their size, are refused."""

from __future__ import annotations

import builtins
import functools
import io
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchfile_samples import pickled_tensors, torch_legacy, torch_zip, zip_of_file

from vsscli.errors import VssError
from vsscli.models.torchfile import read_torch


class Asks:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def attacks(sentinel: Path) -> dict[str, tuple[Any, str]]:
    """Objects that write a file when they are unpickled, and the name each asks for."""
    write = f"open({str(sentinel)!r}, 'w').close()"
    inner = io.BytesIO()
    torch.save(Asks(os.system, f"touch {sentinel}"), inner, _use_new_zipfile_serialization=False)
    return {
        "system": (Asks(os.system, f"touch {sentinel}"), "system"),
        "eval": (Asks(builtins.eval, f"__import__('os').system('touch {sentinel}')"), "builtins.eval"),
        "exec": (Asks(builtins.exec, write), "builtins.exec"),
        "open": (Asks(builtins.open, str(sentinel), "w"), "open"),
        "getattr": (Asks(builtins.getattr, "", "join"), "getattr"),
        "import": (Asks(__import__, "os"), "builtins.__import__"),
        "partial": (Asks(functools.partial, os.system, f"touch {sentinel}"), "functools.partial"),
        "numpy_load": (Asks(np.load, str(sentinel)), "numpy.load"),
        "numpy_save": (Asks(np.savetxt, str(sentinel), np.zeros(2)), "numpy.savetxt"),
        "numpy_fromfile": (Asks(np.memmap, str(sentinel)), "numpy.memmap"),
        "torch_load": (Asks(torch.load, str(sentinel)), "torch.serialization.load"),
        "torch_save": (Asks(torch.save, torch.zeros(1), str(sentinel)), "torch.serialization.save"),
        "hub": (Asks(torch.hub.load, "a/b", "c"), "torch.hub.load"),
        "nested": (Asks(torch.storage._load_from_bytes, inner.getvalue()), "system"),
        "map": (Asks(builtins.map, os.system, [f"touch {sentinel}"]), "builtins.map"),
        "module": (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        "in_state": ({"state_dict": {"a": torch.ones(2), "b": Asks(os.system, f"touch {sentinel}")}}, "system"),
    }


@pytest.mark.parametrize("write", [torch_zip, torch_legacy, pickled_tensors, zip_of_file])
@pytest.mark.parametrize("name", attacks(Path("unused")))
def test_a_malicious_file_is_refused_by_name_and_nothing_runs(
    name: str, write: Callable[[Path, Any], None], tmp_path: Path
) -> None:
    sentinel = tmp_path / "sentinel"
    content, asked = attacks(sentinel)[name]
    write(tmp_path / "evil.pkl", content)
    with pytest.raises(VssError) as error:
        read_torch(tmp_path / "evil.pkl")
    assert asked in error.value.message
    assert "evil.pkl would run code" in error.value.message
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("program", "says"),
    {
        "protocol 0": (b"cos\nsystem\n(S'touch x'\ntR.", "os.system"),
        "inst": (b"(S'touch x'\nios\nsystem\n.", "os.system"),
        "obj": (b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00xo.", "os.system"),
        "stack global": (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
        "admitted module, other name": (
            b"\x80\x02cnumpy.core.multiarray\nfromfile\n.",
            "multiarray.fromfile",
        ),
        "dotted": (b"\x80\x04\x8c\x0bcollections\x8c\x17OrderedDict.__init__.im\x93.", "OrderedDict.__init__"),
        "class mentioned, then called": (b"\x80\x02cbuiltins\nint\n(X\x01\x00\x00\x00xtR.", "builtins.int"),
        "attribute": (
            b"\x80\x02c__builtin__\ngetattr\ncmmengine.logging.history_buffer\nHistoryBuffer\n"
            b"X\x09\x00\x00\x00__class__\x86R.",
            "builtins.getattr",
        ),
        "method of the log, called": (
            b"\x80\x02c__builtin__\ngetattr\ncmmengine.logging.history_buffer\nHistoryBuffer\n"
            b"X\x04\x00\x00\x00mean\x86R)R.",
            "a call of mmengine.logging.history_buffer.HistoryBuffer.mean",
        ),
        "extension": (b"\x80\x02\x82\x01.", "EXT1"),
        "object array": (
            b"\x80\x02cnumpy\ndtype\n(X\x01\x00\x00\x00OK\x00K\x01tR.",
            "type O",
        ),
    }.values(),
    ids=str,
)
def test_programs_that_pickle_would_obey_are_refused(program: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(program)
    with pytest.raises(VssError) as error:
        read_torch(tmp_path / "x.pkl")
    assert says in error.value.message


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def array_program(shape: tuple[int, ...], content: bytes) -> bytes:
    sides = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", side) for side in shape) + b"t"
    return (
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01" + sides
        + b"cnumpy\ndtype\n(" + text("f4") + b"K\x00K\x01tR(K\x03" + text("<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C"
        + bytes([len(content)]) + content + b"tb."
    )  # fmt: skip


def storage_program(count: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A legacy file of one tensor over one storage, without the numbers of the storage."""
    row = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    number = lambda value: b"\x8a\x08" + struct.pack("<q", value)  # noqa: E731
    tensor = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n" + text("1")
        + text("cpu") + number(count) + b"NtQK\x00(" + b"".join(map(number, size)) + b"t("
        + b"".join(map(number, stride)) + b"t\x89NtR."
    )  # fmt: skip
    return b"".join(pickle.dumps(part, 2) for part in row) + tensor + pickle.dumps(["1"], 2) + struct.pack("<q", count)


BOMBS: dict[str, tuple[bytes, str]] = {
    "array of terabytes": (array_program((10**9, 10**6), b"abcd"), "comes with 4 bytes"),
    "array of overflowing size": (array_program((2**62, 8), b""), "not a possible number"),
    "array of negative size": (array_program((-4, -1), bytes(16)), "not a possible number"),
    "storage of terabytes": (storage_program(10**13, (2,), (1,)), "claim more than"),
    "view of terabytes": (storage_program(1, (10**12,), (0,)), "a storage of 1"),
    "view beyond its storage": (storage_program(4, (2, 2), (4, 1)), "a storage of 4"),
    "bytes by number": (b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x7f\x85R.", "bytes are a int"),
    "string longer than the file": (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.", "can't be read"),
    "copies of one value": (
        b"\x80\x05\x96" + struct.pack("<Q", 2**20) + bytes(2**20) + b"\x940]("[:-3]
        + b"cbuiltins\nbytearray\n\x940" + b"h\x01h\x00\x85R0" * 3000 + b"N.",
        "makes more of its content",
    ),
    "keys of tuples of tuples": (
        b"\x80\x02}(K\x01K\x01\x86" + b"".join(b"q\x00h\x00\x86" for _ in range(60)) + b"K\x01u.",
        "a key is a tuple",
    ),
    "no end": (b"\x80\x02" + b"]" * 1000, "can't be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_claims_much_is_refused_at_once(name: str, tmp_path: Path) -> None:
    program, says = BOMBS[name]
    (tmp_path / "bomb.pth").write_bytes(program)
    start = time.perf_counter()
    with pytest.raises(VssError) as error:
        read_torch(tmp_path / "bomb.pth")
    assert says in error.value.message
    assert time.perf_counter() - start < 5


def test_a_value_nested_a_million_deep_is_refused_and_let_go(tmp_path: Path) -> None:
    (tmp_path / "deep.pkl").write_bytes(b"\x80\x02N" + b"\x85" * 1_000_000 + b".")
    with pytest.raises(VssError, match="nested more than 200 deep"):
        read_torch(tmp_path / "deep.pkl")


def test_a_value_that_is_shared_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shared.pkl").write_bytes(b"\x80\x02N" + b"q\x00h\x00\x86" * 60 + b".")
    with pytest.raises(VssError, match="more than 5000000 values"):
        read_torch(tmp_path / "shared.pkl")


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pth", bytes(80 * 2**20))
    with pytest.raises(VssError, match="unpacks to more than"):
        read_torch(tmp_path / "bomb.zip")


def test_a_compressed_record_of_torch_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(tmp_path / "b.pth", "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(VssError, match="compressed"):
        read_torch(tmp_path / "b.pth")


def test_an_archive_of_several_files_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.pth", b"a")
        archive.writestr("b.pth", b"b")
        archive.writestr("__MACOSX/b.pth", b"b")
    with pytest.raises(VssError, match="archive of 2 files"):
        read_torch(tmp_path / "two.zip")
