"""Queries with masked attention, and the classes and masks they predict (Cheng et al. 2022, arXiv:2112.01527).
Parameters have detectron2's names below ``sem_seg_head.predictor``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vsscli.models.mask2former.config import HeadConfig
from vsscli.models.mask2former.pixel_decoder import LEVELS, PixelFeatures, sine_positions
from vsscli.models.outputs import QueryPrediction


class MaskDecoder(nn.Module):
    """Layers of masked attention to the memory, self-attention of the queries, and a feed-forward network.

    There is one more prediction than layers: that of the initial queries.
    """

    def __init__(self, num_classes: int, config: HeadConfig, checkpointing: bool) -> None:
        super().__init__()
        channels, layers, queries = config.channels, range(config.decoder_layers), config.queries
        heads, width = config.decoder_heads or config.heads, config.decoder_width
        self.checkpointing = checkpointing
        self.transformer_cross_attention_layers = nn.ModuleList(_CrossAttention(channels, heads) for _ in layers)
        self.transformer_self_attention_layers = nn.ModuleList(_SelfAttention(channels, heads) for _ in layers)
        self.transformer_ffn_layers = nn.ModuleList(_FeedForward(channels, width) for _ in layers)
        self.decoder_norm = nn.LayerNorm(channels)
        self.query_feat = nn.Embedding(queries, channels)
        self.query_embed = nn.Embedding(queries, channels)
        self.level_embed = nn.Embedding(LEVELS, channels)
        self.class_embed = nn.Linear(channels, num_classes + 1)
        self.mask_embed = _Perceptron(channels)

    def forward(self, features: PixelFeatures, every_layer: bool) -> tuple[QueryPrediction, ...]:
        """Predictions of the initial queries and after each layer, for training, or only after the last layer."""
        memory, positions = [], []
        for level, map_ in enumerate(features.memory):
            memory.append(map_.flatten(2).transpose(1, 2) + self.level_embed.weight[level])
            shape = (map_.shape[-2], map_.shape[-1])
            positions.append(sine_positions(shape, map_.shape[1], map_.device).to(map_.dtype).flatten(1).T)
        x = self.query_feat.weight.expand(len(memory[0]), -1, -1)
        prediction = self._predict(x, features.mask)
        predictions = [prediction]
        count = len(self.transformer_ffn_layers)
        for number in range(count):
            level = number % len(memory)
            allowed = allowed_cells(prediction.mask_logits, features.memory[level].shape[-2:])
            arguments = (number, x, memory[level], positions[level], allowed)
            if self.checkpointing and self.training:
                x = checkpoint(self._layer, *arguments, use_reentrant=False)
            else:
                x = self._layer(*arguments)
            prediction = self._predict(x, features.mask)
            predictions.append(prediction)
            if not every_layer:
                del predictions[0]
        return tuple(predictions)

    def _layer(self, number: int, x: Tensor, memory: Tensor, position: Tensor, allowed: Tensor) -> Tensor:
        embedding = self.query_embed.weight
        x = self.transformer_cross_attention_layers[number](x, embedding, memory, position, allowed)
        x = self.transformer_self_attention_layers[number](x, embedding)
        return self.transformer_ffn_layers[number](x)

    def _predict(self, x: Tensor, mask_features: Tensor) -> QueryPrediction:
        normed = self.decoder_norm(x)
        mask_logits = self.mask_embed(normed) @ mask_features.flatten(2)
        return QueryPrediction(self.class_embed(normed), mask_logits.unflatten(2, mask_features.shape[-2:]))


@torch.no_grad()
def allowed_cells(mask_logits: Tensor, shape: Sequence[int]) -> Tensor:
    """The cells that each query attends to, (B, 1, Q, h * w): where its mask is at least one half, or all cells if that
    is nowhere."""
    resized = functional.interpolate(mask_logits.float(), size=tuple(shape), mode="bilinear", align_corners=False)
    inside = resized.flatten(2).sigmoid() >= 0.5
    return (inside | ~inside.any(dim=-1, keepdim=True))[:, None]


class FusedAttention(nn.Module):
    """Multi-head attention with the parameters of `nn.MultiheadAttention`, computed by fused kernels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Attend with queries (B, Q, D) to keys and values (B, S, D), where ``allowed`` (B, 1, Q, S) is True."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            functional.linear(part, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class _CrossAttention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = FusedAttention(channels, heads)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, embedding: Tensor, memory: Tensor, position: Tensor, allowed: Tensor) -> Tensor:
        return self.norm(x + self.multihead_attn(x + embedding, memory + position, memory, allowed))


class _SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = FusedAttention(channels, heads)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        placed = x + embedding
        return self.norm(x + self.self_attn(placed, placed, x))


class _FeedForward(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, width)
        self.linear2 = nn.Linear(width, channels)
        self.norm = nn.LayerNorm(channels)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear2(functional.relu(self.linear1(x))))


class _Perceptron(nn.Module):
    """Three layers from a query to its mask embedding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(channels, channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(functional.relu(second(functional.relu(first(x)))))
