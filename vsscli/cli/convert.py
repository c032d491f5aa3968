"""``vss convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from vsscli.cli import options as opt


def convert(
    official: Annotated[Path, Argument(metavar="OFFICIAL", help="The published file, or last.pt in shares.")],
    to: Annotated[Path, Option("--to", metavar="FILE", help="The checkpoint to write.")],
    classes: Annotated[
        str | None, Option("--classes", metavar="TABLE", help="Class table: a shipped one (vspw124), or a file.")
    ] = None,
    backbone: Annotated[
        str | None, Option("--backbone", metavar="NAME", help="Backbone to build around a trunk: see `vss model ls`.")
    ] = None,
    crop: opt.Crop = None,
    readout: Annotated[
        Literal["grid", "full"] | None,
        Option("--readout", help="Add up masks at stride 4 or at full size. [default: as published]"),
    ] = None,
    interactions: Annotated[
        str | None,
        Option("--interactions", metavar="A-B,C-D,…", help="First and last block of each of the adapter's spans."),
    ] = None,
    heads: Annotated[
        int | None,
        Option("--heads", min=1, metavar="N", help="Attention heads of the mask decoder, or of a plain ViT."),
    ] = None,
    points: Annotated[
        int | None, Option("--points", min=1, metavar="N", help="Points of deformable attention.")
    ] = None,
    blocks: Annotated[
        int | None, Option("--blocks", min=1, metavar="N", help="Last blocks of a plain ViT that see queries.")
    ] = None,
    base: Annotated[
        Path | None,
        Option("--base", metavar="FILE", help="Weights of the trunk, for a file that lacks them or holds differences."),
    ] = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Convert a published checkpoint into one of vss.

    Reads Mask2Former on Swin (detectron2), ViT-Adapter and ONE-PEACE (mmsegmentation), EoMT and PMT, and pretrained
    weights of BEiT, ONE-PEACE and Swin. No code in the file is run. Of a training's last.pt that is in shares, with
    --strategy sharded, it makes one file.

      vss convert mask2former_swin_l.pkl --to swin.pt
      vss convert one_peace_g.pth --to g.pt --crop 640
      vss convert vit_adapter.pth --to wide.pt --crop 512 896
      vss convert eomt_dinov3.bin --to eomt.pt --base dinov3_vitl16.safetensors
      vss convert beit_large.pth --to beit.pt --backbone vit_adapter_l --classes vspw124
      vss convert runs/teacher/last.pt --to teacher.pt
    """
    from vsscli.cli.console import Console
    from vsscli.pipeline.convert import convert_checkpoint, read_spans

    console = Console(quiet=quiet)
    done = convert_checkpoint(
        official,
        to,
        classes=classes,
        backbone=backbone,
        crop=opt.read_crop(crop),
        readout=readout,
        interactions=read_spans(interactions) if interactions else None,
        heads=heads,
        points=points,
        blocks=blocks,
        base=base,
        force=force,
        talk=console,
    )
    if json:
        console.print_json(
            {
                "checkpoint": done.path,
                "fingerprint": done.fingerprint,
                "kind": done.kind,
                "classes": done.classes,
                "crop": done.crop,
                "licence": done.licence,
                "loaded": done.loaded,
                "resized": done.resized,
                "fresh": done.fresh,
                "unused": done.unused,
                "assumed": done.assumed,
            }
        )
        return
    crops = "any size" if done.crop is None else f"{done.crop[0]}x{done.crop[1]}"
    console.print_table(
        ("checkpoint", "classes", "images", "loaded", "resized", "fresh", "unused", "licence"),
        [
            (
                *(done.path, done.classes, crops, done.loaded, len(done.resized), len(done.fresh), len(done.unused)),
                done.licence,
            )
        ],
    )
