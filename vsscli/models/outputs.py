"""Everything a network has to say of an image, for those who train it; prediction needs its scores alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from vsscli.models.scores import Scores


class Outputs(Protocol):
    """What every family gives to its training.

    Attributes
    ----------
    scores
        What `Network.forward` returns.
    features
        (B, D, h, w), the decoder's last features at the stride of the scores, from which a projection head starts;
        None where a family can't say.
    """

    @property
    def scores(self) -> Scores: ...

    @property
    def features(self) -> Tensor | None: ...

    def part(self, crops: slice) -> Outputs:
        """The same of some crops of the batch."""
        ...


@dataclass(frozen=True)
class MapOutputs:
    """Outputs of a network that scores each pixel by itself."""

    scores: Scores
    features: Tensor | None = None

    def part(self, crops: slice) -> MapOutputs:
        """The same of some crops of the batch."""
        features = None if self.features is None else self.features[crops]
        return MapOutputs(Scores(self.scores.values[crops], self.scores.kind), features)


class QueryPrediction(NamedTuple):
    """What the queries of a mask classifier say: class logits (B, Q, C + 1), the last one "no object", and mask logits
    (B, Q, h, w)."""

    class_logits: Tensor
    mask_logits: Tensor
