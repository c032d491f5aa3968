"""A small split without labels, and predictions of it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from store_samples import class_table

from vsscli.data.layouts import open_dataset, plain_data
from vsscli.data.masks import write_mask
from vsscli.data.videos import FolderVideo
from vsscli.store.header import Encoding, Header
from vsscli.store.writer import StoreWriter

CLASSES = 5
SIZE = (24, 32)
STEMS = ("0001", "0002", "0003")
VIDEOS = ("two", "one")  # as the list has them: not in order of their names
ENTRIES = [f"{video}/{stem}.png" for video in ("one", "two") for stem in STEMS]

Entry = tuple[str | zipfile.ZipInfo, bytes]


def label_of(entry: str) -> np.ndarray:
    """Regions and some noise, different for every entry; all classes occur."""
    rng = np.random.default_rng(list(entry.encode()))
    label = np.repeat(np.repeat(rng.integers(0, CLASSES, (6, 8)), 4, axis=0), 4, axis=1).astype(np.uint8)
    label[rng.random(SIZE) < 0.05] = 3
    label.flat[:CLASSES] = np.arange(CLASSES)
    return label


def write_split(root: Path) -> Path:
    """Two videos of images, listed as split `test`, in VSPW's layout."""
    for entry in ENTRIES:
        video, file = entry.split("/")
        folder = root / "data" / video / "origin"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(folder / file.replace(".png", ".jpg"))
    (root / "classes.json").write_text(json.dumps(class_table(CLASSES).to_dict()))
    (root / "test.txt").write_text("\n".join(VIDEOS))
    return root


def open_split(root: Path) -> list[FolderVideo]:
    return open_dataset(plain_data(root)).split("test")


def write_labels(folder: Path) -> Path:
    """Predictions as a folder of masks."""
    for entry in ENTRIES:
        write_mask(folder / entry, label_of(entry), class_table())
    return folder


def write_store(path: Path, root: Path, videos: Iterable[str] = VIDEOS, split: str = "test", shift: int = 0) -> Path:
    """The same predictions as a store, every label raised by ``shift``."""
    header = Header(
        kind="prediction",
        table=class_table(CLASSES),
        scores="logits",
        source={"weights": "none"},
        encoding=Encoding(kept=1).to_dict(),
        data={"name": "street", "split": split, "root": str(root), "section": plain_data(root).model_dump(mode="json")},
    )
    with StoreWriter(path, header) as writer:
        for video in videos:
            label = np.stack([label_of(f"{video}/{stem}.png") for stem in STEMS])
            label = ((label + shift) % CLASSES).astype(np.uint8)
            for segment in writer.pending(video, STEMS, SIZE):
                zeros = np.zeros_like(label)
                lists = {"top_class": label[:, None], "top_probability": np.full_like(zeros, 255)[:, None]}
                writer.write(video, segment, {"label": label, "entropy": zeros, **lists})
    return path


def png(values: np.ndarray, **options: object) -> bytes:
    """An array as a PNG file, written by Pillow."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", **options)
    return file.getvalue()


def zip_of(path: Path, entries: Iterable[Entry], packing: int = zipfile.ZIP_STORED) -> Path:
    """A zip of whatever entries."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def good_entries() -> list[Entry]:
    return [(entry, png(label_of(entry))) for entry in ENTRIES]
