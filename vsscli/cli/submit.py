"""``vss submit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from vsscli.cli.console import Console
    from vsscli.pipeline.submit import SubmissionCheck


def submit(
    pred: opt.Prediction = None,
    out: Annotated[
        Path | None, Option("--out", metavar="FILE", help="The zip. [default: WORKSPACE/submission.zip]")
    ] = None,
    check: Annotated[Path | None, Option("--check", metavar="FILE", help="Pack nothing, check this zip.")] = None,
    data: opt.DataRoot = None,
    split: Annotated[
        str | None, Option("--split", metavar="NAME", help="Split of the data set. [default: the store's, or test]")
    ] = None,
    recipe: opt.RecipeOfData = None,
    label_offset: Annotated[int, Option("--label-offset", min=0, metavar="N", help="Pixel value of class 0.")] = 0,
    prefix: Annotated[str, Option("--prefix", metavar="FOLDER", help="Folder in the zip that holds the videos.")] = "",
    workers: opt.Workers = None,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Pack predictions into a submission zip, or check one. The split needs images only.

    vss submit --pred STORE --out submission.zip
    vss submit --check submission.zip --data ROOT --split test
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.errors import VssError
    from vsscli.pipeline import submit as pipeline
    from vsscli.recipes.load import load_recipe

    console = Console(quiet=quiet)
    if check is not None and out is not None:
        raise VssError("--check packs nothing, so --out has no meaning", "give one of the two")
    target = pipeline.Target(
        context=Context(workspace, data, talk=console),
        prediction=pred,
        split=split,
        recipe=load_recipe(recipe) if recipe else None,
        label_offset=label_offset,
        prefix=prefix,
    )
    if check is not None:
        _report(pipeline.check(target, check, workers=workers), console, json=json)
        return
    done = pipeline.submit(target, out or workspace / "submission.zip", workers=workers)
    written = done.written
    facts = {
        "file": str(written.path),
        "videos": written.videos,
        "frames": written.frames,
        "bytes": written.bytes,
        "sha256": written.sha256,
    }
    if json:
        console.print_json(facts | {"pred": str(done.prediction), "data": str(done.data), "split": done.split})
    else:
        console.print_table(tuple(facts), [tuple(facts.values())])


def _report(found: SubmissionCheck, console: Console, *, json: bool) -> None:
    """Print the result of a check, and raise an error if something is wrong."""
    from vsscli.errors import VssError

    checked = found.checked
    if json:
        console.print_json(checked.to_json() | {"data": str(found.data), "split": found.split})
    elif checked.ok:
        facts = {name: getattr(checked, name) for name in ("frames", "classes", "bytes")}
        console.print_table(tuple(facts), [tuple(facts.values())])
    else:
        for kind, count in checked.counts.items():
            faults = [fault for fault in checked.faults if fault.kind == kind]
            for fault in faults:
                console.print(f"{kind}: {fault.entry} {fault.what}")
            if count > len(faults):
                console.print(f"{kind}: … and {count - len(faults)} more")
    if not checked.ok:
        total = sum(checked.counts.values())
        kinds = ", ".join(f"{count} {kind}" for kind, count in checked.counts.items())
        raise VssError(f"{checked.path}: {total} fault{'s' if total > 1 else ''} ({kinds})", checked.hint)
    console.say(f"{checked.path} contains every frame of split {found.split!r}, and nothing else")
