"""A picture of two predictions of one frame, and of where they differ."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.report.overlay import Panel, coloured, enlarged, enlarging, legend_entries, sheet

# Blue and orange differ for every common kind of colour blindness, and in lightness.
FIRST, SECOND = (20, 90, 200), (250, 160, 20)
NEITHER, UNKNOWN = (230, 230, 230), (160, 60, 150)


def difference_picture(
    image: np.ndarray,
    labels: dict[str, np.ndarray],
    truth: np.ndarray | None,
    table: ClassTable,
) -> np.ndarray:
    """Draw two predictions beside each other, with the pixels on which they differ.

    Parameters
    ----------
    image
        (H, W, 3) uint8, RGB.
    labels
        Two predictions by their titles, (H, W) uint8.
    truth
        (H, W) uint8, class or 255, if there is a mask: then differing pixels are coloured by which prediction is right.
    table
        Names and colours.

    Returns
    -------
    ndarray
        (H', W', 3) uint8, RGB.
    """
    factor = enlarging(image)
    large = enlarged(image, factor, Image.Resampling.BILINEAR)
    (first, one), (second, other) = labels.items()
    differ = one != other
    shades = np.repeat(large.mean(axis=2, keepdims=True) * 0.4, 3, axis=2).astype(np.uint8)
    colours = np.zeros((*differ.shape, 3), np.uint8)
    if truth is None:
        colours[differ] = SECOND
        notes = [("they differ", SECOND)]
    else:
        colours[differ] = NEITHER
        colours[differ & (one == truth)] = FIRST
        colours[differ & (other == truth)] = SECOND
        notes = [(f"only {first} is right", FIRST), (f"only {second} is right", SECOND), ("both are wrong", NEITHER)]
        unknown = differ & (truth == IGNORE)
        if unknown.any():
            colours[unknown] = UNKNOWN
            notes.append(("not labelled", UNKNOWN))
    places = enlarged(differ.astype(np.uint8), factor)[..., None] > 0
    where = np.where(places, enlarged(colours, factor), shades)
    panels: list[Panel] = [(title, coloured(large, enlarged(label, factor), table)) for title, label in labels.items()]
    if truth is not None:
        panels.append(("ground truth", coloured(large, enlarged(truth, factor), table)))
    panels.append(("where they differ", where))
    drawn = [one, other, *([] if truth is None else [truth])]
    present = np.unique(np.concatenate([array.ravel() for array in drawn]))
    return sheet(panels, [*legend_entries(present, table), *notes])
