"""``vss runs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsscli.cli.console import Console
    from vsscli.pipeline.runs import TrainingRun

LISTED = ("miou", "vc8", "loss")
"""Figures in the list of runs."""


def runs(
    action: Annotated[Literal["ls", "show", "compare"], Argument(show_default=False)],
    names: Annotated[list[str] | None, Argument(metavar="[NAME...]", help="Runs: student, demo/student.")] = None,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """List, show and compare the training runs of the workspace.

    ls lists them, the newest first; show prints the figures of one at all steps of validation, and its losses at ten
    steps; compare prints the last figures of several, and the settings in which their recipes differ.

      vss runs ls
      vss runs show demo/student
      vss runs compare demo/student demo/retrained
    """
    from vsscli.cli.console import Console
    from vsscli.errors import VssError
    from vsscli.pipeline.runs import find_run, find_runs

    console, named = Console(quiet=quiet), names or []
    low, high = {"ls": (0, 0), "show": (1, 1), "compare": (2, 8)}[action]
    if not low <= len(named) <= high:
        usage = {"ls": "ls", "show": "show NAME", "compare": "compare NAME NAME"}[action]
        raise VssError(f"vss runs {action} does not take {len(named)} names", f"vss runs {usage}")
    if action == "ls":
        found = find_runs(workspace)
        if not found:
            raise VssError(f"no training run in {workspace}", "train one: vss train RECIPE")
    else:
        found = [find_run(workspace, name) for name in named]
    if action == "ls":
        _list(console, found, json=json)
    elif action == "show":
        _show(console, found[0], json=json)
    else:
        _compare(console, found, json=json)


def _list(console: Console, found: Sequence[TrainingRun], *, json: bool) -> None:
    from time import localtime, strftime

    if json:
        console.print_json({"runs": [run.to_json() for run in found]})
        return
    names = [name for name in LISTED if any(name in run.figures for run in found)]
    rows = [
        (
            run.name,
            run.status,
            f"{run.step}/{run.steps if run.steps is not None else '?'}",
            *(run.figures.get(name) for name in names),
            strftime("%Y-%m-%d %H:%M", localtime(run.changed)),
        )
        for run in found
    ]
    console.print_table(("run", "status", "steps", *(_titled(name) for name in names), "changed"), rows)


def _show(console: Console, run: TrainingRun, *, json: bool) -> None:
    from vsscli.pipeline.runs import SCORES

    if json:
        console.print_json({**run.to_json(), "curves": run.curves, "settings": run.recipe})
        return
    names = [
        name for name in (*SCORES, *(name for name in run.curves if name.startswith("loss"))) if name in run.curves
    ]
    rows: dict[int, dict[str, float]] = {}
    for name in names:
        curve = run.curves[name]
        shown = curve if name in SCORES else curve[:: max(1, len(curve) // 10)] + curve[-1:]
        for step, value in shown:
            rows.setdefault(step, {})[name] = value
    cells = [(step, *(values.get(name) for name in names)) for step, values in sorted(rows.items())]
    console.print_table(("step", *(_titled(name) for name in names)), cells)
    steps = "?" if run.steps is None else run.steps
    under = f", licence of its first weights: {run.licence}" if run.licence else ""
    console.say(
        f"{run.name}: {run.status}, step {run.step} of {steps}, recipe {run.recipe.get('name', 'unknown')}{under}"
    )


def _compare(console: Console, found: Sequence[TrainingRun], *, json: bool) -> None:
    from vsscli.pipeline.runs import differing

    settings = differing(found)
    if json:
        differences = [{"key": key, "values": values} for key, values in settings]
        console.print_json({"runs": [run.to_json() for run in found], "settings": differences})
        return
    # Times say something of the machine, and the last learning rate is nearly 0 in most recipes.
    names = dict.fromkeys(name for run in found for name in run.figures if not name.endswith("_time") and name != "lr")
    rows: list[tuple[Any, ...]] = [("step", *(run.step for run in found))]
    rows += [(_titled(name), *(run.figures.get(name) for run in found)) for name in names]
    columns = ("", *(run.name for run in found))
    console.print_table(columns, rows)
    if settings:
        shown = [(key, *(_written(value) for value in values)) for key, values in settings]
        console.print_table(("setting", *columns[1:]), shown)


def _written(value: Any) -> str:
    """A setting as recipes write it."""
    from json import dumps

    if value is None:
        return "-"
    return value if isinstance(value, str) else dumps(value, ensure_ascii=False)


def _titled(name: str) -> str:
    """A figure's name as people write it."""
    from vsscli.metrics.registry import metric_of, title

    return name.replace("_", " ") if metric_of(name) is None else title(name)
