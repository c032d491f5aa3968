"""From a model and one's own frames to a folder of masks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsscli.data.inputs import open_input
from vsscli.data.videos import Video
from vsscli.errors import VssError
from vsscli.files import clear_folder, write_text
from vsscli.inference.devices import resolve_device
from vsscli.inference.predictor import Predictor
from vsscli.inference.run import mask_path, predict_masks
from vsscli.inside import Inside, require_inside
from vsscli.models.checkpoints import restore_network
from vsscli.pipeline.predict import Hardware, chosen_plan, made_by, read_out
from vsscli.pipeline.source import open_model, with_weights
from vsscli.recipes.load import recipe_from_dict
from vsscli.structured import json_or_none
from vsscli.talk import SILENCE, Talk


def predict_input(
    model: Path,
    source: Path,
    out: Path,
    *,
    tta: bool = False,
    plan: str | None = None,
    hardware: Hardware = Hardware(),
    force: bool = False,
    talk: Talk = SILENCE,
) -> int:
    """Predict one's own frames, a video file or folders of images, into palette masks ``<out>/<video>/<stem>.png``.

    What made them stands beside them, in ``<out>/<video>.json``.

    Parameters
    ----------
    model, tta, plan, hardware
        As for :func:`vsscli.pipeline.predict.predict_split`.
    source
        As for :func:`vsscli.data.inputs.open_input`.
    out
        Folder of the masks; masks there of the same model and plan are kept.
    force
        Keep none: predict again.

    Returns
    -------
    int
        Number of frames predicted now.

    Raises
    ------
    VssError
        The model or the input is unusable, ``out`` leads into the input, or masks of another origin are there.
    """
    checkpoint = open_model(model, talk=talk)
    recipe = recipe_from_dict(checkpoint.recipe, f"the recipe inside {model}")
    chosen = chosen_plan(recipe.predict, tta=tta, named=plan)
    how = read_out(recipe.predict, chosen, hardware.precision, checkpoint)
    videos = open_input(source, talk)
    _require_elsewhere(out, source, videos)
    note = {**made_by(checkpoint, how), "classes": list(checkpoint.table.names)}
    if not force:
        for video in videos:
            _require_same_origin(out, video, note)
    for video in videos:
        require_inside(out, out / video.name)
        clear_folder(out / video.name, ".png")
        if force:
            for index in range(len(video)):
                Inside(out).unlink(mask_path(out, video, index))
        # Before the first mask, so that none lies there without it.
        write_text(_note_path(out, video), json.dumps(note, indent=1) + "\n")
    predictor = Predictor(
        restore_network(with_weights(checkpoint)),
        checkpoint.normalisation,
        how,
        resolve_device(hardware.device),
        batch_size=hardware.batch_size,
    )
    return predict_masks(predictor, videos, out, palette=checkpoint.table.palette(), talk=talk)


def _require_elsewhere(out: Path, source: Path, videos: Sequence[Video]) -> None:
    """Refuse a folder in which masks would be taken for frames, or frames for masks."""
    place = source.expanduser().resolve()
    if not place.is_dir():
        return
    for folder in (out, *(out / video.name for video in videos)):
        if folder.resolve().is_relative_to(place):
            raise VssError(f"--out {out}: masks would lie among the frames of --input {source}", "give another --out")


def _require_same_origin(out: Path, video: Video, wanted: dict[str, Any]) -> None:
    """Refuse masks that something else made, or nobody knows what."""
    there = next((path for i in range(len(video)) if (path := mask_path(out, video, i)).is_file()), None)
    if there is None:
        return
    hint = "give another --out, or --force to predict these frames again"
    note = _note_path(out, video)
    found = json_or_none(note)
    if not isinstance(found, dict):
        raise VssError(f"{there} is there, and {note}, which would say what made it, is not", hint)
    for name, value in wanted.items():
        if found.get(name) != value:
            raise VssError(f"the masks in {there.parent} were made with {name} = {found.get(name)}, not {value}", hint)


def _note_path(out: Path, video: Video) -> Path:
    return out / f"{video.name}.json"
