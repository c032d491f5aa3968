"""From stores to a report: numbers, drawn frames, and the page that shows them."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.names import several
from vsscli.page.folder import PAGE, SUMMARY, fresh_report, require_replaceable
from vsscli.page.layers import WIDTH
from vsscli.page.page import ASSETS, asset, page
from vsscli.pipeline.drawing import CHUNK, DrawnVideo, chosen_frames, draw_video, layers_of, report_folder
from vsscli.pipeline.environment import inspect_environment
from vsscli.pipeline.findings import reliability, scores
from vsscli.pipeline.origin import networks, origin
from vsscli.pipeline.predicted import warn_of_missing
from vsscli.pipeline.subject import KEYS, Subject, open_subject
from vsscli.pipeline.workspace import newest_store

FORMAT = 1
"""Of ``summary.json``."""


@dataclass(frozen=True)
class Report:
    """A report: its folder, and the values of its ``summary.json``."""

    folder: Path
    summary: dict[str, Any]

    @property
    def page(self) -> Path:
        """The page to open."""
        return self.folder / PAGE


def write_report(
    predictions: str | Path | Sequence[str | Path] = (),
    *,
    pseudo: str | Path | None = None,
    runs: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    every: int = 1,
    frames: int | None = None,
    context: Context = Context(),
    command: Sequence[str] = (),
) -> Report:
    """Write a folder with a page that shows results, as ``vss report`` does. The page opens from disk.

    Parameters
    ----------
    predictions
        One prediction store, or two to compare; none: the newest in the workspace, or the one behind ``pseudo``.
    pseudo
        Pseudo-labels of the same videos.
    runs
        Folders of training runs whose curves to show, besides those of the networks behind the predictions, which are
        found in the workspace by their weights.
    out
        The folder; an earlier report there is replaced. `None`: ``<workspace>/report/<store>``.
    every, frames
        Draw every n-th frame of a video, and at most so many, evenly spaced.
    context
        Its data root is where the frames are; `None`: where they were when they were predicted.
    command
        The command line, to be shown.

    Returns
    -------
    Report
        The folder, and all numbers of the page.

    Raises
    ------
    VssError
        The stores do not fit together, ``out`` holds something that is not a report, or the disk refuses.
    """
    if every < 1 or (frames is not None and frames < 1):
        raise VssError("a report draws at least every frame, and at least one of a video", "give numbers from 1 on")
    talk = context.talk
    named = several(predictions)
    if not named and pseudo is None:
        named = (newest_store(context.workspace),)
        talk.say(f"reporting on the newest store, {named[0]}")
    subject = open_subject(named, pseudo, context.data_root)
    for store in subject.predictions:
        warn_of_missing(store, context)
    folder = Path(out) if out is not None else report_folder(context.workspace, subject.first)
    require_replaceable(folder)
    if subject.missing:
        talk.warn(f"there are no frames to draw over: {subject.missing}")
    summary = _summary(subject, [Path(run) for run in several(runs)], command, context)
    chosen = {name: chosen_frames(len(subject.first.stems(name)), every, frames) for name in subject.videos()}
    with fresh_report(folder) as inside:
        drawn = []
        with talk.track("draw", sum(map(len, chosen.values()))) as done:
            for number, (name, places) in enumerate(chosen.items()):
                drawn.append(draw_video(subject, number, name, places, inside, done))
        summary |= _drawn_values(subject, drawn, every, frames, summary["predictions"])
        for fault in filter(None, [summary["drawn"]["reason"]]):
            talk.warn(f"{summary['drawn']['without_image']} frames are drawn without their image: {fault}")
        inside.write(
            inside.root / SUMMARY, (json.dumps(summary, indent=1, allow_nan=False) + "\n").encode(), sync=False
        )
        inside.write(inside.root / PAGE, page(summary).encode("utf-8", "xmlcharrefreplace"), sync=False)
        for name in ASSETS:
            inside.write(inside.root / name, asset(name), sync=False)
    return Report(folder, summary)


def _summary(subject: Subject, runs: Sequence[Path], command: Sequence[str], context: Context) -> dict[str, Any]:
    """Every number that is not of drawn frames."""
    header = subject.first.header
    found = []
    for key, store in zip(KEYS, subject.predictions, strict=False):
        values = {"key": key, "name": store.path.name.removesuffix(".zarr"), "path": str(store.path)}
        found.append(values | scores(subject, store, context) | {"made": origin(store, context.workspace)})
    sources = [*subject.predictions, *([] if subject.pseudo is None else [subject.pseudo])]
    measured: dict[str, Any] = {}
    # A store that is not whole has no curve; if pseudo-labels are named, that is an error.
    with nullcontext() if subject.pseudo is not None else suppress(VssError):
        measured = {"reliability": reliability(subject, context)}
    return {
        "format": FORMAT,
        "title": " and ".join(values["name"] for values in found),
        "made": {
            "command": shlex.join(command),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": inspect_environment(context.workspace).versions,
        },
        "data": {
            "name": header.data.get("name"),
            "split": header.data.get("split"),
            "root": None if subject.dataset is None else str(subject.dataset.root),
            "missing": subject.missing,
        },
        "classes": header.table.to_dict(),
        "predictions": found,
        **measured,
        "networks": networks(sources, runs, context.workspace),
    }


def _drawn_values(
    subject: Subject,
    drawn: Sequence[DrawnVideo],
    every: int,
    most: int | None,
    predictions: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What is said of the drawn frames, with the flickering stretches of each prediction."""
    videos = []
    for video in drawn:
        stretches = {one["key"]: one["stretches"].get(video.name, []) for one in predictions if "stretches" in one}
        videos.append(
            {
                "name": video.name,
                "frames": video.frames,
                "drawn": len(video.stems),
                "size": list(video.size),
                "layers": list(video.layers),
                "flicker": sum(video.flicker) / len(video.flicker),
                "stretches": stretches or {KEYS[0]: video.restless()},
                "chunks": -(-len(video.stems) // CHUNK),
            }
        )
    return {
        "videos": videos,
        "layers": [vars(layer) for layer in layers_of(subject)],
        "drawn": {
            "frames": sum(len(video.stems) for video in drawn),
            "every": every,
            "most": most,
            "width": WIDTH,
            "chunk": CHUNK,
            "without_image": sum(video.undrawn for video in drawn),
            "reason": next((video.reason for video in drawn if video.reason), ""),
        },
    }
