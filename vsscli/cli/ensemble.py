"""``vss ensemble``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from vsscli.cli.options import (
    RUNS,
    DataRoot,
    Debug,
    ForceStore,
    Json,
    Quiet,
    Split,
    Stores,
    Weights,
    Workers,
    Workspace,
)

if TYPE_CHECKING:
    from vsscli.cli.console import Console
    from vsscli.fusion.fit import Fit


def ensemble(
    stores: Stores = None,
    weights: Weights = None,
    out: Annotated[Path | None, Option("--out", metavar="STORE", help="The fused store.")] = None,
    method: Annotated[
        Literal["arithmetic", "geometric"], Option("--method", help="Mean of the distributions.")
    ] = "arithmetic",
    fit_weights: Annotated[
        bool,
        Option("--fit-weights", help="Find weights and temperatures on the masks of the split."),
    ] = False,
    sweep: Annotated[
        Path | None, Option("--sweep", metavar="FILE", help="Draw mIoU against the weight of two stores, and stop.")
    ] = None,
    temporal: Annotated[
        int, Option("--temporal", min=0, max=8, metavar="N", help="Smooth along time, over N frames before and behind.")
    ] = 0,
    data: DataRoot = None,
    split: Split = None,
    workers: Workers = None,
    workspace: Workspace = RUNS,
    force: ForceStore = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fuse prediction stores into one: the weighted mean of their distributions. No network runs.

    vss ensemble --stores a.zarr b.zarr --weights 0.6 0.4 --out c.zarr
    vss ensemble --stores a.zarr b.zarr --fit-weights --split val
    vss ensemble --stores a.zarr b.zarr --sweep weights.svg
    vss ensemble --stores a.zarr b.zarr --temporal 1
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.errors import VssError
    from vsscli.pipeline.ensemble import ensemble as run
    from vsscli.pipeline.fitting import fit, plot_sweep
    from vsscli.pipeline.smoothing import smooth_store

    console = Console(quiet=quiet)
    context = Context(workspace, data, talk=console)
    named = stores or ()
    if sweep is not None:
        options = {"--weights": weights, "--fit-weights": fit_weights, "--temporal": temporal, "--out": out}
        without = [option for option, given in options.items() if given]
        if without:
            raise VssError(f"--sweep draws a curve and fuses nothing: {without[0]} means nothing to it", "leave it out")
        points = plot_sweep(named, sweep, context=context, split=split, method=method)
        if json:
            console.print_json({"plot": sweep, "points": [{"weight": w, "miou": miou} for w, miou in points]})
        else:
            console.print_table(("weight", "mIoU"), [(f"{w:.2f}", f"{miou:.4f}") for w, miou in points], str(sweep))
        return
    found = None
    if fit_weights:
        if weights:
            raise VssError("--fit-weights and --weights are two ways to say the same", "give one of them")
        if method != "arithmetic":
            raise VssError(
                f"--fit-weights finds weights of the arithmetic mean, not of the {method} one",
                "leave out --method, or choose a weight by --sweep FILE --method geometric",
            )
        found = fit(named, context=context, split=split)
        weights = list(found.weights)
        if not json:
            _print_fit(console, named, found)
    temperatures = found.temperatures if found else ()
    how: dict[str, Any] = {"context": context, "workers": workers, "force": force}
    if temporal and len(named) == 1:
        if weights or method != "arithmetic":
            raise VssError("--weights and --method tell how stores are fused, and there is one", "leave them out")
        path = named[0]
    else:
        # A fusion that is smoothed goes to its own place, the result to --out.
        fused = None if temporal else out
        path = run(named, weights, out=fused, method=method, temperatures=temperatures, **how)
    if temporal:
        path = smooth_store(path, temporal, out, context=context, split=split, force=force)
    if json:
        facts: dict[str, object] = {"store": str(path)}
        if found:
            shares = {
                name: [{"frames": share.frames, "loss": share.loss, "miou": share.miou} for share in pair]
                for name, pair in (("fitted", found.fitted), ("held_out", found.held_out))
            }
            facts |= {"weights": found.weights, "temperatures": found.temperatures, **shares}
        console.print_json(facts)
    else:
        console.print(str(path))


def _print_fit(console: Console, stores: list[Path] | tuple[Path, ...], found: Fit) -> None:
    rows = [
        (str(path), f"{weight:.3f}", f"{temperature:.3f}")
        for path, weight, temperature in zip(stores, found.weights, found.temperatures, strict=True)
    ]
    console.print_table(("store", "weight", "temperature"), rows)
    parts = (("fitted on", found.fitted), ("held out", found.held_out))
    scores = [
        (name, pair[0].frames, *(f"{value:.4f}" for share in pair for value in (share.loss, share.miou)))
        for name, pair in parts
    ]
    console.print_table(("part", "frames", "loss, equal", "mIoU, equal", "loss, fitted", "mIoU, fitted"), scores)
