"""``vss remap``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli.options import Debug, Force, Json, Quiet, Workers


def remap(
    mapping: Annotated[
        str, Option("--mapping", metavar="FILE", help="YAML: what becomes of each id; or one that ships (camvid).")
    ],
    masks: Annotated[Path, Option("--masks", metavar="DIR", help="Folder of masks; folders in it are kept.")],
    out: Annotated[Path, Option("--out", metavar="DIR", help="Folder for the new masks.")],
    workers: Workers = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Rewrite masks from one class table to another.

    Masks that are there already are skipped, so an interrupted run continues.

      vss remap --mapping camvid --masks camvid/labels --out camvid/vspw

    A mapping of one's own:

      source: [Sky, Building, Car]       # names or a class table; 0 is void, the first class is 1
      target: vspw124
      others: ignore                     # what `map` does not mention
      map: {Sky: sky, Building: building, Car: 48}
    """
    from vsscli.cli.console import Console
    from vsscli.data.remap import load_mapping, remap_masks

    console = Console(quiet=quiet)
    report = remap_masks(masks, out, load_mapping(mapping), force=force, workers=workers, talk=console)
    if json:
        console.print_json(
            {
                "out": out,
                "masks": report.masks,
                "skipped": report.skipped,
                "pixels": report.pixels,
                "kept": report.kept,
                "share": report.share,
                "classes": report.counts,
            }
        )
        return
    rows = [(name, pixels, f"{pixels / report.pixels:.2%}") for name, pixels in report.counts.items()]
    console.print_table(("class", "pixels", "share"), rows)
    console.say(f"{report.masks} masks in {out}: {report.share:.1%} of their pixels have a class")
