"""The ViT itself: timm's, made for patches and images of other sizes, and run a block at a time."""

from __future__ import annotations

from typing import Any, cast

import timm
import torch
from timm.models import Eva, VisionTransformer, is_model_in_modules
from torch import Tensor, nn

from vsscli.errors import VssError
from vsscli.models.encoders import require_encoder
from vsscli.models.plain_vit.config import PlainVitModel
from vsscli.models.plain_vit.positions import queue_positions

PLAIN = ("vision_transformer", "eva")  # timm's modules whose networks are patches, tokens and equal blocks


Trunk = VisionTransformer | Eva


def build_trunk(config: PlainVitModel) -> Trunk:
    """A ViT with fresh weights; it ends with its last norm.

    Raises
    ------
    VssError
        timm has no such network, or it is not a plain ViT.
    """
    require_encoder(config.backbone)
    refusal = VssError(
        f"{config.backbone} is not a ViT whose blocks can take queries",
        "vit_small_patch14_reg4_dinov2 and vit_small_patch16_dinov3_qkvb are; vss model ls lists more",
    )
    if not is_model_in_modules(config.backbone, PLAIN):
        raise refusal
    sizes = config.sizes
    changes: dict[str, Any] = {}
    if sizes is not None:
        given = {"embed_dim": sizes.width, "depth": sizes.depth, "num_heads": sizes.heads}
        changes = {name: value for name, value in given.items() if value is not None}
    try:
        trunk = timm.create_model(
            config.backbone,
            img_size=config.crop,
            patch_size=config.patch,
            dynamic_img_size=True,  # a table of positions that fits is taken as it is
            num_classes=0,
            global_pool="",
            **changes,
            **_feed_forward(config),
        )
    except (AssertionError, TypeError, ValueError) as error:
        raise VssError(f"timm can't build {config.backbone} so: {error}", "check model.sizes in the recipe") from error
    mixed = getattr(trunk, "rope_mixed", False)  # positions of their own for each block
    if mixed or not isinstance(trunk, Trunk) or not hasattr(trunk.blocks[0], "attn"):  # some blocks are a single layer
        raise refusal
    queue_positions(trunk)
    return trunk


def _feed_forward(config: PlainVitModel) -> dict[str, Any]:
    """timm's ratio for a width; half a unit more, so that no rounding loses one."""
    sizes = config.sizes
    if sizes is None or sizes.hidden is None:
        return {}
    if sizes.width is None:
        raise VssError("sizes.hidden is a matter of sizes.width too", "give both")
    return {"mlp_ratio": (sizes.hidden + 0.5) / sizes.width}


def embed(trunk: Trunk, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Turn normalised images (B, 3, H, W) into tokens (B, prefix + N, D): class and registers, then patches row by row.

    Also gives the rotary positions (N, 2 * D / heads) that blocks apply to patches; None where the trunk has none.
    """
    placed = trunk._pos_embed(trunk.patch_embed(images))
    tokens, positions = placed if isinstance(placed, tuple) else (placed, None)
    return trunk.norm_pre(tokens), positions


def run_block(block: nn.Module, tokens: Tensor, positions: Tensor | None, allowed: Tensor | None = None) -> Tensor:
    """Run a block on tokens (B, N, D), of which each may look only at the ``allowed`` (B, 1, N, N)."""
    if positions is None:
        return block(tokens, attn_mask=allowed)
    return block(tokens, rope=positions, attn_mask=allowed)


def heads_of(trunk: Trunk) -> int:
    """Attention heads of its blocks."""
    return int(cast("Any", trunk.blocks[0]).attn.num_heads)


def depth_and_heads(config: PlainVitModel) -> tuple[int, int]:
    """Blocks of a trunk and attention heads of each, without its weights."""
    with torch.device("meta"):
        trunk = build_trunk(config)
    return len(trunk.blocks), heads_of(trunk)


def rescale_positions(trunk: Trunk, factor: float) -> None:
    """Scale a trunk's rotary positions, if it has any, by a random factor of up to this whenever they are made in
    training, the same for all images."""
    rope: Any = getattr(trunk, "rope", None)
    if rope is not None and factor > 1.0:
        rope.rescale_coords, rope.aug_active = factor, True


def put_before(block: nn.Module, queries: int) -> None:
    """Let a block apply rotary positions only after so many more tokens, the queries in front of all others."""
    attention: Any = block.attn
    if hasattr(attention, "num_prefix_tokens"):
        attention.num_prefix_tokens += queries
