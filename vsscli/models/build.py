"""From a configuration to a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from vsscli.errors import VssError
from vsscli.models.catalogue import FAMILIES, name_of
from vsscli.models.config import RANDOM, UNRECORDED, NetworkConfig, config_error
from vsscli.models.fits import require_room
from vsscli.models.network import Network
from vsscli.talk import SILENCE, Talk


def build_network(
    config: Mapping[str, Any] | NetworkConfig, num_classes: int, *, load_pretrained: bool, talk: Talk = SILENCE
) -> Network:
    """Build the network that a configuration describes.

    Parameters
    ----------
    config
        ``family`` and the fields of that family; missing ones take their defaults.
    num_classes
        C.
    load_pretrained
        Fetch the weights that the configuration names; False if a checkpoint brings its own. A frozen trunk, which no
        checkpoint brings, is loaded in either case.
    talk
        Called with what is loaded, and with a warning if training will start from scratch.

    Raises
    ------
    VssError
        Unknown family or field, a value of the wrong type, weights that do not fit, or a network larger than the
        machine's memory.
    """
    from vsscli.models.norm import settle_norms  # with timm: seconds, which those who only read checkpoints are spared

    read = read_config(config)
    if read.outlined:
        require_room(read.model_dump(), lambda: read.bare().build(num_classes, False))
    network = read.build(num_classes, load_pretrained, talk)
    settle_norms(network)
    return network


def read_config(config: Mapping[str, Any] | NetworkConfig) -> NetworkConfig:
    """Check a configuration, which may come from a file; raises as `build_network` does."""
    if not isinstance(config, NetworkConfig):
        config = _checked(config)
    config.require_sound()
    return config


def recorded_licence(about: Mapping[str, Any]) -> str:
    """The licence that the description in a checkpoint records, of the weights that its network began from.

    For checkpoints of earlier versions, which recorded none, it is that of the weights that the configuration names; if
    it names none, the network may still have begun from another checkpoint.
    """
    if isinstance(noted := about.get("licence"), str):
        return noted
    try:
        named = read_config(about.get("network") or {}).weights_licence
    except VssError:
        return UNRECORDED
    return UNRECORDED if named == RANDOM else named


def other_reading(there: Mapping[str, Any] | NetworkConfig, here: Mapping[str, Any] | NetworkConfig) -> str:
    """How two configurations interpret the same tensors differently beyond shapes: crop, heads, blocks.

    Rates, read-out, frozen parts and the file of initial weights do not count. Empty if they do not differ.
    """
    old, new = read_config(there), read_config(here)
    if old.family != new.family:
        return f"family {old.family}, not {new.family}"
    wanted = new.reading()
    for name, value in old.reading().items():
        if value != wanted.get(name):
            both = (value, wanted.get(name))
            then, now = ("x".join(map(str, one)) if name == "crop" and one else one for one in both)
            return f"{name} {then}, not {now}"
    return ""


def _checked(values: Mapping[str, Any]) -> NetworkConfig:
    families = {name_of(family): family.kept() for family in FAMILIES}
    family = values.get("family")
    if family not in families:
        raise VssError(f"unknown network family {family!r}", f"families: {', '.join(sorted(families))}")
    known = [name for name in families[family].model_fields if name != "family"]
    unknown = [name for name in values if name not in (*known, "family")]
    if unknown:
        raise VssError(f"a network of family {family} has no {', '.join(unknown)}", f"it has: {', '.join(known)}")
    try:
        return families[family].model_validate(values)
    except ValidationError as error:
        raise config_error(error, f"a network of family {family}") from error
