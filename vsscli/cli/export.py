"""``vss export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def export(
    to: Annotated[
        str,
        Option(
            "--to",
            metavar="FORMAT",
            help="png, colour, voc, cvat, cvat-video, coco, coco-panoptic, label-studio, labelme, yolo, video, "
            "fiftyone, datumaro; or cvat-function, label-studio-backend: a Python file that answers the tool.",
        ),
    ] = "png",
    out: Annotated[
        Path | None,
        Option("--out", metavar="PATH", help="A folder, a zip (x.zip), or one file. [default: a project's exported/]"),
    ] = None,
    pred: opt.Prediction = None,
    min_certainty: Annotated[
        float | None,
        Option("--min-certainty", metavar="X", help="Leave pixels void whose certainty, 1 - entropy, is below (0..1)."),
    ] = None,
    unsure: Annotated[
        str, Option("--unsure", metavar="NAME", help="Give these pixels a class of this name instead.")
    ] = "",
    frames: Annotated[
        Path | None, Option("--frames", metavar="LIST", help="Text file of <video>/<stem>, or of videos, a line each.")
    ] = None,
    polygons: Annotated[
        bool, Option("--polygons", help="Outlines instead of masks, where the format has both.")
    ] = False,
    tolerance: Annotated[
        float, Option("--tolerance", min=0, metavar="PIXELS", help="Simplify outlines, which may stray so far.")
    ] = 0.0,
    overlay: Annotated[bool, Option("--overlay", help="Of a video: colours over the frames.")] = False,
    fps: Annotated[
        float | None,
        Option("--fps", min=1, metavar="N", help="Of a video: frames per second. [default: the clip's own, or 10]"),
    ] = None,
    model: Annotated[
        Path | None, Option("--model", metavar="FILE", help="Of a function: the checkpoint that is run, not a store.")
    ] = None,
    data: opt.DataRoot = None,
    recipe: opt.RecipeOfData = None,
    workers: opt.Workers = None,
    workspace: opt.Workspace = opt.RUNS,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Write predicted labels in the format of another program (docs/exchange.md).

    vss export                                   # in the folder of a project: index masks of every frame
    vss export --to cvat --out corrections.zip
    vss export --to coco --out coco.json --min-certainty 0.8 --frames next.txt
    vss export --to video --overlay --out videos/
    vss export --to cvat-function --out answers.py
    """
    from vsscli.cli.console import Console
    from vsscli.cli.project import in_project
    from vsscli.context import Context
    from vsscli.data.clips import ALL
    from vsscli.errors import VssError
    from vsscli.exchange.functions import FUNCTIONS
    from vsscli.exchange.items import Choices
    from vsscli.pipeline.export import export_function, export_labels
    from vsscli.pipeline.outgoing import Selection
    from vsscli.pipeline.workspace import newest_store
    from vsscli.project.files import EXPORTED

    console = Console(quiet=quiet)
    context = Context(workspace, data, talk=console)
    if out is None:
        if not in_project():
            raise VssError(
                "where should the labels go?",
                "add --out PATH; in the folder of a project (vss init) it may be left out",
            )
        out = Path(EXPORTED, f"{to}.py" if to in FUNCTIONS else to)
    if pred is None and model is None and in_project():
        pred = newest_store(workspace, ALL)
    if to in FUNCTIONS:
        sure = min_certainty or 0.0
        written = export_function(
            to, out, prediction=pred, model=model, min_certainty=sure, force=force, context=context
        )
        facts: dict[str, object] = {"out": str(out), "answers": str(written.model or written.store)}
        console.print_json(facts) if json else console.print_table(tuple(facts), [tuple(facts.values())])
        return
    if model is not None:
        raise VssError(f"--model is for {' and '.join(FUNCTIONS)}", "`vss predict` runs it into a store")
    done = export_labels(
        to,
        out,
        prediction=pred,
        recipe=recipe,
        selection=Selection(frames, min_certainty, unsure),
        choices=Choices(polygons, tolerance, fps, overlay),
        force=force,
        workers=workers,
        context=context,
    )
    facts = {"out": str(done.out), "frames": done.frames, "void": f"{done.void:.2%}"}
    figures = {name: f"{value:.4f}" for name, value in done.figures.items()}
    if json:
        values = {"out": done.out, "pred": done.prediction, "to": to, "frames": done.frames, "void": done.void}
        console.print_json(values | done.figures)
        return
    console.print_table((*facts, *figures), [(*facts.values(), *figures.values())])
    if done.figures:
        console.say("iou_kept: intersection over union of outlines and masks, mean over classes and frames")
