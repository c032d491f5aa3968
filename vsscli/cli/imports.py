"""``vss import``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from vsscli.cli.console import Console
    from vsscli.pipeline.incoming import Imported

SHOWN = 20


def imports(
    source: Annotated[Path, Argument(metavar="SOURCE", help="A zip, a folder or a file.")],
    out: Annotated[
        Path | None,
        Option("--out", metavar="DIR", help="Folder for the masks, <video>/<stem>.png. [default: a project's labels/]"),
    ] = None,
    from_: Annotated[
        str,
        Option(
            "--from",
            metavar="FORMAT",
            help="png, colour, voc, cvat, coco, coco-panoptic, label-studio, labelme, yolo; folder: guessed.",
        ),
    ] = "folder",
    map_: Annotated[
        list[str] | None,
        Option("--map", metavar="OLD=NEW...", help="What a class of the source is here: a class, or ignore."),
    ] = None,
    data: opt.DataRoot = None,
    recipe: opt.RecipeOfData = None,
    classes: Annotated[
        str | None, Option("--classes", metavar="TABLE", help="Class table, where there is no data set.")
    ] = None,
    first_frame: opt.FirstFrame = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Write nothing: say what would change.")] = False,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Read labels in the format of another program, as masks that every command reads (docs/exchange.md).

    Frames are found by name: <video>/<stem>, <video>_<stem>, a stem that is one frame's alone, or a video and a
    number. Classes go by name, never by number. Pixels that no shape covers are void; --map background=NAME gives
    them a class.

    vss import corrections.zip                   # in the folder of a project
    vss import corrections.zip --recipe recipe.yaml --out labels/
    vss import --from coco instances.json --data ROOT --map truck=car sign=ignore --out labels/
    """
    from vsscli.cli.console import Console
    from vsscli.cli.project import in_project
    from vsscli.context import Context
    from vsscli.data.clips import ALL
    from vsscli.errors import VssError
    from vsscli.pipeline.incoming import import_labels
    from vsscli.pipeline.workspace import newest_store
    from vsscli.project.files import DATASET, LABELS

    console, predicted = Console(quiet=quiet), None
    if in_project() and recipe is None and data is None and classes is None:
        recipe, out = DATASET, out or Path(LABELS)
        with suppress(VssError):  # nothing is predicted yet
            predicted = newest_store(workspace, ALL)
    if out is None:
        raise VssError(
            "where should the masks go?", "add --out FOLDER; in the folder of a project (vss init) it may be left out"
        )
    pairs = [pair.partition("=") for pair in map_ or ()]
    wrong = next((name for name, equals, target in pairs if not (name and equals and target)), None)
    if wrong is not None:
        raise VssError(f"--map {wrong}: not OLD=NEW", "name a class of the source and one of the table, or ignore")
    done = import_labels(
        source,
        out,
        form=from_,
        recipe=recipe,
        classes=classes,
        changes={name.strip(): target.strip() for name, _, target in pairs},
        first_frame=first_frame,
        prediction=predicted,
        dry_run=dry_run,
        context=Context(workspace, data, talk=console),
    )
    _warn(done, console)
    if json:
        values = {"out": done.out, "from": done.form, "new": done.new, "changed": done.changed}
        values |= {"corrected": done.corrected}
        rest = {"unchanged": done.unchanged, "unmatched": done.unmatched, "left_out": done.left_out}
        console.print_json(values | rest | {"remarks": done.remarks})
        return
    for address, pixels in sorted(done.changed.items(), key=lambda pair: -pair[1])[:SHOWN]:
        console.say(f"changed: {address}, {pixels} pixels")
    if done.corrected:
        mean = sum(done.corrected.values()) / len(done.corrected)
        console.say(f"{len(done.corrected)} new frames differ from {predicted} in {mean:.2%} of what is labelled")
    counts = {"new": len(done.new), "changed": len(done.changed), "unchanged": len(done.unchanged)}
    share = sum(done.changed.values()) / max(1, done.pixels)
    columns = ("out", *counts, "unmatched", "pixels changed")
    console.print_table(columns, [(done.out, *counts.values(), len(done.unmatched), f"{share:.2%}")])


def _warn(done: Imported, console: Console) -> None:
    """Say what was not taken, every name of it."""
    for name in done.unmatched:
        console.warn(f"no frame of the data set is called {name!r}")
    for what, count in done.left_out.items():
        console.warn(f"left out: {count} {what}")
    for what, count in done.remarks.items():
        console.warn(f"{count} {what}")
