"""Data that was found sound is not checked again until it changes; the census of its masks is remembered, too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from vsscli.data.census import Census
from vsscli.data.check import RULES, check_videos, raise_faults
from vsscli.data.content import Digests
from vsscli.data.verdict import Meaning, Remark, judge
from vsscli.data.videos import FolderVideo
from vsscli.files import write_text
from vsscli.structured import json_or_none
from vsscli.talk import SILENCE, Talk

REMEMBERED = 64


def check_once(
    videos: Sequence[FolderVideo],
    meaning: Meaning,
    *,
    masks: bool,
    record: Path,
    sparse: bool = False,
    what: str = "data",
    digests: Digests | None = None,
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> Census:
    """Check data with `check_videos`, unless the same files were found sound before.

    Parameters
    ----------
    record
        A small JSON file with digests of sound data, over the contents of all files and the options of the check, and
        the census of each. It is created if it is missing, and ignored if it is damaged.
    what
        Name of the data in messages.
    digests
        Digests of files. `None`: all files are read for them.

    Returns
    -------
    Census
        The census of the masks; remarks about it that are not faults are passed to ``talk``.

    Raises
    ------
    VssError
        There are faults; see `raise_faults`.
    """
    frames = sum(len(video) for video in videos)
    digests = digests or Digests()
    digest = _digest(videos, meaning, masks, sparse, digests, talk)
    remembered = _read_record(record)
    if digest in remembered:
        talk.say(f"{what}: {frames} frames unchanged since they were found sound, not checked again ({record})")
        census = remembered[digest]
        for remark in judge(census, meaning, what):
            say_remark(remark, talk)
        return census
    look = check_videos(videos, meaning, masks=masks, sparse=sparse, what=what, workers=workers, talk=talk)
    raise_faults(look.faults)
    for remark in look.remarks:
        say_remark(remark, talk)
    # The digest is computed again: files that changed during the check are not recorded as sound.
    if _digest(videos, meaning, masks, sparse, digests, talk) == digest:
        kept = dict(list({**remembered, digest: look.census}.items())[-REMEMBERED:])
        write_text(record, json.dumps({"sound": {key: one.to_json() for key, one in kept.items()}}, indent=1) + "\n")
    return look.census


def say_remark(remark: Remark, talk: Talk) -> None:
    """Pass a remark on as a message or a warning, depending on its weight."""
    (talk.say if remark.weight == "note" else talk.warn)(str(remark))


def _digest(
    videos: Sequence[FolderVideo], meaning: Meaning, masks: bool, sparse: bool, digests: Digests, talk: Talk
) -> str:
    """SHA-256 of the options of the check and of the name and content of every file."""
    content = digests.split(videos, meaning.table, meaning.ids if masks else None, talk)
    names = [
        path.name if path is not None else ""
        for video in videos
        for frame in video.frames
        for path in (frame.image, frame.mask if masks else None)
    ]
    asked = repr((RULES, meaning.table.num_classes, meaning.ids, masks, sparse, content, names))
    return hashlib.sha256(asked.encode(errors="backslashreplace")).hexdigest()


def _read_record(path: Path) -> dict[str, Census]:
    try:
        values = json_or_none(path)
        return {str(digest): Census.from_json(census) for digest, census in values["sound"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return {}
