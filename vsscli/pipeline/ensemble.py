"""Several prediction stores made into one: fused, with weights fitted on masks if asked, and smoothed along time.

No network runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsscli.context import Context
from vsscli.engine.engine import Engine
from vsscli.engine.part import WHOLE, Part
from vsscli.errors import VssError
from vsscli.fusion.ensemble import fuse, fused_header, normalised_weights
from vsscli.fusion.mix import Method
from vsscli.fusion.sources import require_alike
from vsscli.names import several
from vsscli.pipeline.predicted import warn_of_missing
from vsscli.pipeline.workspace import Begin, store_path, unheard
from vsscli.store.reader import open_store
from vsscli.store.remote import place_of

if TYPE_CHECKING:
    from vsscli.fusion.fit import Fit

Weights = Sequence[float] | Sequence[Sequence[float]]
"""One number per store, or one per store and class."""


@dataclass(frozen=True)
class Fusion:
    """A store that was made from others; ``fit`` holds its weights if they were fitted."""

    store: Path
    fit: Fit | None = None

    def facts(self) -> dict[str, Any]:
        """The fitted weights, as plain values."""
        return {} if self.fit is None else asdict(self.fit)


def ensemble(
    stores: str | Path | Sequence[str | Path],
    weights: Weights | None = None,
    *,
    context: Context = Context(),
    out: str | Path | None = None,
    method: Method = "arithmetic",
    temperatures: Sequence[float] = (),
    fit_weights: bool = False,
    fit_on: str | Path | Sequence[str | Path] = (),
    temporal: int = 0,
    split: str | None = None,
    workers: int | None = None,
    part: Part = WHOLE,
    force: bool = False,
    begin: Begin = unheard,
) -> Fusion:
    """Fuse prediction stores of the same frames into one, as ``vss ensemble`` does, and smooth it along time.

    No network runs.

    Parameters
    ----------
    stores
        Two or more; a single one can be smoothed.
    weights
        One per store, or one per store and class; `None`: equal weights.
    context, out
        The result goes to its place in the workspace, or to ``out``.
    method
        Mean of the distributions, "arithmetic" or "geometric".
    temperatures
        One per store, applied before the mean; none: 1.
    fit_weights, fit_on
        Fit weights and temperatures on the masks of the fused frames, or of the frames of other stores, which the same
        networks predicted, in the same order.
    temporal
        Frames before and after to average each frame with; 0: none.
    split
        The split whose masks and frames are read; `None`: the one that the stores name.
    workers
        Processes, each with some of the videos; `None`: as many as the cores and the number of frames justify.
    part
        Write only a share of the videos; other calls write the others, at the same time if they like.
    force
        Write a new store beside a different one in its place.
    begin
        Called with every store before it is written.

    Returns
    -------
    Fusion
        ``store``, the path of the result; ``fit``, the fitted weights.

    Raises
    ------
    VssError
        The options exclude each other, the weights do not match the stores, the stores can't be fused pixel by pixel,
        or masks are missing.
    """
    stores, fit_on, temperatures = several(stores), several(fit_on), tuple(temperatures)
    require_possible(
        len(stores),
        weights,
        method=method,
        temperatures=temperatures,
        fit_weights=fit_weights,
        others=len(fit_on),
        temporal=temporal,
    )
    if part != WHOLE and temporal and len(stores) > 1:
        raise VssError(
            f"--part {part} fuses only some videos, and smoothing needs the whole fusion",
            "fuse with --part first; once all parts are there, smooth the fusion with --temporal and --part",
        )
    engine = Engine(workers, context.engine)
    paths = [place_of(store) for store in stores]
    fitted, chosen_on = None, None
    if fit_weights:
        from vsscli.pipeline.fitting import find_weights

        fitted, chosen_on = find_weights([place_of(store) for store in fit_on] or paths, context=context, split=split)
        weights, temperatures = fitted.weights, fitted.temperatures
    target = None if out is None else place_of(out)
    path = paths[0]
    warn_of_missing(open_store(path), context)
    if len(paths) > 1:
        sources, given = [open_store(path) for path in paths], [1.0] * len(paths) if weights is None else weights
        # A fusion that is smoothed afterwards goes to its own place.
        place = None if temporal else target
        if place is None:
            shares = normalised_weights(given, len(sources), sources[0].header.num_classes)
            require_alike(sources)
            header = fused_header(sources, shares, context.workspace, method, temperatures)
            place = store_path(context.workspace, header, "fusion")
        begin(place, paths)
        path = fuse(
            sources,
            given,
            place,
            method=method,
            temperatures=temperatures,
            chosen_on=chosen_on,
            talk=context.talk,
            engine=engine,
            part=part,
            force=force,
        )
        whose, whole = ("", "") if part == WHOLE else (f"part {part} of ", ", which is whole once all parts are there")
        context.talk.say(f"fused {whose}{len(sources)} stores into {path}{whole}; no network was loaded")
    if temporal:
        from vsscli.pipeline.smoothing import smooth_store

        path = smooth_store(
            path, temporal, target, context=context, split=split, engine=engine, part=part, force=force, begin=begin
        )
    return Fusion(path, fitted)


def require_possible(
    count: int,
    weights: Weights | None = None,
    *,
    method: Method = "arithmetic",
    temperatures: Sequence[float] = (),
    fit_weights: bool = False,
    others: int = 0,
    temporal: int = 0,
) -> None:
    """Make sure that the options of a fusion go together.

    Parameters
    ----------
    count, others
        Number of stores to fuse, and of stores to fit weights on.
    weights, method, temperatures, fit_weights, temporal
        As for `ensemble`.

    Raises
    ------
    VssError
        They do not; names the first contradiction.
    """
    if count == 1 and temporal:
        if weights is not None or temperatures or fit_weights or method != "arithmetic":
            raise VssError(
                "weights and method apply to two or more stores, and there is only one",
                "leave them out: --weights, --fit-weights, --method",
            )
    elif count < 2:
        raise VssError(f"{count} store(s) can't be fused", "name two or more: --stores a.zarr b.zarr")
    if fit_weights and (weights is not None or temperatures):
        raise VssError("weights and temperatures are either fitted or given", "leave out --fit-weights or --weights")
    if fit_weights and method != "arithmetic":
        raise VssError(
            f"weights are fitted for the arithmetic mean, not for the {method} one",
            "leave out --method, or choose a weight with --sweep FILE --method geometric",
        )
    if others and not fit_weights:
        raise VssError("fit_on names predictions, but no weights are fitted", "leave it out")
    if others not in (0, count):
        raise VssError(f"fit_on names {others} predictions for {count} that are fused", "name one for each")
    if temperatures and len(temperatures) != count:
        raise VssError(f"{len(temperatures)} temperatures for {count} stores", "give one for each")
