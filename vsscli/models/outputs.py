"""A network's outputs for training; prediction needs only the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from vsscli.models.scores import ScoreKind, Scores, own_types


class Outputs(Protocol):
    """The outputs that training needs of every family.

    Attributes
    ----------
    scores
        What `Network.forward` returns.
    features
        (B, D, h, w), the decoder's last features at the stride of the scores, the input of a projection head; None if a
        family has none.
    """

    @property
    def scores(self) -> Scores: ...

    @property
    def features(self) -> Tensor | None: ...

    def part(self, crops: slice) -> Outputs:
        """The outputs of some crops of the batch."""
        ...


@dataclass(frozen=True)
class MapOutputs:
    """Outputs of a network that scores each pixel directly."""

    scores: Scores
    features: Tensor | None = None

    def part(self, crops: slice) -> MapOutputs:
        """The outputs of some crops of the batch."""
        features = None if self.features is None else self.features[crops]
        return MapOutputs(Scores(self.scores.values[crops], self.scores.kind), features)


class QueryPrediction(NamedTuple):
    """The predictions of a mask classifier's queries: class logits (B, Q, C + 1), the last one "no object", and mask
    logits (B, Q, h, w)."""

    class_logits: Tensor
    mask_logits: Tensor


class Clip(NamedTuple):
    """How the images of a batch belong together: each ``frames`` of them, one after another, are a clip whose queries
    were handed on. Whether losses have the faults of the ``published`` training (`training.set_prediction`)."""

    frames: int = 1
    published: bool = False


IMAGES = Clip()


@dataclass(frozen=True)
class MaskOutputs:
    """Outputs of a mask classifier.

    Attributes
    ----------
    layers
        Predictions of all layers, the last one last.
    features
        (B, D, h, w), the features that the masks are made from.
    size
        Height and width to which masks are resized before they are summed; None to keep the masks' size.
    clip
        Which images are frames of one clip.
    """

    layers: tuple[QueryPrediction, ...]
    features: Tensor
    size: tuple[int, int] | None = None
    clip: Clip = IMAGES

    @property
    def scores(self) -> Scores:
        """Mask scores of the last layer, computed on each access."""
        return mask_scores(self.layers[-1], self.size)

    def part(self, crops: slice) -> MaskOutputs:
        """The outputs of some crops of the batch."""
        layers = tuple(QueryPrediction(layer.class_logits[crops], layer.mask_logits[crops]) for layer in self.layers)
        return MaskOutputs(layers, self.features[crops], self.size, self.clip)


def mask_scores(prediction: QueryPrediction, size: tuple[int, int] | None = None) -> Scores:
    """Sum over queries the class probability, a softmax without "no object", times the sigmoid of the mask.

    Parameters
    ----------
    prediction
        Class logits (B, Q, C + 1), mask logits (B, Q, h, w).
    size
        Height and width to resize the mask logits to first, bilinearly (``align_corners=False``), as detectron2 does;
        None to stay at the masks' size, as mmsegmentation does.

    Returns
    -------
    Scores
        Mask scores (B, C, h, w) or (B, C, *size), float32, also under autocast.
    """
    with own_types(prediction.mask_logits):
        classes = prediction.class_logits.float().softmax(dim=-1)[..., :-1].transpose(1, 2)  # (B, C, Q)
        # One image at a time: the masks of all queries at full size are the largest tensors of the network.
        values = [
            _summed(share, masks, size) for share, masks in zip(classes, prediction.mask_logits.float(), strict=True)
        ]
        return Scores(torch.stack(values), ScoreKind.MASK_SCORES)


def _summed(share: Tensor, mask_logits: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Sum over Q of ``share`` (C, Q) times the masks (Q, h, w)."""
    if size is not None:
        mask_logits = functional.interpolate(mask_logits[None], size=size, mode="bilinear", align_corners=False)[0]
    return (share @ mask_logits.sigmoid().flatten(1)).unflatten(1, mask_logits.shape[1:])
