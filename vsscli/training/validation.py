"""Validation during training: the metrics of `vss eval` on the validation split, shared out over all processes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.distributed
from lightning_fabric import Fabric

from vsscli.data.layouts import Dataset
from vsscli.data.videos import FolderVideo
from vsscli.engine.engine import FRAMES_EACH, Engine, Item, Result, Task
from vsscli.evaluation.score import score
from vsscli.inference.plans import NONE
from vsscli.inference.predictor import Predictor, ReadOut
from vsscli.models.network import Network
from vsscli.recipes.schema import Recipe
from vsscli.talk import SILENCE, Talk

METRICS = ("miou", "wiou", "vc8", "vc16")

BATCH = 8
"""Frames predicted at a time, as `vss predict` does by default; fewer if memory is short."""


class LiveLabels:
    """Labels predicted on demand, without a store, some frames ahead; a network that follows videos sees every frame
    before, in order."""

    def __init__(self, predictor: Predictor, videos: Sequence[FolderVideo]) -> None:
        self._predictor = predictor
        self._videos = {video.name: video for video in videos}
        self._next = ("", 0)
        self._ahead: dict[tuple[str, int], np.ndarray] = {}

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        """Predict one frame: (H, W) uint8."""
        predictor, frames = self._predictor, self._videos[video]
        if not predictor.follows:
            if (video, index) not in self._ahead:
                self._ahead = self._batch(frames, index)
            return self._ahead.pop((video, index))
        name, start = self._next
        if name != video or start > index:
            predictor.begin()
            start = 0
        self._next = (video, index + 1)
        return [predictor.labels([frames.read(number)])[0] for number in range(start, index + 1)][-1]

    def _batch(self, video: FolderVideo, start: int) -> dict[tuple[str, int], np.ndarray]:
        """Labels of the next frames with masks."""
        numbers = [number for number in _masked(video) if number >= start][:BATCH]
        labels = self._predictor.labels([video.read(number) for number in numbers])
        return {(video.name, number): label for number, label in zip(numbers, labels, strict=True)}

    def place(self, video: str, stem: str) -> str:
        """A frame's prediction, as errors name it."""
        return f"the prediction of {video}/{stem}"


@dataclass(frozen=True)
class Peers(Engine):
    """The processes that train together, each with a run of videos of about as many frames; all get all results."""

    rank: int = 0
    world: int = 1

    def map(
        self,
        label: str,
        task: Task[Item, Result],
        videos: Sequence[Item],
        lengths: Sequence[int],
        talk: Talk = SILENCE,
        *,
        unit: str = "frame",
        worth: int = FRAMES_EACH,
    ) -> Generator[Result]:
        """See `Engine.map`; every process must consume it."""
        until = np.cumsum(lengths)
        middle = until - np.asarray(lengths) / 2
        turn = (middle * self.world / max(until[-1], 1)).astype(int)
        turn = turn.clip(max=self.world - 1)  # videos of length 0 at the end
        mine = [video for video, number in zip(videos, turn, strict=True) if number == self.rank]
        own = list(task(mine, 1, talk)) if mine else []
        every: list[Any] = [own]
        if self.world > 1:
            every = [None] * self.world
            torch.distributed.all_gather_object(every, own)
        for results in every:
            yield from results


def chosen(videos: Sequence[FolderVideo], most: int | None) -> list[FolderVideo]:
    """Of a split, the part that a recipe validates on: at most so many frames with a mask, of videos at even
    distances."""
    masked = [(video, numbers) for video in videos if (numbers := _masked(video))]
    total = sum(len(numbers) for _, numbers in masked)
    if most is None or total <= most:
        return list(videos)
    count = max(1, round(len(masked) * most / total))
    left, part = most, []
    for number in range(count):
        video, numbers = masked[number * len(masked) // count]
        if left:
            numbers = numbers[:left]
            part.append(FolderVideo(video.name, video.frames[: numbers[-1] + 1]))
            left -= len(numbers)
    return part


def _masked(video: FolderVideo) -> list[int]:
    """The numbers of the frames that have a mask."""
    return [number for number, frame in enumerate(video.frames) if frame.mask is not None]


def validate(network: Network, dataset: Dataset, recipe: Recipe, fabric: Fabric) -> dict[str, float | None]:
    """Score a network in evaluation mode on the recipe's evaluation split, without test-time augmentation.

    Every process predicts some of the videos, and all get the figures: fractions, None if nothing counted.
    """
    predict = recipe.predict
    how = ReadOut(predict.size, predict.window, predict.step, NONE, recipe.train.precision, predict.missing)
    predictor = Predictor(network, network.normalisation, how, fabric.device, batch_size=BATCH)
    videos = chosen(dataset.split("val"), recipe.train.validate_frames)
    peers = Peers(1, rank=fabric.global_rank, world=fabric.world_size)
    labels = LiveLabels(predictor, videos)
    return score(videos, labels, dataset.table, dataset.ids, metrics=METRICS, engine=peers).plain()
