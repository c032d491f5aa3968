"""The sizes of networks in published checkpoints, from the shapes of their tensors.

So a network of other sizes converts as well as a published one. What no shape shows is in `Assumptions`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise

from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.mask2former.relative_position import Window, index_fits, windows_with_rows
from vsscli.models.official.head import detectron_head_to_mmseg

Span = tuple[int, int]


@dataclass(frozen=True)
class Assumptions:
    """What the shapes of tensors do not show, with the values of the public configurations.

    Parameters
    ----------
    points
        Points that deformable attention samples per head and level; determines its heads, because shapes show only the
        product. 4 in every public configuration.
    decoder_heads
        Attention heads of the mask decoder; None for as many as the pixel decoder's.
    interactions
        First and last block of each of the adapter's interactions; None for those of the configuration in the
        checkpoint if it has one, else equal spans (published: blocks 0-5, 6-11, … of 24; 0-9, 10-19, … of 40).
    crop
        Height and width of the images that position tables were made for, if these are not square and nothing in the
        checkpoint shows which side is which.
    """

    points: int = 4
    decoder_heads: int | None = None
    interactions: tuple[Span, ...] | None = None
    crop: tuple[int, int] | None = None


@dataclass(frozen=True)
class SwinSizes:
    """A Swin transformer: width of the first stage; blocks and heads per stage; side of a window."""

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    patch: int
    mlp_ratio: float


@dataclass(frozen=True)
class TrunkSizes:
    """A plain transformer, BEiT or ONE-PEACE's; ``hidden`` is the width inside its feed-forward networks, ``grid`` the
    patches down and across that its position tables are made for."""

    width: int
    depth: int
    heads: int
    patch: int
    grid: Window
    hidden: int

    @property
    def crop(self) -> tuple[int, int]:
        return self.grid[0] * self.patch, self.grid[1] * self.patch


@dataclass(frozen=True)
class AdapterSizes:
    """A ViT-Adapter: channels of its stem; interactions; heads, points and ratios of its deformable attention."""

    stem: int
    interactions: tuple[Span, ...]
    heads: int
    points: int
    deform_ratio: float
    ffn_ratio: float
    extra_extractors: int


@dataclass(frozen=True)
class HeadSizes:
    """A Mask2Former head."""

    num_classes: int
    width: int
    mask_width: int
    queries: int
    encoder_layers: int
    encoder_ffn: int
    encoder_heads: int
    points: int
    decoder_layers: int
    decoder_ffn: int
    decoder_heads: int


class Shapes:
    """Shapes of a checkpoint's tensors, by name."""

    def __init__(self, state: Mapping[str, Tensor], source: str) -> None:
        self.state = state
        self.source = source

    def of(self, name: str, ndim: int) -> tuple[int, ...]:
        """The shape of a required tensor with ``ndim`` dimensions, none of them 0."""
        if name not in self.state:
            raise VssError(
                f"{self.source} lacks the tensor {name}, which is needed to determine its size",
                "it is truncated, or of another network",
            )
        shape = tuple(self.state[name].shape)
        if len(shape) != ndim or 0 in shape:
            raise self.odd(name, f"has {ndim} dimensions")
        return shape

    def count(self, pattern: str) -> int:
        """How many numbers stand for ``#`` in the names of the tensors; they must run from 0 without a gap."""
        expression = re.compile(re.escape(pattern).replace(re.escape("#"), r"(\d{1,6})"))
        found = {int(match[1]) for name in self.state if (match := expression.fullmatch(name))}
        count = len(found)
        if found != set(range(count)):
            gap = next(number for number in range(count) if number not in found)
            raise VssError(f"{self.source} lacks the tensor {pattern.replace('#', str(gap))}", "it is truncated")
        return count

    def side(self, name: str, rows: int, extra: int) -> int:
        """w of a table for windows of w x w patches: (2w - 1)^2 rows, and ``extra``, 3 for a class token."""
        span = math.isqrt(max(rows - extra, 0))
        if span * span != rows - extra or span % 2 == 0:
            raise self.odd(name, f"has (2w - 1)^2{f' + {extra}' if extra else ''} rows, for a window of w x w")
        return (span + 1) // 2

    def divide(self, name: str, total: int, by: int) -> int:
        """A quotient that must be an integer."""
        if by <= 0 or total % by:
            raise self.odd(name, f"is a multiple of {by}")
        return total // by

    def odd(self, name: str, rule: str) -> VssError:
        shape = "x".join(map(str, self.state[name].shape)) or "a number"
        return VssError(
            f"tensor {name} of {self.source} is {shape}, but in this network it {rule}",
            "it is a checkpoint of another network, or needs other assumptions",
        )


