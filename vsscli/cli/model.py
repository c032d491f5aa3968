"""``vss model``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from vsscli.cli.console import Console


def model(
    action: Annotated[Literal["ls", "info"], Argument(help="List the networks, or show what one of them costs.")],
    name: Annotated[str | None, Argument(metavar="[NAME]", help="The network, for info.")] = None,
    crop: opt.Crop = None,
    batch: Annotated[int, Option("--batch", min=1, metavar="N", help="Images at a time.")] = 1,
    classes: Annotated[int, Option("--classes", min=1, metavar="N", help="Number of classes.")] = 124,
    readout: Annotated[
        Literal["grid", "full"] | None,
        Option("--readout", help="Add up masks at stride 4 or at full size. [default: as published]"),
    ] = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """List the networks, what they cost, and which published files they take.

    Operations and memory are counted in float32 on meta tensors: nothing is downloaded or computed.

      vss model ls
      vss model info vit_adapter_l --crop 896 --batch 2
    """
    from vsscli.cli.console import Console
    from vsscli.errors import VssError
    from vsscli.models.catalogue import list_networks

    console = Console(quiet=quiet)
    if action == "ls":
        if name is not None or crop:
            raise VssError("vss model ls takes neither a name nor a crop", f"vss model info {name or 'NAME'}")
        columns = ("name", "size", "licence", "about")
        rows = [(one.name, f"{one.size[0]}x{one.size[1]}", one.licence, one.about) for one in list_networks().values()]
        if json:
            console.print_json([dict(zip(columns, row, strict=True)) for row in rows])
        else:
            console.print_table(("name", "images", "licence of its trunk", "about"), rows)
        return
    if name is None:
        raise VssError("vss model info needs the name of a network", "vss model ls lists them")
    _info(console, name, opt.read_crop(crop), batch, classes, readout, json=json)


def _info(
    console: Console,
    name: str,
    crop: tuple[int, int] | None,
    batch: int,
    classes: int,
    readout: str | None,
    *,
    json: bool,
) -> None:
    from vsscli.models.catalogue import find_listed
    from vsscli.models.cost import listed_cost

    listed = find_listed(name)
    costs = listed_cost(listed, crop, batch, classes, readout)
    way = readout or listed.readout
    plain, checkpointed = costs.plain, costs.checkpointed
    if json:
        console.print_json(
            {
                "name": name,
                "about": listed.about,
                "size": costs.size,
                "batch": batch,
                "classes": classes,
                "readout": way or None,
                "parameters": plain.parameters,
                "flops": plain.flops,
                "memory": {
                    "weights": plain.weights,
                    "predict": plain.predict,
                    "train": plain.train,
                    "train_checkpointing": checkpointed.train if checkpointed else None,
                },
                "checkpoint": listed.checkpoint,
                "publisher": listed.publisher,
                "pretraining": listed.pretraining,
                "pretraining_publisher": listed.pretraining_publisher,
                "licence": listed.licence or None,
                "checkpoint_licence": listed.checkpoint_licence or None,
            }
        )
        return
    images = f"{batch} x {costs.size[0]}x{costs.size[1]}"
    rows = [
        ("network", listed.about),
        ("parameters", f"{plain.parameters / 1e6:.1f} M with {classes} classes"),
        ("operations", f"{plain.flops / 1e12:.3g} TFLOP per image (matrix products and convolutions)"),
        ("weights", _gib(plain.weights)),
        *([("read-out", f"{way} (model.readout: {way}){'' if readout else ', as published'}")] if way else []),
        ("memory to predict", f"{_gib(plain.predict)} for {images}"),
        ("memory to train", f"{_gib(plain.train)} for {images}, with AdamW"),
    ]
    if checkpointed is not None:
        rows.append(("with checkpointing", f"{_gib(checkpointed.train)} (model.checkpointing: true)"))
    for what, file, place, licence in (
        ("vss convert takes", listed.checkpoint, listed.publisher, listed.checkpoint_licence),
        ("model.pretrained takes", listed.pretraining, listed.pretraining_publisher, listed.licence),
    ):
        if file:
            rows += [(what, file), ("published at", place), *([("under", licence)] if licence else [])]
    console.print_table(("what", name), rows)
    console.say(
        "memory: counted storage in float32 with fused attention; allocators and GPUs need some more, bf16 less"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
