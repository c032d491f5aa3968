"""The numbers of a report as plain values: scores, confused classes, flickering stretches, reliability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.evaluation.figures import Figures, ScoredVideo
from vsscli.fusion.reliability import Reliability, Truth, measure_reliability
from vsscli.pipeline.evaluate import Evaluation, evaluate
from vsscli.pipeline.reliability import truth_of
from vsscli.pipeline.subject import Subject
from vsscli.store.header import MAX_LEVEL
from vsscli.store.reader import Store, open_source

WINDOW = 8
"""Frames of the windows by which flickering stretches are found: VC8's."""

BELOW = 0.05
"""A window flickers if its consistency is this much below the median of all windows of the prediction."""

PAIRS = 20
"""Most pairs of confused classes that are listed."""


def scores(subject: Subject, store: Store, context: Context) -> dict[str, Any]:
    """The scores of a prediction, by class and by video; without masks, why there are none.

    Returns
    -------
    dict
        ``scores`` by metric, ``warnings``, ``per_class``, ``confused``, ``per_video``, ``stretches`` by video; if
        frames were trained on, their number ``trained_on``, and ``held_out`` with ``scores`` and ``frames`` of the
        others, if any; or ``unscored``, a sentence.
    """
    if subject.dataset is None:
        return {"unscored": subject.missing, "warnings": []}
    masks = (video.frames[number].mask for video, number in subject.frames.values())
    if store is subject.first and not any(masks):
        return {"unscored": f"no frame of split {store.header.split(store.path)!r} has a mask", "warnings": []}
    try:
        done = evaluate(store.path, context=context)
    except VssError as error:
        return {"unscored": error.message, "warnings": []}
    figures, held_out = done.figures, done.held_out
    context.talk.say(done.line())
    return {
        **({} if held_out is None else {"held_out": _headline(held_out)}),
        **_headline(done),
        "without_mask": figures.unmasked,
        "protocol": figures.protocol,
        "warnings": [*done.warnings, *figures.reasons],
        "per_class": _per_class(figures),
        "confused": _confused(figures.matrix, store.header.table.names),
        "per_video": [_video_values(video) for video in figures.worst_first()],
        "stretches": _stretches(figures.per_video),
    }


def _headline(done: Evaluation) -> dict[str, Any]:
    """Scores, the number of frames that they are of, and marks."""
    return {"scores": done.figures.plain(), "frames": done.figures.frames, **done.marks}


def _per_class(figures: Figures) -> list[dict[str, Any]]:
    total = sum(row["pixels"] for row in figures.per_class.values()) or 1
    predicted = figures.matrix.sum(axis=0)
    return [
        {
            "name": name,
            "iou": _number(row["iou"]),
            "pixels": int(row["pixels"]),
            "share": float(row["pixels"] / total),
            "predicted": int(predicted[index]),
        }
        for index, (name, row) in enumerate(figures.per_class.items())
    ]


def _confused(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The most pixels of one class that are predicted as another; ``share`` is of the class's own pixels."""
    wrong = matrix.copy()
    own = np.arange(len(matrix))
    wrong[own, own] = 0
    found = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]:
        truth, predicted = divmod(int(place), wrong.shape[1])
        pixels = int(wrong[truth, predicted])
        if pixels:
            other = names[predicted] if predicted < len(names) else "no class"
            share = pixels / int(matrix[truth].sum())
            found.append({"truth": names[truth], "predicted": other, "pixels": pixels, "share": share})
    return found


def _video_values(video: ScoredVideo) -> dict[str, Any]:
    return {
        "name": video.name,
        "frames": video.frames,
        **{name: _number(value) for name, value in video.values.items()},
    }


def _stretches(videos: Sequence[ScoredVideo]) -> dict[str, list[dict[str, Any]]]:
    """Frames over which consistency is far below the usual: first and last frame, and the worst window, by video."""
    name = f"vc{WINDOW}"
    shares = [video.windows[name] for video in videos if name in video.windows]
    known = np.concatenate(shares)[~np.isnan(np.concatenate(shares))] if shares else np.empty(0)
    if not known.size:
        return {}
    bound = float(np.median(known)) - BELOW
    found: dict[str, list[dict[str, Any]]] = {}
    for video in videos:
        end = -1
        for start in np.flatnonzero(video.windows[name] < bound).tolist():
            share = float(video.windows[name][start])
            own = found.setdefault(video.name, [])
            last = video.stems[start + WINDOW - 1]
            if start <= end:
                own[-1].update(last=last, worst=min(share, own[-1]["worst"]))
            else:
                own.append({"by": name, "first": video.stems[start], "last": last, "worst": share})
            end = start + WINDOW
    return found


def reliability(subject: Subject, context: Context) -> dict[str, Any]:
    """Coverage and, where there are masks, precision by threshold: of the predictions behind the pseudo-labels, or of
    the first prediction; with the pseudo-labels' threshold if there are some."""
    store = subject.first if subject.pseudo is None else open_source(subject.pseudo)
    truth: Truth = lambda video, t: None  # noqa: E731
    learned = 0
    if subject.dataset is not None:
        truth, learned = truth_of(store, context.data_root)
    counts = measure_reliability(store, truth, talk=context.talk)
    values = {"of": str(store.path), **counts.to_json(), **({"trained_on": learned} if learned else {})}
    return values if subject.pseudo is None else values | {"pseudo": _pseudo(subject.pseudo, counts)}


def _pseudo(store: Store, counts: Reliability) -> dict[str, Any]:
    source = store.header.source
    levels = tuple(source["class_levels"]) if "class_levels" in source else int(source["level"])
    return {
        "path": str(store.path),
        "threshold": None if isinstance(levels, tuple) else levels / MAX_LEVEL,
        "percentile": store.header.summary.get("percentile"),
        "by_class": isinstance(levels, tuple),
        "coverage": counts.covered(levels),
        "precision": _number(counts.precise(levels)),
        "per_class": [
            {"name": name, "coverage": _number(covered), "precision": _number(right)}
            for name, covered, right in zip(
                counts.names, counts.class_coverage(levels), counts.class_precision(levels), strict=True
            )
        ],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
