"""The order of time from the names of frames, by the numbers in them.

``2`` comes before ``10``, ``img_2`` before ``img_10``, and names padded to one width are in alphabetical order. Runs of
digits are compared as whole numbers, everything else as text. Three kinds of names need more than that, and are
recognised from all names of a folder: signed numbers, decimal times, and hexadecimal counters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from vsscli.data.video import Video
from vsscli.data.videos import FolderVideo
from vsscli.talk import Talk

DIGITS = re.compile("([0-9]+)")  # `\d` and `isdigit` also match digits of other scripts
NUMBER = re.compile(r"(-?)([0-9]{1,300})(?:\.([0-9]{1,300}))?")
HEXADECIMAL = re.compile("[0-9a-f]+|[0-9A-F]+")

CONSISTENCY = "metrics of consistency treat"
"""What takes frames around a gap in time as neighbours, in `say_gaps`."""

Key = Callable[[str], tuple[object, ...]]


def in_time(names: Iterable[str]) -> list[str]:
    """The names of a video's frames, without suffixes, in the order of time. ``names`` must be all of them, since only
    together they show what a dot or a dash means.

    A dash before a number is its sign if other numbers have none (-2, -1, 0, 1); otherwise it separates words. Numbers
    with a dot are times (0.5, 0.75, 1.25), unless both sides of it are counters (1.9, 1.10). Hexadecimal names of one
    length stay in alphabetical order, and so do names of the same number (1, 01).
    """
    ordered = sorted(names)
    key = _key(ordered)
    return ordered if key is None else sorted(ordered, key=key)


def is_in_time(names: Sequence[str]) -> bool:
    """Whether names are already in the order of time."""
    return list(names) == in_time(names)


def say_order(videos: Sequence[Video], talk: Talk) -> None:
    """Report, once for all videos, if the order of time differs from the alphabetical one."""
    odd = [video for video in videos if isinstance(video, FolderVideo) and list(video.stems) != sorted(video.stems)]
    if odd:
        first = odd[0].stems
        strings = sorted(first)
        at = next(place for place, (one, other) in enumerate(zip(first, strings, strict=True)) if one != other)
        others = f", and likewise in {len(odd) - 1} other videos" if len(odd) > 2 else ""
        others = ", and likewise in 1 other video" if len(odd) == 2 else others
        talk.say(
            f"frames are ordered by the numbers in their names: in video {odd[0].name} {first[at]!r} comes before "
            f"{strings[at]!r}{others}"
        )


def say_numbering(videos: Sequence[FolderVideo], talk: Talk) -> None:
    """Report odd numbering of frames: uneven padding, or gaps in time."""
    uneven = [(video, pair) for video in videos if (pair := uneven_padding(video.stems)) is not None]
    if uneven:
        video, (long, short) = uneven[0]
        talk.warn(
            f"frames of {len(uneven)} of {len(videos)} videos are padded unevenly, such as {long} and {short} in "
            f"{video.name}: were two sets of frames put into one folder?"
        )
    say_gaps({video.name: video.stems for video in videos}, CONSISTENCY, talk)


def say_gaps(stems: Mapping[str, Sequence[str]], who: str, talk: Talk) -> None:
    """Report gaps in time, as between two ranges of a video that are held out.

    ``stems`` are the frames of videos by name; ``who`` is what knows nothing of gaps, with the verb "treat".
    """
    apart = {name: found for name, video in stems.items() if (found := gaps(video))}
    if apart:
        name, found = next(iter(apart.items()))
        talk.say(
            f"{len(apart)} of {len(stems)} videos have gaps in time, such as {name} between {found[0][0]} and "
            f"{found[0][1]}: {who} these as neighbours"
        )


def same_numbers(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names with the same number, such as 1 and 01, whose order in time is unknown."""
    ordered = in_time(names)
    key = _key(ordered)
    return [] if key is None else [(one, other) for one, other in pairwise(ordered) if key(one) == key(other)]


