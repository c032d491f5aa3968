"""CVAT's tracks: the shapes of an object, frame after frame, brought together by frame.

CVAT writes a shape for every frame of a track, those between key frames too. A file in which one is missing, while
another track has that frame, is refused: what would be there is CVAT's to say, which shifts corners between key frames.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator

from vsscli.errors import VssError
from vsscli.exchange.cvattasks import IMAGES, Tasks
from vsscli.exchange.spool import Spool
from vsscli.exchange.xmlparts import Element

TRACKS = "tracks"


def add_track(track: Element, tasks: Tasks, spool: Spool, where: str) -> None:
    """Put the shapes of a track to those of their frames.

    Raises
    ------
    VssError
        A frame stands twice in it, or the task has images, whose names tracks don't say.
    ValueError
        A frame is no number.
    """
    name, task = tasks.of(track)
    if task.mode == IMAGES:
        raise VssError(
            f"{where}: the task is one of images, and 'CVAT for video' does not say which images these are",
            "export it as CVAT for images 1.1",
        )
    last, spans = None, []
    for shape in sorted(track.inner, key=lambda shape: int(shape.get("frame"))):
        frame = int(shape.get("frame"))
        if frame == last:
            raise VssError(f"{where}: track {track.get('id')} has frame {frame} twice", "export it again")
        if shape.get("outside") == "1":
            last = None
            continue
        if last is None:
            spans.append([frame, frame, 0])
        spans[-1][1:] = frame, spans[-1][2] + 1
        last = frame
        spool.add((name, frame), [shape.name, {**shape.attributes, "label": track.get("label")}])
    spool.add(TRACKS, [track.get("id"), name, spans])


def tracked(spool: Spool, where: str) -> Iterator[tuple[str, int, list[Element]]]:
    """The frames of all tracks in order: the id of the task, the number, and the shapes.

    Raises
    ------
    VssError
        A track lacks a frame that another has.
    """
    frames: dict[str, list[int]] = defaultdict(list)
    for key in spool.places():
        if isinstance(key, tuple):
            frames[key[0]].append(key[1])
    for there in frames.values():
        there.sort()
    for number, name, spans in spool.values(TRACKS):
        for first, last, count in spans:
            if bisect_right(frames[name], last) - bisect_left(frames[name], first) != count:
                raise VssError(
                    f"{where}: track {number} has key frames alone, {first} to {last}",
                    "export as CVAT for video 1.1, which writes every frame; or paint key frames one by one",
                )
    for name, there in frames.items():
        for frame in there:
            yield name, frame, [Element(kind, attributes) for kind, attributes in spool.values((name, frame))]
