"""A small network of each family and kind, for the contract of all networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vsscli.models.scores import ScoreKind

CLASSES = 7


@dataclass(frozen=True)
class Case:
    config: dict[str, Any]
    kind: ScoreKind
    stride: int
    divisor: int
    crop: tuple[int, int] | None = None
    decays_norms: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """A size that the network takes: the given one, or its only one."""
        return self.crop or (height, width)


LIGHT = {"family": "light", "channels": 32, "pretrained": "none", "dropout": 0.0}
HEAD = {
    "channels": 64,
    "heads": 4,
    "queries": 9,
    "encoder_layers": 1,
    "encoder_width": 32,
    "decoder_layers": 3,
    "decoder_width": 32,
}
MASKS = {"family": "mask2former", "head": HEAD, "drop_path": 0.0}
PLAIN = {"width": 24, "depth": 4, "heads": 2, "hidden": 48}
VIT = {
    "family": "plain_vit",
    "backbone": "vit_small_patch14_reg4_dinov2",
    "sizes": {"width": 24, "depth": 4, "heads": 2, "hidden": 48},
    "num_queries": 9,
    "crop": (64, 96),
}
ADAPTER = {"stem": 8, "heads": 2, "interactions": ((0, 0), (1, 1), (2, 2), (3, 3))}
CONFIGS = {
    "light-efficientnet": Case({**LIGHT, "encoder": "test_efficientnet"}, ScoreKind.LOGITS, 4, 32),
    "light-resnet": Case({**LIGHT, "encoder": "test_resnet", "frozen_norm": True}, ScoreKind.LOGITS, 4, 32),
    "light-convnext": Case({**LIGHT, "encoder": "test_convnext"}, ScoreKind.LOGITS, 4, 32),
    "swin": Case(
        {**MASKS, "backbone": "swin_tiny", "sizes": {"width": 12, "depths": (1, 1, 2, 1)}}, ScoreKind.MASK_SCORES, 4, 32
    ),
    "swin-full": Case(
        {**MASKS, "backbone": "swin_tiny", "sizes": {"width": 12}, "readout": "full"}, ScoreKind.MASK_SCORES, 1, 32
    ),
    "beit": Case(
        {**MASKS, "backbone": "beit_tiny", "crop": (64, 96), "sizes": {**PLAIN, "taps": (0, 1, 2, 3)}},
        ScoreKind.MASK_SCORES,
        4,
        32,
        (64, 96),
    ),
    "vit-adapter": Case(
        {**MASKS, "backbone": "vit_adapter_tiny", "crop": (64, 96), "sizes": {**PLAIN, "adapter": ADAPTER}},
        ScoreKind.MASK_SCORES,
        4,
        32,
        (64, 96),
    ),
    "one-peace": Case(
        {**MASKS, "backbone": "one_peace_tiny", "crop": (64, 96), "sizes": {**PLAIN, "adapter": ADAPTER}},
        ScoreKind.MASK_SCORES,
        4,
        32,
        (64, 96),
    ),
    "eomt": Case(VIT, ScoreKind.MASK_SCORES, 1, 16, (64, 96), decays_norms=True),
    "eomt-any-size": Case(
        {
            **VIT,
            "backbone": "vit_small_patch16_dinov3_qkvb",
            "any_size": True,
            "readout": "grid",
            "checkpointing": True,
        },
        ScoreKind.MASK_SCORES,
        4,
        16,
        decays_norms=True,
    ),
    "videomt": Case({**VIT, "clip": 2}, ScoreKind.MASK_SCORES, 1, 16, (64, 96), decays_norms=True),
    "pmt-video": Case(
        {
            **VIT,
            "backbone": "vit_small_patch16_dinov3_qkvb",
            "queries": "decoder",
            "blocks": 2,
            "clip": 2,
            "rescale": 2.0,
            "any_size": True,
            "readout": "grid",
            "checkpointing": True,
        },
        ScoreKind.MASK_SCORES,
        4,
        16,
        decays_norms=True,
    ),
    "pmt": Case(
        {**VIT, "queries": "decoder", "blocks": 2, "any_size": True, "readout": "grid"},
        ScoreKind.MASK_SCORES,
        4,
        16,
        decays_norms=True,
    ),
}
