"""``vss vc``."""

from __future__ import annotations

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
    tc: Annotated[bool, Option("--tc", help="Add consistency along the optical flow; reads the frames.")] = False,
    per_video: Annotated[bool, Option("--per-video", help="Add every video, the least consistent first.")] = False,
    workers: Workers = None,
    workspace: Workspace = RUNS,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Video consistency of predictions, and where they flicker.

    vss vc --n 8 16 --tc --per-video
    vss vc --n 4 --pred masks/ --data ROOT --protocol cffm
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.metrics.registry import title
    from vsscli.pipeline.evaluate import evaluate as run
    from vsscli.recipes.load import load_recipe

    console = Console(quiet=quiet)
    done = run(
        context=Context(workspace, data, talk=console),
        prediction=pred,
        split=split,
        recipe=load_recipe(recipe) if recipe else None,
        metrics=[*(f"vc{window}" for window in n), *(["tc"] if tc else [])],
        protocol=protocol,
        workers=workers,
    )
    figures = done.figures
    for reason in figures.reasons:
        console.warn(reason)
    if json:
        console.print_json(figures.to_json(per_video=per_video) | done.origin())
        return
    if per_video:
        videos = figures.worst_first()
        rows = [
            (
                video.name,
                video.frames,
                *video.values.values(),
                *("{} ({:.4f})".format(*video.worst[name]) if name in video.worst else "" for name in video.values),
            )
            for video in videos
        ]
        columns = [title(name) for name in videos[0].values]
        console.print_table(("video", "frames", *columns, *[f"{column} worst from" for column in columns]), rows)
    console.print_table(*done.table())
