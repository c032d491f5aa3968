"""From videos to a prediction store, or to a folder of masks: read ahead, predict, write behind.

Work is handed out in parts, a few frames that go to the network together. A part never reaches over the border of a
segment, and parts start anew with each segment, so that a run that goes on where another was stopped forms the same
batches and ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.data.content import Digests
from vsscli.data.masks import write_mask
from vsscli.data.video import Video
from vsscli.errors import VssError
from vsscli.inference.encode import encode_frame
from vsscli.inference.predictor import Predictor
from vsscli.inference.threads import WriteBehind, read_ahead
from vsscli.store.encode import arrays_for
from vsscli.store.writer import Segment, StoreWriter
from vsscli.talk import SILENCE, Talk

PARTS_AHEAD = 2
SEGMENTS_BEHIND = 2
MASKS_BEHIND = 16


@dataclass(frozen=True)
class Done:
    """Number of frames predicted now, and of frames that were there already."""

    predicted: int
    present: int


@dataclass(frozen=True)
class Present:
    """Frames that need no prediction any more."""

    frames: int


@dataclass(frozen=True)
class Part:
    """Frames of one segment that are predicted together: those from ``start`` on."""

    video: Video
    segment: Segment
    start: int
    images: list[np.ndarray]

    @property
    def ends_segment(self) -> bool:
        """Whether no part of the same segment follows."""
        return self.start + len(self.images) == self.segment.stop


def predict_videos(
    predictor: Predictor,
    videos: Sequence[Video],
    writer: StoreWriter,
    *,
    digests: Digests | None = None,
    talk: Talk = SILENCE,
    rank: int = 0,
    world: int = 1,
) -> Done:
    """Predict what a store lacks of some videos.

    Parameters
    ----------
    predictor
        The network and how it is read out; it must be the source that the store's header tells.
    videos
        All videos, the same in every process.
    writer
        The store; its header says how distributions are kept.
    digests
        Tell what frames hold, which is noted with each video. None: it is not noted.
    talk
        Follows the frames, and is warned when the batch had to be halved.
    rank, world
        This process's number and how many there are: it takes every ``world``-th video.

    Returns
    -------
    Done
        Counts of this process.

    Raises
    ------
    VssError
        A frame can't be read, the disk refuses, memory does not suffice, or another process writes a video. What was
        recorded until then stays, and the same call goes on from there.
    """
    encoding, classes = writer.header.parsed_encoding(), writer.header.num_classes
    mine = videos[rank::world]
    _require_room(predictor, mine)
    total, predicted = sum(map(len, mine)), 0
    arrays: dict[str, np.ndarray] = {}
    with (
        talk.track("predicting", total) as advance,
        WriteBehind(writer.write, SEGMENTS_BEHIND) as write,
        closing(read_ahead(_pending_parts(predictor, mine, writer, digests), PARTS_AHEAD)) as parts,
    ):
        for part in parts:
            if isinstance(part, Present):
                advance(part.frames)
                continue
            if part.start == part.segment.start:
                specs = arrays_for(encoding, classes, part.video.size)
                arrays = {name: np.empty((len(part.segment), *spec.tail), spec.dtype) for name, spec in specs.items()}
            for index, views in enumerate(predictor.maps(part.images, talk), part.start - part.segment.start):
                for name, values in encode_frame(views, encoding).items():
                    arrays[name][index] = values.cpu().numpy()
            predicted += len(part.images)
            advance(len(part.images))
            if part.ends_segment:
                write(part.video.name, part.segment, arrays)
    return Done(predicted, total - predicted)


def predict_masks(
    predictor: Predictor,
    videos: Sequence[Video],
    out: Path,
    *,
    table: ClassTable | None = None,
    talk: Talk = SILENCE,
) -> int:
    """Predict videos into PNG masks of class indices, ``<out>/<video>/<stem>.png``.

    Masks that are there already are kept: each is written whole or not at all.

    Parameters
    ----------
    predictor
        The network and how it is read out.
    videos
        What to predict.
    out
        Folder to write to.
    table
        The classes, which the masks name and are coloured by; without, they are grey.
    talk
        Follows the frames, and is warned when the batch had to be halved.

    Returns
    -------
    int
        Number of frames predicted now.

    Raises
    ------
    VssError
        A frame can't be read, a mask can't be written, or memory does not suffice.
    """
    predicted = 0
    _require_room(predictor, videos)
    with (
        talk.track("predicting", sum(map(len, videos))) as advance,
        WriteBehind(write_mask, MASKS_BEHIND) as write,
        closing(read_ahead(_missing_parts(predictor, videos, out), PARTS_AHEAD)) as parts,
    ):
        for part in parts:
            if isinstance(part, Present):
                advance(part.frames)
                continue
            for index, label in enumerate(predictor.labels(part.images, talk), part.start):
                write(mask_path(out, part.video, index), label, table)
            predicted += len(part.images)
            advance(len(part.images))
    return predicted


def _require_room(predictor: Predictor, videos: Sequence[Video]) -> None:
    """Refuse frames that are too large before any is decoded, and not after the hours that the others take."""
    for size, name in {video.size: video.name for video in reversed(videos)}.items():
        predictor.require_room(size, f"a frame of video {name}")


def _pending_parts(
    predictor: Predictor, videos: Sequence[Video], writer: StoreWriter, digests: Digests | None
) -> Iterator[Part | Present]:
    for video in videos:
        # Digested before they are decoded: frames that change in between are noticed the next time.
        frames = digests.video(video) if digests is not None else ""
        yield from _parts(predictor, video, writer.pending(video.name, video.stems, video.size, frames=frames))


def _missing_parts(predictor: Predictor, videos: Sequence[Video], out: Path) -> Iterator[Part | Present]:
    for video in videos:
        missing = [index for index in range(len(video)) if not mask_path(out, video, index).is_file()]
        # In a run of consecutive numbers, number minus place in the list stays the same.
        runs = [[index for _, index in run] for _, run in groupby(enumerate(missing), lambda item: item[1] - item[0])]
        yield from _parts(predictor, video, [Segment(run[0], run[-1] + 1) for run in runs])


def mask_path(out: Path, video: Video, index: int) -> Path:
    """Where the mask of a frame lies."""
    return out / video.name / f"{video.stems[index]}.png"


def _parts(predictor: Predictor, video: Video, segments: list[Segment]) -> Iterator[Part | Present]:
    """Decode the frames of some segments of a video, rising, in portions that fit the predictor."""
    present = len(video) - sum(map(len, segments))
    if present:
        yield Present(present)
    at_once = predictor.frames_at_once(video.size)
    images: Iterator[np.ndarray] = iter(())
    position = None
    for segment in segments:
        if segment.start != position:
            images = video.images(segment.start)
        position = segment.stop
        for start in range(segment.start, segment.stop, at_once):
            wanted = min(at_once, segment.stop - start)
            decoded = list(islice(images, wanted))
            if len(decoded) < wanted:
                raise VssError(
                    f"video {video.name} ends after {start + len(decoded)} of {len(video)} frames",
                    "check that it plays to its end; copy or export it again",
                )
            yield Part(video, segment, start, decoded)
