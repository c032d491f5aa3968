"""Sections about prediction: how the network is read out, and what is stored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vsscli.section import Factor, Section, Side, Size

Keep = Literal["top", "fine", "compact", "all"]


class Plan(Section):
    """A test-time augmentation plan written out."""

    scales: tuple[Factor, ...] = (1.0,)
    flip: bool = False


class Predict(Section):
    """How the network is read out."""

    size: Side | None = Field(None, description="short side at scale 1; null: the frame's own")
    window: Size | None = Field(None, description="sliding window; null: whole frames")
    step: Size | None = Field(None, description="step of the window; null: two thirds of it")
    tta: Literal["paper", "flip", "none"] | Plan = Field("paper", description="plan used with --tta")
    precision: Literal["32", "bf16", "16"] = "32"
    missing: Literal["spread", "normalise"] = Field(
        "spread",
        description="for mask classifiers, what a pixel's scores lack to sum to 1: spread evenly over the classes, or "
        "normalised in proportion, as earlier versions did",
    )


class StoreSection(Section):
    """What is kept of a prediction. The format is specified in docs/store.md."""

    grid: Literal[1, 2, 4] = Field(1, description="stride of the score grid")
    kept: Annotated[int, Field(ge=1, le=254)] = Field(
        6, description="classes kept per pixel, at most all; compact keeps at most 3, fine at least 8"
    )
    keep: Keep = Field(
        "top", description="the most likely classes, more of them, fewer and coarser ones, or all logits as float16"
    )
    drop: float | None = Field(
        None, ge=0, lt=1, description="classes less likely than this are not listed; null: 0.008, or as `keep` implies"
    )
