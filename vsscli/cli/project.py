"""In the folder of a project, which `vss init` made, commands without arguments do the stages of its pipeline."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsscli.context import Context
from vsscli.errors import VssError

if TYPE_CHECKING:
    from vsscli.cli.console import Console
    from vsscli.stages.job import Job

PIPELINE = Path("vss.yaml")
"""What a project's pipeline is called, in the working directory."""


def in_project() -> bool:
    """Whether the working directory is a project."""
    return PIPELINE.is_file()


def run_kind(
    kind: str,
    console: Console,
    context: Context,
    *,
    changes: Sequence[str] = (),
    without: Mapping[str, object],
    force: bool = False,
    json: bool = False,
) -> None:
    """Run the stages of one kind of the project's pipeline, with all they need.

    Parameters
    ----------
    kind
        "train", "predict", "pseudo", …; of training stages those that need no other stage, of the others all.
    console, context
        Where to say what is done, and where to work.
    changes
        Settings of these stages: ``percentile=70``.
    without
        Options by name that the pipeline decides instead; none of them may be given.
    force
        Do them anew, though they are done.
    json
        Print the result as JSON.

    Raises
    ------
    VssError
        The pipeline has no such stage, or an option is given that it decides; or as running a pipeline does.
    """
    given = next((option for option, value in without.items() if value), None)
    if given is not None:
        raise VssError(
            f"{given} has no meaning for the stages of {PIPELINE}, which decide it themselves",
            f"change {PIPELINE}, or name what to work on: vss {kind} --help",
        )
    from vsscli.recipes.load import load_pipeline
    from vsscli.stages.job import open_job

    stages = load_pipeline(str(PIPELINE)).stages
    names = [name for name, stage in stages.items() if stage.do == kind and not stage.optional]
    if kind == "train":
        names = [name for name in names if not stages[name].takes()] or names[:1]
    if not names:
        raise VssError(f"{PIPELINE} has no stage that does {kind}", "name what to work on, or add a stage")
    settings = [f"stages.{name}.{change}" for name in names for change in changes]
    job = open_job(str(PIPELINE), settings, context=context)
    run_job(job, console, names=names, force=names if force else (), json=json)


def run_job(
    job: Job,
    console: Console,
    *,
    names: Sequence[str] = (),
    until: str | None = None,
    force: Sequence[str] = (),
    json: bool = False,
) -> None:
    """Run stages of a pipeline that are not done, and print the tables of scores, or what each stage left."""
    from vsscli.stages.run import run_pipeline
    from vsscli.stages.summary import tables_of

    ran = run_pipeline(job, names=names, until=until, force=force, command=["vss", *sys.argv[1:]])
    tables = tables_of(job, ran.outcomes)
    if json:
        console.print_json(ran.to_json())
        return
    for scores in tables:
        console.print_table(*scores.cells(), title=scores.name if len(tables) > 1 else "")
    if not tables:
        rows = [(outcome.name, outcome.status, str(outcome.result.path)) for outcome in ran.outcomes]
        console.print_table(("stage", "status", "result"), rows)
    where = f", table in {ran.table}" if ran.table else ""
    console.say(f"{ran.seconds:.0f} s; summary in {ran.summary}{where}")
