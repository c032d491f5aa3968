"""``vss demo``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from vsscli.cli.options import RUNS, DataRoot, Debug, Device, Json, Quiet, Workspace


def demo(
    recipes: Annotated[
        str, Option("--recipes", metavar="DIR", help="Folder of teacher.yaml, student.yaml and retrain.yaml.")
    ] = "demo",
    percentile: Annotated[float, Option("--percentile", metavar="P", help="Share of pixels to trust.")] = 80.0,
    data: DataRoot = None,
    device: Device = "auto",
    workspace: Workspace = RUNS,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run the whole loop: train, predict, fuse, threshold, retrain, score. On drawn videos, in minutes.

    What is finished is kept, so an interrupted loop goes on where it was.

      vss demo
      vss demo --recipes recipes/camvid
    """
    from vsscli.cli.console import Console
    from vsscli.pipeline.loop import METRICS, load_loop, run_loop
    from vsscli.report.table import score_table

    console = Console(quiet=quiet)
    result = run_loop(
        load_loop(recipes), workspace=workspace, data_root=data, percentile=percentile, device=device, talk=console
    )
    if json:
        console.print_json(result.to_json())
        return
    console.print_table(*score_table(result.rows, METRICS))
    console.say(f"{result.seconds:.0f} s; pictures in {result.pictures}, table in {result.table}")
