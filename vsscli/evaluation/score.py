"""Scoring predicted labels: every metric in one pass, each file decoded once.

Videos are shared out to processes (`vsscli.engine`), and the accumulators of each are merged in order, with sums of
integers: figures do not depend on the number of processes. Decoding takes most of the time of each, so a few threads
decode a bounded number of frames ahead (Pillow releases the interpreter lock while it inflates). Memory does not depend
on the number of videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from vsscli.data.census import Census
from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds
from vsscli.data.videos import FolderVideo
from vsscli.engine.engine import LOCAL, Engine
from vsscli.errors import VssError
from vsscli.evaluation.figures import Figures, ScoredVideo
from vsscli.evaluation.labels import FolderLabels, LabelSource, LabelsWithConfidence, StoreLabels
from vsscli.evaluation.scoring import Counts, Scoring
from vsscli.metrics.metric import Metric, Setting
from vsscli.metrics.protocols import DEFAULT_PROTOCOL, get_protocol
from vsscli.metrics.registry import DEFAULT_METRICS, metric_names
from vsscli.talk import SILENCE, Talk

__all__ = ["Figures", "FolderLabels", "LabelSource", "StoreLabels", "score"]


def score(
    dataset_videos: Sequence[FolderVideo],
    prediction: LabelSource,
    table: ClassTable,
    ids: MaskIds,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    protocol: str = DEFAULT_PROTOCOL,
    engine: Engine = LOCAL,
    talk: Talk = SILENCE,
) -> Figures:
    """Score predicted labels against the masks of a data set.

    Parameters
    ----------
    dataset_videos
        The videos of the split. Frames without a mask do not count, nor do windows of frames with one of them.
    prediction
        Labels for each of their frames with a mask, of the mask's size.
    table
        The classes.
    ids
        What mask values mean. Unknown values count as void here, as in the published scripts.
    metrics
        Names of `metrics.registry`: ``miou``, ``vc8``, …
    protocol
        A name of `metrics.protocols`.
    engine
        Processes, and threads that decode and call `prediction`; with one worker only the caller's own thread does.
    talk
        Called with the progress, by frame, and with the number of frames without a mask.

    Raises
    ------
    VssError
        An unknown metric or protocol, a metric that needs more than `prediction` has, no frame with a mask, a frame
        with a mask but no prediction, different sizes, or a damaged file.
    """
    names = metric_names(metrics)
    lookup = replace(ids, unknown="void").lookup(table.num_classes)
    setting = Setting(table.num_classes, lookup, get_protocol(protocol))
    counts = Counts(names, setting)
    asked = counts.asked
    needs = frozenset(need for metric in asked for need in metric.needs)
    _require_given(asked, prediction)
    runs = [window for metric in asked for window in metric.windows]
    videos = [video for video in dataset_videos if setting.protocol.counts_video(len(video.frames), runs)]
    if not videos:
        raise VssError(
            f"nothing to score: protocol {protocol!r} counts none of the {len(dataset_videos)} videos given",
            setting.protocol.description,
        )
    left_out = len(dataset_videos) - len(videos)
    if left_out:
        talk.warn(f"protocol {protocol} leaves out {left_out} of {len(dataset_videos)} videos that are too short")
    frames = sum(len(video.frames) for video in videos)
    unmasked = sum(frame.mask is None for video in videos for frame in video.frames)
    bare = bool(unmasked) and all(metric.without_truth for metric in asked)
    if bare:
        unmasked = 0
        talk.say(f"{', '.join(names)} needs no masks: all {frames} frames count, and nothing is said of being right")
    else:
        _require_masks(videos, frames, unmasked, asked, talk)
    task = Scoring(names, setting, prediction, ids.read, needs, bare)
    lengths = [sum(bare or frame.mask is not None for frame in video.frames) for video in videos]
    with closing(engine.map("score", task, videos, lengths, talk)) as parts:
        for part in parts:
            counts.merge(part)
    tally = counts.tally
    census = counts.census if tally is None else Census(masks=frames - unmasked, pixels=tally.truths)
    census.frames = frames
    found = {name: value for metric in asked for name, value in metric.figures().items()}
    compared = {} if tally is None else {"matrix": tally.by_value}
    return Figures(
        values={name: found[name] for name in names},
        protocol=protocol,
        videos=sum(bare or any(frame.mask is not None for frame in video.frames) for video in videos),
        frames=frames - unmasked,
        left_out=left_out,
        unmasked=unmasked,
        notes={name: value for metric in asked for name, value in metric.notes().items()},
        reasons=tuple(dict.fromkeys(reason for metric in asked for reason in metric.reasons())),
        per_class=_by_class(table, asked),
        per_video=_by_video(videos, asked),
        census=census,
        **compared,
    )


def _require_given(asked: Sequence[Metric], prediction: LabelSource) -> None:
    """Refuse metrics of probabilities if there are only labels."""
    refused = [metric.names[0] for metric in asked if {"confidence", "entropy"} & set(metric.needs)]
    if refused and not isinstance(prediction, LabelsWithConfidence):
        raise VssError(
            f"{', '.join(refused)} needs probabilities, which masks do not have",
            "score a prediction store, which `vss predict` writes, or leave the metric out",
        )


def _require_masks(
    videos: Sequence[FolderVideo], frames: int, unmasked: int, asked: Sequence[Metric], talk: Talk
) -> None:
    """Refuse a split without masks, and report how many frames have none."""
    if unmasked == frames:
        first = videos[0].frames[0].address
        raise VssError(
            f"none of the {frames} frames has a mask to score against, {first} first",
            "choose a split whose frames have masks, or add the masks",
        )
    if unmasked:
        gaps = "".join(f"; {metric.gaps}" for metric in asked if metric.gaps)
        talk.warn(f"{unmasked} of {frames} frames have no mask: only the other {frames - unmasked} count{gaps}")


def _by_class(table: ClassTable, asked: Sequence[Metric]) -> dict[str, dict[str, float]]:
    columns = {name: column.tolist() for metric in asked for name, column in metric.per_class().items()}
    if not columns:
        return {}
    return {of: {name: column[index] for name, column in columns.items()} for index, of in enumerate(table.names)}


def _by_video(videos: Sequence[FolderVideo], asked: Sequence[Metric]) -> tuple[ScoredVideo, ...]:
    by_metric = [own for metric in asked if (own := metric.per_video())]
    rows = []
    for number, video in enumerate(videos):
        own = [figures[number] for figures in by_metric]
        values = {name: value for figures in own for name, value in figures.values.items()}
        worst = {name: (video.stems[t], value) for figures in own for name, (t, value) in figures.worst.items()}
        windows = {name: shares for figures in own for name, shares in figures.windows.items()}
        rows.append(ScoredVideo(video.name, video.stems, values, worst, windows))
    return tuple(rows)
