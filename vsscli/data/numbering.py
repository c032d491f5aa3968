"""The order of time from the names of frames: the numbers in them count, not their letters.

``2`` comes before ``10``, ``img_2`` before ``img_10``, and names that are padded to one width stand as they would by
letters. Runs of digits are compared as whole numbers, all else as text. Three kinds of names need more than that, and
a look at all names of a folder tells them: numbers with a sign, decimal times, and hexadecimal counters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from vsscli.data.video import Video
from vsscli.data.videos import FolderVideo
from vsscli.talk import Talk

DIGITS = re.compile("([0-9]+)")  # `\d` and `isdigit` know digits of many scripts; cameras write these
NUMBER = re.compile(r"(-?)([0-9]{1,300})(?:\.([0-9]{1,300}))?")
HEXADECIMAL = re.compile("[0-9a-f]+|[0-9A-F]+")

Key = Callable[[str], tuple[object, ...]]


def in_time(names: Iterable[str]) -> list[str]:
    """The names of a video's frames, without suffixes, in the order of time. All of them, because what a dot or a dash
    means shows in all of them only.

    A dash before a number is its sign where other numbers have none (-2, -1, 0, 1), else it parts words. With a dot the
    numbers are times (0.5, 0.75, 1.25), unless they are counted on both sides of it (1.9, 1.10). Names of one length
    that are hexadecimal stay in the order of strings. Names that mean the same number (1, 01) stand as strings do.
    """
    ordered = sorted(names)
    key = _key(ordered)
    return ordered if key is None else sorted(ordered, key=key)


def is_in_time(names: Sequence[str]) -> bool:
    """Whether names stand in the order of time already."""
    return list(names) == in_time(names)


def say_order(videos: Sequence[Video], talk: Talk) -> None:
    """Say, once for all of these, that the order of time is not that of the names as strings, where it is not."""
    odd = [video for video in videos if isinstance(video, FolderVideo) and list(video.stems) != sorted(video.stems)]
    if odd:
        first = odd[0].stems
        strings = sorted(first)
        at = next(place for place, (one, other) in enumerate(zip(first, strings, strict=True)) if one != other)
        others = f", and so in {len(odd) - 1} other videos" if len(odd) > 2 else ""
        others = ", and so in 1 other video" if len(odd) == 2 else others
        talk.say(
            f"frames are taken in the order of the numbers in their names: in video {odd[0].name} {first[at]!r} comes "
            f"before {strings[at]!r}{others}"
        )


def say_numbering(videos: Sequence[FolderVideo], talk: Talk) -> None:
    """Say what is odd about how frames are numbered: padded unevenly, or with gaps in time."""
    uneven = [(video, pair) for video in videos if (pair := uneven_padding(video.stems)) is not None]
    if uneven:
        video, (long, short) = uneven[0]
        talk.warn(
            f"frames of {len(uneven)} of {len(videos)} videos are padded unevenly, such as {long} and {short} in "
            f"{video.name}: were two sets of frames put into one folder?"
        )
    apart = [(video, found) for video in videos if (found := gaps(video.stems))]
    if apart:
        video, found = apart[0]
        talk.say(
            f"{len(apart)} of {len(videos)} videos have gaps in time, such as {video.name} between {found[0][0]} and "
            f"{found[0][1]}: what is measured from frame to frame takes these for neighbours"
        )


def same_numbers(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that are one number, such as 1 and 01: which of them comes first is not known."""
    ordered = in_time(names)
    key = _key(ordered)
    return [] if key is None else [(one, other) for one, other in pairwise(ordered) if key(one) == key(other)]


def uneven_padding(names: Sequence[str]) -> tuple[str, str] | None:
    """A name that is padded with zeros and one that is shorter than it, as 010 and 9; none where all are padded alike.

    Numbers may outgrow their padding: 999 and 1000 are padded alike.
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
    """Neighbours in time whose numbers are further apart than most are; none where not every name is one number."""
    runs = [DIGITS.split(name) for name in in_time(names)]
    if len(runs) < 3 or any(parts[0::2] != runs[0][0::2] for parts in runs):
        return []
    moving = [place for place in range(1, len(runs[0]), 2) if len({int_or_zero(parts[place]) for parts in runs}) > 1]
    if len(moving) != 1:
        return []
    numbers = [int_or_zero(parts[moving[0]]) for parts in runs]
    steps = [after - before for before, after in pairwise(numbers)]
    usual = Counter(steps).most_common(1)[0][0]
    told = ["".join(parts) for parts in runs]
    return [pair for pair, step in zip(pairwise(told), steps, strict=True) if step > usual]


def int_or_zero(digits: str) -> int:
    """A number; 0 for one of more digits than a file's name can have, which Python would refuse to read."""
    return int(digits) if len(digits) <= 300 else 0


def _key(ordered: Sequence[str]) -> Key | None:
    """By what names are to be sorted; none where they stay in the order of strings."""
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
    """Text and numbers in turn; a number by how many digits it has and by them, so that no length is too long."""
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
    """Whether what stands behind dots are decimals. Programs write those without zeros at their end; who counts
    past 9 writes a 10. Of one length it makes no difference."""
    if len(set(map(len, fractions))) == 1:
        return False
    return not any(len(fraction) > 1 and fraction.endswith("0") for fraction in fractions)


def _shared(names: Sequence[str]) -> str:
    """What all names begin with: no more than the first and the last of them do."""
    first, last = min(names), max(names)
    length = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[:length]


def _is_hexadecimal(rests: Sequence[str]) -> bool:
    """Whether the parts in which names differ are hexadecimal numbers, or digests, of one length."""
    if len(set(map(len, rests))) != 1 or not all(map(HEXADECIMAL.fullmatch, rests)):
        return False
    return any(not rest.isdecimal() for rest in rests) and any(any(map(str.isdecimal, rest)) for rest in rests)
