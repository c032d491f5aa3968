"""Valid files of every kind that vss reads, and their readers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from converted_samples import official, write_detectron2, write_mmseg
from exchange_samples import read_as, write_as
from PIL import Image
from safetensors.torch import save_file
from share_samples import save_shared
from store_samples import distributions, prediction_header, write_predictions
from submission_samples import ENTRIES, label_of, write_labels, write_split, write_store
from test_exchange_formats import CVAT_VIDEO
from test_exchange_formats import TABLE as STREETS

from vsscli.cli import app
from vsscli.data.check import check_videos
from vsscli.data.classes import ClassTable, load_class_table
from vsscli.data.folders import IMAGE_SUFFIXES
from vsscli.data.inputs import open_input
from vsscli.data.layouts import open_dataset, plain_data
from vsscli.data.mapping import load_mapping
from vsscli.data.masks import read_mask, write_mask
from vsscli.data.panoptic import load_segments
from vsscli.errors import VssError
from vsscli.exchange.catalogue import FORMATS, READ
from vsscli.exchange.items import Choices
from vsscli.inference.plans import load_plan
from vsscli.models import sharefiles, weights
from vsscli.models.build import build_network
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, restore_network, save_checkpoint
from vsscli.models.network import Normalisation
from vsscli.models.official.recognise import recognise
from vsscli.models.torchfile import read_torch
from vsscli.recipes.load import load_any, recipe_from_dict
from vsscli.recipes.schema import Recipe
from vsscli.recipes.validate import validate_recipe
from vsscli.stages.record import read_records
from vsscli.stages.record import read_stage_record as read_stage
from vsscli.store.reader import open_store
from vsscli.store.upkeep import measure
from vsscli.store.verify import verify
from vsscli.store.work import WorkFolder
from vsscli.submission.check import check_submission
from vsscli.submission.layout import Layout
from vsscli.training.journal import Journal

RECIPES = Path(__file__).parent.parent / "recipes"


LIGHT = {"family": "light", "encoder": "test_efficientnet", "channels": 16, "pretrained": "none"}


TABLE = ClassTable("three", ("road", "sky", "car"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))


LOOP = """name: loop
stages:
  first: {do: train, recipe: train.yaml}
  second: {do: train, recipe: train.yaml, init: first, set: {train.steps: 2, augment: {flip: 0.0}}}
  one: {do: predict, model: first, split: val, tta: false}
  two: {do: predict, model: second, split: val, tta: flip}
  fused: {do: ensemble, of: [one, two], weights: [1, 0.5]}
  pseudo: {do: pseudo, of: fused, percentile: 80}
  scores: {do: eval, rows: [{name: a, of: one}, {name: b, of: fused}], metrics: [miou, vc2]}
  zip: {do: submit, of: fused}
