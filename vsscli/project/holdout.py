"""Which labelled frames a project keeps from training, to measure on them."""

from __future__ import annotations

from collections.abc import Sequence

from vsscli.data.videos import FolderVideo

SHARE = 0.2
"""Of the labelled frames, about, that are held out."""

LEAST = 5
"""Labelled frames below which nothing is held out: they are needed to learn from."""

VIDEOS = 4
"""Labelled videos from which on whole ones are held out: frames of one video are too alike to say much of others."""


def choose_held_out(videos: Sequence[FolderVideo]) -> tuple[str, ...]:
    """What ``data.held_out`` should say, the same for the same labels.

    Parameters
    ----------
    videos
        All videos, their frames with the masks that they have.

    Returns
    -------
    tuple of str
        Whole videos if four or more have labels: from the one with the fewest labels on, as long as that comes nearer
        to a fifth of all labelled frames. Else the end of each video that has five labelled frames or more, from half
        way between the last label that is kept and the first that is held out. Empty if there are fewer than five
        labels.
    """
    labels = {video.name: [n for n, frame in enumerate(video.frames) if frame.mask is not None] for video in videos}
    labels = {name: numbers for name, numbers in labels.items() if numbers}
    total = sum(map(len, labels.values()))
    if total < LEAST:
        return ()
    if len(labels) >= VIDEOS:
        return _whole(labels, total)
    by_name = {video.name: video for video in videos}
    return tuple(_end(by_name[name], numbers) for name, numbers in labels.items() if len(numbers) >= LEAST)


def _whole(labels: dict[str, list[int]], total: int) -> tuple[str, ...]:
    chosen: list[str] = []
    held = 0
    for name in sorted(labels, key=lambda name: (len(labels[name]), name)):
        if chosen and abs(held + len(labels[name]) - SHARE * total) >= abs(held - SHARE * total):
            break
        chosen.append(name)
        held += len(labels[name])
    return tuple(sorted(chosen))


def _end(video: FolderVideo, numbers: list[int]) -> str:
    kept = len(numbers) - max(1, round(SHARE * len(numbers)))
    start = (numbers[kept - 1] + numbers[kept] + 1) // 2
    return f"{video.name}/{video.stems[start]}..{video.stems[-1]}"
