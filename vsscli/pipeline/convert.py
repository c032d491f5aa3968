"""From a published checkpoint to one of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vsscli.data.classes import ClassTable, load_class_table
from vsscli.data.config import Data
from vsscli.errors import VssError
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from vsscli.models.official.convert import Converted, convert_official
from vsscli.models.official.plain_vit import convert_plain_vit, in_order_of_ids, is_plain_vit, recognise_plain_vit
from vsscli.models.official.recognise import recognise
from vsscli.models.official.report import Published, check_classes
from vsscli.models.official.sizes import Assumptions, Span, describe
from vsscli.models.sharefiles import named_shares
from vsscli.models.torchfile import read_torch
from vsscli.models.weights import state_dict_of
from vsscli.recipes.readout import Predict
from vsscli.recipes.schema import Recipe
from vsscli.talk import SILENCE, Talk

SWIN_SIZE = 640  # short side at which Mask2Former on Swin was trained and is tested (specs: mask2former.md)
VIDEO_SIZE = 720  # that at which VidEoMT and PMT are tested on video (specs: videomt.md)
VSPW = "vspw124"
READ_OUT = {"name", "data", "model", "predict", "store"}
"""Sections of the recipe that a converted checkpoint carries; how it was trained is not ours to state."""

STEP = 4 / 7  # of the sliding window: 512 of 896 (specs: vit_adapter.md, Data)


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint, and how the tensors of the published file were used.

    Parameters
    ----------
    path, fingerprint
        The checkpoint.
    kind
        What the published file contained, in words.
    classes
        C.
    crop
        Height and width of the only images that the network takes; `None` if it takes any.
    licence
        Of the published file, or of the trunk's weights in it.
    loaded
        Number of tensors taken from the file.
    resized, fresh
        Tensors of the network that were resized to the crop, and those that start from scratch.
    unused
        Tensors of the file that the network does not use.
    assumed
        Assumptions about what no tensor shows, in words.
    """

    path: Path
    fingerprint: str
    kind: str
    classes: int
    crop: tuple[int, int] | None
    licence: str
    loaded: int
    resized: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    assumed: tuple[str, ...]


def convert_checkpoint(
    source: Path,
    out: Path,
    *,
    classes: str | None = None,
    backbone: str | None = None,
    crop: int | tuple[int, int] | None = None,
    readout: Literal["grid", "full"] | None = None,
    interactions: Sequence[Span] | None = None,
    heads: int | None = None,
    points: int | None = None,
    blocks: int | None = None,
    base: Path | None = None,
    force: bool = False,
    talk: Talk = SILENCE,
) -> Conversion:
    """Convert a published checkpoint into one of ours; or make one file of a checkpoint of ours that is in shares.

    Parameters
    ----------
    source
        A ``.pkl`` of detectron2, a ``.pth`` of mmsegmentation 0.x or 1.x, pretrained weights of BEiT, ONE-PEACE or
        Swin (official or timm's), also zipped. No code in it is run. Or ``last.pt`` of a run under ``--strategy
        sharded``; no option says anything about that.
    out
        The checkpoint.
    classes
        A class table, by name or file; `None`: the classes that the file names, or numbers.
    backbone, readout
        As for `vsscli.models.official.convert.convert_official`.
    crop
        Height and width of the images that the network will take, or the side of square ones; `None`: those of the
        file. If the file was made for wide or tall images without saying which, also the size it was made for.
    interactions, heads, points
        What the shapes of tensors can't show: spans of the adapter's blocks, heads of the mask decoder, points of
        deformable attention; `None`: as the file says, or as in the published networks.
    blocks
        Last blocks of a plain ViT that see queries; `None`: as the file says, or as published.
    base
        The trunk's own weights, if the file of a plain ViT lacks them or holds differences to them.
    force
        Replace an existing file.
    talk
        Informed of how the file's tensors were used, and of assumptions.

    Returns
    -------
    Conversion
        The checkpoint is for `vss predict --model`, or for ``train.init`` or ``model.pretrained`` of a recipe.

    Raises
    ------
    VssError
        The file can't be read, would run code, belongs to another network, lacks tensors or has others, or has other
        classes than the table; the crop is not a multiple of 32; or ``out`` exists.
    """
    if out.exists() and not force:
        raise VssError(f"{out} already exists", "name another file with --to, or replace it with --force")
    size = (crop, crop) if isinstance(crop, int) else crop
    assumed = Assumptions(
        points if points is not None else Assumptions.points, heads, tuple(interactions) if interactions else None, size
    )
    content, named = read_torch(source), f"checkpoint {source}"
    shares = len(named_shares(source, content))
    if shares:
        given: dict[str, object] = {"classes": classes, "backbone": backbone, "crop": crop, "readout": readout}
        given |= {"interactions": interactions, "heads": heads, "points": points, "blocks": blocks, "base": base}
        if stray := [f"--{name}" for name in given if given[name] is not None]:
            raise VssError(f"{named} is one of vss, which {stray[0]} says nothing about", f"leave out {stray[0]}")
        return _one_file(source, out, shares)
    plain_vit = is_plain_vit(content)
    foreign = {"interactions": interactions, "points": points} if plain_vit else {"blocks": blocks, "base": base}
    for option, value in foreign.items():
        if value is not None:
            kind = "a plain ViT" if plain_vit else "another network"
            raise VssError(f"{named} is of {kind}, which --{option} says nothing about", f"leave out --{option}")
    official: Published
    if plain_vit:
        weights = None if base is None else state_dict_of(read_torch(base, "weights"), base)
        official = plain = recognise_plain_vit(
            content, named, base=weights, backbone=backbone, crop=size, heads=heads, blocks=blocks
        )
        table = _classes(official, classes, source)
        vspw = load_class_table(VSPW)
        if plain.video and (table.names == vspw.names or (classes is None and table.num_classes == vspw.num_classes)):
            official = plain = in_order_of_ids(plain)
        where = "" if base is None else str(base.absolute())
        converted = convert_plain_vit(plain, table.num_classes, base=where, readout=readout)
    else:
        official = known = recognise(content, named, assumed)
        talk.say(f"{known.source}: {known.kind}; {describe(known.backbone)}")
        table = _classes(official, classes, source)
        converted = convert_official(known, table.num_classes, backbone=backbone, crop=size, readout=readout)
    converted.fitted.report(official, talk)
    recipe = _recipe(converted, table, out.stem, classes)
    checkpoint = Checkpoint(
        network=recipe.model.kept_values(),
        weights=converted.fitted.weights,
        table=table,
        normalisation=converted.normalisation,
        recipe=recipe.model_dump(mode="json", include=READ_OUT),
        figures={},
        step=0,
        fresh=converted.fitted.fresh,
        trunk=converted.trunk,
        licence=converted.licence,
    )
    save_checkpoint(out, checkpoint)
    fitted = converted.fitted
    return Conversion(
        out,
        checkpoint.fingerprint,
        str(official.kind),
        table.num_classes,
        converted.crop,
        converted.licence,
        fitted.loaded,
        fitted.resized,
        fitted.fresh,
        fitted.unused,
        official.assumed,
    )


