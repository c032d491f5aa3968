"""The task of predicting videos with a network, which can be sent to other machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vsscli.data.content import Digests
from vsscli.data.video import Video
from vsscli.inference.devices import resolve_device
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.inference.run import Done, predict_videos
from vsscli.models.checkpoints import Checkpoint, restore_network
from vsscli.pipeline.source import with_weights
from vsscli.store.writer import StoreWriter
from vsscli.talk import Talk


@dataclass(frozen=True)
class Predicting:
    """Predicts some videos into a store (`vsscli.engine.engine.Task`), and yields what was done.

    A process that gets it loads the network from the checkpoint's file once, and keeps it.

    Parameters
    ----------
    checkpoint, how
        The network, and how it is read out.
    device, batch_size
        As in `vsscli.context.Context`.
    writer
        The store.
    index
        File that remembers digests of frames (`vsscli.data.content.Digests`).
    """

    checkpoint: Checkpoint
    how: ReadOut
    device: str
    batch_size: int
    writer: StoreWriter
    index: Path

    @cached_property
    def predictor(self) -> Predictor:
        """The network on its device."""
        device, checkpoint = resolve_device(self.device), self.checkpoint
        network = restore_network(with_weights(checkpoint))
        return Predictor(network, checkpoint.normalisation, self.how, device, batch_size=self.batch_size)

    @cached_property
    def digests(self) -> Digests:
        """Digests of frames, as far as they are known."""
        return Digests(self.index)

    def __call__(self, videos: Sequence[Video], threads: int, talk: Talk) -> Iterator[Done]:
        with self.digests as digests, self.writer as writer:
            yield predict_videos(self.predictor, videos, writer, digests=digests, talk=talk)
