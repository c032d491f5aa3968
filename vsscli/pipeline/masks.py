"""From a model and a user's own frames to a folder of label images."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.data.classes import ClassTable
from vsscli.data.content import INDEX, Digests
from vsscli.data.folders import some
from vsscli.data.inputs import expanded, open_inputs
from vsscli.data.masks import read_mask
from vsscli.data.palettes import legend_of
from vsscli.data.video import Video
from vsscli.data.walk import mark_as_made
from vsscli.errors import VssError
from vsscli.files import clear_folder, write_text
from vsscli.inference.devices import resolve_device
from vsscli.inference.predictor import Predictor
from vsscli.inference.run import mask_path, predict_masks
from vsscli.inside import Inside, require_inside
from vsscli.models.checkpoints import restore_network
from vsscli.pipeline.predict import say_share
from vsscli.pipeline.request import chosen_plan, made_by, read_out
from vsscli.pipeline.source import open_model, with_weights
from vsscli.recipes.load import recipe_from_dict
from vsscli.report.film import FPS, Film
from vsscli.report.overlay import coloured
from vsscli.store.record import is_name
from vsscli.structured import json_or_none
from vsscli.talk import SILENCE, Talk


def predict_input(
    model: Path,
    source: Path | Sequence[Path],
    out: Path,
    *,
    context: Context = Context(),
    tta: bool = False,
    plan: str | None = None,
    force: bool = False,
    overlay: bool = False,
) -> int:
    """Predict a video file or folders of images into palette images ``<out>/<video>/<stem>.png``.

    ``<out>/<video>.json`` notes how they were made: the network, and digests of the frames. Frames that have changed
    since are predicted again.

    Parameters
    ----------
    model, tta, plan
        As for :func:`vsscli.pipeline.predict.predict_split`.
    source
        As for :func:`vsscli.data.inputs.open_input`; or several of these, or patterns of their names.
    out
        Folder of the predictions; existing ones of the same model and plan are kept.
    force
        Predict all frames again.
    overlay
        When a video is predicted, write ``<out>/<video>.mp4`` too: the classes' colours over the frames.
    context
        What the network runs on; its workspace caches digests of files, so that unchanged ones are not read again.

    Returns
    -------
    int
        Number of frames predicted by this call.

    Raises
    ------
    VssError
        The model or the input is unusable, ``out`` is inside the input, or ``out`` has predictions of another origin.
    """
    talk = context.talk
    checkpoint = open_model(model, talk=talk)
    recipe = recipe_from_dict(checkpoint.recipe, f"the recipe inside {model}")
    chosen = chosen_plan(recipe.predict, tta=tta, named=plan)
    how = read_out(recipe.predict, chosen, context.precision, checkpoint.config)
    sources = expanded([source] if isinstance(source, Path) else source)
    videos = open_inputs(sources, talk)
    for one in sources:
        _require_elsewhere(out, one, videos)
    note = {**made_by(checkpoint, how), "classes": list(checkpoint.table.names)}
    if not force:
        for video in videos:
            _require_same_origin(out, video, note)
    mark_as_made(out)
    for video in videos:
        require_inside(out, out / video.name)
        clear_folder(out / video.name, ".png")
    with Digests(context.workspace / INDEX) as digests:
        found = [_look(out, video, digests, force=force, talk=talk) for video in videos]
    for there in found:
        for path in there.outdated:
            Inside(out).unlink(path)
        # Written before the first prediction, so that none exists without it, and after outdated ones are removed.
        write_text(_note_path(out, there.video), json.dumps({**note, "frames": there.frames}, indent=1) + "\n")
    _tell(out, found, force=force, talk=talk)
    predictor = Predictor(
        restore_network(with_weights(checkpoint)),
        checkpoint.normalisation,
        how,
        resolve_device(context.device),
        batch_size=context.batch_size,
    )
    if overlay:
        predicted = 0
        for video in videos:
            predicted += predict_masks(predictor, [video], out, table=checkpoint.table, talk=talk)
            film_masks(video, out, checkpoint.table, talk)
    else:
        predicted = predict_masks(predictor, videos, out, table=checkpoint.table, talk=talk)
    say_share(predictor, talk)
    return predicted


def film_masks(video: Video, out: Path, table: ClassTable, talk: Talk = SILENCE) -> Path:
    """Write ``<out>/<video>.mp4``, in which predicted masks lie over their frames as `vss show` draws them."""
    path, fps = out / f"{video.name}.mp4", getattr(video, "fps", FPS)
    legend = legend_of(table)
    with Film(path, video.size, fps) as film, talk.track(f"overlay {video.name}", len(video)) as done:
        for index, image in enumerate(video.images()):
            film.add(coloured(image, read_mask(mask_path(out, video, index), legend), table))
            done(1)
    return path


def _require_elsewhere(out: Path, source: Path, videos: Sequence[Video]) -> None:
    """Refuse an output folder inside the input, where predictions would be taken for frames."""
    place = Path(os.path.expanduser(source)).resolve()
    if not place.is_dir():
        return
    for folder in (out, *(out / video.name for video in videos)):
        if folder.resolve().is_relative_to(place):
            raise VssError(f"--out {out} is among the frames of --input {source}", "give another --out")


@dataclass(frozen=True)
class _There:
    """Existing predictions of a video.

    Parameters
    ----------
    video
        Its frames.
    outdated
        Predictions of frames that have changed.
    frames
        Digest to note for each frame; `None` if the predicted frame's is unknown.
    left
        Predictions of frames that no longer exist.
    """

    video: Video
    outdated: list[Path]
    frames: dict[str, str | None]
    left: list[Path]


def _look(out: Path, video: Video, digests: Digests, *, force: bool, talk: Talk) -> _There:
    found = digests.frames(video, talk)
    contents = found if len(found) == len(video) else found * len(video)  # a video file has one digest for all frames
    note = _read_note(out, video) or {}
    noted = note.get("frames")
    known = noted if isinstance(noted, dict) else {}
    outdated, frames = [], dict[str, str | None]()
    for index, (stem, content) in enumerate(zip(video.stems, contents, strict=True)):
        path = mask_path(out, video, index)
        frames[stem] = content
        if not path.is_file():
            continue
        if force or (noted is not None and known.get(stem, "") not in (None, content)):
            outdated.append(path)
        elif known.get(stem) is None:
            frames[stem] = None
    gone = [stem for stem in known if stem not in frames and is_name(stem)]
    left = {stem: path for stem in gone if (path := out / video.name / f"{stem}.png").is_file()}
    if not force:
        frames |= {stem: known[stem] for stem in left}
    return _There(video, outdated, frames, list(left.values()))


def _tell(out: Path, found: Sequence[_There], *, force: bool, talk: Talk) -> None:
    """Report what is predicted again, and which predictions may not match the current frames."""
    changed = [there for there in found if there.outdated]
    if changed and not force:
        number = sum(len(there.outdated) for there in changed)
        names = some([there.video.name for there in changed])
        talk.say(f"{number} frames of video {names} have changed since they were predicted into {out}; predicted again")
    unknown = [there.video.name for there in found if any(there.frames[stem] is None for stem in there.video.stems)]
    if unknown:
        talk.warn(
            f"predictions in {out} are of an earlier version, which did not note the content of frames: if those of "
            f"{some(unknown)} have changed since, --force predicts them again"
        )
    left = [f"{there.video.name}/{path.name}" for there in found for path in there.left]
    if left:
        talk.warn(f"{len(left)} predictions in {out} are kept although their frames no longer exist: {some(left)}")


def _require_same_origin(out: Path, video: Video, wanted: dict[str, Any]) -> None:
    """Refuse existing predictions of another or unknown origin."""
    there = next((path for i in range(len(video)) if (path := mask_path(out, video, i)).is_file()), None)
    if there is None:
        return
    hint = "give another --out, or --force to predict these frames again"
    found = _read_note(out, video)
    if found is None:
        note = _note_path(out, video)
        raise VssError(f"{there} exists, but not {note}, which would say how it was made", hint)
    for name, value in wanted.items():
        if found.get(name) != value:
            raise VssError(f"{there.parent} was predicted with {name} = {found.get(name)}, not {value}", hint)


def _read_note(out: Path, video: Video) -> dict[str, Any] | None:
    found = json_or_none(_note_path(out, video))
    return found if isinstance(found, dict) else None


def _note_path(out: Path, video: Video) -> Path:
    return out / f"{video.name}.json"
