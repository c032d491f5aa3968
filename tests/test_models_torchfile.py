"""Checkpoints of other programs are read in all their formats, without running code."""

from __future__ import annotations

import argparse
import collections
import itertools
import pickle
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchfile_samples import FORMATS, pickled_tensors, torch_legacy, torch_zip

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
    """A stand-in for mmengine, which pickles its log as its own class."""

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
