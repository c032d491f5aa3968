"""Stores of earlier runs of stages: fingerprints, whether they are outdated, and removing them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from vsscli.errors import VssError
from vsscli.store.reader import open_store
from vsscli.store.upkeep import remove, remove_video


def discard_store(workspace: Path, store: Path) -> None:
    """Remove a store that a record names. The path comes from a file, so only stores in this workspace are removed."""
    place = store.resolve()
    inside = place.is_relative_to(workspace.resolve()) and place.suffix == ".zarr"
    if inside and (place / "zarr.json").is_file():
        remove(place)


def leave_only(path: Path, names: Collection[str]) -> None:
    """Remove the videos of a store that are not among ``names``, because the split no longer has them."""
    if not (path / "zarr.json").is_file():
        return
    for video in open_store(path).videos(complete=False):
        if video not in names:
            remove_video(path, video)


def store_fingerprint(path: Path) -> str:
    """SHA-256 over a store's header and all its bytes, by its records; refuses a store that is not complete."""
    store = open_store(path)
    names = store.videos()
    unfinished = sorted({*store.videos(complete=False)} - {*names})
    if unfinished or not names:
        raise VssError(f"{path} lacks frames of video {unfinished[0] if unfinished else 'any'}", "run its stage again")
    return store.content()


def outdated(path: Path, sources: Sequence[Path]) -> bool:
    """Whether a store has a video that its sources no longer contain, or that has changed there since."""
    if not (path / "zarr.json").is_file():
        return False
    try:
        store, made_of = open_store(path), [open_store(source) for source in sources]
        now = {video: tuple(source.digest(video) for source in made_of) for video in made_of[0].videos()}
        return any(store.record(video).sources != now.get(video) for video in store.videos(complete=False))
    except VssError:
        return True  # it can't be continued
