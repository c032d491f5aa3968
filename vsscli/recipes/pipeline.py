"""What a recipe of a whole pipeline may say: stages by name, each with what it takes from others.

Whatever a stage names as `init`, `model`, `of`, … is another stage of the same file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from vsscli.metrics.protocols import ProtocolName
from vsscli.names import SHORT
from vsscli.recipes.readout import Keep, Plan
from vsscli.section import Positive, Section, Split

Metric = Annotated[str, StringConstraints(to_lower=True)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=SHORT)]


MAX_STAGES = 300
"""A pipeline is written by hand; the order of its stages is found by walking from each to what it takes."""


class Stage(Section):
    """What every stage may say."""

    optional: bool = Field(False, description="runs only when it is named on the command line")

    def takes(self) -> tuple[str, ...]:
        """The stages whose results this one needs."""
        return ()


class TrainStage(Stage):
    """A network, trained by a recipe of one stage."""

    do: Literal["train"]
    recipe: str = Field(description="recipe of one stage: a file beside this one, or a shipped recipe")
    set: dict[str, Any] = Field({}, description="what to change in that recipe: `train.steps: 40000`")
    init: Name | None = Field(None, description="training stage whose weights the network starts from")
    pseudo: Name | None = Field(None, description="pseudo-label stage that the recipe's unlabelled part learns from")

    def takes(self) -> tuple[str, ...]:
        return tuple(name for name in (self.init, self.pseudo) if name is not None)


class PredictStage(Stage):
    """A network's predictions of a split, in a store."""

    do: Literal["predict"]
    model: Name = Field(description="training stage")
    split: Split = Field("val", description="as `vss predict --split` takes it")
    tta: bool | Literal["paper", "flip", "none"] | Plan = Field(
        True, description="the plan of the model's recipe, none, or another one"
    )
    keep: Keep | None = Field(None, description="none: as the model's recipe says")

    def takes(self) -> tuple[str, ...]:
        return (self.model,)


class EnsembleStage(Stage):
    """Predictions of the same frames, fused."""

    do: Literal["ensemble"]
    of: tuple[Name, ...] = Field(min_length=2, description="prediction or ensemble stages")
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(None, description="one each; none: all alike")
    method: Literal["arithmetic", "geometric"] = "arithmetic"

    def takes(self) -> tuple[str, ...]:
        return self.of

    @model_validator(mode="after")
    def _one_weight_each(self) -> EnsembleStage:
        if self.weights is not None and len(self.weights) != len(self.of):
            raise ValueError(f"{len(self.weights)} weights for {len(self.of)} stages")
        return self


class PseudoStage(Stage):
    """Labels of the pixels that a prediction is sure of."""

    do: Literal["pseudo"]
    of: Name = Field(description="prediction or ensemble stage")
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="highest normalised entropy")
    percentile: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None, description="or: share of all pixels, in per cent, those of least entropy; none of both: 80"
    )
    by_class: bool = Field(False, description="the percentile is one of each class's pixels")

    def takes(self) -> tuple[str, ...]:
        return (self.of,)

    @model_validator(mode="after")
    def _one_limit(self) -> PseudoStage:
        if self.threshold is not None and self.percentile is not None:
            raise ValueError("threshold and percentile are two ways to say the same: give one of them")
        if self.threshold is not None and self.by_class:
            raise ValueError("by_class needs a percentile: a threshold is one for all classes")
        return self


class Row(Section):
    """A line of a table of scores."""

    name: str = Field(description="what the line is called")
    of: Name = Field(description="prediction or ensemble stage")
    paper: dict[Metric, float] = Field(
        {}, description="the paper's figures, per cent, by metric, to stand beside what is measured"
    )
    note: str = Field("", description="what must be known to compare the two")


class EvalStage(Stage):
    """A table of scores, like those of the paper."""

    do: Literal["eval"]
    rows: tuple[Row, ...] = Field(min_length=1)
    metrics: tuple[Metric, ...] = Field(("miou", "wiou", "vc8", "vc16"), min_length=1)
    protocol: ProtocolName = "vspw"

    def takes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.of for row in self.rows))

    @model_validator(mode="after")
    def _papers_figures_of_what_is_measured(self) -> EvalStage:
        strange = sorted({metric for row in self.rows for metric in row.paper} - set(self.metrics))
        if strange:
            raise ValueError(
                f"a row has the paper's {strange[0]}, which is not among metrics: {', '.join(self.metrics)}"
            )
        return self


class ShowStage(Stage):
    """Overlay pictures of a prediction."""

    do: Literal["show"]
    of: Name = Field(description="prediction or ensemble stage")
    videos: Positive = 2
    frames: Positive = Field(2, description="of each video")

    def takes(self) -> tuple[str, ...]:
        return (self.of,)


class SubmitStage(Stage):
    """The zip that is handed in."""

    do: Literal["submit"]
    of: Name = Field(description="prediction or ensemble stage")
    label_offset: Annotated[int, Field(ge=0, le=1)] = Field(0, description="added to every class index")
    prefix: str = Field("", description="folder in the zip that everything lies in")

    def takes(self) -> tuple[str, ...]:
        return (self.of,)


AnyStage = Annotated[
    TrainStage | PredictStage | EnsembleStage | PseudoStage | EvalStage | ShowStage | SubmitStage,
    Field(discriminator="do"),
]


class Pipeline(Section):
    """Stages as a graph. Their order in the file is the order they are told in, and run in where it is free."""

    name: Name
    about: str = Field("", description="one line for `vss recipe ls`")
    holdout: Split | None = Field(None, description="a split that no stage learns from, so that it can be scored on")
    stages: dict[Name, AnyStage] = Field(min_length=1, max_length=MAX_STAGES)
