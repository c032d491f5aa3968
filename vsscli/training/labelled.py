"""Labelled crops: all frames of the data sets that a recipe trains on, each with the augmentation of its set."""

from __future__ import annotations

from pathlib import Path

from vsscli.data.augment import TrainAugment
from vsscli.data.batches import LabelledFrames, Portion, TrainItems
from vsscli.data.check import check_once
from vsscli.data.layouts import Dataset
from vsscli.data.left import say_left_out
from vsscli.data.numbering import say_order
from vsscli.data.order import BLOCK
from vsscli.data.sources import Sources
from vsscli.talk import SILENCE, Talk


def labelled_items(sources: Sources, *, check: Path | None = None, talk: Talk = SILENCE) -> TrainItems:
    """Gather the labelled frames.

    Parameters
    ----------
    sources
        The data sets.
    check
        Where to remember that files are sound: they are looked at first. None: they are not looked at.
    talk
        Told how many frames each data set has, where there are several, and of the looking.

    Raises
    ------
    VssError
        A split is not there, or what is there is damaged.
    """
    augment, several = sources.recipe.augment, bool(sources.also)
    labelled = _frames(sources.main, check, several, talk)
    portions = []
    for further in sources.also:
        own = augment.model_copy(update={"size": further.section.size or augment.size})
        frames = _frames(further.dataset, check, several, talk)
        portions.append(Portion(frames, TrainAugment(own), further.section.thousandths))
    items = TrainItems(labelled, TrainAugment(augment), portions)
    if several:
        names = [sources.main.name, *(further.dataset.name for further in sources.also)]
        told = (
            f"{name} {len(portion.frames)} frames ({portion.thousandths / BLOCK:.1%} of the crops)"
            for name, portion in zip(names, items.portions, strict=True)
        )
        talk.say(f"labelled data: {', '.join(told)}")
    return items


def _frames(dataset: Dataset, check: Path | None, several: bool, talk: Talk) -> LabelledFrames:
    videos = dataset.split("labelled")
    say_order(videos, talk)
    say_left_out(dataset, "labelled", videos, talk)
    if check is not None:
        what = f"data {dataset.name}" if several else "data"
        check_once(videos, dataset.table, dataset.ids, masks=True, record=check, what=what, talk=talk)
    return LabelledFrames(videos, dataset.ids, dataset.table.num_classes)
