"""Copies to a device and back, when they are waited for, and how long the network computes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_cuda import CUDA, Event, fake_cuda
from inference_samples import CPU, Colours, SeenVideo, predictor, read_out
from store_samples import prediction_header, snapshot

from vsscli.errors import VssError
from vsscli.inference.answers import Answers
from vsscli.inference.run import predict_videos
from vsscli.inference.transfer import Coming, Stopwatch, Transfer
from vsscli.store.writer import StoreWriter


def test_on_a_cpu_nothing_is_copied_down_and_nothing_waited_for() -> None:
    frames = [np.full((2, 3, 3), number, np.uint8) for number in range(2)]
    assert torch.equal(Transfer(CPU).up(frames), torch.from_numpy(np.stack(frames)))
    values = torch.arange(6).view(2, 3)
    coming = Transfer(CPU).down([values])
    assert coming.here
    (array,) = coming.arrays()
    assert array.base is not None
    assert np.shares_memory(array, values.numpy())


def test_values_of_all_types_and_shapes_come_down_in_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [torch.rand(3), torch.rand(2, 4, 5).half().permute(2, 0, 1), torch.arange(7).to(torch.uint8), torch.rand(())]
    copies = []
    copy = torch.Tensor.copy_

    def noted(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        copies.append((len(source), non_blocking))
        return copy(target, source)

    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **how: empty(*size, **how))
    monkeypatch.setattr(torch.Tensor, "copy_", noted)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    coming = Coming(sent, CUDA)
    assert not coming.here
    for array, tensor in zip(coming.arrays(), sent, strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())
        assert array.dtype == tensor.numpy().dtype
    assert copies == [(12 + 80 + 7 + 4, True)]


class Late(Answers):
    """Answers that are not there before they are asked for; notes in ``order`` when they are begun and read."""

    order: list[str]

    def __init__(self, *of: object) -> None:
        super().__init__(*of)  # type: ignore[arg-type]
        Late.order.append("begun")

    @property
    def here(self) -> bool:
        return False

    def frames(self) -> list[dict[str, np.ndarray]]:
        Late.order.append("read")
        return super().frames()


def test_a_part_is_read_when_the_next_one_is_queued_and_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(path: Path, network: Colours) -> None:
        with StoreWriter(path, prediction_header()) as writer:
            predict_videos(
                predictor(network, read_out(), batch_size=2), [SeenVideo("a", 3), SeenVideo("b", 4)], [writer]
            )

    predict(tmp_path / "here.zarr", Colours())
    monkeypatch.setattr("vsscli.inference.predictor.Answers", Late)
    monkeypatch.setattr(Late, "order", [], raising=False)
    predict(tmp_path / "late.zarr", Colours())
    assert Late.order == ["begun", *["begun", "read"] * 3, "read"]
    assert snapshot(tmp_path / "late.zarr") == snapshot(tmp_path / "here.zarr")

    broken = Colours()
    broken.weights[0] = math.nan
    with pytest.raises(VssError, match="scores are not finite on views of 16x24"):
        predict(tmp_path / "broken.zarr", broken)


def test_a_stopwatch_adds_up_blocks_on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 20.0, 23.0, 30.0])
    monkeypatch.setattr("vsscli.inference.transfer.time.perf_counter", lambda: next(clock))
    stopwatch = Stopwatch(CPU)
    for _ in range(2):
        with stopwatch.running():
            pass
    assert stopwatch.seconds() == 5.0
    assert stopwatch.share() == 5.0 / 20.0
    monkeypatch.undo()
    assert math.isnan(Stopwatch(CPU).share())
    with fake_cuda(monkeypatch) as watch:
        stopwatch = Stopwatch(CUDA)
        for _ in range(3):
            with stopwatch.running():
                pass
        assert watch.waits == []
        assert stopwatch.seconds() == pytest.approx(0.003)  # events a millisecond apart
