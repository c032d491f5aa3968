"""``vss classes``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.data.layouts import Dataset


def classes(
    action: Annotated[Literal["ls", "rename", "merge", "drop"], Argument(help="What to do.")] = "ls",
    names: Annotated[list[str] | None, Argument(metavar="[CLASS]...", help="Classes, by name.")] = None,
    into: Annotated[str | None, Option("--into", metavar="NAME", help="Name of the merged class.")] = None,
    recipe: opt.RecipeOfData = None,
    data: opt.DataRoot = None,
    workers: opt.Workers = None,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Count the classes in the labels, or rename, merge and drop them.

    ls lists the share of labelled pixels, the frames and the videos with each class, by split. The others change the
    class table alone: it keeps the former names, by which masks and stores are still read. Networks have to be trained
    again for merged or dropped classes.

      vss classes
      vss classes rename automobile car
      vss classes merge car truck --into vehicle
      vss classes drop bird --recipe mine.yaml
    """
    from vsscli.cli.console import Console
    from vsscli.cli.project import in_project
    from vsscli.context import Context
    from vsscli.data.layouts import open_dataset, plain_data
    from vsscli.errors import VssError
    from vsscli.project.classes import dropped, merged, renamed, write_classes
    from vsscli.project.files import DATASET
    from vsscli.recipes.load import as_recipe

    console = Console(quiet=quiet)
    context = Context(workspace, data, talk=console)
    if recipe is None and data is None:
        if not in_project():
            raise VssError("which data set?", "name it with --recipe FILE or --data ROOT, or go to a project's folder")
        recipe = DATASET
    dataset = open_dataset(as_recipe(Path(recipe)).data if recipe else plain_data(Path(data or ".")), data)
    chosen = names or []
    if into is not None and action != "merge":
        raise VssError(f"--into has no meaning with {action}, only with merge", "leave it out")
    if action == "ls":
        if chosen:
            raise VssError(f"ls takes no classes: {chosen[0]}", "say what to do: vss classes rename OLD NEW")
        _list(dataset, workers, context, console, json=json)
        return
    if action == "rename":
        if len(chosen) != 2:
            raise VssError("rename takes two names", "vss classes rename OLD NEW")
        table = renamed(dataset.table, chosen[0], chosen[1])
    elif action == "merge":
        table = merged(dataset.table, chosen, into)
    else:
        table = dropped(dataset.table, chosen)
    path = write_classes(dataset, table)
    if json:
        console.print_json({"path": path, "classes": table.names, "former": dict(table.former)})
    else:
        console.print(f"{path}: {table.num_classes} classes")


def _list(dataset: Dataset, workers: int | None, context: Context, console: Console, *, json: bool) -> None:
    from vsscli.project.classes import count_splits

    counted = count_splits(dataset, workers=workers, context=context)
    names = dataset.table.names
    if json:
        console.print_json(
            {
                split: {
                    "masks": found.masks,
                    "labelled": found.labelled,
                    "classes": [
                        {"name": name, "pixels": pixels, "frames": frames, "videos": videos}
                        for name, pixels, frames, videos in zip(names, *found.by_class, strict=True)
                    ],
                }
                for split, found in counted.items()
            }
        )
        return
    columns = ["class", *(f"{what} of {split}" for split in counted for what in ("share", "frames", "videos"))]
    rows = []
    for index, name in enumerate(names):
        cells: list[object] = [name]
        for found in counted.values():
            pixels, frames, videos = (column[index] for column in found.by_class)
            cells += [f"{pixels / max(1, sum(found.pixels)):.2%}", frames, videos]
        rows.append(cells)
    console.print_table(columns, rows)
    for split, found in counted.items():
        console.print(f"{split}: {found.labelled:.1%} of the pixels of {found.masks} masks are labelled")
