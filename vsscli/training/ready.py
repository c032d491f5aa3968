"""Opens and checks everything that a run will read before its first step, so that nothing is missing hours later."""

from __future__ import annotations

from pathlib import Path

from vsscli.data.batches import TrainItems
from vsscli.data.content import Digests
from vsscli.data.overlap import Shared, shared_videos
from vsscli.data.sound import check_once, say_remark
from vsscli.data.verdict import judge_absent
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.talk import SILENCE, Talk
from vsscli.training.inputs import validation_split
from vsscli.training.labelled import labelled_items
from vsscli.training.pseudo import UnlabelledData, open_unlabelled
from vsscli.training.sources import Sources

NAMED = 5


def make_ready(
    sources: Sources,
    pseudo_labels: Path | None,
    *,
    record: Path | None = None,
    digests: Digests | None = None,
    talk: Talk = SILENCE,
) -> tuple[TrainItems, UnlabelledData | None]:
    """Open the splits that a run trains and is validated on. With ``record``, the file that remembers which files were
    sound, check every file; otherwise only lists and folders.

    Returns the labelled crops, and the unlabelled frames if the recipe uses any.

    Raises
    ------
    VssError
        A split is missing or damaged or has no labels, or the pseudo-labels do not belong to it.
    """
    recipe, dataset = sources.recipe, sources.main
    digests = digests or Digests()
    scored = _validated(sources, talk) if recipe.validated else []
    items = labelled_items(sources, check=record, digests=digests, talk=talk)
    if record is not None and scored:
        what = f"split {recipe.data.val!r} (validation)"
        census = check_once(
            scored, dataset.meaning, masks=True, sparse=True, record=record, what=what, digests=digests, talk=talk
        )
        for remark in judge_absent(census, dataset.meaning, what, "note"):
            say_remark(remark, talk)
    others = open_unlabelled(recipe, dataset, pseudo_labels, talk)
    if others is not None and record is not None:
        what = "unlabelled data"
        check_once(
            others.frames.videos, dataset.meaning, masks=False, record=record, what=what, digests=digests, talk=talk
        )
        others.require_images(digests)
    warn_of_overlap(sources, scored, [] if others is None else others.frames.videos, digests, talk)
    return items, others


def _validated(sources: Sources, talk: Talk) -> list[FolderVideo]:
    """The split that the run will be validated on."""
    dataset, name = sources.main, sources.recipe.data.val
    videos = validation_split(sources)
    frames = [frame for video in videos for frame in video.frames]
    masks = sum(frame.mask is not None for frame in frames)
    if not masks:
        raise VssError(
            f"{dataset.name}: none of the {len(frames)} frames of split {name!r} has a mask to validate on",
            "add masks, or set data.val to a split that has some",
        )
    if masks < len(frames):
        talk.warn(f"{masks} of {len(frames)} frames of split {name!r} have masks: validation uses only these")
    return videos


def warn_of_overlap(
    sources: Sources, scored: list[FolderVideo], unlabelled: list[FolderVideo], digests: Digests, talk: Talk
) -> None:
    """Warn of videos that a run is validated on and also learns from, under whatever names."""
    data = sources.recipe.data
    if not sources.recipe.validated:
        talk.say(f"split {data.val!r} is trained on, so it is not validated on unless train.validate_every is set")
        return
    if data.val in data.train_splits:
        talk.warn(f"split {data.val!r} is both trained and validated on: its figures say nothing about new video")
        return
    trained = [video for dataset in sources.datasets for video in dataset.split("labelled")]
    both = shared_videos(scored, trained, digests)
    if both:
        talk.warn(
            f"{_videos(both, len(scored))} of split {data.val!r} are both trained and validated on: their figures "
            "say nothing about new video (data.train and data.val should share no frame)"
        )
    known = {shared.name for shared in both}
    rest = [video for video in scored if video.name not in known]
    without = shared_videos(rest, unlabelled, digests)
    if without:
        talk.warn(
            f"{_videos(without, len(scored))} of split {data.val!r} are among the unlabelled frames of the training: "
            "their figures are better than those of new video"
        )


def _videos(shared: list[Shared], count: int) -> str:
    more = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
    return f"{len(shared)} of {count} videos ({', '.join(map(str, shared[:NAMED]))}{more})"
