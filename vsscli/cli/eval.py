"""``vss eval``."""

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


def evaluate(
    metric: Annotated[
        list[str],
        Option("--metric", metavar="NAME...", help="miou, wiou, acc, class_acc, vcN for any N, biou, ece, tc."),
    ] = ["miou", "wiou", "vc8", "vc16"],  # noqa: B006 - typer copies it
    pred: Prediction = None,
    data: DataRoot = None,
    split: Split = None,
    recipe: RecipeOfData = None,
    protocol: ProtocolName = "vspw",
    per_class: Annotated[bool, Option("--per-class", help="Add the IoU of every class.")] = False,
    workers: Workers = None,
    workspace: Workspace = RUNS,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score predictions: mIoU, weighted IoU, video consistency and more, as fractions (docs/metrics.md).

    vss eval --metric miou vc8 vc16
    vss eval --metric miou biou ece tc
    vss eval --data ROOT --split val --pred masks/ --metric miou wiou vc8 vc16 --json
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
        metrics=metric,
        protocol=protocol,
        workers=workers,
    )
    figures = done.figures
    for reason in figures.reasons:
        console.warn(reason)
    if json:
        console.print_json(figures.to_json(per_class=per_class) | done.origin())
        return
    if per_class and figures.per_class:
        columns = [title(column) for column in next(iter(figures.per_class.values()))]
        rows = [(name, *row.values()) for name, row in figures.per_class.items()]
        console.print_table(("class", *columns), rows)
    console.print_table(*done.table())