"""


@dataclass(frozen=True)
class Sample:
    """A valid file or folder, what reads it, and commands that do."""

    path: Path
    read: Callable[[Path], Any]
    commands: tuple[tuple[str, ...], ...] = ()
    weight: int = 1


def samples(home: Path) -> list[Sample]:
    """Small valid samples of everything that vss reads."""
    home.mkdir(parents=True)
    made = [*_texts(home), *_checkpoints(home), *_pictures(home), *_folders(home), *_exchange(home)]
    assert all(sample.path.exists() for sample in made)
    return made


def _texts(home: Path) -> Iterator[Sample]:
    validate = ("recipe", "validate", "{}")
    for name in ("camvid/student.yaml", "semi.yaml", "camvid/loop.yaml", "pvuw2024-holdout.yaml"):
        path = home / name.replace("/", "-")
        shutil.copy(RECIPES / name, path)
        yield Sample(path, _recipe, (validate,))
    own = Recipe.model_validate({"name": "own"}).model_dump(mode="json")
    path = _text(home / "own.yaml", json.dumps(own, indent=1))
    yield Sample(path, _recipe, (validate,), 2)
    table = (
        "name: t\nclasses:\n- {id: 0, name: road, colour: [1, 2, 3]}\n- {id: 1, name: sky}\n- &a {id: 2, name: car}\n"
    )
    yield Sample(_text(home / "classes.yaml", table), _class_table, (), 2)
    yield Sample(_text(home / "classes.json", json.dumps(TABLE.to_dict())), _class_table, (), 2)
    mapping = (
        "source: [Sky, Road, Car]\nfirst_id: 1\ntarget: vspw124\nothers: ignore\nmap: {0: ignore, Sky: sky, 2: 5}\n"
    )
    show = ("remap", "--show", "--source", "{}")
    yield Sample(_text(home / "mapping.yaml", mapping), lambda path: load_mapping(path).to_dict(), (show,), 2)
    yield Sample(_text(home / "plan.yaml", "scales: [0.75, 1.0, 1.25]\nflip: true\n"), load_plan)
    infos = [{"id": number, "category_id": 1 + number % 3} for number in range(1, 5)]
    images = [{"file_name": f"{number}.png", "segments_info": infos} for number in range(3)]
    panoptic = {"annotations": images, "categories": [{"id": 1, "name": "person"}]}
    yield Sample(_text(home / "panoptic.json", json.dumps(panoptic)), _panoptic, (), 2)
    lines = "".join(json.dumps({"step": step, "loss": 1 / step, "miou": None}) + "\n" for step in range(1, 9))
    yield Sample(_text(home / "journal.jsonl", lines), _journal)


def _checkpoints(home: Path) -> Iterator[Sample]:
    predict = ("predict", "--model", "{}", "--input", str(home / "frames"), "--out", "{out}", "--device", "cpu")
    recipe = Recipe.model_validate({"name": "own", "model": LIGHT}).model_dump(mode="json")
    network = build_network(LIGHT, 3, load_pretrained=False)
    half = Normalisation((127.5,) * 3, (127.5,) * 3)
    training = {"optimiser": {"state": {0: {"step": torch.tensor(3.0)}}}, "best": 0.5, "random": [1, (2, "x")]}
    own = Checkpoint(dict(LIGHT), dict(network.state_dict()), TABLE, half, recipe, {"miou": 0.5}, 3, training=training)
    save_checkpoint(home / "own.pt", own)
    yield Sample(home / "own.pt", _checkpoint, (predict,), 4)
    save_shared(home / "shared" / "last.pt", own)
    yield Sample(home / "shared", _shares, (("convert", "{}/last.pt", "--to", "{out}/t.pt"),), 3)
    convert = ("convert", "{}", "--to", "{out}/t.pt")
    yield Sample(write_mmseg(home / "mmseg.pth"), read_official, (convert,), 2)
    yield Sample(write_detectron2(home / "detectron2.pkl"), read_official, (convert,), 2)
    state = dict(list(official("full_vitadapter_mmseg")["state_dict"].items())[:9])
    torch.save({"state_dict": state}, home / "legacy.pth", _use_new_zipfile_serialization=False)
    yield Sample(home / "legacy.pth", read_official, (convert,))
    (home / "plain.pkl").write_bytes(pickle.dumps({"model": {"a": np.ones((2, 3)), "b": [1, {"c"}]}}, 4))
    yield Sample(home / "plain.pkl", read_official)
    with zipfile.ZipFile(home / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(home / "plain.pkl", "model.pkl")
    yield Sample(home / "packed.zip", read_official)
    with tarfile.open(home / "packed.tar", "w") as archive:
        archive.add(home / "plain.pkl", "model.pkl")
    yield Sample(home / "packed.tar", read_official)
    encoder = {name: tensor.clone() for name, tensor in network.encoder.features.state_dict().items()}
    save_file(encoder, home / "encoder.safetensors")
    torch.save(encoder, home / "encoder.pth")
    for name in ("encoder.safetensors", "encoder.pth"):
        yield Sample(home / name, _encoder)


def _pictures(home: Path) -> Iterator[Sample]:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
    (home / "frames").mkdir()
    image.save(home / "frames" / "0.png")
    for ending in ("png", "jpg", "webp", "bmp", "tif", "gif"):
        if f".{ending}" in IMAGE_SUFFIXES:
            image.save(home / f"image.{ending}")
            yield Sample(home / f"image.{ending}", _image)
    deep = Image.fromarray(rng.integers(0, 2**16, (24, 32)).astype(np.uint16))
    deep.save(home / "deep.png")
    yield Sample(home / "deep.png", _image)
    write_mask(home / "mask.png", rng.integers(0, 3, (24, 32)).astype(np.uint8), TABLE, 1)
    yield Sample(home / "mask.png", read_mask, (), 2)
    path = home / "video.mp4"
    if _video(path):
        yield Sample(path, lambda video: [list(one.images()) for one in open_input(video)], (), 2)


def _folders(home: Path) -> Iterator[Sample]:
    root = write_split(home / "data")
    for number, entry in enumerate(ENTRIES):
        mask = root / "data" / Path(entry).parent / "mask" / Path(entry).name
        write_mask(mask, np.full((24, 32), 1 + number % 3, np.uint8))
    for split in ("train", "val"):
        _text(root / f"{split}.txt", (root / "test.txt").read_text())
    yield Sample(root, _dataset, (("doctor", "--data", "{}"),), 3)
    with zipfile.ZipFile(home / "submission.zip", "w") as archive:
        for entry in ENTRIES:
            written = io.BytesIO()
            Image.fromarray(label_of(entry)).save(written, "png")
            archive.writestr(entry, written.getvalue())
    videos = open_dataset(plain_data(root)).split("test")
    layout = Layout(5)
    check = ("submit", "--check", "{}", "--data", str(root), "--split", "test")
    yield Sample(home / "submission.zip", lambda path: check_submission(path, videos, layout, workers=1), (check,), 3)
    store = home / "own.zarr"
    write_predictions(store, prediction_header(), {"a": distributions(1, 3), "b": distributions(2, 2)})
    commands = tuple(("cache", action, "--stores", "{}") for action in ("ls", "verify", "du", "repair", "gc"))
    yield Sample(store, _store, commands, 4)
    there = ("--data", str(root), "--workspace", "{out}")
    submit = ("submit", "--pred", "{}", "--out", "{out}/s.zip", "--split", "test", *there)
    score = ("eval", "--pred", "{}", "--split", "val", "--metric", "miou", "vc2", *there)
    fuse = ("ensemble", "--stores", "{}", str(home / "pred.zarr"), "--out", "{out}/c.zarr")
    threshold = ("pseudo", "--store", "{}", "--report", *there)
    show = ("show", "--store", "{}", "--out", "{out}", *there)
    write_store(home / "pred.zarr", root)
    yield Sample(home / "pred.zarr", _store, (submit, score, fuse, threshold, show), 4)
    yield Sample(write_labels(home / "labels"), _labels, (score, submit), 2)
    yield from _runs(home, root)
    notes = home / "notes"
    stage = {
        "vss": "1",
        "status": "done",
        "key": {"a": 1},
        "forced": False,
        "seconds": 1.5,
        "flops": None,
        "stores": ["s"],
    }
    stage |= {"result": {"path": "last.pt", "fingerprint": "0" * 64, "facts": {"miou": 0.5}}, "stale": False}
    holder = {"pid": os.getpid() + 1, "host": os.uname().nodename, "started": 3, "since": "2024-01-01 00:00:00"}
    _text(notes / "p" / "s" / "stage.json", json.dumps(stage))
    _text(notes / ".own.zarr.work" / "locks" / "a.json", json.dumps(holder))
    yield Sample(notes, _notes, (), 2)


def _exchange(home: Path) -> Iterator[Sample]:
    """Labels in the formats of other programs, in zips and in folders."""
    for form in READ:
        for place in (home / f"{form}.zip", home / f"{form}{FORMATS[form].single}"):
            write_as(form, place)
            yield Sample(place, lambda path, form=form: read_as(form, path))
    for form in ("cvat", "coco", "label-studio"):
        place = home / f"{form}-polygons{FORMATS[form].single}"
        write_as(form, place, Choices(polygons=True))
        yield Sample(place, lambda path, form=form: read_as(form, path))
    yield Sample(_text(home / "tracks.xml", CVAT_VIDEO), lambda path: read_as("cvat", path, STREETS))


def _runs(home: Path, root: Path) -> Iterator[Sample]:
    """A training of one step: its recipe and its results."""
    recipe: dict[str, Any] = {"name": "own", "model": LIGHT, "augment": {"crop": [32, 32]}}
    recipe |= {"data": {"name": "data", "root": str(root), "classes": "classes.json", "labelled": None}}
    recipe |= {"predict": {"window": [32, 32]}, "train": {"steps": 1, "batch_size": 2, "warmup": 0, "ema": 0.9}}
    short = ("--set", "train.steps=2", "train.workers=0", "--device", "cpu")
    path = _text(home / "train.yaml", json.dumps(Recipe.model_validate(recipe).model_dump(mode="json"), indent=1))
    yield Sample(path, _recipe, (("train", "--recipe", "{}", "--out", "{out}", *short),), 3)
    loop = _text(home / "loop.yaml", LOOP.replace("train.yaml", str(path)))
    yield Sample(loop, _recipe, (("run", "{}", "--dry-run", "--workspace", "{out}"),), 2)
    train = ("train", "--recipe", str(path), "--out", str(home / "run"), "--device", "cpu")
    assert run_command((*train, "--set", "train.workers=0"), path, home) == 0
    resume = ("train", "--recipe", str(path), "--out", "{}", "--resume", *short)
    yield Sample(home / "run", _run, (resume,), 3)
    predict = ("predict", "--model", "{}", "--split", "val", "--device", "cpu", "--workspace", "{out}")
    yield Sample(home / "run" / "last.pt", _checkpoint, (predict,), 2)


def _text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _video(path: Path) -> bool:
    try:
        import av
    except ImportError:
        return False
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), 40 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return True


def _recipe(path: Path) -> None:
    validate_recipe(path, files=True)
    load_any(path)


def _class_table(path: Path) -> None:
    table = load_class_table(str(path))
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table
    table.palette(1)


def _panoptic(path: Path) -> None:
    segments = load_segments(path)
    for name in segments.places:
        segments.of(Path(name))


def _journal(path: Path) -> None:
    Journal(path, 5).close()


def _checkpoint(path: Path) -> None:
    load_checkpoint(path, weights=False)
    checkpoint = load_checkpoint(path)
    recipe_from_dict(checkpoint.recipe, "the recipe inside")
    restore_network(checkpoint)


def _shares(folder: Path) -> None:
    """As they are, and as somebody would change them who also writes their digests anew."""
    with contextlib.suppress(VssError):
        load_checkpoint(folder / "last.pt")
    forged = partial(sharefiles.Shares, check=False)
    with mock.patch.object(sharefiles, "Shares", lambda path, named, check: forged(path, named)):
        load_checkpoint(folder / "last.pt")


def read_official(path: Path) -> None:
    recognise(read_torch(path), f"checkpoint {path}")


def _encoder(path: Path) -> None:
    network: Any = build_network(LIGHT, 3, load_pretrained=False)
    weights.load_encoder(network.encoder.features, "test_efficientnet", str(path))


def _image(path: Path) -> None:
    folder = path.with_name(f"{path.name} alone")
    folder.mkdir()
    shutil.move(path, folder / path.name)
    for video in open_input(folder):
        list(video.images())


def _dataset(root: Path) -> None:
    dataset = open_dataset(plain_data(root))
    for split in ("train", "val", "test"):
        check_videos(dataset.split(split), dataset.meaning, masks=split != "test", workers=1)


def _store(path: Path) -> None:
    store = open_store(path)
    measure(path)
    verify(store)
    for video in store.videos(complete=False):
        for index in range(len(store.stems(video))):
            store.probabilities(video, index)
            store.entropy(video, index)


def _labels(folder: Path) -> None:
    for path in sorted(folder.rglob("*.png")):
        read_mask(path)


def _run(folder: Path) -> None:
    load_checkpoint(folder / "last.pt")
    if (folder / "journal.jsonl").is_file():
        Journal(folder / "journal.jsonl", 1).close()


def _notes(folder: Path) -> None:
    read_stage(folder / "p" / "s")
    read_records(folder)
    WorkFolder(folder / "own.zarr").collect()


def words(command: tuple[str, ...], path: Path, place: Path) -> list[str]:
    """A command's arguments for an input."""
    return [word.replace("{out}", str(place / "out")).replace("{}", str(path)) for word in command]


def run_command(command: tuple[str, ...], path: Path, place: Path) -> int:
    """Run a command in this process, as the command line does, and check how it ends."""
    arguments = words(command, path, place)
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        code = app.run(arguments)
    if code not in (0, 2) or "please report" in told.getvalue() or "Traceback" in told.getvalue():
        raise AssertionError(f"exit code {code} of vss {' '.join(arguments)}: {told.getvalue()[-2000:]}")
    return code
