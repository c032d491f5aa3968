"""``vss ensemble``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli.options import RUNS, Debug, Force, Json, Quiet, Stores, Weights, Workers, Workspace


def ensemble(
    stores: Stores = None,
    weights: Weights = None,
    out: Annotated[Path | None, Option("--out", metavar="STORE", help="The fused store.")] = None,
    workers: Workers = None,
    workspace: Workspace = RUNS,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fuse prediction stores into one: the weighted mean of their distributions. No network runs.

    vss ensemble --stores a.zarr b.zarr --weights 0.6 0.4 --out c.zarr
    """
    from vsscli.cli.console import Console
    from vsscli.pipeline.ensemble import ensemble as run

    console = Console(quiet=quiet)
    path = run(stores or (), weights, workspace=workspace, out=out, workers=workers, force=force, talk=console)
    if json:
        console.print_json({"store": str(path)})
    else:
        console.print(str(path))
