"""Files of mmsegmentation: reads a config and a checkpoint as a `Checkpoint`.

A config that ends in ``.py`` is a Python program: mmengine runs it to read it, so it must be trusted like any other
program. One that ends in ``.yaml``, ``.yml`` or ``.json``, as ``Config.dump`` writes it, is read as plain values and
runs nothing. The checkpoint runs nothing either way.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models.checkpoints import Checkpoint, fingerprint_of
from vsscli.models.mmseg.network import number_of_classes, read_preprocessor
from vsscli.models.mmseg.openmmlab import GUEST, OWN, first_line, import_mmseg
from vsscli.models.torchfile import check_file, read_torch
from vsscli.models.wrappers import unwrapped
from vsscli.structured import read_json, read_text
from vsscli.talk import SILENCE, Talk
from vsscli.yamltext import TAG, Key, YamlReader

# Keys of a `model` section that only training uses, at any depth.
TRAINING = ("auxiliary_head", "train_cfg", "init_cfg", "pretrained", "batch_augments", "sampler")


def read_mmseg(config: str, checkpoint: str, table: Callable[[], ClassTable], talk: Talk = SILENCE) -> Checkpoint:
    """Read a network of mmsegmentation.

    Parameters
    ----------
    config
        A config file, or the name of one that comes with mmsegmentation,
        ``segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py``.
    checkpoint
        The weights that were trained with it, of mmsegmentation 1.x or 0.x.
    table
        Gives the classes if neither file names them.
    talk
        Called when a ``.py`` config is run, and with the sliding window that the config would use.

    Returns
    -------
    Checkpoint
        Without a recipe. Its configuration is the config's ``model`` section, its fingerprint that of this section,
        the weights and the normalisation.

    Raises
    ------
    VssError
        The extra is not installed, a file is missing, damaged or of another kind, or the number of classes differs.
    """
    import_mmseg()
    config_path, checkpoint_path = find_config(config), Path(os.path.expanduser(checkpoint))
    check_file(checkpoint_path, "checkpoint")  # before a config is run in vain
    settings = read_mmseg_config(config_path, talk)
    model = settings["model"]
    network = {"family": "mmseg", "model": model}
    named_weights, meta = read_mmseg_checkpoint(checkpoint_path)
    weights = {f"segmentor.{name}": tensor for name, tensor in named_weights.items()}
    classes = number_of_classes(model)
    named = _named_classes(meta, settings)
    known = named or table()
    if known.num_classes != classes:
        raise VssError(
            f"config {config_path} has {classes} classes, {checkpoint_path if named else 'data.classes of the recipe'} "
            f"has {known.num_classes}",
            "use the config that the checkpoint was trained with, and its classes",
        )
    normalisation, _ = read_preprocessor(model["data_preprocessor"])
    slide = model.get("test_cfg") or {}
    if slide.get("mode") == "slide":
        window, step = list(slide["crop_size"]), list(slide["stride"])
        talk.say(f"{config_path.name} slides a window: in the recipe, `predict: {{window: {window}, step: {step}}}`")
    fingerprint = fingerprint_of(weights, network, normalisation)
    return Checkpoint(network, weights, known, normalisation, {}, {}, 0, fingerprint=fingerprint, path=checkpoint_path)


def find_config(config: str) -> Path:
    """The file of a config: a path, or the name of one that comes with the installed mmsegmentation."""
    path = Path(os.path.expanduser(config))
    if path.is_file():
        return path
    spec = importlib.util.find_spec("mmseg")
    shipped = Path(spec.origin).parent / ".mim" / "configs" if spec is not None and spec.origin else None
    if shipped is not None and not path.is_absolute() and (shipped / path).is_file():
        return shipped / path
    raise VssError(
        f"config {path} does not exist",
        "name a config file of mmsegmentation, or one that comes with it, such as "
        "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
    )


def read_mmseg_config(path: Path, talk: Talk = SILENCE) -> dict[str, Any]:
    """Read a config as plain values, its ``model`` without what only training uses; ``.py`` is run, ``.yaml``, ``.yml``
    and ``.json`` run nothing."""
    if path.suffix == ".py":
        talk.say(
            f"running config {path}: a .py config of mmsegmentation is a program; use only those you trust, or dump it"
        )
        try:
            values = importlib.import_module("mmengine").Config.fromfile(str(path)).to_dict()
        except Exception as error:  # it is a program and may raise anything
            raise VssError(
                f"config {path} can't be read: {type(error).__name__}: {first_line(error)}",
                "pip install mmpretrain" if "mmpretrain" in str(error) else "does mmsegmentation read it?",
            ) from error
    elif path.suffix in (".yaml", ".yml", ".json"):
        values = _read_values(path)
    else:
        raise VssError(f"config {path} is not a .py, .yaml or .json file", "name a config of mmsegmentation")
    model = values.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("data_preprocessor"), Mapping):
        raise VssError(
            f"config {path} has no model with a data_preprocessor",
            "vss reads configs of mmsegmentation 1.x; those of 0.x have a 1.x counterpart of the same name",
        )
    return {**values, "model": _for_prediction(model, path)}


def read_mmseg_checkpoint(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Weights, without auxiliary heads, and meta of a checkpoint of mmsegmentation; nothing in it is run."""
    content = read_torch(path)
    weights = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(t, Tensor) for t in weights.values()):
        raise VssError(f"{path} is not a checkpoint of mmsegmentation: it has no state_dict", "check the path")
    named = unwrapped({str(name): tensor for name, tensor in weights.items()})
    meta = content.get("meta")
    kept = {name: tensor for name, tensor in named.items() if not name.startswith("auxiliary_head.")}
    return kept, meta if isinstance(meta, Mapping) else {}


