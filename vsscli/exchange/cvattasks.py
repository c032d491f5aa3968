"""CVAT's tasks, as the head of its XML describes them: of which video a frame's number is.

A task of a video knows frames by number alone; a task of images by name. In a project's XML, numbers go on from one
task to the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from vsscli.data.pixels import require_pixels
from vsscli.data.video import VIDEO_SUFFIXES
from vsscli.errors import VssError
from vsscli.exchange.items import Numbered, Size
from vsscli.exchange.xmlparts import Element

VIDEO, IMAGES = "interpolation", "annotation"
"""What CVAT calls the modes of tasks."""

STEP = re.compile(r"step=(\d+)")


@dataclass(frozen=True)
class Task:
    """A task, or a job of one.

    Parameters
    ----------
    mode
        `VIDEO`, `IMAGES`, or empty if the file does not say.
    videos
        What its video may be called: its file's name, the task's name.
    size
        Of the frames of a video, if the file says it.
    before
        Frames of the tasks before it in a project, which its numbers begin after.
    """

    mode: str = ""
    videos: tuple[str, ...] = ()
    size: Size | None = None
    before: int = 0

    def numbered(self, number: int) -> Numbered:
        """The frame that has a number in the file."""
        return Numbered(self.videos, number - self.before)


class Tasks:
    """The tasks of an XML file.

    Parameters
    ----------
    meta
        Its head.
    where
        The file, for errors.

    Raises
    ------
    VssError
        A video's size is out of bounds.
    ValueError
        A number is not one.
    """

    def __init__(self, meta: Element, where: str) -> None:
        self._where = where
        self._tasks = dict(_tasks(meta, where))

    def of(self, element: Element) -> tuple[str, Task]:
        """The task of an image or a track, with its id; the only one if it names none."""
        if len(self._tasks) == 1 and "task_id" not in element.attributes:
            return next(iter(self._tasks.items()))
        name = element.get("task_id")
        if self._tasks and name not in self._tasks and (name or element.name == "track"):
            raise VssError(f"{self._where}: <{element.name}> is of task {name!r}, not in the file", "export it again")
        return name, self._tasks.get(name, Task())

    def __getitem__(self, name: str) -> Task:
        return self._tasks.get(name, Task())


def _video_name(file: str) -> str:
    """A video's name, from its file's or a task's: ``a.b`` may be a task's own name, of which nothing is a suffix."""
    path = PurePosixPath(file.replace("\\", "/"))
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name


def _tasks(meta: Element, where: str) -> Iterator[tuple[str, Task]]:
    before, subset = 0, ""
    for task in [*meta.all("task"), *meta.all("job")]:
        said = {part.name: part.text.strip() for part in reversed(task.inner)}
        sizes = next((part for part in (*task.inner, *meta.inner) if part.name == "original_size"), None)
        size = None if sizes is None else (int(sizes.text_of("height")), int(sizes.text_of("width")))
        if size is not None:
            require_pixels(*size, where)
        names = (_video_name(said.get(key, "")) for key in ("source", "name"))
        if said.get("subset", "") != subset:
            before, subset = 0, said.get("subset", "")
        yield said.get("id", ""), Task(said.get("mode", ""), tuple(dict.fromkeys(filter(None, names))), size, before)
        step = STEP.search(said.get("frame_filter", ""))
        before += int(said.get("start_frame") or 0) + int(said.get("size") or 0) * (int(step[1]) if step else 1)
