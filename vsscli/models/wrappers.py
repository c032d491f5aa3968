"""Names of tensors without what wrappers around modules leave in them: compiling, several processes, sharding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeVar

OWN = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})  # no module is called so otherwise
SHARED = "module"  # of ``DataParallel`` and its kin, which may also be a module's own name

Value = TypeVar("Value")


def unwrapped(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The same tensors under the names that they have without wrappers, in any nesting and around any part.

    ``_orig_mod`` and the like go wherever they stand; ``module`` goes where it is all that lies at its place, as in a
    wrapper, which holds nothing else.

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
        return dict(tensors)  # two tensors of one name: these are no wrappers
    return {plain[name]: value for name, value in tensors.items()}
