"""``vss ensemble``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from vsscli.cli.console import Console
    from vsscli.fusion.fit import Fit


def ensemble(
    stores: opt.Stores = None,
    weights: opt.Weights = None,
    out: Annotated[Path | None, Option("--out", metavar="STORE", help="The fused store.")] = None,
    method: Annotated[
        Literal["arithmetic", "geometric"], Option("--method", help="Mean of the distributions.")
    ] = "arithmetic",
    fit_weights: Annotated[
        bool,
        Option("--fit-weights", help="Fit weights and temperatures on the masks of the split."),
    ] = False,
    sweep: Annotated[
        Path | None, Option("--sweep", metavar="FILE", help="Plot mIoU against the weight of two stores, and stop.")
    ] = None,
    temporal: Annotated[
        int, Option("--temporal", min=0, max=8, metavar="N", help="Smooth along time, over N frames before and after.")
    ] = 0,
    data: opt.DataRoot = None,
    split: opt.Split = None,
    workers: opt.Workers = None,
    engine: opt.EngineName = "local",
    part: opt.Share = "1/1",
    workspace: opt.Workspace = opt.RUNS,
    force: opt.ForceStore = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Fuse prediction stores into one: the weighted mean of their distributions. No network runs.

    vss ensemble --stores a.zarr b.zarr --weights 0.6 0.4 --out c.zarr
    vss ensemble --stores a.zarr b.zarr --fit-weights --split val
    vss ensemble --stores a.zarr b.zarr --sweep weights.svg
    vss ensemble --stores a.zarr b.zarr --temporal 1
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.engine.part import Part
    from vsscli.pipeline.ensemble import ensemble as run
    from vsscli.pipeline.fitting import plot_sweep

    console = Console(quiet=quiet)
    context = Context(workspace, data, talk=console, engine=engine)
    named = stores or ()
    if sweep is not None:
        options = {"--weights": weights, "--fit-weights": fit_weights, "--temporal": temporal, "--out": out}
        beside = [option for option, given in options.items() if given]
        points = plot_sweep(named, sweep, context=context, split=split, method=method, beside=beside)
        if json:
            console.print_json({"plot": sweep, "points": [{"weight": w, "miou": miou} for w, miou in points]})
        else:
            console.print_table(("weight", "mIoU"), [(f"{w:.2f}", miou) for w, miou in points], str(sweep))
        return
    done = run(
        named,
        weights,
        context=context,
        out=out,
        method=method,
        fit_weights=fit_weights,
        temporal=temporal,
        split=split,
        workers=workers,
        part=Part.parse(part),
        force=force,
    )
    if json:
        console.print_json({"store": str(done.store), **done.facts()})
        return
    if done.fit is not None:
        _print_fit(console, named, done.fit)
    console.print(str(done.store))


def _print_fit(console: Console, stores: Sequence[Path], found: Fit) -> None:
    rows = [
        (str(path), f"{weight:.3f}", f"{temperature:.3f}")
        for path, weight, temperature in zip(stores, found.weights, found.temperatures, strict=True)
    ]
    console.print_table(("store", "weight", "temperature"), rows)
    parts = (("fitted on", found.fitted), ("held out", found.held_out))
    scores = [
        (name, pair[0].frames, *(value for share in pair for value in (share.loss, share.miou))) for name, pair in parts
    ]
    console.print_table(("part", "frames", "loss, equal", "mIoU, equal", "loss, fitted", "mIoU, fitted"), scores)
