"""The schema of pipelines: stages by name, each with the stages whose results it takes.

`init`, `model`, `of`, … of a stage name other stages of the same file. What a kind of stage does is in
`vsscli.stages.kinds`, a file each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from vsscli.metrics.protocols import ProtocolName
from vsscli.names import SHORT
from vsscli.recipes.readout import Keep, Plan
from vsscli.recipes.text import Key
from vsscli.section import Positive, Section, Split

Metric = Annotated[str, StringConstraints(to_lower=True)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=SHORT)]

Weight = Annotated[float, Field(ge=0)]

PREDICTIONS = ("predict", "ensemble")
"""Kinds of stages whose results are predictions."""

DEFAULT_PERCENTILE = 80.0
"""Per cent of the pixels that are reliable, where neither percentile nor threshold is given."""

MAX_STAGES = 300
"""Pipelines are written by hand; the order of stages is found by recursion."""


class Stage(Section):
    """Keys of every stage."""

    optional: bool = Field(False, description="runs only if it is named on the command line")

    @abstractmethod
    def taken(self) -> Iterator[tuple[Key, str, tuple[str, ...]]]:
        """What it takes: the key in its section, the stage named there, and the kinds that this may have."""

    def takes(self) -> tuple[str, ...]:
        """The stages whose results this one needs, each once."""
        return tuple(dict.fromkeys(name for _, name, _ in self.taken()))


class OfOne(Stage):
    """Keys of stages that take one prediction."""

    of: Name = Field(description="prediction or ensemble stage")

    def taken(self) -> Iterator[tuple[Key, str, tuple[str, ...]]]:
        yield ("of",), self.of, PREDICTIONS


class TrainStage(Stage):
    """A network, trained by a recipe of one stage."""

    do: Literal["train"]
    recipe: str = Field(description="recipe of one stage: a file beside this one, or a shipped recipe")
    set: dict[str, Any] = Field({}, description="what to change in that recipe: `train.steps: 40000`")
    init: Name | None = Field(None, description="training stage whose weights the network starts from")
    pseudo: Name | None = Field(None, description="pseudo-label stage for the recipe's `unlabelled` section")

    def taken(self) -> Iterator[tuple[Key, str, tuple[str, ...]]]:
        if self.init is not None:
            yield ("init",), self.init, ("train",)
        if self.pseudo is not None:
            yield ("pseudo",), self.pseudo, ("pseudo",)


class PredictStage(Stage):
    """A network's predictions of a split, in a store."""

    do: Literal["predict"]
    model: Name = Field(description="training stage")
    split: Split = Field("val", description="as `vss predict --split` takes it")
    tta: bool | Literal["paper", "flip", "none"] | Plan = Field(
        True, description="true: the plan of the model's recipe; false: none; or another plan"
    )
    keep: Keep | None = Field(None, description="null: as in the model's recipe")

    def taken(self) -> Iterator[tuple[Key, str, tuple[str, ...]]]:
        yield ("model",), self.model, ("train",)


class EnsembleStage(Stage):
    """Predictions of the same frames, fused, smoothed along time, or both."""

    do: Literal["ensemble"]
    of: tuple[Name, ...] = Field(min_length=1, description="prediction or ensemble stages; one alone can be smoothed")
    weights: Literal["fit"] | tuple[Weight, ...] | tuple[tuple[Weight, ...], ...] | None = Field(
        None, description="one each, or a list each with one per class; `fit`: fitted on masks; null: equal"
    )
    fit_on: tuple[Name, ...] | None = Field(
        None, description="the same networks' predictions of labelled frames, to fit weights on; null: those of `of`"
    )
    temperatures: tuple[Annotated[float, Field(ge=0.01, le=100)], ...] | None = Field(
        None, description="one each: above 1 makes a prediction less certain; `fit` fits them too"
    )
    method: Literal["arithmetic", "geometric"] = "arithmetic"
    temporal: Annotated[int, Field(ge=0, le=8)] = Field(
        0, description="number of frames before and after to average each frame with, along the optical flow"
    )

    def taken(self) -> Iterator[tuple[Key, str, tuple[str, ...]]]:
        for key, names in (("of", self.of), ("fit_on", self.fit_on or ())):
            yield from (((key, number), name, PREDICTIONS) for number, name in enumerate(names))

    @property
    def given(self) -> tuple[Weight, ...] | tuple[tuple[Weight, ...], ...] | None:
        """Weights that are not fitted."""
        return None if isinstance(self.weights, str) else self.weights

    @property
    def fitted(self) -> tuple[str, ...]:
        """The predictions that weights are fitted on, if they are."""
        return (self.fit_on or self.of) if self.weights == "fit" else ()


