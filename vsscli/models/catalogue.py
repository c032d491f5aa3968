"""The families of networks, and the networks that have a name."""

from __future__ import annotations

from typing import get_args

from vsscli.errors import VssError
from vsscli.models.config import NamedNetwork, NetworkConfig
from vsscli.models.light.config import LightModel
from vsscli.models.mask2former.config import Mask2FormerModel
from vsscli.models.mmseg.config import MmsegModel

FAMILIES: list[type[NetworkConfig]] = [LightModel, Mask2FormerModel, MmsegModel]
"""Another family is another line here."""


def name_of(family: type[NetworkConfig]) -> str:
    """What ``model.family`` calls a family."""
    (name,) = get_args(family.model_fields["family"].annotation)
    return str(name)


def list_networks() -> dict[str, NamedNetwork]:
    """The networks that have a name, by name."""
    return {listed.name: listed for family in FAMILIES for listed in family.listed}


def find_listed(name: str) -> NamedNetwork:
    """The network of a name.

    Raises
    ------
    VssError
        There is none.
    """
    networks = list_networks()
    if name not in networks:
        raise VssError(f"there is no network {name!r}", f"there are {', '.join(networks)}: vss model ls")
    return networks[name]
