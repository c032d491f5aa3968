"""Pictures of predictions: class colours and boundaries over the frame, with mask and entropy beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.files import whole_file

ALPHA = 0.55
PANEL_WIDTH = 320
"""Narrower frames are enlarged, so that boundaries and text are readable."""
GAP = 8
LETTERS = 13
PAPER = (255, 255, 255)
INK = (30, 30, 30)

Panel = tuple[str, np.ndarray]
"""A picture (H, W, 3) and its title."""
Swatch = tuple[str, tuple[int, int, int]]
"""A colour and what it means."""

# Black through red and yellow to white in even steps of lightness, so that it is readable without colour too.
HEAT = np.array([(0, 0, 0), (75, 0, 80), (180, 30, 60), (240, 120, 20), (250, 210, 90), (255, 255, 235)], np.float32)


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    entropy: np.ndarray | None,
    truth: np.ndarray | None,
    table: ClassTable,
    width: int | None = None,
) -> np.ndarray:
    """Draw a prediction over its frame.

    Parameters
    ----------
    image
        (H, W, 3) uint8, RGB.
    label
        (H, W) uint8, class of each pixel; 255 leaves the frame as it is.
    entropy
        (H, W) float, normalised to [0, 1]: drawn as a heat map on the right.
    truth
        (H, W) uint8, class or 255: drawn in the middle.
    table
        Names and colours.
    width
        The widest that the picture may be; `None`: as wide as all panels side by side.

    Returns
    -------
    ndarray
        (H', W', 3) uint8, RGB: titled panels, as many side by side as fit, and below them a legend of the classes that
        occur.

    Raises
    ------
    ValueError
        The arrays differ in height or width.
    """
    for name, array in (("label", label), ("entropy", entropy), ("truth", truth)):
        if array is not None and array.shape != image.shape[:2]:
            raise ValueError(f"{name} is {array.shape}, the image {image.shape[:2]}")
    factor = enlarging(image)
    large = enlarged(image, factor, Image.Resampling.BILINEAR)
    panels = [("prediction", coloured(large, enlarged(label, factor), table))]
    shown = [label]
    if truth is not None:
        panels.append(("ground truth", coloured(large, enlarged(truth, factor), table)))
        shown.append(truth)
    if entropy is not None:
        panels.append(("entropy, black 0 to white 1", heat(enlarged(entropy.astype(np.float32), factor))))
    present = np.unique(np.concatenate([array.ravel() for array in shown]))
    return sheet(panels, legend_entries(present, table), width)


def heat(values: np.ndarray) -> np.ndarray:
    """Heat map of values (H, W), clipped to [0, 1]: (H, W, 3) uint8, from black at 0 to white at 1."""
    places = np.clip(values, 0, 1) * (len(HEAT) - 1)
    steps = np.arange(len(HEAT))
    return (
        np.stack([np.interp(places, steps, HEAT[:, channel]) for channel in range(3)], axis=-1).round().astype(np.uint8)
    )


def outlines(label: np.ndarray, *, thin: bool = False) -> np.ndarray:
    """Which pixels of labels (H, W) are outlines, bool: those with a class that have a neighbour of another label; if
    ``thin``, only the one to the right of a border or below it."""
    lines = np.zeros(label.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = label[one] != label[other]
        lines[one] |= differ
        if not thin:
            lines[other] |= differ
    lines &= label != IGNORE
    return lines


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture as PNG, in full or not at all.

    Parameters
    ----------
    path
        The file; its folder is created.
    picture
        (H, W, 3) uint8.

    Raises
    ------
    VssError
        The file can't be written.
    """
    with whole_file(path, "picture") as part:
        Image.fromarray(picture).save(part, format="PNG")


def enlarging(image: np.ndarray) -> int:
    """How many times as large an image is drawn, so that boundaries and text are readable."""
    return -(-PANEL_WIDTH // image.shape[1])


def enlarged(array: np.ndarray, factor: int, resampling: Image.Resampling = Image.Resampling.NEAREST) -> np.ndarray:
    """An array (H, W) or (H, W, 3), ``factor`` times as high and wide."""
    height, width = array.shape[:2]
    return np.asarray(Image.fromarray(array).resize((width * factor, height * factor), resampling))


def coloured(image: np.ndarray, label: np.ndarray, table: ClassTable) -> np.ndarray:
    """The image (H, W, 3) overlaid with class colours, with a line between classes."""
    colours = np.zeros((256, 3), np.float32)
    colours[: table.num_classes] = table.colours
    strength = np.zeros((256, 1), np.float32)
    strength[: table.num_classes] = ALPHA
    mixed = image * (1 - strength[label]) + colours[label] * strength[label]
    lines = outlines(label)
    mixed[lines] = (mixed[lines] + PAPER) / 2  # half transparent, or a line would hide a thin pole
    return mixed.round().astype(np.uint8)


def legend_entries(present: np.ndarray, table: ClassTable) -> list[Swatch]:
    """The entries of a legend for the values that occur."""
    entries = [(table.names[index], table.colours[index]) for index in present if index < table.num_classes]
    return [*entries, ("no class", PAPER)] if (present >= table.num_classes).any() else entries


def sheet(panels: Sequence[Panel], legend: Sequence[Swatch], most: int | None = None) -> np.ndarray:
    """Panels of equal size under their titles, and a legend below, wrapped as needed.

    They are side by side as far as ``most`` pixels allow, else below each other; if one alone is wider, all are shrunk.
    """
    font = ImageFont.load_default(LETTERS)
    line = LETTERS + GAP
    height, width = panels[0][1].shape[:2]
    columns = len(panels)
    if most is not None:
        room = max(1, most - 2 * GAP)
        height, width = (height, width) if width <= room else (max(1, round(height * room / width)), room)
        columns = max(1, min(columns, (most - GAP) // (width + GAP)))
    sheet_width = columns * (width + GAP) + GAP
    below = -(-len(panels) // columns) * (line + height) + GAP
    swatches, lines = [], 0
    left = GAP
    for name, colour in legend:
        needed = line + round(font.getlength(name)) + GAP
        if left + needed > sheet_width - GAP and left > GAP:
            left, lines = GAP, lines + 1
        swatches.append((name, colour, left, below + lines * line))
        left += needed
    sheet = Image.new("RGB", (sheet_width, below + (lines + bool(legend)) * line), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (title, panel) in enumerate(panels):
        left, top = GAP + number % columns * (width + GAP), number // columns * (line + height)
        draw.text((left, top + GAP // 2), title, fill=INK, font=font)
        picture = Image.fromarray(panel)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BOX)
        sheet.paste(picture, (left, top + line))
    for name, colour, x, y in swatches:
        draw.rectangle((x, y, x + LETTERS, y + LETTERS), fill=colour, outline=INK)
        draw.text((x + LETTERS + GAP // 2, y - 1), name, fill=INK, font=font)
    return np.asarray(sheet)
