"""``vss train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def train(
    alone: opt.RecipeAlone = None,
    recipe: opt.RecipeFile = None,
    out: Annotated[Path | None, Option("--out", metavar="DIR", help="Folder of the run.")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue from the last checkpoint of the run.")] = False,
    pseudo: Annotated[
        Path | None, Option("--pseudo", metavar="STORE", help="Pseudo-labels for the recipe's unlabelled part.")
    ] = None,
    init: Annotated[Path | None, Option("--init", metavar="FILE", help="Checkpoint to start from.")] = None,
    assignments: opt.Assignments = None,
    data: opt.DataRoot = None,
    no_check: Annotated[bool, Option("--no-check", help="Do not check every file before the first step.")] = False,
    device: opt.Device = "auto",
    devices: opt.Devices = 1,
    nodes: opt.Nodes = 1,
    strategy: opt.Strategy = "auto",
    track: opt.Track = "",
    workspace: opt.Workspace = opt.RUNS,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Train a network from a recipe.

    Writes last.pt, best.pt and journal.jsonl to the run's folder, by default WORKSPACE/NAME.

      vss train recipes/camvid/student.yaml
      vss train --recipe recipes/camvid/student.yaml --resume
      vss train                                        # in the folder of a project: the network of ./vss.yaml
    """
    from vsscli.cli.console import Console
    from vsscli.cli.project import in_project, run_kind
    from vsscli.context import Context
    from vsscli.errors import VssError
    from vsscli.pipeline.train import train as run

    console = Console(quiet=quiet)
    context = Context(
        workspace,
        data,
        device,
        devices,
        talk=console,
        trackers=opt.read_names(track),
        nodes=nodes,
        strategy=strategy,
    )
    if alone is None and recipe is None and in_project():
        changes = [f"set.{change}" for change in assignments or ()]
        decided = {"--out": out, "--pseudo": pseudo, "--init": init, "--no-check": no_check}
        run_kind("train", console, context, changes=changes, without=decided, force=force, json=json)
        return
    if (alone is None) == (recipe is None):
        what = "no recipe given" if recipe is None else f"two recipes given: {alone}, and --recipe {recipe}"
        raise VssError(what, "name one: vss train recipes/camvid/student.yaml; `vss recipe ls` lists the shipped ones")
    result = run(
        str(alone or recipe),
        out,
        overrides=assignments or (),
        context=context,
        pseudo_labels=pseudo,
        init=init,
        resume=resume,
        force=force,
        check=not no_check,
    )
    figures = {"steps": result.trained_steps, **result.figures}
    if json:
        console.print_json(
            {"last": str(result.last), "best": str(result.best) if result.best.exists() else None, **figures}
        )
    else:
        console.print_table(("checkpoint", *figures), [(str(result.last), *figures.values())])
