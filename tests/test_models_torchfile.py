"""Checkpoints of other programs are read in each of their formats, and nothing in them runs."""

from __future__ import annotations

import argparse
import builtins
import collections
import functools
import io
import itertools
import os
import pickle
import random
import struct
import sys
import tarfile
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vsscli.errors import VssError
from vsscli.models.official.makers import HistoryBuffer, Settings
from vsscli.models.torchfile import read_torch


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    shared = torch.randn(4, 6)
    return {
        "weight": shared,
        "transposed": shared.t(),
        "row": shared[2],
        "half": torch.randn(5).half(),
        "bfloat": torch.randn(3).bfloat16(),
        "index": torch.arange(7).view(7, 1),
        "counter": torch.tensor(12),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        got = found[name]
        got = torch.from_numpy(got) if isinstance(got, np.ndarray) else got
        assert got.dtype == torch.as_tensor(tensor).dtype, name
        assert torch.equal(got, torch.as_tensor(tensor)), name


def torch_zip(path: Path, content: Any) -> None:
    torch.save(content, path)


def torch_legacy(path: Path, content: Any) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def pickled_tensors(path: Path, content: Any) -> None:
    """As ``pickle.dump`` writes tensors: each storage a legacy file of torch in the pickle."""
    path.write_bytes(pickle.dumps(content))


def zip_of_file(path: Path, content: Any) -> None:
    torch.save(content, path.with_suffix(".inner"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path.with_suffix(".inner"), "released/mask2former_beit_adapter_large.pth")


def tar_of_file(path: Path, content: Any) -> None:
    torch_legacy(path.with_suffix(".inner"), content)
    with tarfile.open(path, "w") as archive:
        archive.add(path.with_suffix(".inner"), "model.pth")


FORMATS = [torch_zip, torch_legacy, pickled_tensors, zip_of_file, tar_of_file]


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_tensors_come_back_from_every_format_of_torch(
    write: Callable[[Path, Any], None], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    write(tmp_path / "file.pth.tar", {"state_dict": collections.OrderedDict(state), "meta": {"epoch": 3}})
    content = read_torch(tmp_path / "file.pth.tar")
    assert content["meta"] == {"epoch": 3}
    same(content["state_dict"], state)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_come_back_from_every_protocol_of_pickle(protocol: int, tmp_path: Path) -> None:
    arrays = {
        "a": np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(4, dtype=">i4"),
        "flag": np.array([True, False]),
        "none": np.zeros((0, 2), np.int64),
        "large": np.arange(5000, dtype=np.float16),
    }
    scalar = np.float64(0.25)
    content = {"model": arrays, "lr": scalar, "best": np.int32(7), "__author__": "third_party", "raw": b"\x00\xff"}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, protocol))
    found = read_torch(tmp_path / "model.pkl")
    assert list(found["model"]) == list(arrays)
    for name, array in arrays.items():
        assert found["model"][name].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        assert np.array_equal(found["model"][name], array), name
    assert found["lr"] == 0.25
    assert found["best"] == 7
    assert found["__author__"] == "third_party"
    assert found["raw"] == b"\x00\xff"


def test_a_pickle_of_python_2_gives_text_and_the_numbers_of_its_strings(tmp_path: Path) -> None:
    raw = np.arange(3, dtype="<f4").tobytes()
    program = (
        b"\x80\x02}(U\x06weightcnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        b"(K\x01K\x03\x85cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(raw)]) + raw + b"tbu."
    )
    (tmp_path / "old.pkl").write_bytes(program)
    assert read_torch(tmp_path / "old.pkl")["weight"].tolist() == [0.0, 1.0, 2.0]


