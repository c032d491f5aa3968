"""The encoders that timm has, mostly without importing it, which would import torch and take seconds."""

from __future__ import annotations

import difflib
import importlib.util
import re
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from vsscli.errors import VssError
from vsscli.models.config import UNRECORDED

REGISTERED = re.compile(r"^@register_model\s*\n(?:@[^\n]*\n)*def (\w+)\(", re.MULTILINE)
"""How timm's source registers a function as a model of its name."""

TAGGED = re.compile(r"""^\s*["'](\w+\.\w[\w.]*)["']\s*:""", re.MULTILINE)
"""How it lists the sets of weights of a model, which have a tag behind its name."""


@cache
def encoder_names(tagged: bool = False) -> frozenset[str]:
    """The names of timm's models, as its source has them, plain or ``tagged``; empty if it can't be read."""
    pattern = TAGGED if tagged else REGISTERED
    spec = importlib.util.find_spec("timm")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    found: set[str] = set()
    for place in places:
        for path in sorted((Path(place) / "models").glob("*.py")):
            try:
                found |= set(pattern.findall(path.read_text(encoding="utf-8")))
            except (OSError, UnicodeDecodeError):
                continue
    return frozenset(found)


def licence_of(name: str) -> str:
    """The licence that timm records for the weights of one of its models, `UNRECORDED` if it records none."""
    import timm

    known = timm.get_pretrained_cfg(name)
    return UNRECORDED if known is None else known.license or UNRECORDED


def require_encoder(name: str) -> None:
    """Refuse a name that is not one of timm's models, ``hf-hub:…`` included, which could fetch from anywhere; or one
    with a tag that names none of the model's weights."""
    names = encoder_names(tagged="." in name)
    if name in names:
        return
    # Old names are registered in other ways, so timm itself decides.
    import timm

    with suppress(RuntimeError):  # an unknown tag
        timm.get_pretrained_cfg(name)
        if timm.is_model(name):
            return
    near = difflib.get_close_matches(name, sorted(names) or timm.list_models(), n=3)
    raise VssError(
        f"timm {metadata.version('timm')} has no encoder named {name!r}",
        f"did you mean {', '.join(near)}?" if near else 'see python -c "import timm; print(timm.list_models())"',
    )
