"""Section of recipes for synthetic videos."""

from __future__ import annotations

from pydantic import Field

from vsscli.section import Positive, Section, Seed, Size


class Scene(Section):
    """Small synthetic videos, drawn on demand if no real data is available."""

    videos: Positive = Field(8, description="labelled training videos")
    unlabelled_videos: Positive = Field(8, description="training videos without labels")
    val_videos: Positive = Field(4, description="videos to score on")
    frames: Positive = Field(20, description="frames per video")
    size: Size = Field((96, 128), description="height and width of a frame")
    seed: Seed = 0
