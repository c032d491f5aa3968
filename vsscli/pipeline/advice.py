"""Which frames to label next: from a prediction to a list of frames, their images and drafts of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vsscli.context import Context
from vsscli.data.clips import ALL
from vsscli.data.folders import read_list
from vsscli.data.layouts import Dataset
from vsscli.data.spelling import composed
from vsscli.data.videos import Frame
from vsscli.errors import VssError
from vsscli.exchange.catalogue import writer_of
from vsscli.exchange.items import flat_name
from vsscli.files import whole_file, write_text
from vsscli.fusion.informative import Choice, choose, measure
from vsscli.inside import Inside, require_folder
from vsscli.pipeline.export import export_labels
from vsscli.pipeline.frames import every_frame
from vsscli.pipeline.outgoing import Selection
from vsscli.pipeline.predicted import noted_dataset, warn_of_missing
from vsscli.pipeline.workspace import newest_store
from vsscli.store.header import read_header
from vsscli.store.reader import open_store

LIST, DRAFT, IMAGES = "frames.txt", "draft.zip", "images"


@dataclass(frozen=True)
class Advice:
    """The chosen frames, the most valuable first; the prediction; and the folder with the list, images and draft."""

    choices: tuple[Choice, ...]
    prediction: Path
    out: Path


def advise(
    count: int,
    out: str | Path,
    *,
    predictions: Sequence[str | Path] = (),
    draft: str = "cvat",
    context: Context = Context(),
) -> Advice:
    """Choose the frames to label next, as ``vss next`` does.

    Parameters
    ----------
    count
        How many.
    out
        A folder: ``frames.txt`` lists the frames, ``images/`` holds their images, ``draft.zip`` the labels that the
        network predicts, to be corrected. Images are named ``<video>_<stem>.png``, also in the draft, because programs
        that take single files drop the folder.
    predictions
        Stores of one split; of several the frames count on which they disagree. Without any, the newest of ``all``,
        else of ``unlabelled``.
    draft
        Format of the draft (`vsscli.exchange.catalogue.FORMATS`).
    context
        Its workspace is where stores are looked for; its data root is where frames are.

    Raises
    ------
    VssError
        There is no prediction, the stores hold different frames, or no frame is left to label.
    """
    out = Path(out)
    require_folder(out, "--out")
    if not writer_of(draft)[1].zipped:
        raise VssError(
            f"--to {draft}: a draft is a zip, which this format does not come in",
            f"after choosing: vss export --to {draft} --frames {out / LIST}",
        )
    paths = [Path(path) for path in predictions] or [_newest(context.workspace)]
    stores = [open_store(path) for path in paths]
    if any(store.header.kind == "pseudo" for store in stores):
        raise VssError("pseudo-labels are no prediction", "name the store that they were made from")
    first = stores[0]
    for other in stores[1:]:
        same = other.videos() == first.videos() and all(
            (other.stems(video), other.size(video)) == (first.stems(video), first.size(video))
            for video in first.videos()
        )
        if not same or other.header.table.names != first.header.table.names:
            raise VssError(
                f"{first.path} and {other.path} hold different frames or classes", "predict one split with both"
            )
    warn_of_missing(first, context)
    dataset = noted_dataset(first.path, read_header(first.path), context.data_root)
    frames = {composed(frame.address): frame for frame in every_frame(dataset)}
    labelled = _addresses(dataset, "labelled")
    scored_alone = dataset.recipe.val not in dataset.recipe.train_splits  # else nothing is held out
    held = _addresses(dataset, "val") if scored_alone else frozenset()
    total = sum(len(first.stems(video)) for video in first.videos())
    with context.talk.track("look", total) as advance:
        measures = measure(stores, advance)
    known = [address for address in measures.addresses if composed(address) in labelled]
    allowed = [a for a in measures.addresses if composed(a) in frames and composed(a) not in held]
    choices = choose(measures, count, known, allowed)
    if not choices:
        what = f"every frame of {first.path} has labels already" + (", or is in val, which is held out" if held else "")
        raise VssError(what, "predict videos with frames that have none")
    flat = len({flat_name(frame.video, frame.stem) for frame in frames.values()}) == len(frames)
    _write(out, choices, frames, context, flat=flat)
    selection = Selection(out / LIST, flat=flat)
    export_labels(draft, out / DRAFT, prediction=first.path, selection=selection, force=True, context=context)
    return Advice(tuple(choices), first.path, out)


def _newest(workspace: Path) -> Path:
    """The newest prediction of all frames, else of the unlabelled ones."""
    try:
        return newest_store(workspace, ALL)
    except VssError:
        return newest_store(workspace, "unlabelled")


def _addresses(dataset: Dataset, split: str) -> frozenset[str]:
    """The frames of a split, in their composed form; none if there is no such split."""
    try:
        videos = dataset.split(split)
    except VssError:
        return frozenset()
    wanted = (frame for video in videos for frame in video.frames if split != "labelled" or frame.mask is not None)
    return frozenset(composed(frame.address) for frame in wanted)


def _write(out: Path, choices: Sequence[Choice], frames: dict[str, Frame], context: Context, *, flat: bool) -> None:
    """The list, and the image of each frame as PNG: labels are drawn on what the network saw. Images of the frames on
    an earlier list are removed first, which may have had other names."""

    def place(address: str, *, flat: bool = flat) -> Path:
        video, _, stem = address.rpartition("/")
        return out / IMAGES / f"{flat_name(video, stem) if flat else address}.png"

    if (out / LIST).is_file():
        for address in read_list(out / LIST):
            for was_flat in (True, False):
                Inside(out).unlink(place(address, flat=was_flat))
    write_text(out / LIST, "".join(f"{choice.address}\n" for choice in choices))
    with context.talk.track("images", len(choices)) as advance:
        for choice in choices:
            frame = frames[composed(choice.address)]
            with whole_file(place(frame.address), sync=False) as part:
                Image.fromarray(frame.read()).save(part, "PNG", compress_level=1)
            advance(1)
