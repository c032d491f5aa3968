"""``vss run``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from vsscli.cli.console import Console
    from vsscli.stages.forecast import Forecast
    from vsscli.stages.kind import StageCost


def run(
    recipe: Annotated[str, Argument(metavar="RECIPE", help="A pipeline: a YAML file, or one that ships with vss.")],
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
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.stages.job import open_job

    console = Console(quiet=quiet)
    job = open_job(recipe, assignments or (), context=Context(workspace, data, device, devices, talk=console))
    chosen: dict[str, Any] = {"names": stages or (), "until": until, "force": force or ()}
    if dry_run:
        from vsscli.stages.forecast import forecast

        _show(console, forecast(job, **chosen, tflops=tflops), json=json)
        return
    from vsscli.stages.run import run_pipeline
    from vsscli.stages.summary import tables_of

    ran = run_pipeline(job, **chosen, command=["vss", *sys.argv[1:]])
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


def _show(console: Console, plan: Forecast, *, json: bool) -> None:
    if json:
        console.print_json(plan.to_json())
        return
    rows = [(step.name, step.status, step.reason, *_cells(plan, cost)) for step, cost in plan.rows]
    rows.append(("total", "", "", *_cells(plan, plan.total)))
    console.print_table(("stage", "status", "why", "work", "passes", "TFLOP", "GB stored", "GPU hours"), rows)
    for note in plan.notes:
        console.say(f"note: {note}")
    console.say(plan.rate_source)


def _cells(plan: Forecast, cost: StageCost) -> tuple[object, ...]:
    amounts = ((cost.flops, 1e12), (cost.stored, 1e9), (plan.hours(cost), 1))
    return cost.work, cost.passes, *(None if value is None else _figure(value / unit) for value, unit in amounts)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
