"""A small data set with two predictions, one of them flickering, and pseudo-labels; its names are hostile if asked, its
classes many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vsscli.data.classes import ClassTable, made_up_colour
from vsscli.data.layouts import plain_data
from vsscli.pipeline.pseudo import pseudo
from vsscli.store.encode import encode
from vsscli.store.header import Encoding, Header
from vsscli.store.writer import StoreWriter

SIZE = (24, 32)
FRAMES = 40
HOSTILE = ("</script><script>boom()</script>", "<img src=x onerror=boom()>", "\u202eevil \x1b[31m", "'\"&amp; --><!--")
PLAIN = ("road", "sky", "car", "tree")
COLOURS = ((200, 40, 40), (40, 40, 200), (40, 200, 40), (9, 99, 9))
ODD = 'a <b onclick="boom()">&amp;'


@dataclass(frozen=True)
class Sample:
    """A data set's folder, stores of two predictions and of pseudo-labels, a workspace, and names of the videos."""

    root: Path
    steady: Path
    flickering: Path
    pseudo: Path
    workspace: Path
    videos: tuple[str, ...]


def truth_of(t: int) -> np.ndarray:
    """Mask values of a frame, classes from 1: sky above road, a car that moves, and a void corner."""
    mask = np.full(SIZE, 1, np.uint8)
    mask[: SIZE[0] // 2] = 2
    mask[14:20, min(t, 20) : min(t, 20) + 8] = 3
    mask[:3, :3] = 0
    return mask


def label_of(t: int, *, flickers: bool) -> np.ndarray:
    """Predicted classes, from 0: the car is a pixel too wide; if asked, the road is a tree in every frame from 6 to 9
    that is even."""
    label = np.maximum(truth_of(t), 1) - 1
    label[14:20, min(t, 20) + 8 : min(t, 20) + 9] = 2
    if flickers and 6 <= t < 10 and t % 2 == 0:
        label[20:] = 3
    return label.astype(np.uint8)


def make_sample(
    home: Path, *, hostile: bool = False, frames: int = FRAMES, masks: bool = True, classes: int = len(COLOURS)
) -> Sample:
    """Write the data set and the stores below a folder; ``classes`` beyond the first four do not occur."""
    root, workspace = home / "data set", home / "runs"
    more = range(len(COLOURS), classes)
    names = (*(HOSTILE if hostile else PLAIN), *(f"thing_number_{k}_of_{classes}" for k in more))
    table = ClassTable("street", names, (*COLOURS, *map(made_up_colour, more)))
    videos = ("alley", ODD if hostile else "street")
    for video in videos:
        for folder in ("origin", "mask"):
            (root / "data" / video / folder).mkdir(parents=True)
        for t in range(frames):
            image = np.full((*SIZE, 3), 90 + 5 * (t % 10), np.uint8)
            Image.fromarray(image).save(root / "data" / video / "origin" / f"{t:05d}.png")
            if masks and t != 3:
                Image.fromarray(truth_of(t % FRAMES)).save(root / "data" / video / "mask" / f"{t:05d}.png")
    (root / "classes.json").write_text(json.dumps(table.to_dict()))
    (root / "val.txt").write_text("\n".join(videos) + "\n")
    (root / "train.txt").write_text("alley\n")
    stores = [
        make_store(root, table, videos, workspace / "stores" / "street" / "val" / f"{name}.zarr", frames=frames)
        for name in ("steady", "flickering")
    ]
    labels = pseudo(store=stores[1], percentile=50).store
    return Sample(root, stores[0], stores[1], labels, workspace, tuple(sorted(videos)))


def make_store(
    root: Path, table: ClassTable, videos: Sequence[str], place: Path, *, split: str = "val", frames: int = FRAMES
) -> Path:
    """Write a prediction of videos of the data set; one that is called "flickering" does so."""
    name, encoding = place.stem, Encoding(kept=3)
    header = Header(
        kind="prediction",
        table=table,
        scores="logits",
        source={"weights": name},
        encoding=encoding.to_dict(),
        data={
            "name": "street",
            "split": split,
            "root": str(root),
            "section": plain_data(root).model_dump(mode="json"),
        },
        summary={"model": name, "plan": "none"},
    )
    with StoreWriter(place, header) as writer:
        for video in videos:
            for segment in writer.pending(video, [f"{t:05d}" for t in range(frames)], SIZE):
                encoded = []
                for t in range(segment.start, segment.stop):
                    label = label_of(t % FRAMES, flickers=name == "flickering")
                    mean = np.full((table.num_classes, *SIZE), 0.02, np.float32)
                    mean[:, :, 16:] = 0.1
                    np.put_along_axis(mean, label[None].astype(np.intp), 1, axis=0)
                    mean /= mean.sum(0)
                    encoded.append(encode(mean, mean, encoding))
                writer.write(video, segment, {key: np.stack([one[key] for one in encoded]) for key in encoded[0]})
    return place
