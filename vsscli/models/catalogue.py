"""The networks that have a name: what they are, which published file they take, and where its owners publish it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vsscli.errors import VssError

MASK2FORMER = "https://github.com/facebookresearch/Mask2Former/blob/main/MODEL_ZOO.md"
VIT_ADAPTER = "https://github.com/czczup/ViT-Adapter/tree/main/segmentation"
ONE_PEACE = "https://github.com/OFA-Sys/ONE-PEACE/blob/main/one_peace_vision/README.md"
BEIT = "https://github.com/microsoft/unilm/tree/master/beit"
BEIT2 = "https://github.com/microsoft/unilm/tree/master/beit2"
SWIN = "https://github.com/microsoft/Swin-Transformer"


@dataclass(frozen=True)
class Listed:
    """A network of the catalogue.

    Parameters
    ----------
    name
        What ``model.backbone`` of a recipe says; of the light family ``model.encoder``.
    about
        One line.
    size
        Height and width of the images that it was published with.
    readout
        How it was published to be read out (``model.readout``), as `vss convert` sets it; empty where there is but one
        way.
    checkpoint
        Which file `vss convert` makes one of; empty where there is none.
    publisher
        Where the owners of that file publish it.
    pretraining, pretraining_publisher
        The same of the file that its trunk may start from (``model.pretrained``).
    """

    name: str
    about: str
    size: tuple[int, int]
    checkpoint: str = ""
    publisher: str = ""
    pretraining: str = ""
    pretraining_publisher: str = ""
    readout: str = "grid"

    def config(self, **changes: Any) -> dict[str, Any]:
        """Its configuration, as `vsscli.models.build.build_network` takes it."""
        if self.name == "light":
            return {"family": "light", "pretrained": "none", **changes}
        return {"family": "mask2former", "backbone": self.name, "readout": self.readout, **changes}


CATALOGUE: Mapping[str, Listed] = {
    listed.name: listed
    for listed in (
        Listed(
            "swin_l",
            "Mask2Former on Swin-L (57.09 mIoU in the paper's table)",
            (640, 640),
            "Mask2Former's .pkl, ADE20K semantic segmentation, Swin-L (IN21k)",
            MASK2FORMER,
            "swin_large_patch4_window12_384_22k.pth",
            SWIN,
            readout="full",
        ),
        Listed(
            "beit_l",
            "Mask2Former on BEiT-L, a pyramid over four of its blocks (58.54)",
            (640, 640),
            pretraining="beit_large_patch16_224_pt22k_ft22k.pth",
            pretraining_publisher=BEIT,
        ),
        Listed(
            "vit_adapter_l",
            "Mask2Former on ViT-Adapter over BEiT-L (61.40)",
            (896, 896),
            "Mask2Former on BEiT-Adapter-L, ADE20K or COCO-Stuff: .pth, .pth.tar or .zip",
            VIT_ADAPTER,
            "beit_large_patch16_224_pt22k_ft22k.pth",
            BEIT,
        ),
        Listed(
            "vit_adapter_l_v2",
            "the same network over BEiTv2-L",
            (896, 896),
            "Mask2Former on BEiTv2-Adapter-L, ADE20K or COCO-Stuff: .pth, .pth.tar or .zip",
            VIT_ADAPTER,
            "beitv2_large_patch16_224_pt1k_ft21k.pth",
            BEIT2,
        ),
        Listed(
            "one_peace_g",
            "Mask2Former on ONE-PEACE with a ViT-Adapter (61.96)",
            (896, 896),
            "ONE-PEACE with Mask2Former, ADE20K or COCO-Stuff: .pth",
            ONE_PEACE,
            "one-peace-vision.pkl",
            ONE_PEACE,
        ),
        Listed(
            "swin_t", "Mask2Former on Swin-T", (512, 512), "Mask2Former's .pkl with Swin-T", MASK2FORMER, readout="full"
        ),
        Listed("swin_tiny", "a Swin of width 24, for trying things out", (256, 256)),
        Listed("beit_tiny", "a BEiT of width 192, for trying things out", (256, 256)),
        Listed("vit_adapter_tiny", "a ViT-Adapter of width 192, for trying things out", (256, 256)),
        Listed("one_peace_tiny", "a ONE-PEACE of width 192, for trying things out", (256, 256)),
        Listed(
            "light",
            "a timm encoder (tf_efficientnet_lite0) under a feature pyramid; for CPUs",
            (480, 480),
            pretraining="ImageNet weights of timm's model, fetched by themselves",
            pretraining_publisher="https://github.com/huggingface/pytorch-image-models",
            readout="",
        ),
    )
}


def where_pretrained(backbone: str) -> str:
    """Which file the trunk of a network may start from, and where its owners publish it; empty if that is not known."""
    listed = CATALOGUE.get(backbone)
    if listed is None or not listed.pretraining_publisher:
        return ""
    return f"{listed.pretraining} is published at {listed.pretraining_publisher}"


def find_listed(name: str) -> Listed:
    """The network of a name.

    Raises
    ------
    VssError
        There is none.
    """
    if name not in CATALOGUE:
        raise VssError(f"there is no network {name!r}", f"there are {', '.join(CATALOGUE)}: vss model ls")
    return CATALOGUE[name]
