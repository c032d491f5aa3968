"""Learning rate over time."""

from __future__ import annotations


def learning_rate_factor(step: int, *, steps: int, warmup: int, power: float) -> float:
    """Factor on every learning rate at a step: polynomial decay under a linear warm-up.

    ``(1 - step / steps) ** power * min(1, (step + 1) / warmup)``, as the "poly" schedule of DeepLab (Chen et al. 2017,
    section 3.1) with the warm-up of Goyal et al. 2017.

    Parameters
    ----------
    step
        Steps already done, in ``[0, steps)``.
    steps, warmup
        Length of the run and of the warm-up, in optimiser steps.
    power
        Exponent; 0 keeps the rate constant.
    """
    factor: float = (1 - step / steps) ** power
    if step < warmup:
        factor *= (step + 1) / warmup
    return factor
