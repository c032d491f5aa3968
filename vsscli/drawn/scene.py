"""Synthetic videos of streets on disk, in VSPW's layout, drawn on demand for the demo and the tests.

The same parameters and seed give the same bytes (with the same versions of NumPy and Pillow).
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vsscli.drawn.canvas import CLASSES
from vsscli.drawn.config import Scene
from vsscli.drawn.street import VOID, Street
from vsscli.errors import VssError
from vsscli.files import clear_parts, part_of
from vsscli.structured import read_json
from vsscli.talk import SILENCE, Talk

MARKER = "scene.json"  # records the parameters of the folder
FEWER = "fewer.yaml"  # a mapping, to imitate a data set with labels of fewer classes
DRAWING = 1  # raised when the same parameters give other pictures
UNLABELLED = ("person", "pole")  # in that mapping
SHORTEST_VAL = 24  # frames: VC16 needs more than one window of 16
QUALITY = 92  # of the JPEGs


class _Split(NamedTuple):
    """One split: its numbers of videos and frames, and whether it has masks."""

    name: str
    videos: int
    frames: int
    masks: bool


def drawn_frames(scene: Scene) -> dict[str, int]:
    """Number of frames in each split of a synthetic data set."""
    return {split.name: split.videos * split.frames for split in _splits(scene)}


def _splits(scene: Scene) -> tuple[_Split, ...]:
    return (
        _Split("train", scene.videos, scene.frames, masks=True),
        _Split("unlabelled", scene.unlabelled_videos, scene.frames, masks=False),
        _Split("val", scene.val_videos, max(scene.frames, SHORTEST_VAL), masks=True),
    )


def draw_scene(scene: Scene, root: Path, talk: Talk = SILENCE) -> None:
    """Draw synthetic videos of streets under `root`, unless they exist.

    This writes `data/<video>/origin/<stem>.jpg`, `data/<video>/mask/<stem>.png` (0 void, class k as k + 1; not for
    unlabelled videos), `train.txt`, `unlabelled.txt`, `val.txt`, `classes.json`, the mapping `fewer.yaml` and the
    marker `scene.json`. Everything is drawn in a folder beside `root`, which is then renamed, so `root` is complete or
    does not exist.

    Validation videos have at least 24 frames, whatever ``scene.frames``. ``talk`` is called only when videos are drawn.

    Raises
    ------
    VssError
        `root` holds something else or a scene of other parameters, or can't be written.
    """
    if _is_drawn(scene, root):
        return
    drawing = part_of(root)  # one for each process that draws at once; the first to finish wins
    try:
        clear_parts(root)
        shutil.rmtree(drawing, ignore_errors=True)
        drawing.mkdir(parents=True)
        _draw(scene, drawing, talk)
        try:
            drawing.rename(root)
        except OSError:
            if not _is_drawn(scene, root):
                raise
    except OSError as error:
        raise VssError(
            f"cannot draw synthetic videos at {root}: {error.strerror or error}",
            "choose another folder (`data.root` in the recipe, or --data ROOT)",
        ) from error
    finally:
        shutil.rmtree(drawing, ignore_errors=True)


def _parameters(scene: Scene) -> dict[str, object]:
    return {"drawing": DRAWING, **scene.model_dump(mode="json")}


def _is_drawn(scene: Scene, root: Path) -> bool:
    """Whether `root` holds this scene; `VssError` if it holds anything else."""
    try:
        empty = not any(root.iterdir())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise VssError(f"cannot read {root}: {error.strerror}", "give a folder that can be read and written") from error
    if empty:
        return False
    marker = root / MARKER
    if not marker.exists():
        raise VssError(
            f"{root} is not empty and was not drawn by vss (no {MARKER} in it)",
            "give another folder for the synthetic videos, or remove `scene` from the recipe to use this data",
        )
    found = read_json(marker, "note", f"delete {root} to draw it again")
    wanted = _parameters(scene)
    if found == wanted:
        return True
    found = found if isinstance(found, dict) else {}
    names = [name for name in dict.fromkeys((*wanted, *found)) if found.get(name) != wanted.get(name)]
    differing = "; ".join(f"{name}: {found.get(name)} there, {wanted.get(name)} wanted" for name in names)
    raise VssError(
        f"{root} holds synthetic videos of other parameters ({differing})",
        f"delete {root} to draw it again, or choose another folder (`data.root` in the recipe)",
    )


def _draw(scene: Scene, root: Path, talk: Talk) -> None:
    splits = _splits(scene)
    colours = [channel for _, colour in CLASSES for channel in colour]
    palette = bytes([0, 0, 0, *colours]).ljust(768, b"\0")  # value k + 1 has the colour of class k, others are black
    total = sum(split.videos * split.frames for split in splits)
    talk.say(f"drawing {sum(split.videos for split in splits)} synthetic videos")
    with talk.track("drawing", total, "frame") as done:
        for number, split in enumerate(splits):
            names = [f"{split.name}-{index:03d}" for index in range(split.videos)]
            for index, name in enumerate(names):
                rng = np.random.default_rng([scene.seed, number, index])
                _draw_video(Street(rng, scene.size), split, root / "data" / name, palette)
                done(split.frames)
            (root / f"{split.name}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    lines = "".join(f"  {name}: {'ignore' if name in UNLABELLED else name}\n" for name, _ in CLASSES)
    (root / FEWER).write_text(
        f"source: classes.json\ntarget: classes.json\nmap:\n  0: ignore\n{lines}", encoding="utf-8"
    )
    classes = [{"id": index, "name": name, "colour": colour} for index, (name, colour) in enumerate(CLASSES)]
    _write_json(root / "classes.json", {"name": "street", "classes": classes})
    _write_json(root / MARKER, _parameters(scene))


def _write_json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _draw_video(street: Street, split: _Split, folder: Path, palette: bytes) -> None:
    (folder / "origin").mkdir(parents=True)
    if split.masks:
        (folder / "mask").mkdir()
    for t in range(split.frames):
        image, label = street.frame(t)
        encoded = io.BytesIO()  # given a file, Pillow does not notice a JPEG that a full disk cuts off
        Image.fromarray(image).save(encoded, format="JPEG", quality=QUALITY)
        (folder / "origin" / f"{t:05d}.jpg").write_bytes(encoded.getvalue())
        if split.masks:
            mask = Image.fromarray(np.where(label == VOID, 0, label + 1).astype(np.uint8))
            mask.putpalette(palette)
            mask.save(folder / "mask" / f"{t:05d}.png")