class PseudoStage(OfOne):
    """Labels of the reliable pixels of a prediction."""

    do: Literal["pseudo"]
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="highest normalised entropy")
    percentile: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None,
        description="or: per cent of all pixels, those with the lowest entropy; "
        f"without either: {DEFAULT_PERCENTILE:g}",
    )
    by_class: bool = Field(False, description="take the percentile of each class's pixels separately")

    @model_validator(mode="after")
    def _one_limit(self) -> PseudoStage:
        if self.threshold is not None and self.percentile is not None:
            raise ValueError("threshold and percentile exclude each other: give one of them")
        if self.threshold is not None and self.by_class:
            raise ValueError("by_class needs a percentile: a threshold applies to all classes")
        return self


class Row(Section):
    """A row of a table of scores."""

    name: str = Field(description="name of the row")
    of: Name = Field(description="prediction or ensemble stage")
    paper: dict[Metric, float] = Field(
        {}, description="the paper's figures by metric, in per cent, shown beside the measured ones"
    )
    note: str = Field("", description="what to know when comparing the two")


class EvalStage(Stage):
    """A table of scores, like those of the paper."""

    do: Literal["eval"]
    rows: tuple[Row, ...] = Field(min_length=1)
    metrics: tuple[Metric, ...] = Field(("miou", "wiou", "vc8", "vc16"), min_length=1)
    protocol: ProtocolName = "vspw"

    def taken(self) -> Iterator[tuple[Key, str, tuple[str, ...]]]:
        yield from ((("rows", number, "of"), row.of, PREDICTIONS) for number, row in enumerate(self.rows))

    @model_validator(mode="after")
    def _papers_figures_of_what_is_measured(self) -> EvalStage:
        strange = sorted({metric for row in self.rows for metric in row.paper} - set(self.metrics))
        if strange:
            raise ValueError(
                f"a row has the paper's {strange[0]}, which is not among metrics: {', '.join(self.metrics)}"
            )
        return self


class ShowStage(OfOne):
    """Overlay pictures of a prediction."""

    do: Literal["show"]
    videos: Positive = 2
    frames: Positive = Field(2, description="of each video")


class ReportStage(Stage):
    """A page that shows a prediction frame by frame, or two side by side."""

    do: Literal["report"]
    of: tuple[Name, ...] = Field(min_length=1, max_length=2, description="prediction or ensemble stages of one split")
    every: Positive = Field(1, description="draw every n-th frame")
    frames: Positive | None = Field(None, description="draw at most so many frames of a video, evenly spaced")

    def taken(self) -> Iterator[tuple[Key, str, tuple[str, ...]]]:
        yield from ((("of", number), name, PREDICTIONS) for number, name in enumerate(self.of))


class SubmitStage(OfOne):
    """A submission zip."""

    do: Literal["submit"]
    label_offset: Annotated[int, Field(ge=0, le=1)] = Field(0, description="added to every class index")
    prefix: str = Field("", description="folder in the zip that holds the videos")


AnyStage = Annotated[
    TrainStage | PredictStage | EnsembleStage | PseudoStage | EvalStage | ShowStage | ReportStage | SubmitStage,
    Field(discriminator="do"),
]


class Pipeline(Section):
    """Stages as a graph. They are listed, and run as far as their inputs allow, in the order of the file."""

    name: Name
    about: str = Field("", description="one line for `vss recipe ls`")
    holdout: Split | None = Field(None, description="a split that no stage is trained on, so that it can be scored")
    stages: dict[Name, AnyStage] = Field(min_length=1, max_length=MAX_STAGES)
