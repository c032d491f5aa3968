"""The key of a stage: all that decides what it leaves. Two keys that differ say in which words.

A key has the parts ``stage`` (its section of the pipeline), ``recipe`` (of what it trains), ``inputs`` (fingerprints of
the results it takes), ``frames`` (of the data it reads), ``files`` (of the weights it starts from) and ``version``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vsscli.data.config import Data
from vsscli.data.content import INDEX, Digests
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.videos import FolderVideo
from vsscli.recipes.load import PLACES_AND_ADVICE
from vsscli.recipes.pipeline import AnyStage, EvalStage, PredictStage, PseudoStage, ShowStage, TrainStage
from vsscli.recipes.schema import Recipe
from vsscli.stages.job import Job, further_data
from vsscli.structured import digest_of, leaves
from vsscli.talk import SILENCE, Talk

# Raised when a change of the code gives a kind of stage other results from the same key.
VERSIONS = {"train": 4, "predict": 2, "ensemble": 1, "pseudo": 1, "eval": 1, "show": 1, "submit": 1}

ENDS = 2**20
"""Bytes at both ends of a file of weights that are looked at. A torch zip has the checksums of all its parts there."""

CONTENT = "content "
"""Before a fingerprint of the content of files; those of earlier versions were of names and sizes."""

LISTED = 3
"""Differences between two keys that are told."""

Key = dict[str, Any]


class Frames:
    """Fingerprints of the frames of splits: of the content of their files, looked at once.

    Parameters
    ----------
    job
        Says where data sets lie, and where it is remembered what files hold.
    talk
        Follows the looking.
    """

    def __init__(self, job: Job, talk: Talk = SILENCE) -> None:
        self._job, self._talk = job, talk
        self.files = Digests(job.workspace / INDEX)
        self._digests: dict[tuple[str, str, bool], str] = {}
        self._videos: dict[tuple[str, str], tuple[Dataset, list[FolderVideo]]] = {}

    def videos(self, data: Data, split: str) -> list[FolderVideo]:
        """The videos of a split; raises as `digest` does."""
        return self._open(data, split)[1]

    def dataset(self, data: Data, split: str) -> Dataset:
        """The data set that a split is of; raises as `digest` does."""
        return self._open(data, split)[0]

    def digest(self, data: Data, split: str, *, masks: bool) -> str:
        """SHA-256 over the frames of a split, and over the masks where they are read too.

        Raises
        ------
        VssError
            The data is not there.
        """
        place = (data.model_dump_json(), split, masks)
        if place not in self._digests:
            dataset, videos = self._open(data, split)
            self._digests[place] = self.files.split(videos, dataset.table, dataset.ids if masks else None, self._talk)
            self.files.save()
        return CONTENT + self._digests[place]

    def by_size(self, data: Data, split: str, *, masks: bool) -> str:
        """The fingerprint that earlier versions took: of names and sizes of files."""
        dataset, videos = self._open(data, split)
        digest = hashlib.sha256(json.dumps(dataset.table.to_dict()).encode())
        for frame in (frame for video in videos for frame in video.frames):
            files = (frame.image, frame.mask if masks else None)
            sizes = (-1 if file is None else os.stat(file).st_size for file in files)
            digest.update(f"{frame.address} {' '.join(map(str, sizes))}\n".encode())
        return digest.hexdigest()

    def _open(self, data: Data, split: str) -> tuple[Dataset, list[FolderVideo]]:
        place = (data.model_dump_json(), split)
        if place not in self._videos:
            dataset = open_dataset(data, self._job.root(data))
            self._videos[place] = (dataset, dataset.split(split))
        return self._videos[place]


def key_of(job: Job, name: str, inputs: Mapping[str, str], frames: Frames) -> Key:
    """The key of a stage.

    Parameters
    ----------
    job, name
        The stage.
    inputs
        Fingerprints of the results of all stages that it takes.
    frames
        Where fingerprints of frames are known.

    Raises
    ------
    VssError
        Data or a file of weights that decides the result is not there.
    """
    stage, recipe = job.stage(name), job.recipe(name)
    key: Key = {
        "stage": _section(job, name),
        "inputs": {other: inputs[other] for other in stage.takes()},
        "frames": {told: frames.digest(data, split, masks=masks) for told, data, split, masks in splits_of(job, name)},
        "version": version_of(stage, recipe),
    }
    if isinstance(stage, TrainStage):
        key["recipe"] = _content(recipe)
        key["files"] = {str(path): CONTENT + frames.files.of(path) for path in weight_files(recipe)}
        frames.files.save()
    # As it will be read back from a record.
    plain: Key = json.loads(json.dumps(key))
    return plain


def version_of(stage: AnyStage, recipe: Recipe) -> int:
    """The version of a kind of stage: that of its kind, and one more where it reads what mask scores lack to 1, and
    where pseudo-labels are weighed by their share of the pixels, of which unsure black rows were once none."""
    reads = isinstance(stage, PredictStage) and recipe.predict.missing != "normalise"
    reads |= isinstance(stage, TrainStage) and recipe.unlabelled is not None  # what the moving average is sure of
    section = recipe.unlabelled if isinstance(stage, TrainStage) else None
    weighs = (
        section is not None
        and section.scale_weight
        and section.contrast is None
        and section.teacher == section.split == "store"
    )
    return VERSIONS[stage.do] + (reads and recipe.model.masks) + weighs


def brought_up(old: Key, job: Job, name: str, frames: Frames) -> Key:
    """A key of an earlier version, which told files by names and sizes, as it would be told today.

    Where names and sizes are still those, content is taken to be that of today: a training is not done again for how
    it was noted. What is scored is, which is soon done; and what learned from remapped masks, because what became of
    their classes was not noted, and the mappings that ship have changed. What recipes could not say then has its
    default, which is what was done.

    Raises
    ------
    VssError
        Data is not there.
    """
    stage = job.stage(name)
    if isinstance(stage, EvalStage) or "frames" not in old:
        return old
    key = {**old, "frames": {**(old.get("frames") or {})}, "files": {**(old.get("files") or {})}}
    if "recipe" in old:
        key["recipe"] = _filled(old["recipe"])
    for told, data, split, masks in splits_of(job, name):
        noted = str(key["frames"].get(told, CONTENT))
        remapped = masks and data.remap is not None
        if not (noted.startswith(CONTENT) or remapped) and noted == frames.by_size(data, split, masks=masks):
            key["frames"][told] = frames.digest(data, split, masks=masks)
    for path, noted in key["files"].items():
        if not str(noted).startswith(CONTENT) and noted == file_digest(Path(path)):
            key["files"][path] = CONTENT + frames.files.of(path)
    return key if "files" in old else {part: value for part, value in key.items() if part != "files"}


def differences(old: Key, new: Key, stage: AnyStage) -> str:
    """In what two keys differ, in words; empty when in nothing."""
    found = list(dict.fromkeys(_told(old, new, stage)))
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(found[:LISTED]) + more


def splits_of(job: Job, name: str) -> list[tuple[str, Data, str, bool]]:
    """The splits whose frames a stage reads: what to call it, data set, split, and whether masks are read too."""
    stage, recipe = job.stage(name), job.recipe(name)
    found = [(split, recipe.data, split, masks) for split, masks in _own_splits(job, name)]
    if isinstance(stage, TrainStage):
        found += [(f"{data.name}/labelled", data, "labelled", True) for data in further_data(recipe)]
    return found


def _own_splits(job: Job, name: str) -> list[tuple[str, bool]]:
    stage = job.stage(name)
    if isinstance(stage, TrainStage):
        unlabelled = [("unlabelled", False)] if job.recipe(name).unlabelled is not None else []
        return [("labelled", True), ("val", True), *unlabelled]
    if isinstance(stage, PredictStage):
        return [(stage.split, False)]
    if isinstance(stage, EvalStage):
        return [(split, True) for split in dict.fromkeys(job.split(row.of) for row in stage.rows)]
    if isinstance(stage, ShowStage):
        return [(job.split(name), True)]
    return []


def weight_files(recipe: Recipe) -> list[Path]:
    """The files that a network starts from, those that a recipe names."""
    named = [recipe.train.init, recipe.model.weights[1] if recipe.model.weights else None]
    return [Path(os.path.expanduser(path)) for path in named if path is not None]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's size and of its both ends: what earlier versions told a file of weights by."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode() + file.read(ENDS))
        file.seek(max(size - ENDS, 0))
        digest.update(file.read(ENDS))
    return digest.hexdigest()


def read_out_digest(recipe: Recipe) -> str:
    """Fingerprint of what a checkpoint's recipe says to those who read it out."""
    content = _content(recipe)
    return digest_of({part: content[part] for part in ("name", "data", "predict", "store")})


