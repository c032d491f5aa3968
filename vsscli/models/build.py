"""From a configuration to a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vsscli.errors import VssError
from vsscli.models.fits import require_room, require_sizes
from vsscli.models.light import LightConfig, build_light
from vsscli.models.mask2former import Mask2FormerNetworkConfig, build_mask2former
from vsscli.models.mmseg import MmsegConfig, build_mmseg, kind_of
from vsscli.models.network import Network
from vsscli.models.norm import settle_norms
from vsscli.models.scores import ScoreKind
from vsscli.talk import SILENCE, Talk

# A family is a name, the dataclass of its configuration, and a function that builds it from
# (configuration, number of classes, whether to load the weights it names, talk).
FAMILIES: dict[str, tuple[type, Callable[[Any, int, bool, Talk], Network]]] = {
    "light": (LightConfig, build_light),
    "mask2former": (Mask2FormerNetworkConfig, build_mask2former),
    "mmseg": (MmsegConfig, build_mmseg),
}


def build_network(
    config: Mapping[str, Any], num_classes: int, *, load_pretrained: bool, talk: Talk = SILENCE
) -> Network:
    """Build the network that a configuration describes.

    Parameters
    ----------
    config
        ``family`` and the fields of that family; what is left out takes its default.
    num_classes
        C.
    load_pretrained
        Fetch the weights that the configuration names. False where a checkpoint brings its own.
    talk
        Told what is loaded, and warned where training will start from scratch.

    Raises
    ------
    VssError
        Unknown family or field, a value of the wrong type, weights that do not fit; a network that is larger than the
        machine's memory.
    """
    _, build = _family(config)
    read = read_config(config)
    if config["family"] != "mmseg":
        require_room(config, lambda: build(read, num_classes, False, SILENCE))
    network = build(read, num_classes, load_pretrained, talk)
    settle_norms(network)
    return network


def read_config(config: Mapping[str, Any]) -> Any:
    """The dataclass that a configuration stands for; raises as `build_network` does."""
    kind, _ = _family(config)
    if config["family"] != "mmseg":
        require_sizes(config)
    return _read(kind, config["family"], {name: value for name, value in config.items() if name != "family"})


def fixed_crop(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the only images that a network takes, without building it; None where it takes any."""
    read = read_config(config)
    return getattr(read.trunk, "crop", None) if isinstance(read, Mask2FormerNetworkConfig) else None


def score_kind(config: Mapping[str, Any]) -> ScoreKind:
    """The kind of scores that a network gives, without building it; raises as `build_network` does."""
    read = read_config(config)
    if isinstance(read, MmsegConfig):
        return kind_of(read.model)
    return ScoreKind.LOGITS if isinstance(read, LightConfig) else ScoreKind.MASK_SCORES


def other_reading(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """In what two configurations read the same tensors otherwise, where no shape tells: crop, heads, blocks.

    Rates, read-out, frozen parts and the file of the first weights are no matter of reading. Empty where in nothing.
    """
    if there.get("family") != here.get("family"):
        return f"family {there.get('family')}, not {here.get('family')}"
    pair = [_read_by(read_config(config)) for config in (there, here)]
    for name, value in pair[0].items():
        if value != pair[1].get(name):
            return f"{name} {_shown(value)}, not {_shown(pair[1].get(name))}"
    return ""


def _read_by(config: Any) -> dict[str, Any]:
    if isinstance(config, LightConfig):
        return {"encoder": config.encoder.partition(".")[0]}
    if not isinstance(config, Mask2FormerNetworkConfig):
        return {}
    trunk: dict[str, Any] = asdict(config.trunk)
    head: dict[str, Any] = asdict(config.decoder)
    adapter: dict[str, Any] = trunk.pop("adapter", {})
    kept: dict[str, Any] = {name: trunk[name] for name in ("crop", "window", "heads", "taps") if name in trunk}
    kept |= {f"adapter.{name}": adapter[name] for name in ("interactions", "heads", "points") if name in adapter}
    decoder_heads = head["decoder_heads"] or head["heads"]
    return {**kept, "head.heads": head["heads"], "head.points": head["points"], "head.decoder_heads": decoder_heads}


def _shown(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) and len(value) == 2 else str(value)


def _family(config: Mapping[str, Any]) -> tuple[type, Callable[[Any, int, bool, Talk], Network]]:
    family = config.get("family")
    if family not in FAMILIES:
        raise VssError(f"there is no network family {family!r}", f"families: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[family]


def _read(kind: type, family: str, values: dict[str, Any]) -> Any:
    """Make a configuration of plain values, which may come out of a file."""
    known = [field.name for field in fields(kind)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise VssError(f"a network of family {family} has no {', '.join(unknown)}", f"it has: {', '.join(known)}")
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise VssError(
            f"{field}: {first['input']!r} of a network of family {family} is wrong: {first['msg']}",
            "mend `model` in the recipe",
        ) from error
