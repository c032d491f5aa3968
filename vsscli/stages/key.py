"""The key of a stage: everything that decides its result. The difference of two keys can be put in words.

A key has the parts ``stage`` (its section of the pipeline), ``recipe`` (of what it trains), ``inputs`` (fingerprints of
the results it takes), ``frames`` (of the data it reads), ``files`` (of the weights it starts from) and ``version``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vsscli.data.config import Data
from vsscli.data.content import INDEX, Digests
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.videos import FolderVideo
from vsscli.recipes.load import PLACES_AND_ADVICE
from vsscli.recipes.schema import Recipe
from vsscli.stages.record import Parts, Result
from vsscli.structured import digest_of, leaves

if TYPE_CHECKING:
    from vsscli.stages.job import Job
    from vsscli.stages.kind import Kind

ENDS = 2**20
"""Bytes read at both ends of a file of weights. A torch zip has the checksums of all its parts there."""

CONTENT = "content "
"""Prefix of fingerprints of content; earlier versions took names and sizes."""

LISTED = 3
"""Differences between two keys that are listed."""


class Frames:
    """The frames of a job's splits, and fingerprints of their files' content, each computed once.

    Missing data raises VssError.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.files = Digests(job.workspace / INDEX)
        self._digests: dict[tuple[str, str, bool], str] = {}
        self._videos: dict[tuple[str, str], tuple[Dataset, list[FolderVideo]]] = {}

    def open(self, data: Data, split: str) -> tuple[Dataset, list[FolderVideo]]:
        """A split's data set, and its videos."""
        place = (data.model_dump_json(), split)
        if place not in self._videos:
            dataset = open_dataset(data, self._job.root(data))
            self._videos[place] = (dataset, dataset.split(split))
        return self._videos[place]

    def digest(self, data: Data, split: str, *, masks: bool) -> str:
        """SHA-256 over the frames of a split, and with ``masks`` over its masks."""
        place = (data.model_dump_json(), split, masks)
        if place not in self._digests:
            dataset, videos = self.open(data, split)
            ids, talk = dataset.ids if masks else None, self._job.context.talk
            self._digests[place] = self.files.split(videos, dataset.table, ids, talk)
            self.files.save()
        return CONTENT + self._digests[place]

    def by_size(self, data: Data, split: str, *, masks: bool) -> str:
        """The fingerprint of earlier versions, of names and sizes of files."""
        dataset, videos = self.open(data, split)
        digest = hashlib.sha256(json.dumps(dataset.table.to_dict()).encode())
        for frame in (frame for video in videos for frame in video.frames):
            files = (frame.image, frame.mask if masks else None)
            sizes = (-1 if file is None else os.stat(file).st_size for file in files)
            digest.update(f"{frame.address} {' '.join(map(str, sizes))}\n".encode())
        return digest.hexdigest()


def key_of(kind: Kind[Any], results: Mapping[str, Result], frames: Frames) -> Parts:
    """The key of a stage, given the results that it takes.

    Raises
    ------
    VssError
        Data or a file of weights is missing.
    """
    key: Parts = {
        "stage": kind.section(),
        "inputs": {other: results[other].fingerprint for other in kind.stage.takes()},
        "frames": {one.called: frames.digest(one.data, one.split, masks=one.masks) for one in kind.reads()},
        "version": kind.version(),
        **kind.own_parts(frames),
    }
    # As it is read back from a record.
    plain: Parts = json.loads(json.dumps(key))
    return plain


def brought_up(old: Parts, kind: Kind[Any], frames: Frames) -> Parts:
    """A key of an earlier version, which identified files by names and sizes, as it would be written today.

    If names and sizes are unchanged, the content is assumed to be unchanged too: a training is not repeated because of
    how it was noted. Scoring is, because it is quick; and so are trainings on remapped masks, because their mapping was
    not noted, and the shipped mappings have changed. Keys that recipes did not have then get their defaults, which is
    what was done.
    """
    if kind.soon_done or "frames" not in old:
        return old
    key = {**old, "frames": {**(old.get("frames") or {})}, "files": {**(old.get("files") or {})}}
    if "recipe" in old:
        key["recipe"] = _filled(old["recipe"])
    for called, data, split, masks in kind.reads():
        noted = str(key["frames"].get(called, CONTENT))
        remapped = masks and data.remap is not None
        if not (noted.startswith(CONTENT) or remapped) and noted == frames.by_size(data, split, masks=masks):
            key["frames"][called] = frames.digest(data, split, masks=masks)
    for path, noted in key["files"].items():
        if not str(noted).startswith(CONTENT) and noted == ends_digest(Path(path)):
            key["files"][path] = CONTENT + frames.files.of(path)
    return key if "files" in old else {part: value for part, value in key.items() if part != "files"}


def differences(old: Parts, new: Parts) -> str:
    """The differences of two keys, in words; empty if there are none."""
    found = list(dict.fromkeys(_in_words(old, new)))
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(found[:LISTED]) + more


def ends_digest(path: Path) -> str:
    """SHA-256 of a file's size and both ends, by which earlier versions identified files of weights."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode() + file.read(ENDS))
        file.seek(max(size - ENDS, 0))
        digest.update(file.read(ENDS))
    return digest.hexdigest()


def read_out_digest(recipe: Recipe) -> str:
    """Fingerprint of the parts of a checkpoint's recipe that decide predictions."""
    said = content(recipe)
    return digest_of({part: said[part] for part in ("name", "data", "predict", "store")})


def content(recipe: Recipe) -> dict[str, Any]:
    """A recipe without places, which may change, and advice to people."""
    values = recipe.model_dump(mode="json")
    if recipe.predict.missing == "spread":
        del values["predict"]["missing"]  # earlier trainings are not repeated for their read-out: see `version`
    for data in (values["data"], *(other["data"] for other in values.get("also") or ())):
        for key in PLACES_AND_ADVICE:
            data.pop(key)
    return values


def _filled(noted: dict[str, Any]) -> dict[str, Any]:
    """The recipe in a key, with defaults for newer keys; unchanged if it is no longer a valid recipe."""
    try:
        filled: dict[str, Any] = json.loads(json.dumps(content(Recipe.model_validate(noted))))
    except ValidationError:
        return noted
    return filled


def _in_words(old: Parts, new: Parts) -> Iterator[str]:
    words = {"inputs": "its input {!r} changed", "frames": "frames of {} changed", "files": "file {} changed"}
    for part in ("version", "stage", "recipe", "inputs", "frames", "files"):
        nothing: Any = None if part == "version" else {}
        for path, before, after in leaves(old.get(part, nothing), new.get(part, nothing), absent=None):
            if part in words:
                yield words[part].format(path[0])
            else:
                yield f"{'.'.join(path) or 'stage version'}: {_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
