"""The published ways of computing VC, each with a name.

Scripts for VSPW differ in whether ids of the ground truth are mapped before they are compared, which videos are left
out, and whether the windows of a shorter n are averaged with those of a longer one. A figure without its protocol means
little, so the command line prints the protocol's name and description with every figure.

Source: `specs/vspw_eval.md`, table "Variants side by side".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from vsscli.errors import VssError

ProtocolName = Literal["vspw", "mapped", "pooled", "cffm"]


@dataclass(frozen=True)
class Protocol:
    """One way of computing figures.

    Attributes
    ----------
    name
        Its name, which is recorded with figures.
    description
        One sentence, printed beside the figures.
    raw
        Whether VC compares ground truth as stored on disk, so that void ids stay distinct; otherwise class indices,
        with 255 for every void id.
    pooled
        Whether VC_n averages the windows of every smaller requested n, too.
    longest_left_out
        Videos of at most this many frames, or of at most the largest n, are left out of every figure; `None`: a video
        of at most n frames is left out of VC_n only.
    """

    name: ProtocolName
    description: str
    raw: bool
    pooled: bool = False
    longest_left_out: int | None = None

    def counts_video(self, length: int, windows: Iterable[int] = ()) -> bool:
        """Whether a video of `length` frames counts for any figure (mIoU included) when `windows` are asked for."""
        return self.longest_left_out is None or length > max((self.longest_left_out, *windows))

    def windows(self, length: int, window: int) -> int:
        """Number of windows of `window` frames in a counted video of `length` frames.

        That is one fewer than fit: the published loop is ``range(length - window)``, which leaves out the last one.
        """
        return max(0, length - window)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "vspw",
            "VSPW's own scripts: VC on ground truth as stored on disk (ids 0 and 255 distinct), mIoU on classes",
            raw=True,
        ),
        Protocol(
            "mapped",
            "VC on ground truth as class indices, every void alike; as UniVS counts",
            raw=False,
        ),
        Protocol(
            "pooled",
            "as vspw, but VC16 also averages the windows of VC8 (a list that is never emptied); as DVIS_Plus counts",
            raw=True,
            pooled=True,
        ),
        Protocol(
            "cffm",
            "as mapped, without the videos of 16 or fewer frames in any figure, mIoU included; as VSS-CFFM counts",
            raw=False,
            longest_left_out=16,
        ),
    )
}
DEFAULT_PROTOCOL = "vspw"


def get_protocol(name: str) -> Protocol:
    """Look up a protocol by name.

    Raises
    ------
    VssError
        If the name is unknown; the hint has the nearest names, or all of them.

    Examples
    --------
    >>> get_protocol("mapped").raw
    False
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    near = get_close_matches(name.lower(), PROTOCOLS, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"protocols: {', '.join(PROTOCOLS)}"
    raise VssError(f"unknown evaluation protocol {name!r}", hint)
