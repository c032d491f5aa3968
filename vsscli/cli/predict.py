"""``vss predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def predict(
    model: Annotated[
        Path | None, Option("--model", metavar="FILE", help="Checkpoint, or recipe of a network of mmsegmentation.")
    ] = None,
    split: Annotated[
        str | None, Option("--split", metavar="NAME", help="Split of the checkpoint's data set. [default: val]")
    ] = None,
    input: Annotated[
        list[Path] | None,
        Option("--input", metavar="FILE|DIR...", help="Your own frames: video files, folders of images, or patterns."),
    ] = None,
    out: Annotated[
        Path | None, Option("--out", metavar="PATH", help="The store; with --input, the folder for label images.")
    ] = None,
    overlay: Annotated[
        bool, Option("--overlay", help="With --input: add OUT/VIDEO.mp4, the colours of the classes over the frames.")
    ] = False,
    tta: opt.Tta = False,
    tta_plan: opt.TtaPlan = None,
    keep: Annotated[
        str,
        Option(
            "--keep",
            metavar="top|fine|compact|all",
            help="Keep the most likely classes, more of them, fewer of them, or all logits.",
        ),
    ] = "",
    data: opt.DataRoot = None,
    part: opt.Share = "1/1",
    device: opt.Device = "auto",
    devices: opt.Devices = 1,
    nodes: opt.Nodes = 1,
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = 8,
    engine: opt.EngineName = "local",
    workers: Annotated[
        int | None,
        Option("--workers", min=1, metavar="N", help="With --engine ray: processes. [default: one per GPU, or core]"),
    ] = None,
    workspace: opt.Workspace = opt.RUNS,
    force: Annotated[
        bool,
        Option(
            "--force",
            help="If another store is in the way, write a new one beside it; with --input, predict all frames again.",
        ),
    ] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Predict a split into a prediction store, or your own frames into label images.

    vss predict --model runs/camvid-student/last.pt --split val --tta
    vss predict --model runs/camvid-student/last.pt --input holiday.mp4 clips/ --out masks/ --overlay
    vss predict                                  # in the folder of a project: all that ./vss.yaml predicts
    """
    from vsscli.cli.console import Console
    from vsscli.cli.project import in_project, run_kind
    from vsscli.context import Context
    from vsscli.engine.part import Part
    from vsscli.errors import VssError
    from vsscli.pipeline.masks import predict_input
    from vsscli.pipeline.predict import predict_split

    console = Console(quiet=quiet)
    context = Context(workspace, data, device, devices, precision, batch_size, console, engine, nodes=nodes)
    opt.require_one_place(context)
    if workers is not None and not context.on_cluster:
        raise VssError("--workers is for --engine ray", "use --devices N: a process for each GPU of this machine")
    if keep not in ("", "top", "fine", "compact", "all"):
        raise VssError(f"--keep is top, fine, compact or all, not {keep!r}")
    if model is None:
        if not in_project() or input:
            raise VssError("no model is named", "add --model runs/NAME/last.pt")
        decided: dict[str, object] = {"--split": split, "--out": out, "--keep": keep, "--overlay": overlay}
        decided |= {"--tta": tta, "--tta-plan": tta_plan, "--part": part != "1/1", "--workers": workers}
        run_kind("predict", console, context, without=decided, force=force, json=json)
        return
    if input:
        if out is None:
            raise VssError("--input needs a folder for the label images", "add --out masks/")
        options = {"--split": split, "--keep": keep, "--data": data, "--devices": devices > 1, "--nodes": nodes > 1}
        options |= {"--part": part != "1/1", "--engine": context.on_cluster}
        without = [option for option, given in options.items() if given]
        if without:
            raise VssError(f"{without[0]} has no meaning with --input, only for a split", "leave it out")
        predicted = predict_input(
            model, input, out, context=context, tta=tta, plan=tta_plan, force=force, overlay=overlay
        )
        facts: dict[str, object] = {"masks": str(out), "predicted": predicted}
    else:
        if overlay:
            raise VssError("--overlay is for --input", "`vss report` and `vss show` draw a split")
        done = predict_split(
            model,
            split or "val",
            context=context,
            out=out,
            tta=tta,
            plan=tta_plan,
            keep=keep or None,
            part=Part.parse(part),
            workers=workers,
            force=force,
        )
        facts = {"store": str(done.store), "predicted": done.predicted, "cached": done.cached}
    if json:
        console.print_json(facts)
    else:
        console.print_table(tuple(facts), [tuple(facts.values())])
