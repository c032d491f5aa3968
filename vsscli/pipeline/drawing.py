"""Drawing the frames of a report: pictures in a folder for each video, and scripts that say what is in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.data.classes import IGNORE
from vsscli.errors import VssError
from vsscli.fusion.informative import flicker_of
from vsscli.inside import Inside
from vsscli.page.folder import VIDEOS
from vsscli.page.layers import drawn_size, heat_layer, label_layer, mark_layer, photograph, readout
from vsscli.page.script import call_script
from vsscli.pipeline.subject import KEYS, Subject
from vsscli.store.reader import Store
from vsscli.threads import results_in_order

CHUNK = 50
"""Frames described by one script, which a page loads when it shows one of them."""

OFTEN = 2.0
"""A frame is marked as flickering if it does so this many times as much as the middle one of its video, and more than
`LITTLE`, as a share of its pixels; only where no masks measure consistency."""

LITTLE = 0.005


@dataclass(frozen=True)
class Layer:
    """A layer of a report: its key in names of files, its title, and whether it marks some pixels or covers all."""

    key: str
    title: str
    mark: bool = False


@dataclass(frozen=True)
class DrawnVideo:
    """What was drawn of a video.

    Parameters
    ----------
    name, frames, size
        The video's name, its number of frames, and their height and width.
    stems
        Names of the drawn frames, in order.
    layers
        Keys of the layers that some of these have.
    flicker
        Share of each drawn frame's pixels that flicker (`flicker_of`), of the first prediction.
    undrawn
        How many images could not be read.
    reason
        The error of the first of them.
    """

    name: str
    frames: int
    size: tuple[int, int]
    stems: tuple[str, ...]
    layers: tuple[str, ...]
    flicker: tuple[float, ...]
    undrawn: int
    reason: str

    def restless(self) -> list[dict[str, Any]]:
        """Stretches of drawn frames that flicker much more than the video's others: first and last frame, and worst."""
        bound = max(LITTLE, OFTEN * float(np.median(self.flicker)))
        found: list[dict[str, Any]] = []
        for number, (stem, share) in enumerate(zip(self.stems, self.flicker, strict=True)):
            if share <= bound:
                continue
            if found and found[-1]["place"] == number - 1:
                found[-1].update(last=stem, place=number, worst=max(share, found[-1]["worst"]))
            else:
                found.append({"by": "flicker", "first": stem, "last": stem, "worst": share, "place": number})
        return [{name: value for name, value in one.items() if name != "place"} for one in found]


def layers_of(subject: Subject) -> list[Layer]:
    """All layers that a report may have, in order: those that cover a frame, then marks."""
    several = len(subject.predictions) > 1
    which = [f" {key.upper()}" if several else "" for key in KEYS[: len(subject.predictions)]]
    named = list(zip(KEYS, which, strict=False))
    layers = [Layer(f"labels-{key}", f"prediction{of}") for key, of in named]
    layers += [Layer("truth", "truth")] if subject.dataset is not None else []
    layers += [Layer("pseudo", "pseudo-labels")] if subject.pseudo is not None else []
    layers += [Layer(f"entropy-{key}", f"entropy{of}") for key, of in named]
    layers += [Layer("differ", "A differs from B", mark=True)] if several else []
    wrong = [Layer(f"wrong-{key}", f"wrong{of}", mark=True) for key, of in named]
    return layers + (wrong if subject.dataset is not None else [])


def draw_video(
    subject: Subject, number: int, name: str, chosen: Sequence[int], out: Inside, done: Callable[[int], object]
) -> DrawnVideo:
    """Draw frames of a video into ``videos/<number>/``, and write the scripts that describe them.

    Memory does not grow with the number of frames.

    Parameters
    ----------
    subject
        What the report is about.
    number, name
        The video's number in the report, and its name.
    chosen
        Numbers of its frames to draw, in order.
    out
        The report's folder.
    done
        Called after each frame with 1.
    """
    store = subject.first
    stems, size = store.stems(name), store.size(name)
    folder = out.root / VIDEOS / f"{number:04d}"
    jobs = (partial(_draw, subject, name, t) for t in chosen)
    chunk: list[dict[str, Any]] = []
    flicker: list[float] = []
    lacking: dict[str, list[int]] = {}
    seen: dict[str, int] = {}
    undrawn, reason = 0, ""
    with closing(results_in_order(jobs, None)) as drawn:
        for place, (files, facts, fault) in enumerate(drawn):
            for key, data in files.items():
                ending = "jpg" if key == "frame" else "png"
                out.write(folder / f"{place:05d}-{key}.{ending}", data, sync=False)
                if key not in seen:
                    lacking[key] = list(range(place))
                seen[key] = place
            for key in seen:
                if key not in files:
                    lacking[key].append(place)
            undrawn, reason = undrawn + bool(fault), reason or fault
            flicker.append(facts["flicker"])
            chunk.append(facts)
            if len(chunk) == CHUNK or place == len(chosen) - 1:
                part = place // CHUNK
                script = call_script("vssReport.chunk", number, part, chunk)
                out.write(folder.with_name(f"{number:04d}-{part:04d}.js"), script, sync=False)
                chunk = []
            done(1)
    names = tuple(stems[t] for t in chosen)
    facts = {"stems": names, "flicker": flicker, "lacking": {key: gaps for key, gaps in lacking.items() if gaps}}
    out.write(folder.with_name(f"{number:04d}.js"), call_script("vssReport.video", number, facts), sync=False)
    return DrawnVideo(name, len(stems), size, names, tuple(seen), tuple(flicker), undrawn, reason)


