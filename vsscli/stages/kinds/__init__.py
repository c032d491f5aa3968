"""The kinds of stages: what a pipeline may declare, each with the class that implements it."""

from __future__ import annotations

from inspect import isabstract
from typing import Any, get_args

from vsscli.recipes.pipeline import (
    AnyStage,
    EnsembleStage,
    EvalStage,
    PredictStage,
    PseudoStage,
    ReportStage,
    ShowStage,
    Stage,
    SubmitStage,
    TrainStage,
)
from vsscli.stages.kind import Kind
from vsscli.stages.kinds.ensemble import EnsembleKind
from vsscli.stages.kinds.eval import EvalKind
from vsscli.stages.kinds.predict import PredictKind
from vsscli.stages.kinds.pseudo import PseudoKind
from vsscli.stages.kinds.report import ReportKind
from vsscli.stages.kinds.show import ShowKind
from vsscli.stages.kinds.submit import SubmitKind
from vsscli.stages.kinds.train import TrainKind

KINDS: dict[type[Stage], type[Kind[Any]]] = {
    TrainStage: TrainKind,
    PredictStage: PredictKind,
    EnsembleStage: EnsembleKind,
    PseudoStage: PseudoKind,
    EvalStage: EvalKind,
    ShowStage: ShowKind,
    ReportStage: ReportKind,
    SubmitStage: SubmitKind,
}


def require_complete(kinds: dict[type[Stage], type[Kind[Any]]]) -> None:
    """Refuse a table in which a declared kind is missing or incomplete."""
    for declared in get_args(get_args(AnyStage)[0]):
        if declared not in kinds or isabstract(kinds[declared]):
            absent = sorted(getattr(kinds.get(declared), "__abstractmethods__", ()))
            raise TypeError(f"{declared.__name__} has no complete kind: {', '.join(absent) or 'none is listed'}")


require_complete(KINDS)
