"""Networks with known output, and videos in memory, for the tests of inference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vsscli.data.video import Video
from vsscli.inference.bands import ViewMaps
from vsscli.inference.plans import NONE, AugmentationPlan
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.models.network import Network, Normalisation
from vsscli.models.scores import ScoreKind, Scores

CPU = torch.device("cpu")
BYTES = Normalisation((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


class Colours(Network):
    """Logits from the mean colour of each cell alone. Counts its passes and their batch sizes."""

    def __init__(self, num_classes: int = 5, stride: int = 4, divisor: int = 8) -> None:
        super().__init__(num_classes, stride, divisor, BYTES)
        weights = torch.randn(num_classes, 3, generator=torch.Generator().manual_seed(7)) * 8
        self.register_buffer("weights", weights)
        self.batches: list[int] = []
        self.eval()

    def forward(self, images: Tensor) -> Scores:
        self.check_sides(images)
        self.batches.append(len(images))
        cells = F.avg_pool2d(images.float(), self.stride)
        return Scores(torch.einsum("ck,bkyx->bcyx", self.weights, cells), ScoreKind.LOGITS)


class Across(Colours):
    """Scores a cell by its horizontal position in the image, and nothing else."""

    def forward(self, images: Tensor) -> Scores:
        self.batches.append(len(images))
        height, width = (side // self.stride for side in images.shape[-2:])
        right = torch.linspace(0, 1, width).expand(len(images), 1, height, width)
        rest = (1 - right) / (self.num_classes - 1)
        values = torch.cat([right, rest.expand(-1, self.num_classes - 1, -1, -1)], dim=1)
        return Scores(values, ScoreKind.PROBABILITIES)


class Narrow(Colours):
    """Runs out of memory when a batch has more than ``room`` images."""

    room = 2

    def forward(self, images: Tensor) -> Scores:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("tried to allocate")
        return super().forward(images)


class SeenVideo(Video):
    """A video of random frames in memory; decoding a frame in ``broken`` raises its exception."""

    def __init__(self, name: str, frames: int, size: tuple[int, int] = (16, 24)) -> None:
        rng = np.random.default_rng(len(name))
        self.name = name
        self.frames = [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(frames)]
        self.broken: dict[int, BaseException] = {}
        self.decoded = 0

    @property
    def stems(self) -> tuple[str, ...]:
        return tuple(f"{number:05d}" for number in range(len(self.frames)))

    @property
    def size(self) -> tuple[int, int]:
        return self.frames[0].shape[0], self.frames[0].shape[1]

    def images(self, start: int = 0) -> Iterator[np.ndarray]:
        for number in range(start, len(self.frames)):
            if number in self.broken:
                raise self.broken[number]
            self.decoded += 1
            yield self.frames[number]


def read_out(
    plan: AugmentationPlan = NONE,
    *,
    size: int | None = None,
    window: tuple[int, int] | None = None,
    step: tuple[int, int] | None = None,
    precision: str = "32",
) -> ReadOut:
    return ReadOut(size, window, step, plan, precision)


def predictor(network: Network, how: ReadOut | None = None, batch_size: int = 8) -> Predictor:
    return Predictor(network, BYTES, how or read_out(), CPU, batch_size)


def distributions(classes: int, sizes: list[tuple[int, int]], seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.randn(classes, *size, generator=generator) * 3).softmax(0) for size in sizes)


def dense(views: ViewMaps, size: tuple[int, int]) -> Tensor:
    """The definition: every map enlarged to C x H x W, then the weighted sum."""
    wide = [F.interpolate(map_[None], size, mode="bilinear", align_corners=False)[0] for map_ in views.maps]
    return sum(weight * map_ for weight, map_ in zip(views.weights, wide, strict=True))


class Heard:
    """A listener that records warnings and progress."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.total = self.done = 0

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def track(self, label: str, total: int, unit: str = "frame") -> Heard:
        self.total = total
        return self

    def __enter__(self) -> Heard:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, done: int) -> None:
        self.done += done
