"""The inputs of a training besides its recipe, as fingerprints: data, initial weights, pseudo-labels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from vsscli.data.content import Digests
from vsscli.data.layouts import Dataset
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint
from vsscli.recipes.schema import Recipe
from vsscli.store.reader import open_store
from vsscli.talk import SILENCE, Talk
from vsscli.training.pseudo import pseudo_label_path
from vsscli.training.sources import Sources

CONTENT = "pseudo_labels_content"
"""Key of the fingerprint of the pseudo-labels themselves; `pseudo_labels` is that of how they were made."""

DATA = "data "
"""Prefix of the keys of splits that are learned from."""

SCORED = "scored on"
"""Key of the split that is validated on; it decides the figures and no weight."""

MEANING = {
    "init": "initial weights",
    "pseudo_labels": "pseudo-labels",
    CONTENT: "pseudo-labels, by their content",
}
"""What the fingerprints that are no data are of."""

NOTED = re.compile(r"(\d+) frames, names ([0-9a-f]{16}), content ([0-9a-f]{64}|-)")


def training_inputs(recipe: Recipe, init: Path | None, pseudo_labels: Path | None) -> dict[str, str]:
    """Fingerprints of the inputs of a run besides recipe and data: its initial weights and its pseudo-labels."""
    inputs = {}
    init = init or (Path(recipe.train.init) if recipe.train.init else None)
    if init is not None:
        inputs["init"] = load_checkpoint(init, weights=False).fingerprint
    path = pseudo_label_path(recipe, pseudo_labels)
    if path is not None:
        store = open_store(path)
        inputs |= {"pseudo_labels": store.fingerprint, CONTENT: store.content()}
    return inputs


def other_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which of the inputs that are no data are others than those of an earlier run, as text; empty if none is."""
    for name in sorted(before.keys() | now.keys()):
        if not name.startswith((DATA, SCORED)) and before.get(name) != now.get(name):
            meaning = MEANING.get(name, name)
            if name in before and name in now:
                return f"it had other {meaning}"
            return f"it had {meaning}, and now has none" if name in before else f"it had no {meaning}, and now has some"
    return ""


def data_inputs(sources: Sources, digests: Digests | None, talk: Talk = SILENCE) -> dict[str, str]:
    """Contents of the splits that a run learns from and of the one that it is validated on; without digests, only the
    number of frames and their names."""
    splits = {"labelled": (sources.main, "labelled", True)}
    splits |= {f"{other.dataset.name}/labelled": (other.dataset, "labelled", True) for other in sources.also}
    if sources.recipe.unlabelled is not None:
        splits["unlabelled"] = (sources.main, "unlabelled", False)
    found = {
        DATA + name: _noted_split(dataset, dataset.split(split), masks, digests, talk)
        for name, (dataset, split, masks) in splits.items()
    }
    if sources.recipe.validated:
        found[SCORED] = _noted_split(sources.main, validation_split(sources), True, digests, talk)
    return found


def validation_split(sources: Sources) -> list[FolderVideo]:
    """The split that a run is validated on.

    Raises
    ------
    VssError
        There is no such split.
    """
    try:
        return sources.main.split("val")
    except VssError as error:
        hint = f"{error.hint}; or " if error.hint else ""
        raise VssError(
            f"{error.message}; the run would be validated on that split (data.val)",
            f"{hint}set data.val to another split",
        ) from error


def changed_data(noted: Mapping[str, str], now: Mapping[str, str]) -> str:
    """How the data of a run differs from the current data, as text; empty if it does not, as far as was recorded."""
    learned = (name for name in now if name.startswith(DATA))
    changes = (_split_changed(repr(name.removeprefix(DATA)), noted.get(name, ""), now[name]) for name in learned)
    return next(filter(None, changes), "")


def changed_score(noted: Mapping[str, str], now: Mapping[str, str]) -> str:
    """How the split that a run was scored on differs from the current one; as `changed_data`."""
    return _split_changed("'val'", noted.get(SCORED, ""), now.get(SCORED, ""))


def _split_changed(split: str, noted: str, now: str) -> str:
    before, after = NOTED.fullmatch(noted), NOTED.fullmatch(now)
    if before is None or after is None:
        return ""
    if before[1] != after[1]:
        return f"split {split} had {before[1]} frames and has {after[1]}"
    if before[2] != after[2]:
        return f"split {split} has other frames, {after[1]} as before"
    if "-" not in (before[3], after[3]) and before[3] != after[3]:
        return f"frames or masks of split {split} have changed under the same names"
    return ""


def lacks_data(noted: Mapping[str, str]) -> bool:
    """Whether a run is from a version that did not record its data."""
    return not any(name.startswith(DATA) for name in noted)


def _noted_split(dataset: Dataset, videos: list[FolderVideo], masks: bool, digests: Digests | None, talk: Talk) -> str:
    frames = [frame.address for video in videos for frame in video.frames]
    names = hashlib.sha256("\n".join(frames).encode(errors="surrogateescape")).hexdigest()[:16]
    content = "-"
    if digests is not None:
        content = digests.split(videos, dataset.table, dataset.ids if masks else None, talk)
    return f"{len(frames)} frames, names {names}, content {content}"
