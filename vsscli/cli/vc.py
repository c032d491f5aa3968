"""``vss vc``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def consistency(
    n: Annotated[list[int], Option("--n", metavar="N...", help="Lengths of the windows, in frames.")] = [8, 16],  # noqa: B006
    pred: opt.Prediction = None,
    data: opt.DataRoot = None,
    split: opt.Split = None,
    recipe: opt.RecipeOfData = None,
    protocol: opt.ProtocolName = "vspw",
    tc: Annotated[bool, Option("--tc", help="Add consistency along the optical flow; reads the frames.")] = False,
    per_video: Annotated[bool, Option("--per-video", help="Add every video, the least consistent first.")] = False,
    workers: opt.Workers = None,
    engine: opt.EngineName = "local",
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Measure the video consistency of predictions, and where they flicker.

    vss vc --n 8 16 --tc --per-video
    vss vc --n 4 --pred masks/ --data ROOT --protocol cffm
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.metrics.registry import title
    from vsscli.pipeline.evaluate import evaluate as run

    console = Console(quiet=quiet)
    done = run(
        pred,
        context=Context(workspace, data, talk=console, engine=engine),
        split=split,
        recipe=recipe,
        metrics=[*(f"vc{window}" for window in n), *(["tc"] if tc else [])],
        protocol=protocol,
        workers=workers,
    )
    figures = done.figures
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