def _content(recipe: Recipe) -> dict[str, Any]:
    """A recipe without the places that may change and the advice to people."""
    values = recipe.model_dump(mode="json")
    if recipe.predict.missing == "spread":
        del values["predict"]["missing"]  # no training of before is done again for how it is read out: see `version_of`
    for data in (values["data"], *(other["data"] for other in values.get("also") or ())):
        for key in PLACES_AND_ADVICE:
            data.pop(key)
    return values


def _filled(content: dict[str, Any]) -> dict[str, Any]:
    """What a key holds of a recipe, with defaults for what came to recipes since; unread where it is no recipe now."""
    try:
        filled: dict[str, Any] = json.loads(json.dumps(_content(Recipe.model_validate(content))))
    except ValidationError:
        return content
    return filled


def _section(job: Job, name: str) -> dict[str, Any]:
    """What a stage's section decides: names of rows, the paper's figures and the recipe's place do not."""
    stage = job.stage(name)
    if isinstance(stage, TrainStage):
        return {"init": stage.init, "pseudo": stage.pseudo}
    if isinstance(stage, EvalStage):
        return {"of": sorted(stage.takes()), "metrics": list(stage.metrics), "protocol": stage.protocol}
    section = stage.model_dump(mode="json", exclude={"do", "optional"})
    if isinstance(stage, PredictStage):
        plan = job.plan(name)
        section["tta"] = {"scales": list(plan.scales), "flip": plan.flip}
    if isinstance(stage, PseudoStage) and stage.threshold is None:
        section["percentile"] = stage.percentile or 80.0
    return section


def _told(old: Key, new: Key, stage: AnyStage) -> Iterator[str]:
    for part in ("version", "stage", "recipe", "inputs", "frames", "files"):
        for path, before, after in leaves(old.get(part), new.get(part), absent=None):
            name = ".".join(path)
            if part == "version":
                yield f"stage version: {before} → {after}"
            elif part == "inputs":
                yield f"its input {path[0]!r} changed"
            elif part == "frames":
                yield f"frames of {path[0]} changed"
            elif part == "files":
                yield f"file {path[0]} changed"
            else:
                yield f"{name}: {_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
