"""CVAT's tracks: the shapes of an object, frame after frame, brought together by frame.

CVAT writes a shape for every frame of a track, those between key frames too. A file in which one is missing, while
another track has that frame, is refused: what would be there is CVAT's to say, which shifts corners between key frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from vsscli.data.pixels import require_pixels
from vsscli.errors import VssError
from vsscli.exchange.items import Size
from vsscli.exchange.spool import Spool
from vsscli.exchange.xmlparts import Element

TRACKS = "tracks"


def add_track(track: Element, spool: Spool, where: str) -> None:
    """Put the shapes of a track to those of their frames.

    Raises
    ------
    VssError
        A frame stands twice in it.
    ValueError
        A frame is no number.
    """
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
        spool.add(frame, [shape.name, {**shape.attributes, "label": track.get("label")}])
    spool.add(TRACKS, [track.get("id"), spans])


def tracked(spool: Spool, meta: Element, where: str) -> Iterator[tuple[str, Size | None, list[Element]]]:
    """The frames of all tracks in order: what to call it, the size where the file says it, and the shapes.

    Raises
    ------
    VssError
        A track lacks a frame that another has.
    """
    frames = sorted(frame for frame in spool.places() if isinstance(frame, int))
    for number, spans in spool.values(TRACKS):
        for first, last, count in spans:
            if sum(first <= frame <= last for frame in frames) != count:
                raise VssError(
                    f"{where}: track {number} has key frames alone, {first} to {last}",
                    "export as CVAT for video 1.1, which writes every frame; or paint key frames one by one",
                )
    source = meta.text_of("source") or meta.text_of("name") or "video"
    video = PurePosixPath(source.replace("\\", "/")).stem
    original = next(meta.all("original_size"), None)
    size = None
    if original is not None:
        size = int(original.text_of("height")), int(original.text_of("width"))
        require_pixels(*size, where)
    for frame in frames:
        shapes = [Element(name, attributes) for name, attributes in spool.values(frame)]
        yield f"{video}/{frame:06d}", size, shapes
