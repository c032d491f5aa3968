"""The networks of the family that have a name: which published file each takes, and its licence."""

from __future__ import annotations

from typing import Any

from vsscli.models.config import NamedNetwork

HUB = "https://huggingface.co/tue-mps"
TIMM = "https://huggingface.co/timm"
APACHE, DINOV3 = "apache-2.0", "dinov3-license"
VIDEO: dict[str, Any] = {"clip": 5, "any_size": True, "num_queries": 200}
TINY = {"width": 96, "depth": 6, "heads": 3, "hidden": 384}
SMALLEST = "vit_small_patch14_reg4_dinov2"


def _listed(
    name: str,
    about: str,
    backbone: str,
    file: str = "",
    licence: str = APACHE,
    side: int = 512,
    size: tuple[int, int] | None = None,
    **values: Any,
) -> NamedNetwork:
    config = {"family": "plain_vit", "backbone": backbone, "crop": (side, side), "readout": "full", **values}
    pretraining = "" if "sizes" in values else "timm: its own weights, from the hub or its cache"
    return NamedNetwork(
        name,
        about,
        size or (side, side),
        config,
        file,
        HUB if file else "",
        pretraining,
        f"{TIMM}/{backbone}" if pretraining else "",
        licence if pretraining else "",
    )


NETWORKS = (
    _listed("eomt_s", "queries inside DINOv2-S (EoMT)", "vit_small_patch14_reg4_dinov2"),
    _listed("eomt_b", "queries inside DINOv2-B", "vit_base_patch14_reg4_dinov2"),
    _listed(
        "eomt_l",
        "queries inside DINOv2-L (58.4 mIoU on ADE20K)",
        "vit_large_patch14_reg4_dinov2",
        "pytorch_model.bin of ade20k_semantic_eomt_large_512",
    ),
    _listed("eomt_g", "queries inside DINOv2-g", "vit_giant_patch14_reg4_dinov2"),
    _listed(
        "eomt_l_dinov3",
        "queries inside DINOv3-L (59.5)",
        "vit_large_patch16_dinov3_qkvb",
        "pytorch_model.bin of ade_semantic_eomt_large_512_dinov3, with --base",
        DINOV3,
    ),
    _listed("pmt_s", "a decoder over a frozen DINOv2-S (PMT)", "vit_small_patch14_reg4_dinov2", queries="decoder"),
    _listed("pmt_b", "a decoder over a frozen DINOv2-B", "vit_base_patch14_reg4_dinov2", queries="decoder"),
    _listed("pmt_l", "a decoder over a frozen DINOv2-L", "vit_large_patch14_reg4_dinov2", queries="decoder"),
    _listed(
        "pmt_l_dinov3",
        "a decoder over a frozen DINOv3-L (58.5 mIoU on ADE20K)",
        "vit_large_patch16_dinov3_qkvb",
        "PMT's image networks on DINOv3-L, with --base",
        DINOV3,
        queries="decoder",
    ),
    _listed(
        "videomt_l",
        "queries inside DINOv2-L, handed from frame to frame (VidEoMT, 64.9 mIoU on VSPW)",
        "vit_large_patch14_reg4_dinov2",
        "vspw_vit_large_95.0_64.9.pth of VidEoMT",
        side=1280,
        size=(720, 1280),
        **VIDEO,
    ),
    _listed(
        "videomt_l_dinov3",
        "the same inside DINOv3-L (64.0)",
        "vit_large_patch16_dinov3_qkvb",
        "vspw_dinov3_94.4_64.0.pth of VidEoMT",
        DINOV3,
        size=(720, 1280),
        **VIDEO,
        handed="normed",
        rescale=2.0,
    ),
    _listed(
        "pmt_video_l",
        "a decoder for video over a frozen DINOv2-L (64.3)",
        "vit_large_patch14_reg4_dinov2",
        "vspw_dinov2_online_94.6_64.3.pth of PMT_Video",
        side=640,
        size=(720, 1280),
        **VIDEO,
        queries="decoder",
        rescale=2.0,
    ),
    _listed(
        "pmt_video_l_dinov3",
        "a decoder for video over a frozen DINOv3-L (65.7)",
        "vit_large_patch16_dinov3_qkvb",
        "vspw_dinov3_online_94.9_65.7.pth of PMT_Video",
        DINOV3,
        size=(720, 1280),
        **VIDEO,
        queries="decoder",
        rescale=2.0,
    ),
    _listed("eomt_tiny", "an EoMT of width 96, for trying things out", SMALLEST, side=128, sizes=TINY),
    _listed("pmt_tiny", "a PMT of width 96, for trying things out", SMALLEST, side=128, sizes=TINY, queries="decoder"),
)
