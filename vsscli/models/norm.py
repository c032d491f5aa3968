"""Batch norm over the joint batch of all processes, with correct gradients for a single image."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn


def settled(images: Tensor) -> Tensor:
    """The same map (B, C, h, w), in an unambiguous memory format.

    A single image made of tokens, (1, h * w, C) transposed and unflattened, counts as ``channels_last`` for one half of
    torch's batch norm on the CPU (2.14) and not for the other, because the stride of a batch of one is arbitrary. If
    its gradient is in such memory and the input is not, or the other way round, one is read in the order of the other,
    and gradients are silently wrong.
    """
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return images.contiguous() if last and images.stride(0) < images.numel() and len(images) == 1 else images


def settle_norms(network: nn.Module) -> None:
    """Apply `settled` to the inputs and gradients of all batch norms of a network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(_settle_input)
            module.register_forward_hook(_settle_gradient)


def _settle_input(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(settled(images) for images in inputs)


def _settle_gradient(norm: nn.Module, inputs: tuple[Tensor, ...], normalised: Tensor) -> None:
    if len(normalised) == 1 and normalised.requires_grad and not torch.compiler.is_compiling():
        normalised.register_hook(settled)


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """``BatchNorm2d`` over the joint batch of all processes on the CPU, which ``torch.nn.SyncBatchNorm`` refuses.

    In evaluation, or in one process, it is ``BatchNorm2d``. ``drop`` and ``act``, which may follow the norm in timm's
    networks, keep timm's names.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.drop: nn.Module = nn.Identity()
        self.act: nn.Module = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (b, C, h, w), this process's share of the batch; all processes must call it."""
        if self.training and dist.is_initialized() and dist.get_world_size() > 1:
            return self.act(self.drop(self._joint(images)))
        return self.act(self.drop(super().forward(images)))

    def _joint(self, images: Tensor) -> Tensor:
        normalised, mean, variance, count = _JointNorm.apply(images, self.weight, self.bias, self.eps)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked += 1
                share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                unbiased = variance * (count / (count - 1))
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return normalised


class _JointNorm(torch.autograd.Function):
    """Normalise with the mean and variance of the joint batch, including their gradients.

    Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3, with every mean taken over all processes. The processes exchange
    count, mean and summed squared deviation, which combine without the cancellation that a sum of squares suffers
    (Chan, Golub & LeVeque 1979).
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images32 = images.float()
        local_variance, local_mean = torch.var_mean(images32, dim=(0, 2, 3), unbiased=False)
        local_count = images.numel() / images.shape[1]
        mine = torch.cat([local_mean, local_variance * local_count, local_mean.new_tensor([local_count])]).double()
        shares = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, mine)
        means, deviations, counts = torch.stack(shares).split([len(local_mean), len(local_mean), 1], dim=1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((deviations + (means - mean).square() * counts).sum(0) / count).float()
        mean = mean.float()
        ctx.save_for_backward(images, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(images, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        images, weight, mean, variance, count = ctx.saved_tensors
        # With fixed statistics, torch's own kernel gives the direct gradient and both sums over this process.
        direct, weight_grad, bias_grad = torch.ops.aten.native_batch_norm_backward(
            settled(grads[0]),
            settled(images),
            weight,
            mean,
            variance,
            None,
            None,
            False,
            ctx.eps,
            [True, True, True],
        )
        sums = torch.cat([weight_grad, bias_grad]).double()
        dist.all_reduce(sums)
        scaled, shifted = (sums / count).float().split(len(mean))
        inverse = (variance + ctx.eps).rsqrt()
        factor = inverse if weight is None else inverse * weight.float()
        # Through the mean and the variance: -factor * (mean of grad + normalised * mean of grad * normalised).
        slope = (factor * inverse * scaled).view(1, -1, 1, 1)
        level = (factor * shifted).view(1, -1, 1, 1)
        centred = images.float() - mean.view(1, -1, 1, 1)
        images_grad = direct - (centred.mul_(slope).add_(level)).to(direct.dtype)
        return images_grad, weight_grad if weight is not None else None, bias_grad if weight is not None else None, None


def convert_sync(network: nn.Module, device: torch.device) -> nn.Module:
    """Replace batch norms, in place, by ones that share their statistics between processes.

    Parameters, buffers and their names stay; other norms (group, layer) are unchanged. On CUDA this uses torch's
    ``SyncBatchNorm``.
    """
    return convert_sync_batchnorm(network) if device.type == "cuda" else _convert(network)


def _convert(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d) and not isinstance(module, SyncedBatchNorm2d):
        return _synced(module)
    for name, child in list(module.named_children()):
        replacement = _convert(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def _synced(norm: nn.BatchNorm2d) -> SyncedBatchNorm2d:
    synced = SyncedBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    synced.weight, synced.bias = norm.weight, norm.bias
    if norm.track_running_stats:
        synced.running_mean, synced.running_var = norm.running_mean, norm.running_var
        synced.num_batches_tracked = norm.num_batches_tracked
    if isinstance(norm, BatchNormAct2d):
        synced.drop, synced.act = norm.drop, norm.act
    synced.train(norm.training)
    settle_norms(synced)
    return synced
