"""A few frames with labels, a folder of predictions of them, and their data set, for the formats to carry around."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.masks import MaskIds, read_mask, to_classes, write_mask
from vsscli.data.palettes import legend_of
from vsscli.data.videos import Frame
from vsscli.exchange.catalogue import reader_of, writer_of
from vsscli.exchange.items import Choices, Found, Item, Reading
from vsscli.exchange.names import ClassNames
from vsscli.exchange.sink import Sink
from vsscli.exchange.source import open_source_files
from vsscli.store.encode import encode
from vsscli.store.header import Encoding, Header
from vsscli.store.writer import StoreWriter

TABLE = ClassTable(
    "streets", ("road", "traffic light", "Bäume & <Gras>"), ((128, 64, 128), (250, 170, 30), (9, 142, 35))
)
SIZE = (13, 18)
ADDRESSES = ("day1/000", "day1/001", "day2/000", "day2/007")


def label_of(number: int) -> np.ndarray:
    """Labels with holes, pieces that touch at corners, void, and a class that is everywhere but in the last."""
    label = np.zeros(SIZE, np.uint8)
    label[2:11, 3:15] = 1
    label[4:8, 5:9] = 2
    label[5, 6] = 0
    label[9, 10:12] = IGNORE
    label[11, 15] = 1
    label[0, number] = 2
    if number == 3:
        label[label == 2] = IGNORE
    return label


LABELS = {address: label_of(number) for number, address in enumerate(ADDRESSES)}


def items() -> Iterator[Item]:
    """The frames, to be written."""
    for address, label in LABELS.items():
        video, stem = address.split("/")
        yield Item(video, stem, label, int(stem), Frame(video, stem, None))


def write_as(form: str, out: Path, choices: Choices = Choices(), table: ClassTable = TABLE) -> dict[str, float]:
    """Write the frames in a format; what it lost."""
    write, what = writer_of(form)
    with Sink(out, single=what.single) as sink:
        writer = write(sink, table, choices)
        for item in items():
            writer.add(item)
        figures = writer.finish()
        writer.close(None)
    return figures


@contextmanager
def reading(source: Path, table: ClassTable = TABLE, changes: Mapping[str, str] | None = None) -> Iterator[Reading]:
    """What a reader is given."""
    with open_source_files(source) as files:
        yield Reading(files, ClassNames(table, changes), MaskIds((IGNORE,), 0, legend=legend_of(table)))


def read_as(
    form: str, source: Path, table: ClassTable = TABLE, changes: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """All labels of a source, by the names it has for their frames."""

    def drawn(found: Found) -> np.ndarray:
        return found.draw(found.size or SIZE)

    with reading(source, table, changes) as given:
        return {found.name: drawn(found) for found in reader_of(form)(given)}


def write_predictions_folder(folder: Path) -> Path:
    """The labels as `vss predict --input` leaves them."""
    for address, label in LABELS.items():
        write_mask(folder / f"{address}.png", label, TABLE)
    return folder


def write_dataset(root: Path) -> Path:
    """Their frames as a data set in VSPW's layout, without masks."""
    for address in ADDRESSES:
        video, stem = address.split("/")
        (root / "data" / video / "origin").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], (90, 120, 40)).save(root / "data" / video / "origin" / f"{stem}.jpg")
    (root / "classes.json").write_text(json.dumps(TABLE.to_dict()))
    (root / "train.txt").write_text("day1\n")
    (root / "val.txt").write_text("day2\n")
    return root


def labels_in(folder: Path) -> dict[str, np.ndarray]:
    """The masks of a folder ``<video>/<stem>.png``, as classes."""
    ids = MaskIds((IGNORE,), 0, legend=legend_of(TABLE))
    masks = sorted(folder.glob("*/*.png"))
    return {
        f"{mask.parent.name}/{mask.stem}": to_classes(read_mask(mask, ids.legend), ids, TABLE.num_classes, mask)
        for mask in masks
    }


def write_store(path: Path, first: int = 0) -> Path:
    """The labels as a prediction store; void pixels are the first class, and sure by a tenth. ``first`` is added to the
    frames' numbers."""
    header = Header(
        kind="prediction",
        table=TABLE,
        scores="logits",
        source={"weights": "0123"},
        encoding=Encoding(grid=1, kept=2).to_dict(),
        data={"name": "streets", "split": "val", "root": "somewhere"},
    )
    encoding = header.parsed_encoding()
    with StoreWriter(path, header) as writer:
        for video in ("day1", "day2"):
            stems = [address.partition("/")[2] for address in ADDRESSES if address.startswith(video)]
            for segment in writer.pending(video, [f"{int(stem) + first:03d}" for stem in stems], SIZE):
                means = [_mean(LABELS[f"{video}/{stem}"]) for stem in stems[segment.start : segment.stop]]
                frames = [encode(mean, mean, encoding) for mean in means]
                writer.write(video, segment, {name: np.stack([one[name] for one in frames]) for name in frames[0]})
    return path


def _mean(label: np.ndarray) -> np.ndarray:
    """A distribution (C, H, W) float32, sure of labels, and undecided in void, where the first leads by a little."""
    mean = np.full((TABLE.num_classes, *label.shape), 0.01, np.float32)
    for index in range(TABLE.num_classes):
        mean[index][label == index] = 1 - 0.01 * (TABLE.num_classes - 1)
    undecided = label == IGNORE
    mean[:, undecided] = 0.33
    mean[0, undecided] = 0.34
    return mean
