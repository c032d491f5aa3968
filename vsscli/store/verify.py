"""Whether every byte of a store is the one that was written."""

from __future__ import annotations

from typing import NamedTuple

from vsscli.errors import VssError
from vsscli.store.arrays import open_array, shard_name, specs_of
from vsscli.store.files import file_digest
from vsscli.store.reader import Store
from vsscli.talk import SILENCE, Talk


class Damage(NamedTuple):
    """A recorded segment that can't be trusted."""

    video: str
    segment: int
    what: str


def verify(store: Store, talk: Talk = SILENCE) -> list[Damage]:
    """Compare the file of every recorded segment with the digest in its record.

    Parameters
    ----------
    store
        The store.
    talk
        Is told how far it is, by segment.

    Returns
    -------
    list
        One entry per damaged segment, in order; empty for a sound store. What was never recorded is no damage.

    Raises
    ------
    VssError
        A record itself is damaged.
    """
    damaged = []
    records = {video: store.record(video) for video in store.videos(complete=False)}
    with talk.track("verify", sum(len(record.segments) for record in records.values()), "segment") as done:
        for video, record in records.items():
            specs = specs_of(store.header, record.size)
            described = None
            for name, spec in specs.items():
                try:
                    open_array(store.path / video / name, spec, len(record.stems), record.segment)
                except VssError as error:
                    described = described or error.message
            for number, digests in record.segments.items():
                what = described
                for name, spec in specs.items():
                    shard = store.path / video / name / shard_name(number, spec)
                    if what is None and not shard.is_file():
                        what = f"{shard} is missing"
                    elif what is None and file_digest(shard) != digests.get(name):
                        what = f"{shard} is not as it was written"
                if what is not None:
                    damaged.append(Damage(video, number, what))
                done(1)
    return damaged
