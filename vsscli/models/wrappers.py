"""Names of tensors without the parts that wrappers add: compilation, data parallelism, sharding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeVar

# No module has one of these names otherwise.
OWN = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
SHARED = "module"  # of ``DataParallel`` and similar; may also be the name of a module

Value = TypeVar("Value")


def unwrapped(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The same tensors, named as without wrappers, however nested and around whatever part.

    ``_orig_mod`` and similar parts are always removed; ``module`` only if it has no sibling, as in a wrapper, which
    contains nothing else.

    Examples
    --------
    >>> list(unwrapped({"module._orig_mod.stem.weight": 1, "module._orig_mod.head.module.bias": 2}))
    ['stem.weight', 'head.bias']
    """
    names = {name: tuple(part for part in name.split(".") if part not in OWN) for name in tensors}
    below = defaultdict(set)
    for parts in names.values():
        for place, part in enumerate(parts):
            below[parts[:place]].add(part)
    plain = {
        name: ".".join(
            part for place, part in enumerate(parts) if not (part == SHARED and len(below[parts[:place]]) == 1)
        )
        for name, parts in names.items()
    }
    if len(set(plain.values())) < len(plain) or not all(plain.values()):
        return dict(tensors)  # two tensors would share a name: these are not wrappers
    return {plain[name]: value for name, value in tensors.items()}