def _draw(subject: Subject, name: str, t: int) -> tuple[dict[str, bytes], dict[str, Any], str]:
    """The files of a frame by layer, what is said of it, and why its image can't be read if it can't."""
    store = subject.first
    table, stem, size = store.header.table, store.stems(name)[t], drawn_size(store.size(name))
    files: dict[str, bytes] = {}
    labels: dict[str, np.ndarray] = {}
    for key, one in zip(KEYS, subject.predictions, strict=False):
        place = subject.place(one, name, stem)
        if place is not None:
            labels[f"labels-{key}"] = one.label(*place)
            files[f"entropy-{key}"] = heat_layer(one.entropy(*place), size)
    if subject.pseudo is not None and (place := subject.place(subject.pseudo, name, stem)) is not None:
        labels["pseudo"] = subject.pseudo.read(place[0], "pseudo_label", place[1])
    fault = ""
    there = subject.frame(name, stem)
    if there is not None:
        folder, number = there
        image = None
        try:
            image = folder.read(number)
        except VssError as error:
            fault = error.message
        if image is not None:
            _require_size(store, name, stem, image.shape)
            files["frame"] = photograph(image, size)
        truth = subject.truth(folder.frames[number])
        if truth is not None and truth.shape == store.size(name):
            labels["truth"] = truth
    files |= {key: label_layer(label, table, size) for key, label in labels.items()}
    facts: dict[str, Any] = {"flicker": round(_flicker(store, name, t, labels["labels-a"]), 6)}
    for key, mark, share in _marks(labels):
        files[key] = mark_layer(mark, size)
        facts[key] = round(share, 6)
    facts["labels"] = {key: readout(label, table) for key, label in labels.items()}
    return files, facts, fault


def _marks(labels: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray, float]]:
    """Where predictions differ, and where they are wrong, (H, W) bool; and the share of all or of labelled pixels."""
    one, other, truth = (labels.get(key) for key in ("labels-a", "labels-b", "truth"))
    if one is not None and other is not None and one.shape == other.shape:
        differ = one != other
        yield "differ", differ, float(differ.mean())
    for key in KEYS:
        label = labels.get(f"labels-{key}")
        if label is not None and truth is not None and label.shape == truth.shape:
            labelled = truth != IGNORE
            wrong = labelled & (label != truth)
            yield f"wrong-{key}", wrong, float(wrong.sum() / max(1, int(labelled.sum())))


def _flicker(store: Store, name: str, t: int, label: np.ndarray) -> float:
    if not 0 < t < len(store.stems(name)) - 1:
        return 0.0
    return flicker_of(store.label(name, t - 1), label, store.label(name, t + 1))


def _require_size(store: Store, name: str, stem: str, shape: tuple[int, ...]) -> None:
    height, width = store.size(name)
    if shape[:2] != (height, width):
        raise VssError(
            f"the prediction of {name}/{stem} in {store.path} is {width}x{height}, its frame {shape[1]}x{shape[0]} "
            "(width x height)",
            "name the folder of the data that was predicted with --data",
        )


def chosen_frames(count: int, every: int, most: int | None) -> list[int]:
    """Numbers of the frames to draw of a video: every n-th, and at most so many, evenly spaced."""
    every = every if most is None else max(every, math.ceil(count / most))
    return list(range(0, count, every))


def report_folder(workspace: Path, store: Store) -> Path:
    """Where the report of a store goes by default."""
    return workspace / "report" / store.path.name.removesuffix(".zarr")
