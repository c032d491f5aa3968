"""Things on a synthetic street: cars, people, trees and poles, each made of a few polygons."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from vsscli.drawn.canvas import CAR, PERSON, POLE, TREE, Canvas, Colour, draw_colour, paint_of

Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Body:
    """A car seen from its left side, with points as (share of half the length, metres up) and the front at 1."""

    outline: Outline  # from the rear bumper over the roof to the front bumper
    glass: tuple[int, int]  # indices of its edges at the rear window and the windscreen
    panes: tuple[Outline, ...]  # of the side


HATCH = Body(
    ((-1.0, 0.3), (-1.0, 0.85), (-0.72, 1.45), (0.12, 1.45), (0.48, 0.92), (1.0, 0.78), (1.0, 0.3)),
    (1, 3),
    (
        ((-0.8, 0.95), (-0.66, 1.36), (-0.2, 1.36), (-0.2, 0.95)),
        ((-0.12, 0.95), (-0.12, 1.36), (0.1, 1.36), (0.38, 0.95)),
    ),
)
SALOON = Body(
    ((-1.0, 0.3), (-1.0, 0.88), (-0.66, 0.95), (-0.4, 1.42), (0.12, 1.42), (0.46, 0.94), (1.0, 0.8), (1.0, 0.3)),
    (2, 4),
    (
        ((-0.55, 0.97), (-0.36, 1.34), (-0.14, 1.34), (-0.14, 0.97)),
        ((-0.07, 0.97), (-0.07, 1.34), (0.1, 1.34), (0.36, 0.97)),
    ),
)
VAN = Body(
    ((-1.0, 0.35), (-1.0, 1.1), (-0.97, 2.1), (0.55, 2.1), (0.82, 1.15), (1.0, 1.0), (1.0, 0.35)),
    (1, 3),
    (((0.2, 1.2), (0.2, 1.95), (0.5, 1.95), (0.7, 1.2)),),
)
PANE: Colour = (45, 52, 60)
RUBBER: Colour = (25, 25, 25)
HUB: Colour = (125, 125, 125)
WHITE: Colour = (225, 225, 225)
RIM = tuple((math.cos(a * math.pi / 6), math.sin(a * math.pi / 6)) for a in range(12))
HALF_WIDTH = 0.88  # metres, of a car
DETAIL = 22.0  # metres: plates, lamps and hubs are not drawn beyond it


@dataclass(frozen=True)
class Thing(ABC):
    """Anything on the street; `x` and `z` are the position of its foot in the first frame."""

    x: float
    z: float

    def place(self, t: int) -> tuple[float, float]:
        """X and Z of its foot at time `t`."""
        return self.x, self.z

    @abstractmethod
    def footprint(self) -> tuple[float, float, float]:
        """Half its length along X, half its width along Z, and its height, for its shadow."""

    @abstractmethod
    def draw(self, canvas: Canvas, t: int) -> None: ...


@dataclass(frozen=True)
class Car(Thing):
    speed: float  # metres per frame along X; its sign, even that of zero, is the direction the car faces
    body: Body
    length: float
    paint: Colour

    def place(self, t: int) -> tuple[float, float]:
        return self.x + self.speed * t, self.z

    def footprint(self) -> tuple[float, float, float]:
        return self.length / 2, 0.9, 1.2

    def draw(self, canvas: Canvas, t: int) -> None:
        x, z = self.place(t)
        ahead = math.copysign(self.length / 2, self.speed)
        camera, left, right = canvas.camera, z - HALF_WIDTH, z + HALF_WIDTH
        near = left if camera.z < z else right
        close = camera.depth(x, z) < DETAIL
        outline = self.body.outline
        for index, ((start, low), (end, high)) in enumerate(pairwise(outline)):
            start, end = x + ahead * start, x + ahead * end
            # The outline runs over the roof from rear to front, so its left is outside if the car faces along X.
            normal_x, normal_y = (low - high) * math.copysign(1, ahead), abs(end - start)
            if normal_x * (camera.x - start) + normal_y * (camera.height - low) <= 0:
                continue
            steepness = abs(normal_x) / math.hypot(normal_x, normal_y)
            sheet = [(start, low, left), (end, high, left), (end, high, right), (start, low, right)]
            canvas.solid(sheet, self.paint, CAR, 1.12 - 0.4 * steepness)
            if index in self.body.glass:
                bottom = (start + 0.1 * (end - start), low + 0.1 * (high - low))
                top = (end + 0.1 * (start - end), high + 0.1 * (low - high))
                pane = [(*bottom, left + 0.13), (*top, left + 0.13), (*top, right - 0.13), (*bottom, right - 0.13)]
                canvas.solid(pane, PANE, CAR, 1.5 if index == self.body.glass[1] else 1.0)
            if close and index in (0, len(outline) - 2):
                self._face(canvas, start, left, right, (190, 25, 20) if index == 0 else (250, 245, 215))
        canvas.solid([(x + ahead * share, up, near) for share, up in outline], self.paint, CAR, 0.82)
        for shape in self.body.panes:
            canvas.solid([(x + ahead * share, up, near) for share, up in shape], PANE, CAR)
        for axle in (x - 0.62 * ahead, x + 0.64 * ahead):
            canvas.solid([(axle + 0.33 * a, 0.33 + 0.33 * b, near) for a, b in RIM], RUBBER, CAR)
            if close:
                canvas.solid([(axle + 0.18 * a, 0.33 + 0.18 * b, near) for a, b in RIM], HUB, CAR)

    def _face(self, canvas: Canvas, x: float, left: float, right: float, lamp: Colour) -> None:
        plate = (0.42, 0.53, (left + right) / 2 - 0.26, (left + right) / 2 + 0.26)
        lamps = ((0.6, 0.75, left + 0.08, left + 0.4), (0.6, 0.75, right - 0.4, right - 0.08))
        for (low, high, start, end), colour in zip((plate, *lamps), (WHITE, lamp, lamp), strict=True):
            canvas.solid([(x, low, start), (x, high, start), (x, high, end), (x, low, end)], colour, CAR)


@dataclass(frozen=True)
class Person(Thing):
    velocity: tuple[float, float]  # metres per frame along X and Z
    height: float
    phase: float
    coat: Colour
    trousers: Colour
    skin: Colour
    hair: Colour
    bag: bool

    def place(self, t: int) -> tuple[float, float]:
        return self.x + self.velocity[0] * t, self.z + self.velocity[1] * t

    def footprint(self) -> tuple[float, float, float]:
        return 0.22, 0.22, self.height

    def draw(self, canvas: Canvas, t: int) -> None:
        x, z = self.place(t)
        [(column, row)], depth = canvas.camera.project([(x, 0.0, z)])
        size = canvas.camera.focal * self.height / depth  # pixels from sole to crown
        speed = math.hypot(*self.velocity)
        swing = min(0.16, 2.2 * speed) * math.sin(self.phase + t * (0.5 + 6 * speed))

        def shape(points: list[tuple[float, float]], colour: Colour, shade: float = 1.0) -> None:
            pixels = [(column + a * size, row - b * size) for a, b in points]
            canvas.polygon(pixels, canvas.lit(colour, depth, shade), PERSON)

        arm = [(0.09, 0.8), (0.12, 0.78), (swing + 0.11, 0.47), (swing + 0.07, 0.47)]
        for step, shade in ((-swing, 0.75), (swing, 1.0)):
            foot = [(step + 0.045, 0.02), (step + 0.06, 0.0), (step - 0.035, 0.0)]
            shape([(-0.055, 0.5), (0.055, 0.5), *foot], self.trousers, shade)
        shape([(-a, b) for a, b in arm], self.coat, 0.7)
        shape([(-0.1, 0.82), (-0.05, 0.86), (0.05, 0.86), (0.1, 0.82), (0.1, 0.44), (-0.1, 0.44)], self.coat)
        shape([(0.02, 0.86), (0.05, 0.86), (0.1, 0.82), (0.1, 0.44), (0.04, 0.44)], self.coat, 0.82)
        shape(arm, self.coat, 0.9)
        if self.bag:
            shape([(0.08, 0.6), (0.17, 0.6), (0.18, 0.42), (0.08, 0.42)], self.trousers, 0.7)
        head = row - 0.93 * size
        hair, skin = canvas.lit(self.hair, depth), canvas.lit(self.skin, depth)
        canvas.ellipse(column, head - 0.012 * size, (0.058 * size, 0.07 * size), hair, PERSON)
        canvas.ellipse(column, head + 0.012 * size, (0.046 * size, 0.052 * size), skin, PERSON)


@dataclass(frozen=True)
class StreetTree(Thing):
    trunk: float  # height of the crown's centre in metres
    crown: float  # diameter in metres
    bark: Colour
    picture: Image.Image

    def footprint(self) -> tuple[float, float, float]:
        return self.crown / 2, self.crown / 2, self.trunk

    def draw(self, canvas: Canvas, t: int) -> None:
        ends = [(self.x, 0.0, self.z), (self.x, self.trunk, self.z)]
        [(column, foot), (_, middle)], depth = canvas.camera.project(ends)
        scale = canvas.camera.focal / depth
        for left, right, shade in ((-0.13, 0.13, 1.0), (0.03, 0.13, 0.75)):
            base = [(column + left * scale, foot), (column + right * scale, foot)]
            bough = [(column + right * scale / 2, middle), (column + left * scale / 2, middle)]
            canvas.polygon([*base, *bough], canvas.lit(self.bark, depth, shade), TREE)
        canvas.sprite(self.picture, column, middle, self.crown * scale, depth, TREE)


@dataclass(frozen=True)
class Pole(Thing):
    height: float
    radius: float
    metal: Colour
    top: str  # lamp, disc, triangle, plate or signals
    face: Colour

    def footprint(self) -> tuple[float, float, float]:
        return self.radius, self.radius, self.height

    def draw(self, canvas: Canvas, t: int) -> None:
        ends = [(self.x, 0.0, self.z), (self.x, self.height, self.z)]
        [(column, foot), (_, top)], depth = canvas.camera.project(ends)
        scale = canvas.camera.focal / depth
        for left, right, shade in ((-self.radius, self.radius, 1.0), (0.2 * self.radius, self.radius, 0.7)):
            near, far = column + left * scale, column + right * scale
            shaft = [(near, foot), (far, foot), (far, top), (near, top)]
            canvas.polygon(shaft, canvas.lit(self.metal, depth, shade), POLE)

        def disc(down: float, across: float, high: float, colour: Colour, shade: float = 1.0) -> None:
            radii = (across * scale, high * scale)
            canvas.ellipse(column, top + down * scale, radii, canvas.lit(colour, depth, shade), POLE)

        def shape(points: Outline, size: float, colour: Colour, shade: float = 1.0) -> None:
            pixels = [(column + a * size * scale, top + b * size * scale) for a, b in points]
            canvas.polygon(pixels, canvas.lit(colour, depth, shade), POLE)

        if self.top == "lamp":
            disc(0.0, 0.42, 0.2, self.metal, 1.5)
        elif self.top == "disc":
            disc(0.0, 0.46, 0.46, self.face)
            disc(0.0, 0.3, 0.3, WHITE)
        elif self.top == "triangle":
            for size, colour in ((0.55, self.face), (0.33, WHITE)):
                shape(((-1.0, 0.8), (1.0, 0.8), (0.0, -1.0)), size, colour)
        elif self.top == "plate":
            for size, colour in ((1.0, WHITE), (0.84, self.face)):
                shape(((-0.5, -0.35), (0.5, -0.35), (0.5, 0.35), (-0.5, 0.35)), size, colour)
        else:
            shape(((-0.17, -0.1), (0.17, -0.1), (0.17, 0.85), (-0.17, 0.85)), 1.0, self.metal, 0.6)
            burning = (int(self.x) + t // 30) % 3
            for index, lamp in enumerate(((220, 40, 30), (210, 150, 30), (40, 190, 90))):
                disc(0.1 + 0.28 * index, 0.1, 0.1, lamp, 1.0 if index == burning else 0.3)


def paint_crown(rng: np.random.Generator) -> Image.Image:
    """Paint a tree's crown, clumps of leaves lit from above, on a transparent square of 128 pixels."""
    crown = Image.new("RGBA", (128, 128))
    paint = ImageDraw.Draw(crown)
    leaf = np.array(draw_colour(rng, (0.07, 0.36) if rng.random() < 0.3 else (0.2, 0.36), (0.3, 0.75), (0.25, 0.6)))
    for _ in range(170):
        angle, reach = rng.uniform(0, 2 * math.pi), 50 * math.sqrt(rng.random())
        x, y, radius = 64 + reach * math.cos(angle), 64 + 0.9 * reach * math.sin(angle), rng.uniform(4, 13)
        shade = (1.4 - 0.8 * y / 128) * rng.uniform(0.7, 1.2)
        paint.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*paint_of(leaf * shade), 255))
    return crown
