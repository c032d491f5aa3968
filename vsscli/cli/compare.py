"""``vss compare``."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from vsscli.cli import options as opt


def compare(
    first: Annotated[Path, Argument(metavar="FIRST", help="Store, or folder of <video>/<stem>.png.")],
    second: Annotated[Path, Argument(metavar="SECOND", help="Another one, of the same frames and classes.")],
    pictures: Annotated[
        int, Option("--pictures", min=0, metavar="N", help="Draw the N frames where they differ most.")
    ] = 0,
    out: Annotated[
        Path | None,
        Option("--out", metavar="DIR", help="Folder for the pictures. [default: WORKSPACE/pictures/FIRST-SECOND]"),
    ] = None,
    data: opt.DataRoot = None,
    split: opt.Split = None,
    recipe: opt.RecipeOfData = None,
    workers: opt.Workers = None,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Compare two predictions of the same frames: the difference by class, how sure it is, and where they differ most.

    The spread is the standard deviation of the difference over videos (bootstrap), or over stretches of them if there
    are fewer than ten. Without masks, only the share of pixels on which they differ is known, and pictures.

      vss compare runs/stores/camvid/val/student.zarr runs/stores/camvid/val/retrained.zarr
      vss compare student.zarr retrained.zarr --pictures 8 --out differences/
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.pipeline.compare import compare as run

    console = Console(quiet=quiet)
    done = run(
        first,
        second,
        split=split,
        recipe=recipe,
        pictures=pictures,
        out=out,
        workers=workers,
        context=Context(workspace, data, talk=console),
    )
    found = done.difference
    for warning in done.warnings:
        console.warn(warning)
    if json:
        console.print_json(
            {
                "first": done.paths[0],
                "second": done.paths[1],
                "split": done.split,
                "miou": found.miou,
                "difference": found.miou[1] - found.miou[0],
                "spread": found.miou_spread,
                "differing": found.differing,
                "samples": found.samples,
                "videos": found.videos,
                "frames": found.frames,
                "masked": found.masked,
                "per_class": done.by_class(),
                "pictures": done.pictures,
            }
        )
        return
    if found.masked:
        rows = [_row(**row) for row in done.by_class()]
        change = found.miou[1] - found.miou[0]
        rows.append(_row("mIoU", int(found.pixels.sum()), *found.miou, change, found.miou_spread))
        console.print_table(("class", "pixels", *done.names, "difference", "spread"), rows)
        console.print(f"spread over {found.samples} samples, of {found.videos} video{'s'[: found.videos > 1]}")
    console.print(f"they differ on {found.differing:.2%} of the pixels of {found.frames} frames")
    console.print(*map(str, done.pictures))


def _row(name: str, pixels: int, first: float, second: float, difference: float, spread: float) -> tuple[object, ...]:
    from vsscli.report.table import figure

    return name, pixels, first, second, figure(difference, "+.4f"), "-" if isnan(spread) else f"± {spread:.4f}"
