"""``vss next``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def advise(
    count: Annotated[int, Option("--count", min=1, metavar="N", help="How many frames to choose.")] = 20,
    pred: Annotated[
        list[Path] | None,
        Option("--pred", metavar="STORE...", help="Predictions of one split. [default: the newest of all frames]"),
    ] = None,
    out: Annotated[Path, Option("--out", metavar="DIR", help="Folder for the list, images and draft.")] = Path("next"),
    draft: Annotated[str, Option("--to", metavar="FORMAT", help="Format of the draft, as for vss export.")] = "cvat",
    data: opt.DataRoot = None,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Choose the frames to label next: those that the network is unsure of, and that differ from labelled ones.

    Leaves frames.txt, the frames as images/, and draft.zip: the predicted labels, to be corrected. `vss import` takes
    the corrected labels back.

      vss next --count 50
      vss next --count 50 --pred A.zarr B.zarr     # frames that two networks disagree on count more
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.pipeline.advice import advise as run

    console = Console(quiet=quiet)
    done = run(count, out, predictions=pred or (), draft=draft, context=Context(workspace, data, talk=console))
    if json:
        console.print_json(
            {"prediction": str(done.prediction), "out": str(done.out), "frames": [vars(one) for one in done.choices]}
        )
        return
    several = any(one.disagreement is not None for one in done.choices)
    columns = ("frame", "entropy", "flicker", *(["disagreement"] if several else []), "unlike labelled")
    rows = []
    for one in done.choices:
        cells: list[object] = [one.address, f"{one.entropy:.3f}", f"{one.flicker:.2%}"]
        cells += [] if one.disagreement is None else [f"{one.disagreement:.2%}"]
        rows.append([*cells, "-" if one.distance is None else f"{one.distance:.2f}"])
    console.print_table(columns, rows)
    console.say(f"{len(rows)} frames in {done.out}: frames.txt, images/, draft.zip")
