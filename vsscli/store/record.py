"""What a store holds of one video: the record in the attributes of the video's group.

A segment of frames is in the store once its record lists it, and not before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vsscli.data.spelling import composed
from vsscli.errors import VssError
from vsscli.names import is_name, name_fault, shown_name, video_fault
from vsscli.store.files import BrokenSealError, read_group, require_seal
from vsscli.store.header import Header
from vsscli.structured import digest_of

MAX_SEGMENT = 64
"""Most frames of a segment: what a crash may cost."""

MAX_SIDE = 2**16
MAX_PIXELS = 2**28
"""A larger frame is taken for damage before anything is allocated for it."""

HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Segment:
    """Frames ``start`` to ``stop - 1`` of a video, written and recorded at once."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class VideoRecord:
    """The frames of a video, and which of its segments have been written: the record in its group's attributes.

    Parameters
    ----------
    stems
        Names of the T frames, in order.
    size
        H, W.
    segment
        Frames per segment; the last one may be shorter.
    segments
        For each segment that has been written, by number: SHA-256 of the file of each array.
    sources
        In a store made from others: the digests of their records of this video, in their order.
    frames
        Digest of the frames that were predicted (`vsscli.data.content`); empty if it was not recorded.
    video
        Name of the video, so that a folder that was renamed is noticed; empty in records of earlier versions.
    store
        Fingerprint of the store's header, so that a video of another store is noticed, whose classes may be others;
        empty in records of earlier versions.
    """

    stems: tuple[str, ...]
    size: tuple[int, int]
    segment: int
    segments: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    frames: str = ""
    video: str = ""
    store: str = ""

    @property
    def num_segments(self) -> int:
        return -(-len(self.stems) // self.segment)

    @property
    def is_complete(self) -> bool:
        """Whether all segments have been written."""
        return len(self.segments) == self.num_segments

    @property
    def digest(self) -> str:
        """SHA-256 that changes with any byte of the video's arrays, and with nothing else.

        Frames that changed without changing the prediction do not change what is made from it.
        """
        return digest_of(replace(self, frames="", video="", store="").to_dict())

    def bounds(self, number: int) -> Segment:
        """The frames of a segment."""
        return Segment(number * self.segment, min((number + 1) * self.segment, len(self.stems)))

    def with_segment(self, number: int, digests: Mapping[str, str]) -> VideoRecord:
        """The record with one more segment. Segments are listed by number, in whatever order they were written."""
        return replace(self, segments=dict(sorted({**self.segments, number: dict(digests)}.items())))

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        values: dict[str, Any] = {
            "stems": list(self.stems),
            "size": list(self.size),
            "segment": self.segment,
            "segments": {str(number): dict(digests) for number, digests in self.segments.items()},
        }
        if self.sources:
            values["sources"] = list(self.sources)
        if self.frames:
            values["frames"] = self.frames
        if self.video:
            values["video"] = self.video
        if self.store:
            values["store"] = self.store
        return values

    @classmethod
    def from_dict(cls, values: Any, where: str) -> VideoRecord:
        """The record that `to_dict` wrote, checked; ``where`` names it in errors. Arrays are sized by it alone."""
        try:
            stems, size, segment = values["stems"], values["size"], values["segment"]
            sources, frames, video = values.get("sources", []), values.get("frames", ""), values.get("video", "")
            store = values.get("store", "")
            _require(isinstance(stems, list) and all(isinstance(stem, str) for stem in stems), "stems")
            _require(all(map(is_name, stems)), "stems")
            _require(len(stems) > 0 and len(set(stems)) == len(stems), "stems")
            _require(isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size), "size")
            _require(all(0 < side <= MAX_SIDE for side in size) and size[0] * size[1] <= MAX_PIXELS, "size")
            _require(type(segment) is int and 0 < segment <= MAX_SEGMENT, "segment")
            _require(isinstance(sources, list) and all(_is_digest(digest) for digest in sources), "sources")
            _require(frames == "" or _is_digest(frames), "frames")
            _require(video == "" or (isinstance(video, str) and is_name(video)), "video")
            _require(store == "" or _is_digest(store), "store")
            segments = {int(number): dict(digests) for number, digests in values["segments"].items()}
            written = dict(sorted(segments.items()))
            record = cls(tuple(stems), (size[0], size[1]), segment, written, tuple(sources), frames, video, store)
            for number, digests in segments.items():
                _require(0 <= number < record.num_segments, f"segments.{number}")
                _require(all(map(_is_digest, digests.values())), f"segments.{number}")
        except VssError as error:
            raise VssError(f"{where}: {error.message}", error.hint) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise VssError(f"{where} is not a video's record: {error!r}", "remove that folder and run again") from None
        return record


def read_video_record(store: Path, video: str, header: Header) -> VideoRecord | None:
    """The record of a video in a store with a header; `None` if the store has no such group.

    Raises
    ------
    VssError
        The record is damaged, or is that of another video or of another store's.
    """
    if not is_name(video) or not (store / video / "zarr.json").is_file():
        return None
    values, where = read_group(store / video), str(store / video / "zarr.json")
    if header.format >= 4 and isinstance(values, dict):
        require_seal(values, where)
    record = VideoRecord.from_dict(values, where)
    if record.video and composed(record.video) != composed(video):
        raise BrokenSealError(
            f"{where} is the record of video {record.video}: its folder was renamed",
            "rename it back; or `vss cache repair`, then run the command that made the store again",
        )
    if header.format >= 4 and record.store and record.store != header.fingerprint:
        raise BrokenSealError(
            f"{where} is the record of a video of another store: its folder was moved here",
            "move it back; or `vss cache repair`, then run the command that made the store again",
        )
    return record


def check_video(video: str, stems: Sequence[str], size: tuple[int, int]) -> None:
    """Refuse a video that can't be a group of a store: a name that leads out of it, no frames, no area."""
    fault = video_fault(video)
    if fault:
        raise VssError(
            f"a video can't be called {shown_name(video)} in a store: it {fault}", "rename the video's folder"
        )
    if not stems or len(set(stems)) != len(stems):
        raise VssError(f"video {video} has {'two frames of one name' if stems else 'no frames'}", "check its folder")
    odd = next((stem for stem in stems if not is_name(stem)), None)
    if odd is not None:
        raise VssError(f"a frame can't be called {shown_name(odd)}: it {name_fault(odd)}", "rename it")
    if min(size) < 1 or max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
        raise VssError(f"video {video} has frames of {size[0]}x{size[1]}", f"the largest side is {MAX_SIDE}")


def _require(condition: bool, name: str) -> None:
    if not condition:
        raise VssError(f"`{name}` of the video's record is damaged", "remove that folder and run again")


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and HEX_DIGEST.fullmatch(value) is not None
