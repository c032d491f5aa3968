"""Batch norm over the joint batch of two processes equals batch norm over that batch in one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from vsscli.models.build import build_network
from vsscli.models.norm import SyncedBatchNorm2d, convert_sync

CPU = torch.device("cpu")
SHARES = (slice(0, 3), slice(3, 4))  # uneven: the last batch of a split often is


def small_network() -> nn.Module:
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        BatchNormAct2d(6, act_layer=nn.ReLU6),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4, momentum=None),
        nn.SiLU(),
        nn.BatchNorm2d(4, affine=False),
    )
    with torch.no_grad():
        for norm in (network[1], network[3]):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
    return network.train()


def joint_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(4, 3, 7, 5, generator=generator), torch.randn(4, 4, 5, 3, generator=generator)


def run(network: nn.Module, images: Tensor, target: Tensor, count: int) -> dict[str, Tensor]:
    """Run two steps; return outputs, gradients and statistics."""
    images = images.clone().requires_grad_()
    network(images * 2 + 1).square().sum().backward()
    network.zero_grad()
    images.grad = None
    output = network(images)
    ((output - target).abs() ** 3).sum().div(count).backward()
    result = {"output": output.detach(), "images": images.grad}
    result |= {f"grad {name}": parameter.grad for name, parameter in network.named_parameters()}
    return result | {f"state {name}": buffer.clone() for name, buffer in network.named_buffers()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    images, target = joint_batch()
    network = convert_sync(small_network(), CPU)
    assert sum(isinstance(module, SyncedBatchNorm2d) for module in network.modules()) == 3
    result = run(network, images[SHARES[rank]], target[SHARES[rank]], target.numel())
    for name in [name for name in result if name.startswith("grad ")]:
        dist.all_reduce(result[name])

    # A mean far from zero, where a sum of squares in float32 would lose every digit of the variance.
    far = SyncedBatchNorm2d(3).train()
    result["far"] = far((images + 3000.0)[SHARES[rank]]).detach()

    # Half the precision, as under autocast.
    half = SyncedBatchNorm2d(3).train()
    halved = images[SHARES[rank]].bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    half_output = half(halved)
    half_output.square().sum().backward()
    result["half"], result["half grad"] = half_output.detach(), halved.grad

    # Frozen and evaluating norms must not wait for each other.
    if rank == 0:
        far.eval()(images)
    dist.barrier()
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("gloo")
    run_ranks(work, 2, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_outputs_gradients_and_statistics_equal_one_process(two_processes: list[dict[str, Tensor]]) -> None:
    images, target = joint_batch()
    expected = run(small_network(), images, target, target.numel())
    for rank, found in enumerate(two_processes):
        for name, tensor in expected.items():
            share = tensor[SHARES[rank]] if name in ("output", "images") else tensor
            torch.testing.assert_close(found[name], share, atol=1e-6, rtol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_statistics_are_the_same_to_the_bit_in_every_process(two_processes: list[dict[str, Tensor]]) -> None:
    first, second = two_processes
    names = [name for name in first if name.startswith("state ")]
    assert len(names) == 9
    assert all(torch.equal(first[name], second[name]) for name in names)


def test_a_mean_far_from_zero_costs_no_precision(two_processes: list[dict[str, Tensor]]) -> None:
    exact = nn.BatchNorm2d(3).double()((joint_batch()[0] + 3000.0).double()).float()
    found = torch.cat([result["far"] for result in two_processes])
    torch.testing.assert_close(found, exact, atol=2e-3, rtol=0)


def test_bf16_stays_bf16_and_close(two_processes: list[dict[str, Tensor]]) -> None:
    images = joint_batch()[0].bfloat16().float().requires_grad_()
    exact = nn.BatchNorm2d(3)(images)
    exact.square().sum().backward()
    found = torch.cat([result["half"] for result in two_processes])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact.detach(), atol=0.03, rtol=0)
    gradient = torch.cat([result["half grad"] for result in two_processes])
    torch.testing.assert_close(gradient.float(), images.grad, atol=0.05, rtol=0)


def test_conversion_keeps_names_weights_and_what_follows_the_norm() -> None:
    config = {"family": "light", "encoder": "test_efficientnet", "channels": 16, "pretrained": "none", "dropout": 0.0}
    network = build_network(config, 3, load_pretrained=False).eval()
    before = copy.deepcopy(network)
    parameters = dict(network.named_parameters())
    converted = convert_sync(network, CPU)
    assert dict(converted.named_parameters()).keys() == parameters.keys()
    assert all(parameter is parameters[name] for name, parameter in converted.named_parameters())
    assert list(converted.state_dict()) == list(before.state_dict())
    kinds = {type(module) for module in converted.modules() if isinstance(module, nn.BatchNorm2d)}
    assert kinds == {SyncedBatchNorm2d}
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(converted(images).values, before(images).values)
        # Alone in its process it trains as the plain norm does.
        assert torch.equal(converted.train()(images).values, before.train()(images).values)


def test_conversion_respects_frozen_norms() -> None:
    config = {"family": "light", "encoder": "test_resnet", "channels": 16, "pretrained": "none", "frozen_norm": True}
    network = convert_sync(build_network(config, 3, load_pretrained=False), CPU).train()
    norms = [module for module in network.modules() if isinstance(module, SyncedBatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_on_cuda_torchs_own_norm_is_taken() -> None:
    network = convert_sync(small_network(), torch.device("cuda"))
    kinds = [type(module) for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(kinds) == 3
    assert all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds)
    assert isinstance(network[1].act, nn.ReLU6)
