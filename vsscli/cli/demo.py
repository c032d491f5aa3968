"""``vss demo``."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def demo(
    recipes: Annotated[str, Option("--recipes", metavar="DIR", help="Folder of loop.yaml, a pipeline.")] = "demo",
    percentile: Annotated[
        float | None,
        Option("--percentile", metavar="P", help="Share of pixels taken as reliable. [default: as in loop.yaml]"),
    ] = None,
    data: opt.DataRoot = None,
    device: opt.Device = "auto",
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Run the whole loop on drawn videos, in minutes: train, predict, fuse, threshold, retrain, score.

    Finished work is kept, so an interrupted loop continues. `vss run recipes/demo/loop.yaml` does the same.

      vss demo
      vss demo --recipes recipes/camvid
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.stages.job import open_job
    from vsscli.stages.loop import loop_result, with_percentile
    from vsscli.stages.run import run_pipeline

    console = Console(quiet=quiet)
    job = open_job(f"{recipes}/loop.yaml", context=Context(workspace, data, device, talk=console))
    if percentile is not None:
        job = with_percentile(job, percentile)
    result = loop_result(job, run_pipeline(job, command=["vss", *sys.argv[1:]]))
    if json:
        console.print_json(result.to_json())
        return
    console.print_table(*result.scores.cells())
    console.say(f"{result.seconds:.0f} s; pictures in {result.pictures}, table in {result.table}")
