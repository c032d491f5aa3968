"""All stores of a workspace, or some that are named: what they hold, whether they are sound, and mending them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vsscli.errors import VssError
from vsscli.pipeline.workspace import find_stores
from vsscli.store.header import Header, read_header
from vsscli.store.reader import open_store
from vsscli.store.upkeep import Usage, collect, measure
from vsscli.store.verify import Damage, Repair, repair, verify
from vsscli.talk import SILENCE, Talk


@dataclass(frozen=True)
class Entry:
    """A store, what made it and what it takes."""

    path: Path
    header: Header
    usage: Usage

    def to_json(self, *, videos: bool) -> dict[str, object]:
        """Plain values for one JSON object; with ``videos`` what each of them takes."""
        facts: dict[str, object] = {
            "store": str(self.path),
            "kind": self.header.kind,
            "data": self.header.data,
            "fingerprint": self.header.fingerprint,
            "state": self.state,
            "bytes": self.usage.total,
            "arrays": self.usage.arrays,
            "metadata": self.usage.metadata,
            "leftovers": self.usage.leftovers,
        }
        if videos:
            facts["videos"] = [asdict(video) for video in self.usage.videos]
        return facts

    @property
    def state(self) -> str:
        """``whole``, or how many frames of the videos in it are there."""
        present = sum(video.present for video in self.usage.videos)
        frames = sum(video.frames for video in self.usage.videos)
        return "whole" if present == frames else f"{present} of {frames} frames"


@dataclass(frozen=True)
class Verdict:
    """A store, and what is damaged in it."""

    path: Path
    damaged: tuple[Damage, ...]

    @property
    def videos(self) -> tuple[str, ...]:
        """Videos that are damaged, each once."""
        return tuple(dict.fromkeys(damage.video for damage in self.damaged))


def list_stores(workspace: Path, stores: Sequence[Path] = ()) -> list[Entry]:
    """The stores named, or all of the workspace, newest first, and what each takes."""
    return [Entry(path, read_header(path), measure(path)) for path in _chosen(workspace, stores)]


def verify_stores(workspace: Path, stores: Sequence[Path] = (), *, talk: Talk = SILENCE) -> list[Verdict]:
    """Compare every file of the stores with what its record says of it; nothing is changed."""
    verdicts = []
    for path in _chosen(workspace, stores):
        talk.say(f"verifying {path}")
        verdicts.append(Verdict(path, tuple(verify(open_store(path), talk))))
    return verdicts


def repair_stores(verdicts: Sequence[Verdict]) -> list[tuple[Path, Repair]]:
    """Take what was found damaged out of the manifests, so that the commands that made the stores make it again.

    Returns
    -------
    list
        The stores in which something was damaged, and what was taken out.
    """
    return [
        (verdict.path, repair(open_store(verdict.path), verdict.damaged)) for verdict in verdicts if verdict.damaged
    ]


def collect_leftovers(workspace: Path, stores: Sequence[Path] = ()) -> list[Path]:
    """Remove what dead runs left of the stores named, or of all in the workspace. Returns what was removed."""
    paths = list(stores)
    if not paths:
        # A run may have died before its store had a header: then only the work folder is there.
        folders = workspace.glob("stores/*/*/.*.zarr.work")
        beside = [folder.with_name(folder.name.removeprefix(".").removesuffix(".work")) for folder in folders]
        paths = list(dict.fromkeys([*find_stores(workspace), *beside]))
    return [removed for path in paths for removed in collect(path)]


def _chosen(workspace: Path, stores: Sequence[Path]) -> list[Path]:
    paths = list(stores) or find_stores(workspace)
    if not paths:
        raise VssError(f"there is no store in {workspace}", "vss predict makes one; or name some with --stores")
    return paths
