"""From several prediction stores to one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.fusion.ensemble import fuse, fused_header, normalised_weights
from vsscli.fusion.mix import Method
from vsscli.fusion.sources import require_alike
from vsscli.pipeline.workspace import Begin, store_path, unheard
from vsscli.store.reader import open_store


def ensemble(
    stores: Sequence[Path],
    weights: Sequence[float] | None = None,
    *,
    context: Context = Context(),
    out: Path | None = None,
    method: Method = "arithmetic",
    temperatures: Sequence[float] = (),
    workers: int | None = None,
    force: bool = False,
    begin: Begin = unheard,
) -> Path:
    """Fuse prediction stores of the same frames into one.

    Parameters
    ----------
    stores
        Two or more.
    weights
        One for each; none: all alike.
    context, out
        The fusion goes to its place in the workspace, or to ``out``.
    method, temperatures, workers, force
        As for :func:`vsscli.fusion.ensemble.fuse`.
    begin
        Hears where the fusion will lie, before anything is written there.

    Returns
    -------
    Path
        The fused store.

    Raises
    ------
    VssError
        Fewer than two stores, weights that do not fit, or stores that can't be fused pixel by pixel.
    """
    require_several(stores)
    sources = [open_store(path) for path in stores]
    given = list(weights) if weights else [1.0] * len(stores)
    if out is None:
        shares = normalised_weights(given, len(sources))
        require_alike(sources)
        header = fused_header(sources, shares, context.workspace, method, temperatures)
        out = store_path(context.workspace, header, "fusion")
    begin(out, stores)
    path = fuse(
        sources, given, out, method=method, temperatures=temperatures, talk=context.talk, workers=workers, force=force
    )
    context.talk.say(f"fused {len(sources)} stores into {path}; no network was loaded")
    return path


def require_several(stores: Sequence[Path]) -> None:
    """Refuse what leaves nothing to weigh."""
    if len(stores) < 2:
        raise VssError(
            f"there is nothing to fuse in {len(stores)} store(s)", "name two or more: --stores a.zarr b.zarr"
        )
