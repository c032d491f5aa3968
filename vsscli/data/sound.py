"""Data that was found sound is not looked at again before it changes; what its masks hold is remembered with it."""

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
    """Make sure that data is sound: `check_videos`, unless the same files were found sound before.

    Parameters
    ----------
    record
        A small JSON file that remembers digests of sound data: of the content of all files, and of what was asked of
        them; and the census of each. It is made when it isn't there, and ignored when it is damaged.
    what
        What to call the data.
    digests
        Tell what files hold. None: all are read for it.

    Returns
    -------
    Census
        Of the masks; what it says that is no fault was said.

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
            tell(remark, talk)
        return census
    look = check_videos(videos, meaning, masks=masks, sparse=sparse, what=what, workers=workers, talk=talk)
    raise_faults(look.faults)
    for remark in look.remarks:
        tell(remark, talk)
    # The digest is taken again: files that changed while they were looked at are not vouched for.
    if _digest(videos, meaning, masks, sparse, digests, talk) == digest:
        kept = dict(list({**remembered, digest: look.census}.items())[-REMEMBERED:])
        write_text(record, json.dumps({"sound": {key: told.to_json() for key, told in kept.items()}}, indent=1) + "\n")
    return look.census


def tell(remark: Remark, talk: Talk) -> None:
    """Say what a census says, as loud as it weighs."""
    (talk.say if remark.weight == "note" else talk.warn)(str(remark))


def _digest(
    videos: Sequence[FolderVideo], meaning: Meaning, masks: bool, sparse: bool, digests: Digests, talk: Talk
) -> str:
    """SHA-256 of what was asked and of the name and content of every file."""
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
        return {str(digest): Census.from_json(told) for digest, told in values["sound"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return {}
