"""The named networks of the family: the published file of each, and where its authors publish it."""

from __future__ import annotations

from typing import Any

from vsscli.models.config import NamedNetwork

MASK2FORMER = "https://github.com/facebookresearch/Mask2Former/blob/main/MODEL_ZOO.md"
VIT_ADAPTER = "https://github.com/czczup/ViT-Adapter/tree/main/segmentation"
ONE_PEACE = "https://github.com/OFA-Sys/ONE-PEACE/blob/main/one_peace_vision/README.md"
BEIT = "https://github.com/microsoft/unilm/tree/master/beit"
BEIT2 = "https://github.com/microsoft/unilm/tree/master/beit2"
SWIN = "https://github.com/microsoft/Swin-Transformer"
APACHE, MIT, CC_BY_NC = "apache-2.0", "mit", "cc-by-nc-4.0"
"""ViT-Adapter's and ONE-PEACE's; BEiT's and Swin's; that of all files in Mask2Former's model zoo."""


def _listed(
    backbone: str,
    about: str,
    side: int,
    whole: tuple[str, str, str] = ("", "", ""),
    trunk: tuple[str, str, str] = ("", "", ""),
    readout: str = "grid",
) -> NamedNetwork:
    """A network, the file of all of it and that of its trunk's pretraining: name, publisher, licence."""
    values: dict[str, Any] = {"family": "mask2former", "backbone": backbone, "readout": readout}
    (file, place, terms), (pretraining, publisher, licence) = whole, trunk
    return NamedNetwork(backbone, about, (side, side), values, file, place, pretraining, publisher, licence, terms)


NETWORKS = (
    _listed(
        "swin_l",
        "Mask2Former on Swin-L (57.09 mIoU in the paper's table)",
        640,
        ("Mask2Former's .pkl, ADE20K semantic segmentation, Swin-L (IN21k)", MASK2FORMER, CC_BY_NC),
        ("swin_large_patch4_window12_384_22k.pth", SWIN, MIT),
        readout="full",
    ),
    _listed(
        "beit_l",
        "Mask2Former on BEiT-L, a pyramid over four of its blocks (58.54)",
        640,
        trunk=("beit_large_patch16_224_pt22k_ft22k.pth", BEIT, MIT),
    ),
    _listed(
        "vit_adapter_l",
        "Mask2Former on ViT-Adapter over BEiT-L (61.40)",
        896,
        ("Mask2Former on BEiT-Adapter-L, ADE20K or COCO-Stuff: .pth, .pth.tar or .zip", VIT_ADAPTER, APACHE),
        ("beit_large_patch16_224_pt22k_ft22k.pth", BEIT, MIT),
    ),
    _listed(
        "vit_adapter_l_v2",
        "the same network over BEiTv2-L",
        896,
        ("Mask2Former on BEiTv2-Adapter-L, ADE20K or COCO-Stuff: .pth, .pth.tar or .zip", VIT_ADAPTER, APACHE),
        ("beitv2_large_patch16_224_pt1k_ft21k.pth", BEIT2, MIT),
    ),
    _listed(
        "one_peace_g",
        "Mask2Former on ONE-PEACE with a ViT-Adapter (61.96)",
        896,
        ("ONE-PEACE with Mask2Former, ADE20K or COCO-Stuff: .pth", ONE_PEACE, APACHE),
        ("one-peace-vision.pkl", ONE_PEACE, APACHE),
    ),
    _listed(
        "swin_t",
        "Mask2Former on Swin-T",
        512,
        ("Mask2Former's .pkl with Swin-T", MASK2FORMER, CC_BY_NC),
        readout="full",
    ),
    _listed("swin_tiny", "a Swin of width 24, for trying things out", 256),
    _listed("beit_tiny", "a BEiT of width 192, for trying things out", 256),
    _listed("vit_adapter_tiny", "a ViT-Adapter of width 192, for trying things out", 256),
    _listed("one_peace_tiny", "a ONE-PEACE of width 192, for trying things out", 256),
)
