"""Sections of recipes: their base class, and the numbers that they accept."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vsscli.names import sound_name

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0, le=10**12)]
Side = Annotated[int, Field(gt=0, le=2**16)]
"""Side of an image in pixels, at most what a store can hold."""
Width = Annotated[int, Field(gt=0, le=2**16)]
Layers = Annotated[int, Field(gt=0, le=1000)]
Batch = Annotated[int, Field(gt=0, le=2**16)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Factor = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Size = tuple[Side, Side]
Split = Annotated[str, AfterValidator(sound_name)]


class Section(BaseModel):
    """A part of a recipe, which rejects unknown keys and is frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
