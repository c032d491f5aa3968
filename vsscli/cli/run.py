"""``vss run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from vsscli.cli.console import Console
    from vsscli.stages.forecast import Forecast
    from vsscli.stages.kind import StageCost


def run(
    recipe: Annotated[
        str | None,
        Argument(metavar="RECIPE", help="A pipeline: a YAML file, or one that ships with vss. [default: ./vss.yaml]"),
    ] = None,
    stages: Annotated[
        list[str] | None, Argument(metavar="[STAGE]...", help="Stages to run, with all that they need. [default: all]")
    ] = None,
    assignments: opt.Assignments = None,
    until: Annotated[str | None, Option("--until", metavar="STAGE", help="The last stage to run.")] = None,
    force: Annotated[
        list[str] | None, Option("--force", metavar="STAGE...", help="Repeat these stages, even if they are done.")
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Only print the plan and what it would cost.")] = False,
    tflops: Annotated[
        float | None,
        Option("--tflops", min=0.001, metavar="N", help="TFLOP per second that the GPU sustains, to estimate hours."),
    ] = None,
    data: opt.DataRoot = None,
    device: opt.Device = "auto",
    devices: opt.Devices = 1,
    nodes: opt.Nodes = 1,
    strategy: opt.Strategy = "auto",
    engine: opt.EngineName = "local",
    track: opt.Track = "",
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Run the stages of a pipeline that are not done.

    Writes WORKSPACE/NAME/summary.json and table.md. After an interruption, the same command continues.

      vss run recipes/demo/loop.yaml
      vss run recipes/demo/loop.yaml --set stages.pseudo.percentile=70
      vss run recipes/demo/loop.yaml pseudo --dry-run
      vss run pseudo                                   # in the folder of a project: that stage of ./vss.yaml
    """
    from vsscli.cli.console import Console
    from vsscli.cli.project import run_job
    from vsscli.context import Context
    from vsscli.stages.job import open_job

    console = Console(quiet=quiet)
    recipe, stages = _named(recipe, stages or [])
    context = Context(
        workspace,
        data,
        device,
        devices,
        talk=console,
        trackers=opt.read_names(track),
        nodes=nodes,
        strategy=strategy,
        engine=engine,
    )
    job = open_job(recipe, assignments or (), context=context)
    chosen: dict[str, Any] = {"names": stages, "until": until, "force": force or ()}
    if dry_run:
        from vsscli.stages.forecast import forecast

        _show(console, forecast(job, **chosen, tflops=tflops), json=json)
        return
    run_job(job, console, **chosen, json=json)


def _named(recipe: str | None, stages: list[str]) -> tuple[str, list[str]]:
    """The pipeline and its stages: a project's own pipeline need not be named."""
    from vsscli.cli.project import PIPELINE, in_project
    from vsscli.errors import VssError
    from vsscli.recipes.load import load_pipeline

    if recipe is None and not in_project():
        raise VssError(
            "no pipeline is named, and there is no vss.yaml here",
            "name one: vss run recipes/demo/loop.yaml; or make this folder a project: vss init",
        )
    if recipe is None:
        return str(PIPELINE), stages
    if in_project() and not Path(recipe).exists() and recipe in load_pipeline(str(PIPELINE)).stages:
        return str(PIPELINE), [recipe, *stages]
    return recipe, stages


def _show(console: Console, plan: Forecast, *, json: bool) -> None:
    if json:
        console.print_json(plan.to_json())
        return
    rows = [(step.name, step.status, step.reason, *_cells(plan, cost)) for step, cost in plan.rows]
    rows.append(("total", "", "", *_cells(plan, plan.total)))
    console.print_table(("stage", "status", "why", "work", "passes", "TFLOP", "GB stored", "hours"), rows)
    for note in plan.notes:
        console.say(f"note: {note}")
    console.say(plan.rate_source)


def _cells(plan: Forecast, cost: StageCost) -> tuple[object, ...]:
    amounts = ((cost.flops, 1e12), (cost.stored, 1e9), (plan.hours(cost), 1))
    return cost.work, cost.passes, *(None if value is None else _figure(value / unit) for value, unit in amounts)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
