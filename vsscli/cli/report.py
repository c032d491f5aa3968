"""``vss report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def report(
    pred: Annotated[
        list[Path] | None,
        Option("--pred", metavar="STORE...", help="A prediction store, or two to compare. [default: the newest one]"),
    ] = None,
    pseudo: Annotated[
        Path | None, Option("--pseudo", metavar="STORE", help="Pseudo-labels of the same videos.")
    ] = None,
    runs: Annotated[
        list[Path] | None,
        Option(
            "--run",
            metavar="DIR...",
            help="Training runs whose curves to show. [default: those behind the predictions, found by their weights]",
        ),
    ] = None,
    every: Annotated[int, Option("--every", min=1, metavar="N", help="Draw every n-th frame.")] = 1,
    frames: Annotated[
        int | None, Option("--frames", min=1, metavar="N", help="Draw at most N frames of a video, evenly spaced.")
    ] = None,
    out: Annotated[
        Path | None, Option("--out", metavar="DIR", help="Folder of the report. [default: WORKSPACE/report/STORE]")
    ] = None,
    data: opt.DataRoot = None,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Write a page that shows predictions frame by frame, with their scores; it opens from disk, without a server.

    vss report
    vss report --pred student.zarr fused.zarr --frames 100 --out report/
    vss report --pseudo fused.pseudo-154.zarr --run runs/student
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.pipeline.report import write_report

    console = Console(quiet=quiet)
    done = write_report(
        pred or (),
        pseudo=pseudo,
        runs=runs or (),
        out=out,
        every=every,
        frames=frames,
        context=Context(workspace, data, talk=console),
        command=["vss", *sys.argv[1:]],
    )
    if json:
        console.print_json({"report": done.folder, **done.summary})
    else:
        console.print(str(done.page))