def test_safetensors_are_told_by_their_content(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    whole = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    save_file(whole, tmp_path / "timm.bin")
    found = read_torch(tmp_path / "timm.bin")
    same({name: found[name] for name in whole}, whole)


@pytest.fixture
def mmengine(monkeypatch: pytest.MonkeyPatch) -> type:
    """A stand-in for mmengine, which pickles its log by its own class."""

    class Buffer:
        def __init__(self) -> None:
            self.max_length = 1000000
            self._log_history = np.array([2.5, 1.5])
            self._count_history = np.array([1, 1])

        def mean(self) -> float:
            raise AssertionError("nothing calls it")

        def __getstate__(self) -> dict[str, Any]:
            return {**self.__dict__, "statistics_methods": {"mean": Buffer.mean}}  # as mmengine's own does

    Buffer.mean.__module__, Buffer.mean.__qualname__ = "mmengine.logging.history_buffer", "HistoryBuffer.mean"
    Buffer.__name__ = Buffer.__qualname__ = "HistoryBuffer"
    Buffer.__module__ = "mmengine.logging.history_buffer"
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["mmengine.logging.history_buffer"].HistoryBuffer = Buffer
    return Buffer


@pytest.mark.parametrize("write", [torch_zip, torch_legacy, pickled_tensors], ids=lambda write: write.__name__)
def test_the_log_of_mmengine_is_held_without_its_class(
    write: Callable[[Path, Any], None],
    mmengine: type,
    state: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = {"log_scalars": collections.OrderedDict({"train/loss": mmengine()}), "runtime_info": {"seed": np.int64(5)}}
    meta = {"mmseg_version": "1.2.2", "dataset_meta": {"classes": ("a",), "palette": np.zeros((1, 3), np.uint8)}}
    content = {"meta": meta, "state_dict": state, "message_hub": hub, "sizes": torch.Size([2, 3])}
    write(tmp_path / "iter_80000.pth", content)
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.delitem(sys.modules, name)
    found = read_torch(tmp_path / "iter_80000.pth")
    log = found["message_hub"]["log_scalars"]["train/loss"]
    assert isinstance(log, HistoryBuffer)
    assert log.state["_log_history"].tolist() == [2.5, 1.5]
    assert found["message_hub"]["runtime_info"]["seed"] == 5
    assert found["meta"]["dataset_meta"]["classes"] == ("a",)
    assert found["sizes"] == (2, 3)
    same(found["state_dict"], state)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_a_script_was_called_with_is_held_as_plain_values(legacy: bool, tmp_path: Path) -> None:
    called = argparse.Namespace(lr=1e-4, data_path="/data", nested=argparse.Namespace(layers=[1, 2]))
    path = tmp_path / "mae.pth"
    content = {"model": {"a": torch.ones(2)}, "args": called}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    read = read_torch(path)
    assert isinstance(read["args"], Settings)
    assert read["args"].state == {"lr": 1e-4, "data_path": "/data", "nested": Settings({"layers": [1, 2]})}
    assert torch.equal(read["model"]["a"], torch.ones(2))


def test_what_optimisers_and_schedules_keep_is_read(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [2, 4])
    content = {
        "optimizer": optimiser.state_dict(),
        "schedule": {name: value for name, value in schedule.state_dict().items() if not name.startswith("_")},
        "parameter": layer.weight,
        "default": collections.defaultdict(list, {"a": [1]}),
        "kinds": (torch.float16, frozenset({1, 2}), {3}, bytearray(b"x")),
        "device": torch.device("cuda", 1),
    }
    torch.save(content, tmp_path / "training.pth")
    found = read_torch(tmp_path / "training.pth")
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])
    assert found["schedule"]["milestones"] == {2: 1, 4: 1}
    assert torch.equal(found["parameter"], layer.weight)
    assert found["default"] == {"a": [1]}
    assert found["kinds"][1:] == (frozenset({1, 2}), {3}, b"x")
    assert found["device"] == "cuda:1"


# Malice.


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
    """A legacy file of one tensor over one storage, of which no number follows."""
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
    "array of overflowing size": (array_program((2**62, 8), b""), "no number that can be"),
    "array of negative size": (array_program((-4, -1), bytes(16)), "no number that can be"),
    "storage of terabytes": (storage_program(10**13, (2,), (1,)), "claim more than"),
    "view of terabytes": (storage_program(1, (10**12,), (0,)), "lies in a storage of 1"),
    "view beyond its storage": (storage_program(4, (2, 2), (4, 1)), "lies in a storage of 4"),
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


# Damage.


def every_format(tmp_path: Path, state: dict[str, torch.Tensor]) -> list[Path]:
    paths = []
    for write in FORMATS:
        paths.append(tmp_path / f"{write.__name__}.pth")
        write(paths[-1], {"state_dict": state, "meta": {"CLASSES": ("road", "car")}})
    paths.append(tmp_path / "arrays.pkl")
    paths[-1].write_bytes(pickle.dumps({"model": {name: np.ones((2, 3)) for name in state}}))
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, tmp_path / "timm.safetensors")
    return [*paths, tmp_path / "timm.safetensors"]


def test_a_file_cut_anywhere_is_one_clear_error(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    draw = random.Random(4)
    for path in every_format(tmp_path, state):
        content = path.read_bytes()
        part = tmp_path / f"cut{path.suffix}"
        for length in [0, 1, 4, 9, len(content) - 1, *draw.sample(range(len(content)), 60)]:
            part.write_bytes(content[:length])
            # The last bytes of a tar are padding, which nothing needs.
            if path.stem == "tar_of_file" and length > len(content) - 10240:
                continue
            with pytest.raises(VssError, match="cut"):
                read_torch(part)


def test_a_file_with_bytes_changed_anywhere_never_fails_otherwise(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    draw = random.Random(5)
    refused = 0
    for path, _ in itertools.product(every_format(tmp_path, state), range(80)):
        content = bytearray(path.read_bytes())
        for _ in range(draw.choice([1, 1, 5, 50])):
            content[draw.randrange(len(content))] = draw.randrange(256)
        part = tmp_path / f"changed{path.suffix}"
        part.write_bytes(content)
        try:
            read_torch(part)
        except VssError as error:
            refused += 1
            assert str(part) in error.message  # noqa: PT017 - many changes do no harm
    assert refused > 100


@pytest.mark.parametrize("content", [b"not a checkpoint, but a page of text\n" * 9, b"\x89PNG\r\n\x1a\n" + bytes(99)])
def test_a_file_of_another_kind_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(VssError, match=r"other.pth can't be read"):
        read_torch(tmp_path / "other.pth")
