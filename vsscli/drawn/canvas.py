"""Camera, light, and the canvas on which one frame and its classes are drawn.

World axes in metres: X along the street, Z across it (to the right when looking along X), Y up.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("road", (128, 64, 128)),
    ("pavement", (244, 120, 200)),
    ("building", (170, 110, 60)),
    ("sky", (70, 160, 230)),
    ("tree", (60, 170, 50)),
    ("car", (40, 50, 210)),
    ("person", (230, 30, 60)),
    ("pole", (250, 210, 60)),
)
ROAD, PAVEMENT, BUILDING, SKY, TREE, CAR, PERSON, POLE = range(len(CLASSES))

Span = tuple[float, float]
Colour = tuple[float, float, float]  # 0..255
Point = tuple[float, float, float]  # X, Y, Z
Paint = tuple[int, int, int]
Tint = Sequence[float] | np.ndarray


def paint_of(colour: Tint) -> Paint:
    """Convert a colour of three numbers to 8 bits per channel."""
    red, green, blue = colour
    return int(min(max(red, 0), 255)), int(min(max(green, 0), 255)), int(min(max(blue, 0), 255))


def draw_colour(rng: np.random.Generator, hue: Span, saturation: Span, value: Span) -> Colour:
    """Draw a random colour from ranges of hue (a full turn is 1), saturation and value."""
    turn, strength, brightness = rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value)
    red, green, blue = colorsys.hsv_to_rgb(turn, strength, brightness)
    return 255 * red, 255 * green, 255 * blue


def draw_noise(rng: np.random.Generator, size: int, slope: float) -> np.ndarray:
    """Draw a tile of 1/f**slope noise, (size, size) float32 with mean 0 and deviation 1, that repeats without seams."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    tile = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) / frequency**slope, (size, size))
    return (tile / tile.std()).astype(np.float32)


@dataclass(frozen=True)
class Light:
    """The light of a whole video: sun, haze and sky."""

    tint: Colour  # factor on each channel
    haze: Colour  # colour of distant things, and of the sky at the horizon
    haze_distance: float  # metres
    zenith: Colour
    clouds: float  # 0 none to 1 all
    left_wall: float  # brightness of the walls
    right_wall: float
    shadow: float  # brightness in the shade
    shadow_slope: float  # metres of shadow to the right (negative: left) per metre of height


@dataclass(frozen=True)
class Camera:
    """The camera of one frame, in metres, radians, and pixels of the drawing for `horizon` and `focal`."""

    x: float
    z: float
    height: float
    yaw: float
    horizon: float
    focal: float
    size: tuple[int, int]

    def depth(self, x: float, z: float) -> float:
        """Metres from the lens along its axis."""
        return (x - self.x) * math.cos(self.yaw) + (z - self.z) * math.sin(self.yaw)

    def project(self, points: Sequence[Point]) -> tuple[list[tuple[float, float]], float]:
        """Pixels (column, row) of world points, and their mean depth in metres.

        In plain Python, which is faster than NumPy for the few points of a polygon.
        """
        along, across, total, pixels = math.cos(self.yaw), math.sin(self.yaw), 0.0, []
        for x, y, z in points:
            x, z = x - self.x, z - self.z
            depth = x * along + z * across
            scale = self.focal / max(depth, 0.05)
            pixels.append(
                (self.size[1] / 2 + scale * (z * along - x * across), self.horizon + scale * (self.height - y))
            )
            total += depth
        return pixels, total / len(points)


class Brush:
    """Paints a picture and its classes together; all positions are in pixels."""

    def __init__(self, image: Image.Image, label: Image.Image) -> None:
        self.image, self.label = image, label
        self._paint, self._mark = ImageDraw.Draw(image), ImageDraw.Draw(label)

    def polygon(self, points: Sequence[tuple[float, float]], colour: Tint, label: int) -> None:
        self._paint.polygon(points, fill=paint_of(colour))
        self._mark.polygon(points, fill=label)

    def ellipse(self, column: float, row: float, radii: tuple[float, float], colour: Tint, label: int) -> None:
        box = (column - radii[0], row - radii[1], column + radii[0], row + radii[1])
        self._paint.ellipse(box, fill=paint_of(colour))
        self._mark.ellipse(box, fill=label)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Tint, label: int) -> None:
        self._paint.rectangle((left, top, right, bottom), fill=paint_of(colour))
        self._mark.rectangle((left, top, right, bottom), fill=label)


class Canvas(Brush):
    """One frame being drawn: the picture, its classes, and the projection of the world onto them."""

    def __init__(self, camera: Camera, light: Light, image: np.ndarray, label: np.ndarray) -> None:
        super().__init__(Image.fromarray(image), Image.fromarray(label))
        self.camera, self.light = camera, light

    def lit(self, colour: Colour, depth: float, shade: float = 1.0) -> Paint:
        """The colour under this light at this distance; `shade` is its brightness without the light."""
        clear = math.exp(-depth / self.light.haze_distance)
        parts = zip(colour, self.light.tint, self.light.haze, strict=True)
        return paint_of([value * shade * tint * clear + haze * (1 - clear) for value, tint, haze in parts])

    def solid(self, points: Sequence[Point], colour: Colour, label: int, shade: float = 1.0) -> None:
        """Fill a polygon of world points."""
        pixels, depth = self.camera.project(points)
        self.polygon(pixels, self.lit(colour, depth, shade), label)

    def sprite(self, picture: Image.Image, column: float, row: float, width: float, depth: float, label: int) -> None:
        """Paste a square RGBA picture with its centre at (column, row), `width` pixels wide."""
        side = max(round(width), 2)
        resampling = Image.Resampling.BOX if side < picture.width else Image.Resampling.BILINEAR
        small = np.asarray(picture.resize((side, side), resampling))
        clear = math.exp(-depth / self.light.haze_distance)
        shade = small[..., :3] * np.float32(clear) * np.array(self.light.tint, dtype=np.float32)
        shade += np.array(self.light.haze, dtype=np.float32) * np.float32(1 - clear)
        mask = Image.fromarray(np.where(small[..., 3] > 127, 255, 0).astype(np.uint8))
        corner = (round(column - side / 2), round(row - side / 2))
        self.image.paste(Image.fromarray(shade.clip(0, 255).astype(np.uint8)), corner, mask)
        self.label.paste(label, (*corner, corner[0] + side, corner[1] + side), mask)
