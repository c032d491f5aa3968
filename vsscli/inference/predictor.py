"""Predicting: from frames to one map of probabilities for each scale.

A frame is resized so that its short side is the test size times the scale, and each side is rounded up to a multiple
that the network takes; it is normalised and passed to the network plain and mirrored, whole or in windows. Scores
become probabilities once for each view, at the network's own stride. Windows, then mirrored views, are averaged at that
stride, before anything is enlarged. Letters: A answers of the network, B batch, C classes, H W frame, h w score map of
a view.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from vsscli.data.pixels import TILES
from vsscli.errors import VssError
from vsscli.inference.answers import Answers
from vsscli.inference.bands import ViewMaps, read_labels
from vsscli.inference.devices import autocast, require_precision
from vsscli.inference.handed import Handed
from vsscli.inference.memory import is_out_of_memory, keep_freed_memory, release_cached
from vsscli.inference.readout import ReadOut, view_size
from vsscli.inference.transfer import Stopwatch, Transfer
from vsscli.inference.windows import Size, chosen_window, window_corners, window_step
from vsscli.models.constants import kept_on_device
from vsscli.models.network import Network, Normalisation, VideoNetwork
from vsscli.models.scores import Missing, Scores, to_probabilities
from vsscli.talk import SILENCE, Talk

CPU_BATCH_PIXELS = 2**18
"""Largest useful batch on a CPU, in pixels. Beyond that, its maps do not fit the caches: with a light network on one
core, views of 576x768 take 0.6 microseconds a pixel one at a time and 1.2 eight at a time."""

MAPS_BYTES = 512 * 2**20
"""Most bytes of the maps, of one answer, of all frames that are predicted together, unless it is a single frame."""

MOST_VALUES = 2**34
"""Most pixels times classes of a frame or of its views: 4 GiB of maps at stride 4. An 8K frame with 124 classes has a
quarter of that."""

MOST_AT_ONCE = 2**25
"""Most pixels that go through the network in one piece: an 8K frame, whose features take many gigabytes."""


Place = tuple[int, int, int]
"""A window: number of its view, top, left."""


class Predictor:
    """Predicts frames with a network on a device.

    Images are resized as 8-bit values, bilinear and antialiased, by the function that training uses, so that the
    network sees the same kind of image as in training.

    Parameters
    ----------
    network
        In evaluation mode; it is moved to the device and otherwise unchanged.
    normalisation
        Mean and standard deviation of the network's input.
    read_out
        Size, windows, views, precision.
    device
        Where to run.
    batch_size
        Most views (or windows of views) in a forward pass. Halved permanently when memory runs out.

    Raises
    ------
    VssError
        Window, step or precision do not fit the network or the device.
    """

    def __init__(
        self,
        network: Network,
        normalisation: Normalisation,
        read_out: ReadOut,
        device: torch.device,
        batch_size: int = 8,
    ) -> None:
        if network.training:
            raise ValueError("prediction needs the network in evaluation mode: call eval() first")
        if device.type == "cpu":
            keep_freed_memory()
        # Moving would share out again what training has gathered to validate (`training.sharding.whole_weights`).
        there = all(tensor.device == device for tensor in network.parameters())
        self.network = network if there else network.to(device)
        self._handed: Handed | None = None
        if network.frames > 1:
            assert isinstance(network, VideoNetwork)
            self._handed = Handed(network)
        self.normalisation = normalisation
        self.read_out = read_out = replace(read_out, window=chosen_window(read_out.window, network.crop))
        self.device, self.transfer, self.stopwatch = device, Transfer(device), Stopwatch(device)
        self.batch_size = batch_size
        self._step: tuple[int, int] | None = None
        if read_out.window is not None:
            self._step = window_step(read_out.window, read_out.step, network.stride, network.divisor)
        require_precision(device, read_out.precision)

    @property
    def follows(self) -> bool:
        """Whether a frame's prediction depends on the frames before it, which `maps` then takes in order."""
        return self._handed is not None

    def begin(self) -> None:
        """Begin a video: the next frame does not follow the last one."""
        if self._handed is not None:
            self._handed.begin()

    def frames_at_once(self, size: tuple[int, int]) -> int:
        """How many frames of H, W to pass to `maps` at once: a full batch, if memory holds their maps, or one if the
        network follows videos, which sees one at a time."""
        if self.follows:
            return 1
        stride = self.network.stride
        pixels = sum(math.prod(self._view_size(size, scale)) for scale in self.read_out.plan.scales)
        held = pixels // stride**2 * self.network.num_classes * 4
        full = self.batch_size // len(self.read_out.plan.mirrored)
        return max(1, min(full, MAPS_BYTES // max(held, 1)))

    def require_room(self, size: tuple[int, int], what: str) -> None:
        """Refuse frames that are too large for any machine's memory, before they are decoded.

        Parameters
        ----------
        size
            Height and width of a frame.
        what
            What to call it in the error.

        Raises
        ------
        VssError
            The frames are too large; names the size and the limit.
        """
        classes, views = self.network.num_classes, [self._view_size(size, s) for s in self.read_out.plan.scales]
        enlarged = sum(map(math.prod, views))
        for pixels, unit in ((math.prod(size), "pixels"), (enlarged, "pixels in all views")):
            if pixels * classes > MOST_VALUES:
                raise VssError(
                    f"{what} is too large: {size[1]}x{size[0]}, {pixels} {unit} times {classes} classes are "
                    f"{pixels * classes} values, and the limit is {MOST_VALUES}",
                    f"{TILES}; or set a smaller predict.size",
                )
        at_once = max(map(math.prod, [self.read_out.window] if self.read_out.window else views))
        if at_once > MOST_AT_ONCE:
            raise VssError(
                f"{what} is too large to predict in one piece: {size[1]}x{size[0]} becomes a view of {at_once} pixels, "
                f"and the limit is {MOST_AT_ONCE}",
                "set predict.window, or a smaller predict.size; or cut the frames into tiles",
            )

    @torch.inference_mode()
    def maps(self, images: Sequence[np.ndarray], talk: Talk = SILENCE) -> list[ViewMaps]:
        """Predict frames of one size, which follow those of the last call if the network follows videos, and wait.

        Parameters
        ----------
        images
            (H, W, 3) uint8, RGB.
        talk
            Called with a warning when the batch is halved.

        Returns
        -------
        list of ViewMaps
            For each frame, on the device: the sum over the views of each scale. If the network has several ``answers``,
            all frames by the first, then by the second.

        Raises
        ------
        VssError
            Memory does not suffice for a single view, or the network's scores are not finite.
        """
        views, sums = self._maps(images, talk)
        self._require_finite(views[0].size, sums.cpu().numpy())
        return views

    @torch.inference_mode()
    def predict(
        self, images: Sequence[np.ndarray], read: Callable[[ViewMaps], Mapping[str, Tensor]], talk: Talk = SILENCE
    ) -> Answers:
        """Begin to predict frames, as `maps` does, and to fetch what ``read`` makes of each frame's maps on the device.

        On a GPU this only queues the work. The values are in the result, which raises as `maps` does if scores are
        not finite.
        """
        views, sums = self._maps(images, talk)
        return Answers(
            self.transfer, sums, [read(maps) for maps in views], partial(self._require_finite, views[0].size)
        )

    def labels(self, images: Sequence[np.ndarray], talk: Talk = SILENCE) -> list[np.ndarray]:
        """Most likely classes of frames of one size: (H, W) uint8 each. See `maps`."""
        return [frame["label"] for frame in self.predict(images, read_labels, talk).frames()]

    def label(self, image: np.ndarray) -> np.ndarray:
        """Most likely classes of one frame (H, W, 3) uint8, which follows no other: (H, W) uint8."""
        self.begin()
        return self.labels([image])[0]

    def _maps(self, images: Sequence[np.ndarray], talk: Talk) -> tuple[list[ViewMaps], Tensor]:
        """Maps of frames, and the sum of each scale's maps, one frame after another if the network follows videos."""
        if self._handed is not None and len(images) > 1:
            alone = [self._maps([image], talk) for image in images]
            return [views for found, _ in alone for views in found], torch.cat([sums for _, sums in alone])
        frames = self.transfer.up(images).permute(0, 3, 1, 2)
        plan = self.read_out.plan
        scales = [self._scale_maps(frames, scale, talk) for scale in plan.scales]  # each (frames, C, h, w)
        if self._handed is not None:
            self._handed.turn()
        weights = (1 / len(plan.views()),) * len(scales)
        height, width = frames.shape[-2:]
        views = [ViewMaps(maps, weights, (height, width)) for maps in zip(*scales, strict=True)]
        return views, torch.stack([maps.sum() for maps in scales])

    def _require_finite(self, frame: Size, sums: np.ndarray) -> None:
        """Refuse maps of which a sum, scale by scale, is not finite."""
        for total, scale in zip(sums, itertools.cycle(self.read_out.plan.scales), strict=False):
            if not math.isfinite(total):
                size = self._view_size(frame, scale)
                raise VssError(
                    f"the network's scores are not finite on views of {size[0]}x{size[1]}",
                    "if you use --precision 16, try bf16 or 32; otherwise training has diverged: use an earlier "
                    "checkpoint",
                )

    def _view_size(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
        return view_size(size, self.read_out.size, scale, self.network.divisor)

    def _scale_maps(self, frames: Tensor, scale: float, talk: Talk) -> Tensor:
        """Frames (B, 3, H, W) uint8 to sums over the views of one scale, (A * B, C, h, w) float32."""
        size = self._view_size((frames.shape[-2], frames.shape[-1]), scale)
        resized = resize(frames, list(size), interpolation=InterpolationMode.BILINEAR, antialias=True)
        views = list(resized.permute(0, 2, 3, 1).contiguous())  # (y, x, 3) each
        if self.read_out.plan.flip:
            views += [view.flip(1) for view in views]
        return self._add_windows(views, len(frames), self.read_out.window or size, self._step or size, scale, talk)

    def _add_windows(
        self, views: list[Tensor], number: int, window: Size, step: Size, scale: float, talk: Talk
    ) -> Tensor:
        """Views (y, x, 3) uint8 of B frames, all plain, then all mirrored, to sums of probabilities (A * B, C, h, w).

        For each view, a cell is the average over the windows that contain it.
        """
        stride, answers = self.network.stride, self.network.answers
        height, width, _ = views[0].shape
        padding = (max(window[0] - height, 0), max(window[1] - width, 0))
        if any(padding):
            views = [F.pad(view, (0, 0, 0, padding[1], 0, padding[0])) for view in views]
        h, w = height // stride, width // stride
        corners = window_corners((height, width), window, step)
        count = torch.zeros(h, w, device=self.device)
        for top, left in corners:
            count[top // stride : (top + window[0]) // stride, left // stride : (left + window[1]) // stride] += 1
        # Channels innermost, like the network's scores and as `mean_bands` needs them.
        total = torch.zeros(answers * number, h, w, self.network.num_classes, device=self.device).permute(0, 3, 1, 2)
        places = [(view, top, left) for view in range(len(views)) for top, left in corners]
        while places:
            probabilities = self._probabilities(views, places, window, scale, talk)
            self._require_cells(window, probabilities)
            done = len(probabilities) // answers
            for index, windowed in enumerate(probabilities):
                answer, place = divmod(index, done)
                view, top, left = places[place]
                y, x = top // stride, left // stride
                inside = windowed[:, : h - y, : w - x]
                rows, columns = inside.shape[1:]
                if len(corners) > 1:
                    inside = inside / count[y : y + rows, x : x + columns]
                if view >= number:
                    inside, x = inside.flip(-1), w - x - columns
                total[answer * number + view % number, :, y : y + rows, x : x + columns] += inside
            places = places[done:]
        return total

    def _require_cells(self, window: Size, probabilities: Tensor) -> None:
        """Refuse a map of another size than its image divided by the stride: its cells would lie beside their place."""
        stride, (height, width) = self.network.stride, probabilities.shape[-2:]
        if (height, width) != (window[0] // stride, window[1] // stride):
            raise VssError(
                f"the network turns an image of {window[0]}x{window[1]} into a map of {height}x{width} cells, which do "
                f"not cover it at its stride of {stride}",
                "use a network whose convolutions are all padded, or another predict.size or predict.window",
            )

    def _probabilities(
        self, views: list[Tensor], places: list[Place], window: Size, scale: float, talk: Talk
    ) -> Tensor:
        """Probabilities (A * b, C, h, w) of the first b windows of ``places``: one forward pass."""
        asked = self._batch(window)
        while True:
            number = min(self._batch(window), len(places))
            probabilities = self._forward(views, places[:number], window, scale)
            if probabilities is not None:
                break
            if number == 1:
                raise VssError(
                    f"out of memory on {self.device} with a single view of {window[0]}x{window[1]}",
                    "use a smaller predict.window or predict.size, a plan with smaller scales, or --precision bf16",
                )
            self.batch_size = number // 2
        if self._batch(window) < asked:
            talk.warn(f"memory is short on {self.device}: continuing with {self.batch_size} views at once, not {asked}")
        return probabilities

    def _batch(self, window: Size) -> int:
        if self.device.type != "cpu":
            return self.batch_size
        return min(self.batch_size, max(1, CPU_BATCH_PIXELS // math.prod(window)))

    def _forward(self, views: list[Tensor], places: list[Place], window: Size, scale: float) -> Tensor | None:
        """Probabilities (A * b, C, h, w) of b windows, or `None` if memory does not suffice."""
        height, width = window
        try:
            crops = torch.stack([views[view][top : top + height, left : left + width] for view, top, left in places])
            with autocast(self.device, self.read_out.precision), self.stopwatch.running():
                images = self._normalised(crops)
                if self._handed is None:
                    scores = self.network(images)
                else:
                    scores = self._handed(images, [(scale, place) for place in places])
            return _distribution(scores, self.read_out.missing)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, whose error keeps the tensors of the failed pass alive.
        release_cached(self.device)
        return None

    def _normalised(self, crops: Tensor) -> Tensor:
        """Crops (b, y, x, 3) uint8 to the network's input, (b, 3, y, x) float32.

        The same numbers as those of `Normalisation`, several times faster: channels innermost, in place, and with mean
        and deviation repeated along a row. The result is channels_last, which makes convolutions 1.2 to 2 times faster
        on a CPU, and which half precision needs on a GPU. The layout of the weights does not change, because the
        network may be in training.
        """
        number, height, width, channels = crops.shape
        colours = (self.normalisation.mean, self.normalisation.std)
        mean, std = kept_on_device(colours, self.device, torch.float32).repeat(1, width)
        images = crops.view(number, height, width * channels).float().sub_(mean).div_(std)
        return images.view(number, height, width, channels).permute(0, 3, 1, 2)


def _distribution(scores: Scores, missing: Missing = "spread") -> Tensor:
    """Probabilities (B, C, h, w) float32 with the memory layout of the scores.

    If channels are innermost, torch's softmax over them copies first. Given as a list of pixels, many classes take a
    quarter of the time; a few classes do not fill a vector, and copying is faster.
    """
    values = scores.values
    if values.shape[1] < 16 or not values.is_contiguous(memory_format=torch.channels_last):
        return to_probabilities(scores, missing)
    number, classes, height, width = values.shape
    pixels = to_probabilities(Scores(values.permute(0, 2, 3, 1).reshape(-1, classes), scores.kind), missing)
    return pixels.view(number, height, width, classes).permute(0, 3, 1, 2)
