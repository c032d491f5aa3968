"""``vss vc``."""

from __future__ import annotations

from math import isnan
from typing import Annotated

from typer import Option

from vsscli.cli.options import (
    RUNS,
    DataRoot,
    Debug,
    Json,
    Prediction,
    ProtocolName,
    Quiet,
    RecipeOfData,
    Split,
    Workers,
    Workspace,
)


def consistency(
    n: Annotated[list[int], Option("--n", metavar="N...", help="Lengths of the windows, in frames.")] = [8, 16],  # noqa: B006
    pred: Prediction = None,
    data: DataRoot = None,
    split: Split = None,
    recipe: RecipeOfData = None,
    protocol: ProtocolName = "vspw",
    per_video: Annotated[bool, Option("--per-video", help="Add every video, the least consistent first.")] = False,
    workers: Workers = None,
    workspace: Workspace = RUNS,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Video consistency of predictions, and where they flicker.

    vss vc --n 8 16 --per-video
    vss vc --n 4 --pred masks/ --data ROOT --protocol cffm
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.pipeline.evaluate import evaluate as run
    from vsscli.recipes.load import load_recipe

    console = Console(quiet=quiet)
    done = run(
        context=Context(workspace, data, talk=console),
        prediction=pred,
        split=split,
        recipe=load_recipe(recipe) if recipe else None,
        metrics=[f"vc{window}" for window in n],
        protocol=protocol,
        workers=workers,
    )
    figures = done.figures
    for reason in figures.reasons():
        console.warn(reason)
    if json:
        console.print_json(figures.to_json(per_video=per_video) | done.origin())
        return
    if per_video:
        rows = []
        for video in figures.least_consistent_first():
            scores = ["-" if isnan(value) else f"{value:.4f}" for value in video.vc.values()]
            worst = [f"{stem} ({value:.4f})" for stem, value in video.worst.values()]
            rows.append((video.name, video.frames, *scores, *worst, *[""] * (len(scores) - len(worst))))
        columns = [f"VC{window}" for window in figures.vc]
        console.print_table(("video", "frames", *columns, *[f"{column} worst from" for column in columns]), rows)
    console.print_table(*done.table())
