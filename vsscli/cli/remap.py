"""``vss remap``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def remap(
    source: Annotated[
        str | None,
        Option(
            "--source",
            metavar="NAME|FILE",
            help="Source of the masks: ade20k, cocostuff, coco-panoptic, cityscapes, camvid, or a YAML file.",
        ),
    ] = None,
    masks: Annotated[
        Path | None, Option("--masks", metavar="DIR", help="Folder of masks; its subfolders are kept.")
    ] = None,
    out: Annotated[Path | None, Option("--out", metavar="DIR", help="Folder for the new masks.")] = None,
    show: Annotated[bool, Option("--show", help="Only print what each class becomes.")] = False,
    mapping: Annotated[str | None, Option("--mapping", hidden=True)] = None,
    workers: opt.Workers = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Rewrite another data set's masks in VSPW's classes, or in your own.

    Existing masks are skipped, so an interrupted run continues.

      vss remap --source ade20k --masks ADE/annotations --out ADE/vspw
      vss remap --source coco-panoptic --masks panoptic_val2017 --out vspw
      vss remap --source cityscapes --show

    New masks are named like their frames. The JSON of a folder of panoptic PNGs is expected beside it:
    panoptic_val2017.json. A source of your own is a YAML file:

      source: [Sky, Building, Car]       # names or a class table; 0 is void, the first class is 1
      files: values                      # or the encoding of cocostuff, cityscapes, coco-panoptic
      target: vspw124
      others: ignore                     # classes that `map` does not mention
      map: {Sky: sky, Building: building, Car: 48}
    """
    from vsscli.cli.console import Console
    from vsscli.data.remap import load_mapping, remap_masks
    from vsscli.errors import VssError

    chosen = source or mapping  # --mapping is the former name of --source
    if chosen is None:
        raise VssError("missing option '--source'", "`vss remap --help`")
    console = Console(quiet=quiet)
    table = load_mapping(chosen)
    if show:
        if json:
            console.print_json(table.to_dict())
            return
        targets = table.to_dict()["mapping"]
        console.print_table(("source", "target"), [(name, target or "ignore") for name, target in targets.items()])
        console.say(f"{table.kept} of {len(targets)} classes of {table.name} have a class of {table.target.name}")
        return
    if masks is None or out is None:
        raise VssError(f"missing option '{'--masks' if masks is None else '--out'}'", "`vss remap --help`")
    report = remap_masks(masks, out, table, force=force, workers=workers, talk=console)
    if json:
        console.print_json(
            {
                "out": out,
                "masks": report.masks,
                "skipped": report.skipped,
                "pixels": report.pixels,
                "kept": report.kept,
                "share": report.share,
                "source_classes": report.source_classes,
                "kept_classes": report.kept_classes,
                "classes": report.counts,
            }
        )
        return
    rows = [(name, pixels, f"{pixels / report.pixels:.2%}") for name, pixels in report.counts.items()]
    console.print_table(("class", "pixels", "share"), rows)
    console.say(
        f"{report.masks} masks in {out}: {report.share:.1%} of their pixels have a class; "
        f"{report.kept_classes} of {report.source_classes} classes of {table.name} are kept, "
        f"{report.classes} of {table.target.num_classes} occur"
    )
