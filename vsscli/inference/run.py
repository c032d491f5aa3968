"""Predicting videos to a prediction store or to a folder of PNGs: read ahead, predict, write behind.

Frames are predicted in parts, a few at a time. A part never crosses the border of a segment, so that a run that
continues an interrupted one forms the same batches and ends with the same bytes. A network that follows videos sees a
video from its first frame again, but nothing that is there is written again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from torch import Tensor

from vsscli.data.classes import ClassTable
from vsscli.data.content import Digests
from vsscli.data.masks import write_mask
from vsscli.data.video import Video
from vsscli.errors import VssError
from vsscli.inference.answers import Answers
from vsscli.inference.bands import ViewMaps, read_labels
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
    """Number of frames predicted now, and of frames that were already there."""

    predicted: int
    present: int


@dataclass(frozen=True)
class Present:
    """Number of frames that are already predicted."""

    frames: int


@dataclass(frozen=True)
class Part:
    """Frames of one segment that are predicted together, from ``start`` on; ``again`` if they are already there.
    ``stores`` are the numbers of those that lack them."""

    video: Video
    segment: Segment
    start: int
    images: list[np.ndarray]
    again: bool = False
    stores: tuple[int, ...] = (0,)

    @property
    def ends_segment(self) -> bool:
        """Whether this is the last part of its segment."""
        return self.start + len(self.images) == self.segment.stop


def predict_videos(
    predictor: Predictor,
    videos: Sequence[Video],
    writers: Sequence[StoreWriter],
    *,
    digests: Digests | None = None,
    talk: Talk = SILENCE,
) -> Done:
    """Predict the frames of some videos that stores lack.

    Parameters
    ----------
    predictor
        The network and how it predicts; it must be the source in the store's header.
    videos
        The videos; other processes may predict others into the same store.
    writers
        The store; its header says how distributions are kept. One for each of the network's ``answers``, alike but for
        what they are of.
    digests
        Digests of the frames, recorded with each video. `None`: they are not recorded.
    talk
        Called with the progress, by frame, and with a warning when the batch is halved.

    Raises
    ------
    VssError
        A frame can't be read, the disk refuses, memory does not suffice, or another process is writing a video. What
        has been recorded is kept, and the same call continues from there.
    """
    encoding, classes = writers[0].header.parsed_encoding(), writers[0].header.num_classes
    _require_room(predictor, videos)
    total, predicted = sum(map(len, videos)), 0
    arrays: list[dict[str, np.ndarray]] = []

    with (
        talk.track("predicting", total) as advance,
        WriteBehind(StoreWriter.write, SEGMENTS_BEHIND * len(writers)) as write,
        closing(read_ahead(_pending_parts(predictor, videos, writers, digests), PARTS_AHEAD)) as parts,
    ):
        for part, frames in _answered(predictor, parts, partial(encode_frame, encoding=encoding), talk, advance):
            if part.start == part.segment.start:
                specs = arrays_for(encoding, classes, part.video.size)
                arrays = [
                    {name: np.empty((len(part.segment), *spec.tail), spec.dtype) for name, spec in specs.items()}
                    for _ in writers
                ]
            for number, frame in enumerate(frames):
                answer, index = divmod(number, len(part.images))
                for name, values in frame.items():
                    arrays[answer][name][part.start - part.segment.start + index] = values
            predicted += len(part.images)
            advance(len(part.images))
            if part.ends_segment:
                for store in part.stores:
                    write(writers[store], part.video.name, part.segment, arrays[store])
    return Done(predicted, total - predicted)


def predict_masks(
    predictor: Predictor,
    videos: Sequence[Video],
    out: Path,
    *,
    table: ClassTable | None = None,
    talk: Talk = SILENCE,
) -> int:
    """Predict videos as PNGs of class indices, ``<out>/<video>/<stem>.png``.

    Files that exist are kept, since each is written atomically.

    Parameters
    ----------
    predictor
        The network and how it predicts.
    videos
        The videos to predict.
    out
        Folder to write to.
    table
        The classes, which the PNGs name and are coloured by; `None`: they are grey.
    talk
        Called with the progress, by frame, and with a warning when the batch is halved.

    Returns
    -------
    int
        Number of frames predicted now.

    Raises
    ------
    VssError
        A frame can't be read, a PNG can't be written, or memory does not suffice.
    """
    predicted = 0
    _require_room(predictor, videos)
    with (
        talk.track("predicting", sum(map(len, videos))) as advance,
        WriteBehind(write_mask, MASKS_BEHIND) as write,
        closing(read_ahead(_missing_parts(predictor, videos, out), PARTS_AHEAD)) as parts,
    ):
        for part, frames in _answered(predictor, parts, read_labels, talk, advance):
            for index, frame in enumerate(frames, part.start):
                write(mask_path(out, part.video, index), frame["label"], table)
            predicted += len(part.images)
            advance(len(part.images))
    return predicted


def _answered(
    predictor: Predictor,
    parts: Iterator[Part | Present],
    read: Callable[[ViewMaps], Mapping[str, Tensor]],
    talk: Talk,
    advance: Callable[[int], None],
) -> Iterator[tuple[Part, list[dict[str, np.ndarray]]]]:
    """Predict parts: the values of their frames that are not there yet, in order.

    On a GPU the answer of a part is waited for when the next part has been queued, so that the GPU is never idle
    meanwhile.
    """
    waiting: deque[tuple[Part, Answers]] = deque()
    for part in parts:
        if isinstance(part, Present):
            advance(part.frames)
            continue
        if part.start == 0:
            predictor.begin()
        answers = predictor.predict(part.images, (lambda views: {}) if part.again else read, talk)
        waiting.append((part, answers))
        while len(waiting) > (0 if answers.here else 1):
            yield from _arrived(*waiting.popleft())
    while waiting:
        yield from _arrived(*waiting.popleft())


def _arrived(part: Part, answers: Answers) -> Iterator[tuple[Part, list[dict[str, np.ndarray]]]]:
    frames = answers.frames()
    if not part.again:
        yield part, frames


def _require_room(predictor: Predictor, videos: Sequence[Video]) -> None:
    """Refuse frames that are too large at once, not after the hours that other videos take."""
    for size, name in {video.size: video.name for video in reversed(videos)}.items():
        predictor.require_room(size, f"a frame of video {name}")


def _pending_parts(
    predictor: Predictor, videos: Sequence[Video], writers: Sequence[StoreWriter], digests: Digests | None
) -> Iterator[Part | Present]:
    for video in videos:
        # Digested before decoding, so that frames that change in between are noticed by the next run.
        frames = digests.video(video) if digests is not None else ""
        lacking: dict[Segment, tuple[int, ...]] = {}
        for store, writer in enumerate(writers):
            for segment in writer.pending(video.name, video.stems, video.size, frames=frames):
                lacking[segment] = (*lacking.get(segment, ()), store)
        for part in _parts(predictor, video, sorted(lacking, key=lambda segment: segment.start)):
            yield replace(part, stores=lacking[part.segment]) if isinstance(part, Part) and not part.again else part


def _missing_parts(predictor: Predictor, videos: Sequence[Video], out: Path) -> Iterator[Part | Present]:
    for video in videos:
        missing = [index for index in range(len(video)) if not mask_path(out, video, index).is_file()]
        # Within a run of consecutive numbers, number minus list index is constant.
        runs = [[index for _, index in run] for _, run in groupby(enumerate(missing), lambda item: item[1] - item[0])]
        yield from _parts(predictor, video, [Segment(run[0], run[-1] + 1) for run in runs])


def mask_path(out: Path, video: Video, index: int) -> Path:
    """The path of a frame's predicted PNG."""
    return out / video.name / f"{video.stems[index]}.png"


def _parts(predictor: Predictor, video: Video, segments: list[Segment]) -> Iterator[Part | Present]:
    """Decode the frames of segments of a video, in order, in parts that fit the predictor."""
    present = len(video) - sum(map(len, segments))
    if present:
        yield Present(present)
    at_once = predictor.frames_at_once(video.size)
    images: Iterator[np.ndarray] = iter(())
    position = None
    for segment, again in _runs(segments, follows=predictor.follows):
        if segment.start != position:
            images = video.images(segment.start)
        position = segment.stop
        for start in range(segment.start, segment.stop, at_once):
            wanted = min(at_once, segment.stop - start)
            decoded = list(islice(images, wanted))
            if len(decoded) < wanted:
                raise VssError(
                    f"video {video.name} ends after {start + len(decoded)} of {len(video)} frames",
                    "check that it plays to the end; copy or export it again",
                )
            yield Part(video, segment, start, decoded, again)


def _runs(segments: list[Segment], *, follows: bool) -> Iterator[tuple[Segment, bool]]:
    """Segments that are missing and, if the network follows videos, those before them, which are not."""
    seen = 0
    for segment in segments:
        if follows and seen < segment.start:
            yield Segment(seen, segment.start), True
        yield segment, False
        seen = segment.stop