def swin_sizes(shapes: Shapes) -> SwinSizes:
    """Sizes of ``backbone.*`` as a Swin transformer."""
    patch = "backbone.patch_embed.proj.weight"
    width, _, side, _ = shapes.of(patch, 4)
    depths, heads, windows = [], [], set()
    for stage in range(shapes.count("backbone.layers.#.blocks.0.norm1.weight")):
        block = f"backbone.layers.{stage}.blocks"
        table = f"{block}.0.attn.relative_position_bias_table"
        rows, stage_heads = shapes.of(table, 2)
        windows.add(shapes.side(table, rows, extra=0))
        depths.append(shapes.count(f"{block}.#.norm1.weight"))
        heads.append(stage_heads)
        if len(windows) > 1:
            raise shapes.odd(table, "is made for the same window in every stage")
    hidden = shapes.of("backbone.layers.0.blocks.0.mlp.fc1.weight", 2)[0]
    return SwinSizes(width, tuple(depths), tuple(heads), windows.pop(), side, hidden / width)


def beit_sizes(shapes: Shapes, assumptions: Assumptions = Assumptions()) -> TrunkSizes:
    """Sizes of ``backbone.*`` as a BEiT, with a position table for each block or one for all."""
    width, _, patch, _ = shapes.of("backbone.patch_embed.proj.weight", 4)
    shared = "backbone.rel_pos_bias.relative_position_bias_table"
    table = shared if shared in shapes.state else "backbone.blocks.0.attn.relative_position_bias_table"
    rows, heads = shapes.of(table, 2)
    if width % heads:
        raise shapes.odd(table, f"has as many columns as heads, which divide the width {width}")
    hidden = shapes.of("backbone.blocks.0.mlp.fc1.weight", 2)[0]
    depth = shapes.count("backbone.blocks.#.norm1.weight")
    grid = _window(shapes, table, rows, patch, assumptions)
    return TrunkSizes(width, depth, heads, patch, grid, hidden)


def one_peace_sizes(shapes: Shapes, assumptions: Assumptions = Assumptions()) -> TrunkSizes:
    """Sizes of ``backbone.*`` as ONE-PEACE's vision trunk."""
    width = shapes.of("backbone.image_adapter.cls_embedding", 3)[2]
    patch = math.prod(shapes.of(f"backbone.image_adapter.embed_images.{conv}.weight", 4)[2] for conv in (0, 3, 6))
    shared = "backbone.image_adapter.rel_pos_table_list.0.weight"
    table = shared if shared in shapes.state else "backbone.encoder.layers.0.rel_pos_table.weight"
    rows, heads = shapes.of(table, 2)
    positions = shapes.of("backbone.image_adapter.pos_embed", 2)[0]
    if not any(height * width == positions - 1 for height, width in windows_with_rows(rows)):
        grids = ", ".join(f"{height}x{width}" for height, width in windows_with_rows(rows)) or "no window"
        raise shapes.odd(
            "backbone.image_adapter.pos_embed",
            f"has a row for each patch and one more, and {table} is of {grids}",
        )
    grid = _window(shapes, table, rows, patch, assumptions, patches=positions - 1)
    hidden = shapes.of("backbone.encoder.layers.0.image_ffn.0.wi_0.weight", 2)[0]
    depth = shapes.count("backbone.encoder.layers.#.self_attn_layer_norm.weight")
    if width % heads:
        raise shapes.odd(table, f"has as many columns as heads, which divide the width {width}")
    return TrunkSizes(width, depth, heads, patch, grid, hidden)


