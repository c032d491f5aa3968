"""``vss pseudo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def pseudo(
    models: opt.Models = None,
    store: Annotated[
        Path | None, Option("--store", metavar="STORE", help="Threshold this store instead of predicting.")
    ] = None,
    tta: opt.Tta = False,
    tta_plan: opt.TtaPlan = None,
    weights: opt.Weights = None,
    threshold: Annotated[
        float | None, Option("--threshold", metavar="H", help="Reliable: normalised entropy at most H, from 0 to 1.")
    ] = None,
    percentile: Annotated[
        float | None,
        Option("--percentile", metavar="P", help="Reliable: the P % of pixels with the lowest entropy. [default: 80]"),
    ] = None,
    by_class: Annotated[
        bool, Option("--by-class", help="Take the percentile per class, so that rare classes keep some pixels.")
    ] = False,
    report: Annotated[
        bool, Option("--report", help="Show which pixels are reliable at which threshold, and how many are right.")
    ] = False,
    split: Annotated[str, Option("--split", metavar="NAME", help="Split of the data set.")] = "unlabelled",
    data: opt.DataRoot = None,
    device: opt.Device = "auto",
    devices: opt.Devices = 1,
    nodes: opt.Nodes = 1,
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = 8,
    workers: opt.Workers = None,
    engine: opt.EngineName = "local",
    part: opt.Share = "1/1",
    workspace: opt.Workspace = opt.RUNS,
    force: opt.ForceStore = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Predict unlabelled frames, fuse the models, and keep the reliable pixels as pseudo-labels.

    Predictions are cached: another threshold loads no network.

      vss pseudo --models t.pt s.pt --tta
      vss pseudo --models t.pt s.pt --tta --percentile 70
      vss pseudo --store PREDICTIONS --report
      vss pseudo --models t.pt s.pt --tta --part 3/8   # only predicts: one of eight jobs, then once without --part
      vss pseudo                                       # in the folder of a project: what ./vss.yaml says
    """
    from vsscli.cli.console import Console
    from vsscli.cli.project import in_project, run_kind
    from vsscli.context import Context
    from vsscli.engine.part import WHOLE, Part
    from vsscli.errors import VssError
    from vsscli.pipeline.pseudo import predict_all
    from vsscli.pipeline.pseudo import pseudo as run

    console = Console(quiet=quiet)
    context = Context(workspace, data, device, devices, precision, batch_size, console, engine, nodes=nodes)
    opt.require_one_place(context)
    if not models and store is None and in_project() and not report:
        given = {"percentile": percentile, "threshold": threshold, "by_class": by_class or None}
        changes = [f"{name}={value}" for name, value in given.items() if value is not None]
        decided: dict[str, object] = {"--split": split != "unlabelled", "--tta": tta, "--tta-plan": tta_plan}
        decided |= {"--weights": weights, "--part": part != "1/1", "--workers": workers}
        run_kind("pseudo", console, context, changes=changes, without=decided, force=force, json=json)
        return
    share = Part.parse(part)
    if share != WHOLE:
        if not models:
            raise VssError("--part shares out the predictions of --models, and none are named", "leave it out")
        done = predict_all(
            models, split, context=context, tta=tta, plan=tta_plan, part=share, workers=workers, force=force
        )
        facts = [{"store": str(one.store), "predicted": one.predicted, "cached": one.cached} for one in done]
        if json:
            console.print_json({"part": part, "predictions": facts})
            return
        console.print_table(("store", "predicted", "cached"), [tuple(fact.values()) for fact in facts])
        console.say("once all parts are there, the same command without --part makes the pseudo-labels")
        return
    made = run(
        models or (),
        store=store,
        split=split,
        context=context,
        tta=tta,
        plan=tta_plan,
        weights=weights,
        threshold=threshold,
        percentile=percentile,
        by_class=by_class,
        workers=workers,
        force=force,
    )
    judged = None
    if report:
        from vsscli.engine.engine import Engine
        from vsscli.pipeline.reliability import report_reliability

        judged = report_reliability(
            made.predictions, made.report.threshold, context=context, engine=Engine(workers, engine)
        )
    if json:
        console.print_json({**made.to_json(), **({"report": judged.to_json()} if judged else {})})
        return
    if judged is not None:
        console.print_table(judged.columns, judged.rows())
        console.print_table(("class", "of all pixels", "of these reliable", "of these right"), judged.class_rows())
        console.print_table(("chart", "figures"), [(str(judged.chart), str(judged.figures))])
        return
    summary = made.report
    rows = [
        (name, f"{pixels / summary.pixels:.1%}", "-" if not pixels else f"{kept / pixels:.1%}")
        for name, pixels, kept in zip(made.names, summary.class_pixels, summary.class_reliable, strict=True)
    ]
    console.print_table(("class", "of all pixels", "of these reliable"), rows)
    by_each = ", less for other classes" if len({*summary.threshold.class_levels}) > 1 else ""
    console.say(
        f"{summary.share:.1%} of {summary.pixels} pixels are reliable: "
        f"entropy at most {summary.threshold.value:.4f}{by_each}"
    )
    console.print_table(("pseudo-labels", "predictions"), [(str(made.store), str(made.predictions))])
