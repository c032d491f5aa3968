"""Random choices for a synthetic street: its light, the camera's path, and the things that stand and move on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vsscli.drawn.canvas import Colour, Light, draw_colour
from vsscli.drawn.things import HATCH, SALOON, VAN, Body, Car, Person, Pole, StreetTree, Thing, paint_crown


@dataclass(frozen=True)
class Walk:
    """The camera's path: where it starts, its speed in metres and radians per frame, and how much it bobs (metres)."""

    x: float
    z: float
    height: float
    yaw: float
    speed: float
    turn: float
    bob: float


def draw_light(rng: np.random.Generator) -> Light:
    """Draw a random light: sunny, overcast or evening."""
    kind = rng.choice(("sunny", "overcast", "evening"), p=(0.55, 0.3, 0.15))
    if kind == "sunny":
        zenith = draw_colour(rng, (0.55, 0.62), (0.35, 0.65), (0.75, 0.95))
        haze = draw_colour(rng, (0.5, 0.62), (0.03, 0.15), (0.85, 0.97))
        warmth, bright, clouds, shadow, contrast = 0.04, rng.uniform(1.0, 1.15), rng.uniform(0.2, 0.6), 0.55, 0.25
    elif kind == "overcast":
        zenith = draw_colour(rng, (0.5, 0.65), (0.0, 0.12), (0.6, 0.8))
        haze = draw_colour(rng, (0.5, 0.65), (0.0, 0.1), (0.7, 0.85))
        warmth, bright, clouds, shadow, contrast = -0.03, rng.uniform(0.78, 0.95), rng.uniform(0.5, 0.9), 0.85, 0.06
    else:
        zenith = draw_colour(rng, (0.6, 0.75), (0.2, 0.45), (0.45, 0.65))
        haze = draw_colour(rng, (0.0, 0.1), (0.2, 0.45), (0.75, 0.9))
        warmth, bright, clouds, shadow, contrast = 0.13, rng.uniform(0.7, 0.85), rng.uniform(0.3, 0.6), 0.65, 0.2
    sun = float(rng.choice((-1, 1)))
    return Light(
        tint=(float(bright * (1 + warmth)), float(bright), float(bright * (1 - warmth))),
        haze=haze,
        haze_distance=float(rng.uniform(70, 200)),
        zenith=zenith,
        clouds=float(clouds),
        left_wall=1 - contrast * (sun > 0),
        right_wall=1 - contrast * (sun < 0),
        shadow=shadow,
        shadow_slope=sun * float(rng.uniform(0.2, 0.8)),
    )


def draw_walk(rng: np.random.Generator, half_road: float, half_street: float) -> Walk:
    """Draw a random path: driving in the right lane, walking on a pavement, or turning on the spot."""
    kind = rng.choice(("drive", "walk", "turn"), p=(0.4, 0.35, 0.25))
    side = float(rng.choice((-1, 1)))
    x, turn = float(rng.uniform(-25, 25)), float(rng.uniform(-0.006, 0.006))
    across = side * (half_street - float(rng.uniform(0.6, 1.2)))
    if kind == "drive":
        yaw, speed = float(rng.uniform(-0.15, 0.2)), float(rng.uniform(0.12, 0.4))
        return Walk(x, 0.35 * half_road, float(rng.uniform(1.3, 2.0)), yaw, speed, turn, 0.01)
    if kind == "walk":
        yaw, speed = -side * float(rng.uniform(0.15, 0.7)), float(rng.uniform(0.03, 0.09))
        return Walk(x, across, float(rng.uniform(1.5, 1.8)), yaw, speed, turn, 0.035)
    yaw, turn = -side * float(rng.uniform(0.4, 1.3)), float(rng.choice((-1, 1)) * rng.uniform(0.005, 0.015))
    return Walk(x, across, float(rng.uniform(1.6, 3.0)), yaw, 0.0, turn, 0.01)