def uneven_padding(names: Sequence[str]) -> tuple[str, str] | None:
    """A name padded with zeros and a shorter one, such as 010 and 9; `None` if all are padded to one width.

    Numbers may outgrow their padding: 999 and 1000 are padded evenly.
    """
    padded: dict[tuple[object, ...], tuple[int, str]] = {}
    short: dict[tuple[object, ...], tuple[int, str]] = {}
    for name in names:
        parts = DIGITS.split(name)
        for place in range(1, len(parts), 2):
            digits = parts[place]
            kind = (place, len(parts), *parts[0::2])
            if len(digits) > max(1, padded.get(kind, (0, ""))[0]) and digits[0] == "0":
                padded[kind] = (len(digits), name)
            if kind not in short or len(digits) < short[kind][0]:
                short[kind] = (len(digits), name)
    for kind, (width, name) in padded.items():
        if short[kind][0] < width:
            return name, short[kind][1]
    return None


def gaps(names: Sequence[str]) -> list[tuple[str, str]]:
    """Neighbours in time whose numbers are further apart than usual; empty unless names differ in one number only."""
    runs = [DIGITS.split(name) for name in in_time(names)]
    if len(runs) < 3 or any(parts[0::2] != runs[0][0::2] for parts in runs):
        return []
    moving = [place for place in range(1, len(runs[0]), 2) if len({int_or_zero(parts[place]) for parts in runs}) > 1]
    if len(moving) != 1:
        return []
    numbers = [int_or_zero(parts[moving[0]]) for parts in runs]
    steps = [after - before for before, after in pairwise(numbers)]
    usual = Counter(steps).most_common(1)[0][0]
    joined = ["".join(parts) for parts in runs]
    return [pair for pair, step in zip(pairwise(joined), steps, strict=True) if step > usual]


def int_or_zero(digits: str) -> int:
    """A number; 0 if it has more digits than a file name can have, which Python refuses to parse."""
    return int(digits) if len(digits) <= 300 else 0


def _key(ordered: Sequence[str]) -> Key | None:
    """The key to sort names by; `None` for alphabetical order."""
    if len(ordered) < 2:
        return None
    before = _shared(ordered)
    if _is_hexadecimal([name[len(before) :] for name in ordered]):
        return None
    before = before.rstrip("0123456789.-")
    behind = _shared([name[len(before) :][::-1] for name in ordered]).rstrip("0123456789.")[::-1]
    rests = {name: NUMBER.fullmatch(name[len(before) : len(name) - len(behind)]) for name in ordered}
    found = [match.groups(default="") for match in rests.values() if match is not None]
    if len(found) == len(ordered):
        signed = len({sign for sign, _, _ in found}) == 2
        decimal = _are_decimal([fraction for _, _, fraction in found])
        if signed or decimal:
            width = max(len(fraction) for _, _, fraction in found)
            numbers = dict(zip(ordered, found, strict=True))
            return lambda name: _value(numbers[name], width, decimal=decimal, signed=signed)
    return _by_runs


def _by_runs(name: str) -> tuple[object, ...]:
    """Text and numbers in turn; a number as its count of digits and its digits, so that any length is possible."""
    parts: list[object] = list(DIGITS.split(name))
    for place in range(1, len(parts), 2):
        digits = str(parts[place]).lstrip("0")
        parts[place] = (len(digits), digits)
    return tuple(parts)


def _value(parts: tuple[str, ...], width: int, *, decimal: bool, signed: bool) -> tuple[object, ...]:
    sign, whole, fraction = parts
    behind = int((fraction.ljust(width, "0") if decimal else fraction) or "0")
    return (-int(whole), -behind) if sign and signed else (int(whole), behind)


def _are_decimal(fractions: Sequence[str]) -> bool:
    """Whether the digits after dots are decimals. Decimals are usually written without trailing zeros, while counters
    reach 10. If all have one length, it makes no difference."""
    if len(set(map(len, fractions))) == 1:
        return False
    return not any(len(fraction) > 1 and fraction.endswith("0") for fraction in fractions)


def _shared(names: Sequence[str]) -> str:
    """The common prefix of all names, which is that of the first and the last one."""
    first, last = min(names), max(names)
    length = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[:length]


def _is_hexadecimal(rests: Sequence[str]) -> bool:
    """Whether the differing parts of names are hexadecimal numbers, or digests, of one length."""
    if len(set(map(len, rests))) != 1 or not all(map(HEXADECIMAL.fullmatch, rests)):
        return False
    return any(not rest.isdecimal() for rest in rests) and any(any(map(str.isdecimal, rest)) for rest in rests)
