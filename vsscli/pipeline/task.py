"""The task of predicting videos with a network, which can be sent to other machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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
from vsscli.models.together import Together
from vsscli.pipeline.source import with_weights
from vsscli.store.writer import StoreWriter
from vsscli.talk import Talk


@dataclass(frozen=True)
class Predicting:
    """Predicts some videos into a store (`vsscli.engine.engine.Task`), and yields what was done.

    A process that gets it loads the network from the checkpoint's file once, and keeps it.

    Parameters
    ----------
    checkpoints, how
        The network, and how it is read out; or several over one frozen trunk, which see frames together.
    device, batch_size
        As in `vsscli.context.Context`.
    writers
        The store of each.
    index
        File that remembers digests of frames (`vsscli.data.content.Digests`).
    """

    checkpoints: tuple[Checkpoint, ...]
    how: ReadOut
    device: str
    batch_size: int
    writers: tuple[StoreWriter, ...]
    index: Path

    @cached_property
    def predictor(self) -> Predictor:
        """The network, or all of them, on their device."""
        networks = [restore_network(with_weights(checkpoint)) for checkpoint in self.checkpoints]
        network = networks[0] if len(networks) == 1 else Together(networks)
        device = resolve_device(self.device)
        return Predictor(network, network.normalisation, self.how, device, batch_size=self.batch_size)

    @cached_property
    def digests(self) -> Digests:
        """Digests of frames, as far as they are known."""
        return Digests(self.index)

    def __call__(self, videos: Sequence[Video], threads: int, talk: Talk) -> Iterator[Done]:
        with ExitStack() as held:
            digests = held.enter_context(self.digests)
            writers = [held.enter_context(writer) for writer in self.writers]
            yield predict_videos(self.predictor, videos, writers, digests=digests, talk=talk)
