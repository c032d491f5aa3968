"""The published ways of counting VC, each under a name.

Scripts for VSPW differ in four places: whose ids of ground truth are compared, which videos are left out, and whether
the windows of a shorter n stay in the list when a longer one is averaged. A number without its protocol means little,
so the command line prints the name and the description with every figure.

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
    """One way of counting.

    Attributes
    ----------
    name
        What users type and figures carry.
    description
        One sentence for people, printed beside the figures.
    raw
        VC compares ground truth as it is on disk, so void ids stay distinct; else as class indices (every void is 255).
    pooled
        VC_n averages its own windows and those of every smaller n that was asked for.
    longest_left_out
        Videos of at most this many frames, or of at most the largest n, are left out of every figure; none: a video is
        left out of VC_n alone, and only if it has at most n frames.
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
        """How many windows of `window` frames a counted video of `length` frames gives.

        One fewer than fit: the published loop is ``range(length - window)``, which never looks at the last one.
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
    """Look a protocol up by name.

    Raises
    ------
    VssError
        If there is none of that name; the hint holds the nearest names, or all of them.

    Examples
    --------
    >>> get_protocol("mapped").raw
    False
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    near = get_close_matches(name.lower(), PROTOCOLS, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"protocols: {', '.join(PROTOCOLS)}"
    raise VssError(f"no evaluation protocol is called {name!r}", hint)
