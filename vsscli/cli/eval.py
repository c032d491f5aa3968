"""``vss eval``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def evaluate(
    metric: Annotated[
        list[str],
        Option("--metric", metavar="NAME...", help="miou, wiou, acc, class_acc, vcN for any N, biou, ece, tc."),
    ] = ["miou", "wiou", "vc8", "vc16"],  # noqa: B006 - typer copies it
    pred: opt.Prediction = None,
    data: opt.DataRoot = None,
    split: opt.Split = None,
    recipe: opt.RecipeOfData = None,
    protocol: opt.ProtocolName = "vspw",
    per_class: Annotated[bool, Option("--per-class", help="Add the IoU of every class.")] = False,
    workers: opt.Workers = None,
    engine: opt.EngineName = "local",
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Score predictions as fractions: mIoU, weighted IoU, video consistency and more (docs/metrics.md).

    vss eval --metric miou vc8 vc16
    vss eval --metric miou biou ece tc
    vss eval --data ROOT --split val --pred masks/ --metric miou wiou vc8 vc16 --json
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
        metrics=metric,
        protocol=protocol,
        workers=workers,
    )
    figures = done.figures
    if json:
        console.print_json(figures.to_json(per_class=per_class) | done.origin())
        return
    if per_class and figures.per_class:
        columns = [title(column) for column in next(iter(figures.per_class.values()))]
        rows = [(name, *row.values()) for name, row in figures.per_class.items()]
        console.print_table(("class", *columns), rows)
    console.print_table(*done.table())
