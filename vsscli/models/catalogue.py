"""The families of networks, and the named networks."""

from __future__ import annotations

from inspect import isabstract
from typing import get_args

from vsscli.errors import VssError
from vsscli.models.config import NamedNetwork, NetworkConfig
from vsscli.models.light.config import LightModel
from vsscli.models.mask2former.config import Mask2FormerModel
from vsscli.models.mmseg.config import MmsegModel
from vsscli.models.plain_vit.config import PlainVitModel

FAMILIES: list[type[NetworkConfig]] = [LightModel, Mask2FormerModel, PlainVitModel, MmsegModel]
"""Each family is a line here."""


def require_whole(families: list[type[NetworkConfig]]) -> None:
    """Refuse a family that leaves something abstract, in recipes or in checkpoints."""
    for family in families:
        for config in (family, family.kept()):
            if isabstract(config):
                raise TypeError(f"{config.__name__} lacks {', '.join(sorted(config.__abstractmethods__))}")


require_whole(FAMILIES)


def name_of(family: type[NetworkConfig]) -> str:
    """The value of ``model.family`` for a family."""
    (name,) = get_args(family.model_fields["family"].annotation)
    return str(name)


def list_networks() -> dict[str, NamedNetwork]:
    """The named networks, by name."""
    return {listed.name: listed for family in FAMILIES for listed in family.listed}


def find_listed(name: str) -> NamedNetwork:
    """A named network.

    Raises
    ------
    VssError
        No network has this name.
    """
    networks = list_networks()
    if name not in networks:
        raise VssError(f"unknown network {name!r}", f"networks: {', '.join(networks)} (vss model ls)")
    return networks[name]
