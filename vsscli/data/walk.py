"""Listing a folder and all folders below it, each once, since links may form cycles.

Dot-files and files that systems create for themselves, such as Synology's ``@eaDir``, macOS's ``__MACOSX`` and Windows'
``Thumbs.db``, hold thumbnails and metadata; they are skipped everywhere.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vsscli.errors import VssError
from vsscli.files import write_text

SERVICE = frozenset(
    {
        "@eadir",
        "@recycle",
        "@tmp",
        "#recycle",
        "__macosx",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
    }
)
KINDS_NAMED = 4

MADE = ".made-by-vss"
"""A file in folders of predictions and exports, so that `vss init` does not take them for clips and labels."""


@dataclass(frozen=True)
class Folders:
    """All folders below one, relative to it, itself first, in the order of names and without repetitions (``there``);
    and links to folders that are among these or contain the folder itself, which are not followed (``again``)."""

    there: tuple[Path, ...]
    again: tuple[Path, ...]


def is_service(name: str) -> bool:
    """Whether a name is that of a file or folder that systems create for themselves."""
    return name.startswith(".") or name.lower() in SERVICE


def visible(folder: Path) -> list[Path]:
    """The content of a folder in the order of names, without dot-files and service files."""
    try:
        names = os.listdir(folder)
    except OSError as cause:
        raise VssError(f"folder {folder} can't be read: {cause.strerror}", "check its path and permissions") from cause
    return [folder / name for name in sorted(names) if not is_service(name)]


def mark_as_made(folder: Path) -> None:
    """Mark a folder as one that vss has made, creating it if necessary."""
    write_text(folder / MADE, "This folder was made by vss, so `vss init` does not look into it.\n")


def folders_below(place: Path) -> Folders:
    """Find all folders below one. Links to folders are followed, and no folder is entered twice.

    A folder is listed under its own path, or under that of a link if it can't be reached otherwise. Stores
    (``*.zarr``) hold no images and are not entered.
    """
    root = place.resolve()
    seen = {_identity(place)}
    there, again = [Path()], list[Path]()
    ahead, links = deque([Path()]), deque[Path]()
    while ahead or links:
        if ahead:
            here = ahead.popleft()
        else:
            here = links.popleft()
            goal = (place / here).resolve()
            if _identity(goal) in seen or root.is_relative_to(goal):
                again.append(here)
                continue
            seen.add(_identity(goal))
            there.append(here)
        for child in visible(place / here):
            below = here / child.name
            if not child.is_dir() or child.suffix == ".zarr":
                continue
            if child.is_symlink():
                links.append(below)
            elif _identity(child) in seen:  # a mount, or the target of an earlier link
                again.append(below)
            else:
                seen.add(_identity(child))
                there.append(below)
                ahead.append(below)
    return Folders(tuple(sorted(there)), tuple(sorted(again)))


def kinds(names: Iterable[str]) -> str:
    """Numbers of files by suffix, in words: `3 .heic, 2 .txt and 1 without suffix`; empty for none."""
    counts = Counter(Path(name).suffix.lower() for name in names)
    parts = [f"{count} {suffix or 'without suffix'}" for suffix, count in counts.most_common(KINDS_NAMED)]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(KINDS_NAMED))
    if rest:
        parts.append(f"{rest} of other kinds")
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        state = os.stat(folder)
    except OSError as cause:
        raise VssError(f"folder {folder} can't be read: {cause.strerror}", "check its path and permissions") from cause
    return state.st_dev, state.st_ino
