"""From prediction stores to one: weights found on masks if need be, fused, smoothed along time. No network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.fusion.ensemble import fuse, fused_header, normalised_weights
from vsscli.fusion.mix import Method
from vsscli.fusion.sources import require_alike
from vsscli.pipeline.workspace import Begin, store_path, unheard
from vsscli.store.reader import open_store

if TYPE_CHECKING:
    from vsscli.fusion.fit import Fit

Weights = Sequence[float] | Sequence[Sequence[float]]
"""One number for each store, or of each store one a class."""


@dataclass(frozen=True)
class Fusion:
    """A store that was made of others, and the weights that were found for it, if they were."""

    store: Path
    fit: Fit | None = None

    def facts(self) -> dict[str, Any]:
        """What was found, as plain values."""
        return {} if self.fit is None else asdict(self.fit)


def ensemble(
    stores: Sequence[Path],
    weights: Weights | None = None,
    *,
    context: Context = Context(),
    out: Path | None = None,
    method: Method = "arithmetic",
    temperatures: Sequence[float] = (),
    fit: bool = False,
    fit_on: Sequence[Path] = (),
    temporal: int = 0,
    split: str | None = None,
    workers: int | None = None,
    force: bool = False,
    begin: Begin = unheard,
) -> Fusion:
    """Fuse prediction stores of the same frames into one, and smooth it along time.

    Parameters
    ----------
    stores
        Two or more; one where it is only smoothed.
    weights
        None: all alike.
    context, out
        The result goes to its place in the workspace, or to ``out``.
    method, temperatures, workers, force
        As for :func:`vsscli.fusion.ensemble.fuse`.
    fit, fit_on
        Find weights and temperatures on masks: of the frames that are fused, or of those that the same networks, in
        the same order, predicted in other stores.
    temporal
        Frames before and behind to average each frame with; 0: none.
    split
        Which frames of the data set masks and motion are taken of, if not those that the stores name.
    begin
        Hears of every store that is written.

    Raises
    ------
    VssError
        What can't be combined, weights that do not fit, stores that can't be fused pixel by pixel, or no masks.
    """
    require_possible(
        len(stores), weights, method=method, temperatures=temperatures, fit=fit, others=len(fit_on), temporal=temporal
    )
    found, chosen_on = None, None
    if fit:
        from vsscli.pipeline.fitting import find_weights

        found, chosen_on = find_weights(fit_on or stores, context=context, split=split)
        weights, temperatures = found.weights, found.temperatures
    path = stores[0]
    if len(stores) > 1:
        sources, given = [open_store(path) for path in stores], weights or [1.0] * len(stores)
        # What is fused to be smoothed goes to its own place.
        place = None if temporal else out
        if place is None:
            shares = normalised_weights(given, len(sources), sources[0].header.num_classes)
            require_alike(sources)
            header = fused_header(sources, shares, context.workspace, method, temperatures)
            place = store_path(context.workspace, header, "fusion")
        begin(place, stores)
        path = fuse(
            sources,
            given,
            place,
            method=method,
            temperatures=temperatures,
            chosen_on=chosen_on,
            talk=context.talk,
            workers=workers,
            force=force,
        )
        context.talk.say(f"fused {len(sources)} stores into {path}; no network was loaded")
    if temporal:
        from vsscli.pipeline.smoothing import smooth_store

        path = smooth_store(path, temporal, out, context=context, split=split, force=force, begin=begin)
    return Fusion(path, found)


def require_possible(
    count: int,
    weights: Weights | None = None,
    *,
    method: Method = "arithmetic",
    temperatures: Sequence[float] = (),
    fit: bool = False,
    others: int = 0,
    temporal: int = 0,
) -> None:
    """Refuse what can't be combined, of so many stores, and of so many ``others`` that weights are fitted on.

    Raises
    ------
    VssError
        The first of it.
    """
    if count == 1 and temporal:
        if weights or temperatures or fit or method != "arithmetic":
            raise VssError(
                "weights and method say how stores are fused, and there is one",
                "leave them out: --weights, --fit-weights, --method",
            )
    elif count < 2:
        raise VssError(f"there is nothing to fuse in {count} store(s)", "name two or more: --stores a.zarr b.zarr")
    if fit and (weights or temperatures):
        raise VssError("weights and temperatures are fitted or given, not both", "leave out --fit-weights or --weights")
    if fit and method != "arithmetic":
        raise VssError(
            f"fitting finds weights of the arithmetic mean, not of the {method} one",
            "leave out --method, or choose a weight by --sweep FILE --method geometric",
        )
    if others and not fit:
        raise VssError("there are predictions to fit weights on, and no weights are fitted", "leave them out")
    if others not in (0, count):
        raise VssError(f"{others} predictions to fit weights on for {count} that are fused", "name one for each")
    if temperatures and len(temperatures) != count:
        raise VssError(f"{len(temperatures)} temperatures for {count} stores", "give one for each")
