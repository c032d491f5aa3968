"""The backbones of large networks by name, and with other sizes than their names say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vsscli.errors import VssError
from vsscli.models.backbones import beit, one_peace, swin, vit_adapter
from vsscli.models.backbones.backbone import Backbone
from vsscli.models.backbones.beit import Beit, BeitConfig
from vsscli.models.backbones.one_peace import OnePeace, OnePeaceConfig
from vsscli.models.backbones.swin import Swin, SwinConfig
from vsscli.models.backbones.vit_adapter import VitAdapter, VitAdapterConfig

BackboneConfig = SwinConfig | BeitConfig | VitAdapterConfig | OnePeaceConfig

PRESETS: dict[str, BackboneConfig] = {**swin.PRESETS, **beit.PRESETS, **vit_adapter.PRESETS, **one_peace.PRESETS}

# Settings of a network rather than sizes of its backbone: `backbone_config` takes them by name.
SETTINGS = ("crop", "drop_path", "checkpointing", "frozen")


def backbone_config(
    name: str,
    sizes: Mapping[str, Any],
    *,
    crop: tuple[int, int] | None = None,
    drop_path: float | None = None,
    checkpointing: bool = False,
    frozen: bool = False,
) -> BackboneConfig:
    """Say how a backbone is made.

    Parameters
    ----------
    name
        One of `PRESETS`.
    sizes
        Fields of its configuration that are to be other than its name says; None leaves one as it is, ``adapter`` is a
        mapping of the same kind.
    crop, drop_path
        None leaves them as the name says.
    checkpointing, frozen
        As in the configurations.

    Raises
    ------
    VssError
        There is no such backbone, it has no such size, or sizes do not go together.
    """
    if name not in PRESETS:
        raise VssError(f"there is no backbone {name!r}", f"backbones: {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if crop is not None and isinstance(preset, SwinConfig):
        raise VssError(
            f"crop: {crop[0]}x{crop[1]} of a {name} has no meaning: it takes images of any size",
            "leave model.crop out; augment.crop and predict.window say what it is shown",
        )
    given: dict[str, Any] = {"checkpointing": checkpointing, "frozen": frozen}
    given |= {"crop": crop} if crop is not None else {}
    given |= {"drop_path": drop_path} if drop_path is not None else {}
    known = [field.name for field in fields(preset) if field.name not in SETTINGS]
    values = _changed(asdict(preset) | given, sizes, known, name)
    try:
        return TypeAdapter(type(preset)).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise VssError(
            f"{field}: {first['input']!r} of backbone {name} is wrong: {first['msg']}", "mend `model` in the recipe"
        ) from error


def build_backbone(config: BackboneConfig) -> Backbone:
    """Make a backbone with fresh weights."""
    if isinstance(config, SwinConfig):
        return Swin(config)
    if isinstance(config, BeitConfig):
        return Beit(config)
    if isinstance(config, VitAdapterConfig):
        return VitAdapter(config)
    return OnePeace(config)


def _changed(values: dict[str, Any], sizes: Mapping[str, Any], known: list[str], name: str) -> dict[str, Any]:
    """Values with those that are given put in their place."""
    given = {key: value for key, value in sizes.items() if value is not None}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise VssError(f"a {name} has no {', '.join(unknown)}", f"its sizes are {', '.join(known)}")
    for key, value in given.items():
        inner = values[key]
        if isinstance(inner, dict) and isinstance(value, Mapping):
            value = _changed(inner, value, list(inner), f"{key} of a {name}")
        values = values | {key: value}
    return values