def _one_file(source: Path, out: Path, shares: int) -> Conversion:
    """Put together a checkpoint of ours."""
    checkpoint = load_checkpoint(source)
    save_checkpoint(out, checkpoint)
    kind, classes, crop = (
        f"a vss checkpoint in {shares} shares",
        checkpoint.table.num_classes,
        checkpoint.config.fixed_crop,
    )
    facts = (checkpoint.licence, len(checkpoint.weights), (), checkpoint.fresh, (), ())
    return Conversion(out, checkpoint.fingerprint, kind, classes, crop, *facts)


def read_spans(text: str) -> tuple[Span, ...]:
    """Spans of blocks as a user writes them.

    Examples
    --------
    >>> read_spans("0-5,6-11")
    ((0, 5), (6, 11))
    """
    found = [re.fullmatch(r"(\d{1,4})-(\d{1,4})", part.strip()) for part in text.split(",")]
    if not all(found):
        raise VssError(f"--interactions {text} is not a list of spans", "write them as 0-5,6-11,12-17,18-23")
    return tuple((int(span[1]), int(span[2])) for span in found if span)


def _classes(official: Published, named: str | None, source: Path) -> ClassTable:
    """The classes of the network: as named, as the checkpoint says, or numbered."""
    if named is not None:
        table = load_class_table(named)
        check_classes(official, table.num_classes, f"class table {named}")
        return table
    if official.num_classes is None:
        raise VssError(
            f"{official.source} is {official.kind}, which has no classes",
            "name those of its new head: --classes vspw124, or a JSON or YAML file",
        )
    names = official.classes or tuple(f"class {number}" for number in range(official.num_classes))
    made_up = ClassTable.from_dict({"name": source.stem, "classes": list(names)})
    return ClassTable(source.stem, names, official.colours) if official.colours else made_up


def _recipe(converted: Converted, table: ClassTable, name: str, classes: str | None) -> Recipe:
    """How the network is read out, as published; the user has to name the data."""
    crop = converted.crop
    if crop is None:
        predict = Predict(size=VIDEO_SIZE if converted.config.frames > 1 else SWIN_SIZE)
    else:
        down, across = (max(int(side * STEP) // 4, 1) * 4 for side in crop)
        predict = Predict(size=min(crop), window=crop, step=converted.step or (down, across))
    return Recipe(
        name=_name(name),
        data=Data(name=_name(table.name), root=f"data/{_name(table.name)}", classes=classes or "classes.json"),
        model=converted.config,
        predict=predict,
    )


def _name(text: str) -> str:
    """Text as the name of a recipe."""
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text).strip("-")
    return plain or "converted"