def _window(
    shapes: Shapes, table: str, rows: int, patch: int, assumptions: Assumptions, patches: int | None = None
) -> Window:
    """The window of a position table: by the index in the file if it has one, the assumed crop, or the square one."""
    windows = windows_with_rows(rows)
    if not windows:
        raise shapes.odd(table, "has (2h - 1)(2w - 1) + 3 rows, for a window of h x w")
    if patches is not None:
        windows = [window for window in windows if window[0] * window[1] == patches]
    indices = [tensor for name, tensor in shapes.state.items() if name.endswith(INDEX_NAMES) and not tensor.is_meta]
    exact = [window for window in windows if indices and index_fits(indices[0], window)]
    if exact:
        return exact[0]
    crop = assumptions.crop
    if crop is not None and (grid := (-(-crop[0] // patch), -(-crop[1] // patch))) in windows:
        return grid
    squares = [window for window in windows if window[0] == window[1]]
    if squares:
        return squares[0]
    usual = " or ".join(f"{height * patch}x{width * patch}" for height, width in windows[:4])
    raise VssError(
        f"{shapes.source} was trained on images of {usual}: its tensors fit either, and nothing in it says which",
        "name the right one: vss convert FILE --to OURS.pt --crop H W",
    )


INDEX_NAMES = ("relative_position_index", "rp_bucket")


def adapter_sizes(shapes: Shapes, width: int, depth: int, assumptions: Assumptions) -> AdapterSizes:
    """Sizes of the ViT-Adapter around a trunk of this width and depth."""
    count = shapes.count("backbone.interactions.#.injector.gamma")
    spans = assumptions.interactions or equal_spans(depth, count)
    attention = "backbone.interactions.0.injector.attn"
    samples = shapes.of(f"{attention}.sampling_offsets.bias", 1)[0]
    levels = shapes.of("backbone.level_embed", 2)[0]
    last = max(count - 1, 0)
    sizes = AdapterSizes(
        stem=shapes.of("backbone.spm.stem.0.weight", 4)[0],
        interactions=spans,
        heads=shapes.divide(f"{attention}.sampling_offsets.bias", samples, levels * assumptions.points * 2),
        points=assumptions.points,
        deform_ratio=shapes.of(f"{attention}.value_proj.weight", 2)[0] / width,
        ffn_ratio=shapes.of("backbone.interactions.0.extractor.ffn.fc1.weight", 2)[0] / width,
        extra_extractors=shapes.count(f"backbone.interactions.{last}.extra_extractors.#.query_norm.weight"),
    )
    joined = all(before[1] + 1 == after[0] for before, after in pairwise(spans))
    if len(spans) != count or spans[0][0] != 0 or spans[-1][1] != depth - 1 or not joined:
        raise VssError(
            f"interactions {', '.join(f'{first}-{last}' for first, last in spans)} do not fit {shapes.source}: "
            f"it has {count}, over blocks 0 to {depth - 1}",
            "name the first and the last block of each, without gaps",
        )
    return sizes


def head_sizes(shapes: Shapes, assumptions: Assumptions, *, mmseg: bool) -> HeadSizes:
    """Sizes of a Mask2Former head, in detectron2's or mmsegmentation's names."""

    def named(name: str) -> str:
        return f"decode_head.{detectron_head_to_mmseg(name)}" if mmseg else f"sem_seg_head.{name}"

    offsets = named("pixel_decoder.transformer.encoder.layers.#.self_attn.sampling_offsets.bias").replace("#", "0")
    encoder = named("pixel_decoder.transformer.encoder.layers.#.linear1.weight")
    decoder = named("predictor.transformer_ffn_layers.#.linear1.weight")
    query = named("predictor.query_feat.weight")
    levels, width = shapes.of(named("pixel_decoder.transformer.level_embed"), 2)
    heads = shapes.divide(offsets, shapes.of(offsets, 1)[0], levels * assumptions.points * 2)
    queries, hidden = shapes.of(query, 2)
    decoder_heads = assumptions.decoder_heads or heads
    shapes.divide(query, hidden, decoder_heads)
    return HeadSizes(
        num_classes=shapes.of(named("predictor.class_embed.weight"), 2)[0] - 1,
        width=width,
        mask_width=shapes.of(named("pixel_decoder.mask_features.weight"), 4)[0],
        queries=queries,
        encoder_layers=shapes.count(encoder),
        encoder_ffn=shapes.of(encoder.replace("#", "0"), 2)[0],
        encoder_heads=heads,
        points=assumptions.points,
        decoder_layers=shapes.count(decoder),
        decoder_ffn=shapes.of(decoder.replace("#", "0"), 2)[0],
        decoder_heads=decoder_heads,
    )


def equal_spans(depth: int, count: int) -> tuple[Span, ...]:
    """Blocks 0 to depth - 1 in ``count`` spans, the earlier ones longer if they can't be equal."""
    if not 0 < count <= depth:
        return ()
    short, longer = divmod(depth, count)
    ends = [short * (number + 1) + min(number + 1, longer) for number in range(count)]
    return tuple((first, end - 1) for first, end in zip([0, *ends], ends, strict=False))


def describe(sizes: SwinSizes | TrunkSizes) -> str:
    """The sizes in one readable line."""
    return ", ".join(f"{field.name.replace('_', ' ')} {getattr(sizes, field.name)}" for field in fields(sizes))
