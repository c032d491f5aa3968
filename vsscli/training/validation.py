"""Validation during training: the metrics of `vss eval` on the validation split."""

from __future__ import annotations

import numpy as np
from lightning_fabric import Fabric

from vsscli.data.layouts import Dataset
from vsscli.data.videos import FolderVideo
from vsscli.engine.engine import Engine
from vsscli.evaluation.score import score
from vsscli.inference.plans import NONE
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.models.network import Network
from vsscli.recipes.schema import Recipe

METRICS = ("miou", "wiou", "vc8", "vc16")


class LiveLabels:
    """Labels predicted on demand, without a store; a network that follows videos sees every frame before, in order."""

    def __init__(self, predictor: Predictor, videos: list[FolderVideo]) -> None:
        self._predictor = predictor
        self._videos = {video.name: video for video in videos}
        self._next = ("", 0)

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        """Predict one frame: (H, W) uint8."""
        predictor, frames = self._predictor, self._videos[video]
        if not predictor.follows:
            return predictor.label(frames.read(index))
        name, start = self._next
        if name != video or start > index:
            predictor.begin()
            start = 0
        self._next = (video, index + 1)
        return [predictor.labels([frames.read(number)])[0] for number in range(start, index + 1)][-1]

    def place(self, video: str, stem: str) -> str:
        """A frame's prediction, as errors name it."""
        return f"the prediction of {video}/{stem}"


def validate(network: Network, dataset: Dataset, recipe: Recipe, fabric: Fabric) -> dict[str, float | None]:
    """Score a network in evaluation mode on the recipe's evaluation split, without test-time augmentation.

    The first process does it; the others wait, and get no figures. Figures are fractions, None if nothing counted.
    """
    figures: dict[str, float | None] = {}
    if fabric.is_global_zero:
        predict = recipe.predict
        how = ReadOut(predict.size, predict.window, predict.step, NONE, recipe.train.precision, predict.missing)
        predictor = Predictor(network, network.normalisation, how, fabric.device, batch_size=1)
        videos = dataset.split("val")
        scored = score(
            videos, LiveLabels(predictor, videos), dataset.table, dataset.ids, metrics=METRICS, engine=Engine(1)
        )
        figures = scored.plain()
    fabric.barrier()
    return figures