def draw_things(rng: np.random.Generator, kerb: float, half_street: float, walk: Walk) -> list[Thing]:
    """Fill the street: parked and moving cars, people on pavements and crossing, trees and poles at the kerb."""
    things: list[Thing] = []
    for side in (-1, 1):  # traffic keeps right: along X on the right side
        x = -70.0
        while x < 70:
            if rng.random() < 0.4:
                things.append(_draw_car(rng, x, side * (kerb - 1.0), math.copysign(0.0, side)))
            x += float(rng.uniform(5.2, 9.0))
        speed = walk.speed + 0.02 if side > 0 and walk.speed > 0.1 else float(rng.uniform(0.15, 0.5))
        for x in np.arange(-100, 100, 14) + rng.uniform(0, 10, 15):
            if rng.random() < 0.6:
                things.append(_draw_car(rng, float(x), side * 0.3 * kerb, side * speed))
        crowns = [paint_crown(rng) for _ in range(2)]
        bark = draw_colour(rng, (0.04, 0.1), (0.2, 0.5), (0.2, 0.4))
        metal = draw_colour(rng, (0, 1), (0, 0.25), (0.2, 0.65))
        leafy = 0.55 if rng.random() < 0.7 else 0.1
        for start in np.arange(-72, 72, rng.uniform(5, 9)):
            x = float(start + rng.uniform(-1.5, 1.5))
            if rng.random() < leafy:
                trunk, crown = float(rng.uniform(2.8, 4.2)), float(rng.uniform(2.4, 4.4))
                things.append(StreetTree(x, side * (kerb + 0.8), trunk, crown, bark, crowns[int(rng.integers(2))]))
            else:
                things.append(_draw_pole(rng, x, side * (kerb + 0.4), metal))
        for _ in range(24):  # near the camera, since further away they are a pixel wide
            z = side * float(rng.uniform(kerb + 0.5, half_street - 0.4))
            velocity = (float(rng.choice((-1, 1)) * rng.uniform(0.0, 0.09)), 0.0)
            things.append(_draw_person(rng, walk.x + float(rng.uniform(-25, 35)), z, velocity))
    for _ in range(10):
        x, z = walk.x + float(rng.uniform(-20, 30)), float(rng.uniform(-kerb, kerb))
        velocity = (float(rng.uniform(-0.02, 0.02)), float(rng.choice((-1, 1)) * rng.uniform(0.04, 0.09)))
        things.append(_draw_person(rng, x, z, velocity))
    return things


def _draw_car(rng: np.random.Generator, x: float, z: float, speed: float) -> Car:
    bodies: tuple[tuple[Body, float, float], ...] = ((HATCH, 3.6, 4.1), (SALOON, 4.2, 4.7), (VAN, 4.6, 5.4))
    body, shortest, longest = bodies[int(rng.choice(3, p=(0.45, 0.35, 0.2)))]
    if rng.random() < 0.5:
        paint = draw_colour(rng, (0, 1), (0, 0.1), (0.15, 0.95))
    else:
        paint = draw_colour(rng, (-0.05, 0.14) if rng.random() < 0.5 else (0.3, 0.68), (0.4, 0.85), (0.3, 0.75))
    return Car(x, z, speed, body, float(rng.uniform(shortest, longest)), paint)


def _draw_person(rng: np.random.Generator, x: float, z: float, velocity: tuple[float, float]) -> Person:
    return Person(
        x=x,
        z=z,
        velocity=velocity,
        height=float(rng.uniform(1.15, 1.3) if rng.random() < 0.12 else rng.uniform(1.55, 1.9)),
        phase=float(rng.uniform(0, 2 * math.pi)),
        coat=draw_colour(rng, (0, 1), (0.05, 0.75), (0.2, 0.85)),
        trousers=draw_colour(rng, (0.5, 1.1), (0.05, 0.5), (0.12, 0.6)),
        skin=draw_colour(rng, (0.04, 0.09), (0.25, 0.55), (0.35, 0.9)),
        hair=draw_colour(rng, (0.02, 0.12), (0.1, 0.6), (0.08, 0.6)),
        bag=bool(rng.random() < 0.3),
    )


def _draw_pole(rng: np.random.Generator, x: float, z: float, metal: Colour) -> Pole:
    top = str(rng.choice(("lamp", "disc", "triangle", "plate", "signals"), p=(0.4, 0.18, 0.12, 0.15, 0.15)))
    height = float(rng.uniform(4.2, 5.5) if top == "lamp" else rng.uniform(2.1, 2.8))
    red = rng.random() < 0.5
    blue_face, red_face = ((0.55, 0.64), (0.6, 0.9), (0.4, 0.8)), ((0.97, 1.02), (0.7, 0.95), (0.6, 0.85))
    face = draw_colour(rng, *(red_face if red else blue_face))
    return Pole(x, z, height, float(rng.uniform(0.09, 0.15)), metal, top, face)