def _named_classes(meta: Mapping[str, Any], settings: Mapping[str, Any]) -> ClassTable | None:
    """Names and colours of the classes, from the checkpoint, else from the config, else from its data set."""
    loader = settings.get("test_dataloader") or settings.get("val_dataloader") or {}
    dataset: Mapping[str, Any] = loader.get("dataset") or {}
    while isinstance(dataset.get("dataset"), Mapping):
        dataset = dataset["dataset"]
    kind = importlib.import_module("mmseg.registry").DATASETS.module_dict.get(str(dataset.get("type")))
    name = str(dataset.get("type") or "mmsegmentation")
    old = {"classes": meta.get("CLASSES"), "palette": meta.get("PALETTE")}
    registered = getattr(kind, "METAINFO", None)
    for facts in (meta.get("dataset_meta"), old, settings.get("metainfo"), dataset.get("metainfo"), registered):
        names = facts.get("classes") if isinstance(facts, Mapping) else None
        if isinstance(facts, Mapping) and isinstance(names, list | tuple):
            rows: list[dict[str, Any]] = [{"name": str(entry)} for entry in names]
            palette = facts.get("palette")
            if isinstance(palette, list | tuple) and len(palette) == len(rows):
                rows = [{**row, "colour": list(colour)} for row, colour in zip(rows, palette, strict=True)]
            return ClassTable.from_dict({"name": name, "classes": rows})
    return None


def _for_prediction(model: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A ``model`` section in plain values, without what only training uses, and with plain batch norms in place of
    synchronised ones."""

    def plain(key: str, value: Any) -> Any:
        if key == "type":
            return _registered_name(value)
        if isinstance(value, Mapping):
            return {str(name): plain(str(name), None if name in TRAINING else inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(plain("", inner) for inner in value)
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise VssError(
            f"config {path} has {key} = {value!r}, which is not a plain value", "write it as a number or text"
        )

    section: dict[str, Any] = plain("model", model)
    return section


def _registered_name(value: Any) -> str:
    """The name that a ``type`` is registered under; pure Python configs give the class or its path."""
    text = f"{value.__module__}.{value.__qualname__}" if inspect.isclass(value) else str(value)
    parts = text.split(".")
    if len(parts) > 2 and parts[0] in (*OWN, GUEST):
        text = f"{parts[0]}.{parts[-1]}"
    return text.replace("SyncBN", "BN").replace("naiveSyncBN", "BN")


class _ConfigReader(YamlReader):
    """Also reads the tuples that ``Config.dump`` writes."""

    def sequence(self, node: yaml.Node, key: Key) -> Any:
        if node.tag == f"{TAG}python/tuple":
            return tuple(self.read(item, (*key, index)) for index, item in enumerate(node.value))
        return super().sequence(node, key)


def _read_values(path: Path) -> dict[str, Any]:
    """Read a dumped config. mmengine's own reader would run code in a YAML file."""
    check_file(path, "config")
    if path.suffix == ".json":
        values = read_json(path, "config", "dump it again, or name the .py file")
    else:
        values = _ConfigReader(f"config {path}").parse(read_text(path, "config"))
    if not isinstance(values, dict):
        raise VssError(f"config {path} has no keys at its top level", "is it a config of mmsegmentation?")
    if "_base_" in values:
        raise VssError(
            f"config {path} builds on {values['_base_']}", "dump the whole config with its bases into one file"
        )
    return values
