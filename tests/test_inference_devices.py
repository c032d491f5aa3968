"""What --device and --precision mean."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from vsscli.errors import VssError
from vsscli.inference.devices import autocast, require_precision, resolve_device


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu_and_asking_for_one_is_an_error() -> None:
    assert resolve_device() == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(VssError, match="device cuda") as raised:
        resolve_device("cuda")
    assert "--device cpu" in raised.value.hint


@pytest.mark.usefixtures("two_gpus")
def test_with_gpus_auto_is_the_first_and_others_go_by_number() -> None:
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(VssError, match="2 GPU") as raised:
        resolve_device("cuda:2")
    assert "cuda:1" in raised.value.hint


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", ""])
def test_a_name_that_means_nothing_is_answered_with_those_that_do(name: str) -> None:
    with pytest.raises(VssError) as raised:
        resolve_device(name)
    assert repr(name) in raised.value.message
    assert "auto, cpu, cuda or cuda:N" in raised.value.hint


def test_precisions_are_what_matrix_products_compute_in() -> None:
    cpu, one = torch.device("cpu"), torch.ones(2, 2)
    with autocast(cpu, "bf16"):
        assert (one @ one).dtype == torch.bfloat16
    with autocast(cpu, "32"):
        assert (one @ one).dtype == torch.float32


@pytest.mark.parametrize("precision", ["16", "64", "half"])
def test_a_precision_that_is_unknown_or_that_the_device_lacks_is_an_error(precision: str) -> None:
    with pytest.raises(VssError, match=f"precision '?{precision}") as raised:
        require_precision(torch.device("cpu"), precision)
    assert "32" in raised.value.hint


@pytest.mark.parametrize(("precision", "rounded"), [("32", False), ("bf16", True)])
def test_a_gpu_rounds_float32_factors_only_beside_shorter_numbers(
    precision: str, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # there is no GPU here
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with autocast(torch.device("cuda"), precision):
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == rounded
    assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
