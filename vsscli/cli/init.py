"""``vss init``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from vsscli.cli import options as opt


def init(
    folder: Annotated[Path, Argument(metavar="[FOLDER]", help="Folder of clips, frames, photos and labels.")] = Path(),
    classes: Annotated[
        str | None,
        Option("--classes", metavar="TABLE", help="Class table; else the folder's, else made of the labels."),
    ] = None,
    minutes: Annotated[
        float, Option("--minutes", min=1, metavar="N", help="What training may take on this machine.")
    ] = 20,
    first_frame: opt.FirstFrame = None,
    yes: Annotated[bool, Option("--yes", help="Ask nothing: take what would be suggested.")] = False,
    no_measure: Annotated[
        bool, Option("--no-measure", help="Take no training steps to find out how fast this machine is.")
    ] = False,
    device: opt.Device = "auto",
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Make a folder of clips and labels a project: class table, data, recipes, a pipeline.

    Afterwards `vss run` in that folder needs no options; nor do `vss train`, `vss pseudo`, `vss import` and
    `vss export`. Run it again after more clips or labels came: what is new is added, what you changed stays.

      vss init
      vss init holiday --classes labels.txt --minutes 60
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.project.init import init_project, take_default
    from vsscli.report.progress import duration

    console = Console(quiet=quiet)
    asks = not yes and not json and sys.stdin.isatty()
    done = init_project(
        folder,
        classes=classes,
        minutes=minutes,
        first_frame=first_frame,
        measure=not no_measure,
        ask=_ask if asks else take_default,
        context=Context(workspace, device=device, talk=console),
    )
    counts = {"videos": done.videos, "frames": done.frames, "labelled": done.labelled, "held out": done.held_out}
    if json:
        steps = None if done.size is None else done.size.steps
        values = {"folder": str(done.folder), "name": done.name, "classes": list(done.classes), "written": done.written}
        console.print_json(
            {**values, **{name.replace(" ", "_"): count for name, count in counts.items()}, "steps": steps}
        )
        return
    console.print_table(("project", *counts, "classes"), [(done.name, *counts.values(), len(done.classes))])
    if done.size is not None:
        console.say(f"the student takes {done.size.steps} steps: {done.size.reason}")
        if done.size.minutes is not None:
            training, predicting = (duration(60 * minutes) for minutes in done.size.minutes)
            console.say(f"in all, training takes about {training}, predicting {done.predicted} frames {predicting}")
    where = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    written = f"wrote {', '.join(done.written)}; " if done.written else "nothing new; "
    console.say(f"{written}next: {where}vss run" if done.labelled else f"{written}next: label some frames")


def _ask(question: str, answer: str) -> str:
    import typer

    given: str = typer.prompt(question, default=answer, err=True)
    return given
