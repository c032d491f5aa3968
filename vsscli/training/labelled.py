"""Labelled crops: all labelled frames of a recipe's data sets, each with the augmentation of its set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vsscli.data.augment import TrainAugment
from vsscli.data.batches import Portion, TrainItems
from vsscli.data.census import Census
from vsscli.data.content import Digests
from vsscli.data.layouts import Dataset
from vsscli.data.left import left_out, say_left_out
from vsscli.data.numbering import say_order
from vsscli.data.order import BLOCK
from vsscli.data.rare import RareFirst, class_counts, say_rare
from vsscli.data.samples import LabelledFrames
from vsscli.data.sound import check_once, say_remark
from vsscli.data.verdict import judge_absent, translated
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.talk import SILENCE, Talk
from vsscli.training.sources import Sources


def labelled_items(
    sources: Sources, *, check: Path | None = None, digests: Digests | None = None, talk: Talk = SILENCE
) -> TrainItems:
    """Gather the labelled frames of all data sets, and report how many each has if there are several.

    With ``check``, the file that remembers which files were sound, all of them are checked first, and missing or
    damaged ones are refused.
    """
    augment, several = sources.recipe.augment, bool(sources.also)
    videos = [dataset.split("labelled") for dataset in sources.datasets]
    for dataset, own in zip(sources.datasets, videos, strict=True):
        say_order(own, talk)
        say_left_out(dataset, "labelled", own, talk)
        _say_sparse(dataset, own, "left out" if dataset is not sources.main else "unlabelled data", talk)
    _require_clips(sources, videos[0])
    if check is not None:
        _check_frames(sources, videos, check, digests, talk)
    pairs = zip(sources.datasets, videos, strict=True)
    frames = [LabelledFrames(own, dataset.ids, dataset.table.num_classes) for dataset, own in pairs]
    clip = sources.recipe.model.frames
    if clip > 1 and sources.recipe.train.rare is not None:
        raise VssError(
            f"train.rare chooses single frames, and the network learns from clips of {clip}",
            "leave out train.rare, or set model.clip to 1",
        )
    chosen = [_rare_first(sources, dataset, its, talk) for dataset, its in zip(sources.datasets, frames, strict=True)]
    portions = []
    for further, its_frames, rare in zip(sources.also, frames[1:], chosen[1:], strict=True):
        own_size = augment.model_copy(update={"size": further.section.size or augment.size})
        portions.append(Portion(its_frames, TrainAugment(own_size), further.section.thousandths, rare))
    items = TrainItems(frames[0], TrainAugment(augment), portions, chosen[0], clip)
    for dataset, clips in zip(sources.datasets, items.clips or (), strict=False):
        if clips.short:
            talk.warn(
                f"{dataset.name}: {clips.short} videos have fewer labelled frames than a clip of {clip} (model.clip): "
                "their frames are repeated"
            )
    if several:
        counts = (
            f"{dataset.name} {len(portion.frames)} frames ({portion.thousandths / BLOCK:.1%} of the crops)"
            for dataset, portion in zip(sources.datasets, items.portions, strict=True)
        )
        talk.say(f"labelled data: {', '.join(counts)}")
    return items


def _require_clips(sources: Sources, labelled: list[FolderVideo]) -> None:
    """Refuse videos of which none is as long as a clip; images, which are clips of one frame repeated, are accepted."""
    clip, longest = sources.recipe.model.frames, max(map(len, labelled), default=0)
    if 1 < longest < clip:
        raise VssError(
            f"model.clip: no video of {sources.main.name} has the {clip} labelled frames of a clip, the longest has "
            f"{longest}",
            f"set model.clip to {longest} at most",
        )


def _say_sparse(dataset: Dataset, labelled: list[FolderVideo], others: str, talk: Talk) -> None:
    """Report how many frames of the training split have masks, if not all do and no list names them.

    Raises
    ------
    VssError
        There are masks that can't be read among the others.
    """
    if dataset.recipe.labelled is not None:
        return
    whole = dataset.split("train")
    masked, frames = sum(map(len, labelled)), sum(map(len, whole))
    if masked == frames:
        return
    unread = next((left for left in left_out(dataset, "train", whole) if left.labels), None)
    if unread is not None:
        raise VssError(f"{unread.place}: {unread.what}", unread.remedy)
    talk.warn(f"{dataset.name}: {masked} of {frames} frames of data.train have masks, the others are {others}")


def _rare_first(sources: Sources, dataset: Dataset, frames: LabelledFrames, talk: Talk) -> RareFirst | None:
    """Chooses a data set's frames by class, if the recipe asks for it; every process reads all masks."""
    settings = sources.recipe.train.rare
    if settings is None:
        return None
    rare = RareFirst(class_counts(frames, dataset.table.num_classes, dataset.name, talk), settings)
    say_rare(rare, dataset.table.names, f"data {dataset.name}", talk)
    return rare


def _check_frames(
    sources: Sources, videos: Sequence[Sequence[FolderVideo]], record: Path, digests: Digests | None, talk: Talk
) -> None:
    """Check every frame and mask, and which classes occur: one that occurs in no set can't be learned."""
    census, meaning = Census(), sources.main.meaning
    for dataset, own in zip(sources.datasets, videos, strict=True):
        what = f"data {dataset.name}" if sources.also else "data"
        found = check_once(own, dataset.meaning, masks=True, record=record, what=what, digests=digests, talk=talk)
        census += translated(found, dataset.meaning, meaning)
    for remark in judge_absent(census, meaning, "the labelled data", "warning"):
        say_remark(remark, talk)
