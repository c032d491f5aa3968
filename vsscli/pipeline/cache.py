"""Stores of a workspace, or stores given by path: listing, verifying and repairing them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vsscli.errors import VssError
from vsscli.pipeline.workspace import find_stores, unreadable_stores
from vsscli.store.files import BrokenSealError
from vsscli.store.header import DATA_SET, Header, read_header
from vsscli.store.reader import open_store
from vsscli.store.remote import place_of, work_for
from vsscli.store.upkeep import Usage, collect, measure
from vsscli.store.verify import Damage, Repair, repair, verify
from vsscli.talk import SILENCE, Talk


@dataclass(frozen=True)
class Entry:
    """A store, its header and its disk usage."""

    path: Path
    header: Header
    usage: Usage

    def to_json(self, *, videos: bool) -> dict[str, object]:
        """Plain values for one JSON object; with ``videos``, the usage of each."""
        facts: dict[str, object] = {
            "store": str(self.path),
            "kind": self.header.kind,
            "data": {name: value for name, value in self.header.data.items() if name not in DATA_SET},
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
        """``whole``, or how many of the frames of its videos are present."""
        present = sum(video.present for video in self.usage.videos)
        frames = sum(video.frames for video in self.usage.videos)
        return "whole" if present == frames else f"{present} of {frames} frames"


@dataclass(frozen=True)
class Unreadable:
    """A store that can't be read: why, what to do, and the bytes of its files."""

    path: Path
    cause: str
    remedy: str
    bytes: int

    def to_json(self) -> dict[str, object]:
        """Plain values for one JSON object, beside those of `Entry`."""
        what = {"cause": self.cause, "hint": self.remedy}
        return {"store": str(self.path), "state": "unreadable", "bytes": self.bytes, **what}


@dataclass(frozen=True)
class Verdict:
    """A store, and what is damaged in it."""

    path: Path
    damaged: tuple[Damage, ...]

    @property
    def videos(self) -> tuple[str, ...]:
        """Damaged videos, each once."""
        return tuple(dict.fromkeys(damage.video for damage in self.damaged))


def no_store(workspace: Path) -> VssError:
    """The error for a workspace without stores."""
    return VssError(f"there is no store in {workspace}", "make one with `vss predict`, or name some with --stores")


def list_stores(workspace: Path, stores: Sequence[Path] = ()) -> list[Entry]:
    """The named stores, or all readable ones of the workspace, newest first, with their disk usage."""
    return [Entry(path, read_header(path), measure(path)) for path in stores or find_stores(workspace)]


def list_unreadable(workspace: Path) -> list[Unreadable]:
    """The stores of a workspace that `list_stores` leaves out, by name: of another format, or with a damaged header."""
    return [
        Unreadable(path, error.message, error.hint, sum(f.stat().st_size for f in path.rglob("*") if f.is_file()))
        for path, error in unreadable_stores(workspace)
    ]


def _own_stores(workspace: Path, talk: Talk) -> list[Path]:
    """The stores inside a workspace: a store outside, reached through a link, is left alone unless it is named."""
    found = {path: Path(os.path.realpath(path)) for path in find_stores(workspace)}
    home = os.path.realpath(workspace)
    for path, real in found.items():
        if not real.is_relative_to(home):
            talk.warn(f"skipped: {path} leads to {real}, out of {workspace}; name it with --stores to include it")
    return [path for path, real in found.items() if real.is_relative_to(home)]


def verify_stores(workspace: Path, stores: Sequence[Path] = (), *, talk: Talk = SILENCE) -> list[Verdict]:
    """Compare every file of the stores with its record; nothing is changed."""
    verdicts = []
    if not stores:
        for path, error in unreadable_stores(workspace):
            if isinstance(error, BrokenSealError):
                verdicts.append(Verdict(path, (Damage("", None, error.message),)))
            else:
                talk.warn(f"not verified: {error.message} ({error.hint})")
    for path in stores or _own_stores(workspace, talk):
        talk.say(f"verifying {path}")
        verdicts.append(Verdict(path, tuple(verify(open_store(path), talk))))
    return verdicts


def repair_stores(verdicts: Sequence[Verdict]) -> list[tuple[Path, Repair]]:
    """Remove damaged parts from the manifests, so that the commands that made the stores make them again.

    A store with a damaged header is refused, after the others were repaired: nothing in it can be trusted.

    Returns
    -------
    list
        The damaged stores, and what was removed.
    """
    damaged = [verdict for verdict in verdicts if verdict.damaged]
    damaged.sort(key=lambda verdict: verdict.videos == ("",))
    return [(verdict.path, repair(open_store(verdict.path), verdict.damaged)) for verdict in damaged]


def collect_leftovers(workspace: Path, stores: Sequence[Path] = (), *, talk: Talk = SILENCE) -> list[Path]:
    """Remove leftovers of killed runs beside the named stores, or all in the workspace. Returns what was removed.

    Raises
    ------
    VssError
        A named path is not a store.
    """
    for path in stores:
        # A run may have died before its store had a header: then its work folder identifies it.
        if not work_for(place_of(path)).path.is_dir():
            read_header(path)
    paths = list(stores)
    if not paths:
        # A run may have died before its store had a header: then there is only the work folder.
        home = os.path.realpath(workspace)
        folders = [
            folder
            for folder in sorted(workspace.glob("stores/*/*/.*.zarr.work"))
            if Path(os.path.realpath(folder.parent)).is_relative_to(home)
        ]
        beside = [folder.with_name(folder.name.removeprefix(".").removesuffix(".work")) for folder in folders]
        # Links out of the workspace are skipped, with a warning, in `_own_stores`.
        own = [path for path in beside if not path.is_symlink()]
        paths = list(dict.fromkeys([*_own_stores(workspace, talk), *own]))
    return [removed for path in paths for removed in collect(path)]
