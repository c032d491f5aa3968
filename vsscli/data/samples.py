"""Samples and crops of training: pixels, and maps of what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from vsscli.data.kept import read_kept
from vsscli.data.masks import MaskIds, to_classes
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError

Maps = TypeVar("Maps", np.ndarray, Tensor)


class StoredPixels(NamedTuple, Generic[Maps]):
    """What a prediction store holds for pixels besides their label, in stored levels, uint8.

    Attributes
    ----------
    entropy, level
        (..., H, W): entropy, and probability of the label.
    ranked
        (..., K, h, w): the K most likely classes, most likely first; 255 after the last that is listed.
    """

    entropy: Maps
    level: Maps
    ranked: Maps


class Sample(NamedTuple):
    """A frame as read from disk: image (H, W, 3) uint8; labels (H, W) uint8, class index or 255, `None` if there are
    none; and what else a store holds for its pixels, maybe on a coarser grid."""

    image: np.ndarray
    labels: np.ndarray | None
    stored: StoredPixels[np.ndarray] | None = None


class Crops(NamedTuple):
    """A crop, or with a further axis a batch of crops.

    Attributes
    ----------
    images
        (..., 3, H, W) uint8, not normalised; 0 in the padding.
    labels
        (..., H, W) uint8, class index, or 255 if there is none, as everywhere in the padding.
    padding
        (..., H, W) bool: outside of the frame.
    stored
        What else the store holds for the pixels; meaningless in the padding.
    strong
        (..., 2, 3, H, W): the images twice more, with colours changed far (`data.strong`).
    present
        (..., 256) bool: which labels occur. It stays on the host, so that nothing has to wait for the device to learn
        it; `None` if labels may have changed since.
    """

    images: Tensor
    labels: Tensor
    padding: Tensor
    stored: StoredPixels[Tensor] | None = None
    strong: Tensor | None = None
    present: Tensor | None = None

    def each(self, images: Callable[[Tensor], Tensor], maps: Callable[[Tensor], Tensor]) -> Crops:
        """The crops with one function applied to their images, and another to all their maps, labels among them."""
        stored = None if self.stored is None else StoredPixels(*map(maps, self.stored))
        strong = None if self.strong is None else images(self.strong)
        return Crops(images(self.images), maps(self.labels), maps(self.padding), stored, strong)

    def to(self, device: torch.device) -> Crops:
        """The crops copied to a device, without waiting for it."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return self.each(moved, moved)._replace(present=self.present)


def present_labels(labels: Tensor) -> Tensor:
    """Which labels each map (B, H, W) has: (B, 256) bool."""
    present = torch.zeros(len(labels), 256, dtype=torch.bool, device=labels.device)
    return present.scatter_(1, labels.flatten(1).long(), True)


def stacked(parts: Sequence[Any]) -> Any:
    """Stack records of tensors; a field that is `None` in one of them is `None` in all."""
    if isinstance(parts[0], tuple):
        return type(parts[0])(*(stacked(field) for field in zip(*parts, strict=True)))
    # In a loader process this stacks directly into shared memory.
    return None if parts[0] is None else default_collate(list(parts))


class Samples(Protocol):
    """Frames to train on, by number; ``lengths`` are the numbers of frames of each video."""

    @property
    def lengths(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def load(self, index: int) -> Sample:
        """Read a frame."""
        ...


class LabelledFrames:
    """Frames with masks whose values have the meaning ``ids``.

    Raises
    ------
    VssError
        A frame has no image or no mask; when it is loaded, a file is damaged, or the mask differs in size from the
        image or has unknown values.
    """

    def __init__(self, videos: Sequence[FolderVideo], ids: MaskIds, num_classes: int) -> None:
        self._ids, self._num_classes = ids, num_classes
        self.lengths = [len(video.frames) for video in videos]
        self._frames: list[tuple[Frame, Path]] = []
        for frame in (frame for video in videos for frame in video.frames):
            if frame.image is None or frame.mask is None:
                what = "image" if frame.image is None else "mask"
                raise VssError(
                    f"training frame {frame.address} has no {what}", "add it, or remove the frame from the split"
                )
            self._frames.append((frame, frame.mask))

    def __len__(self) -> int:
        return len(self._frames)

    def load(self, index: int) -> Sample:
        """Decode a frame and its mask."""
        frame, mask = self._frames[index]
        return _of_one_size(frame, Sample(read_kept(frame), self.label(index)), f"mask {mask}")

    def label(self, index: int) -> np.ndarray:
        """Decode only a frame's mask, (H, W) uint8, class index or 255."""
        mask = self._frames[index][1]
        return to_classes(self._ids.read(mask), self._ids, self._num_classes, mask)


Known = Callable[[str, int], tuple[np.ndarray, StoredPixels[np.ndarray] | None]]
"""Labels of a frame, given its video's name and its number, and what else a store holds for it."""


class UnlabelledFrames:
    """Frames without masks, whose labels come from ``known`` if it is given.

    Loader processes get a copy of ``known``, by fork or by pickle, so it should open files when it is first called.
    """

    def __init__(self, videos: Sequence[FolderVideo], known: Known | None) -> None:
        self.videos, self._known = list(videos), known
        self.lengths = [len(video) for video in videos]
        self._ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def load(self, index: int) -> Sample:
        """Decode a frame and look up its labels."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        video = self.videos[number]
        t = index - int(self._ends[number]) + len(video)
        image = video.read(t, read_kept)
        if self._known is None:
            return Sample(image, None)
        return _of_one_size(video.frames[t], Sample(image, *self._known(video.name, t)), "its pseudo-label")


def _of_one_size(frame: Frame, sample: Sample, what: str) -> Sample:
    assert sample.labels is not None
    (height, width), (down, across) = sample.image.shape[:2], sample.labels.shape
    if (height, width) != (down, across):
        raise VssError(
            f"frame {frame.address} is {width}x{height}, but {what} is {across}x{down} (width x height)",
            "labels must have the size of their frames; `vss doctor --data ROOT` lists every fault",
        )
    return sample
