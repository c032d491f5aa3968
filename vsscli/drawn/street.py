"""A synthetic street and a camera moving through it: the frames of one synthetic video, with their classes.

Walls and ground are ray-cast in NumPy, so that facades, kerbs and lane markings have true perspective; everything that
stands on the ground is painted from far to near. The classes' colours overlap on purpose (grey cars on grey roads,
green houses, autumn trees), so that shape and position are needed to distinguish them.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vsscli.drawn import walls
from vsscli.drawn.canvas import PAVEMENT, ROAD, SKY, Camera, Canvas, Colour, draw_colour, draw_noise
from vsscli.drawn.choices import draw_light, draw_things, draw_walk
from vsscli.drawn.things import RIM, Thing

VOID = 255
OVERSAMPLING = 2  # drawn twice as large and averaged, for edges as soft as those of a lens
END = 80.0  # metres from the middle of the street to the walls that close it
NEAREST = 2.5  # metres; nearer things would fill the picture
NOISE = 256  # texels of a noise tile
GRAIN = 12.0  # of them per metre of ground


class Street:
    """One street, its light, its traffic and the camera's path, all chosen by `rng`.

    `frame` draws sensor noise from it, too, so frames must be drawn in order. ``size`` is (H, W) of a frame.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self._rng, self._size = rng, size
        self._noise = draw_noise(rng, NOISE, 0.9)
        self._clouds = draw_noise(rng, NOISE, 1.7)
        self._half_road = float(rng.uniform(3.2, 4.6))
        self._half_street = self._half_road + float(rng.uniform(2.2, 4.5))
        self._light = draw_light(rng)
        sides = [walls.paint_wall(rng, self._noise) for _ in range(3)]  # left, right, across the ends
        brightness = (self._light.left_wall, self._light.right_wall, 0.9)
        shaded = [side.colour * np.float32(share) for side, share in zip(sides, brightness, strict=True)]
        self._wall_colour = np.stack(shaded).astype(np.uint8)
        self._wall_label = np.stack([side.label for side in sides])
        self._sun_wall = sides[0 if self._light.shadow_slope > 0 else 1].height
        self._road = draw_colour(rng, (0.0, 0.7), (0.0, 0.12), (0.28, 0.5))
        self._pavement = draw_colour(rng, (0.0, 0.15), (0.02, 0.3), (0.4, 0.75))
        self._slab = float(rng.uniform(0.5, 1.2))
        self._crossings = rng.uniform(-40, 40, 2).astype(np.float32)
        self._walk = draw_walk(rng, self._half_road, self._half_street)
        self._things = draw_things(rng, self._half_road, self._half_street, self._walk)
        self._blur = float(rng.uniform(0.2, 0.5))
        self._sensor_noise = float(rng.uniform(2.0, 6.0))
        self._vignette = float(rng.uniform(0.05, 0.25))
        self._gradient = rng.uniform(-0.1, 0.1, 2)

    def frame(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw the frame at time `t`: (H, W, 3) uint8, and (H, W) uint8, class index, 255 where three classes meet."""
        camera = self._camera(t)
        seen = self._visible(camera, t)
        image, label = self._background(camera, self._shadows(camera, seen, t))
        canvas = Canvas(camera, self._light, image, label)
        for thing in seen:
            thing.draw(canvas, t)
        return self._develop(canvas.image), _reduce_label(np.asarray(canvas.label))

    def _camera(self, t: int) -> Camera:
        rows, columns = (OVERSAMPLING * side for side in self._size)
        walk = self._walk
        bob = walk.bob * math.sin(0.9 * t)
        return Camera(
            x=walk.x + walk.speed * t,
            z=walk.z + 0.5 * walk.bob * math.sin(0.45 * t),
            height=walk.height + bob,
            yaw=walk.yaw + walk.turn * t + 0.01 * math.sin(0.3 * t),
            horizon=rows * (0.47 + 0.3 * bob),
            focal=1.1 * columns,
            size=(rows, columns),
        )

    def _visible(self, camera: Camera, t: int) -> list[Thing]:
        """Things that the camera may see, from far to near."""
        seen = []
        for thing in self._things:
            x, z = thing.place(t)
            depth, reach = camera.depth(x, z), thing.footprint()[0]
            side = (z - camera.z) * math.cos(camera.yaw) - (x - camera.x) * math.sin(camera.yaw)
            if NEAREST + reach < depth < END and abs(side) - 2 * reach < 0.5 * depth + 1:
                seen.append((depth, thing))
        return [thing for _, thing in sorted(seen, key=lambda entry: -entry[0])]

    def _shadows(self, camera: Camera, seen: list[Thing], t: int) -> np.ndarray:
        """Brightness of the ground, (rows, columns) float32, with the shadows of things."""
        shade = Image.new("L", (camera.size[1], camera.size[0]), 255)
        paint = ImageDraw.Draw(shade)
        dark = int(255 * self._light.shadow)
        for thing in seen:
            x, z = thing.place(t)
            half_length, half_width, height = thing.footprint()
            fall = height * self._light.shadow_slope
            rim = [(x + half_length * a, 0.0, z + half_width * b + (fall if fall * b > 0 else 0.0)) for a, b in RIM]
            if min(camera.depth(a, c) for a, _, c in rim) > 0.3:
                paint.polygon(camera.project(rim)[0], fill=dark)
        return np.asarray(shade, dtype=np.float32) / 255

    def _background(self, camera: Camera, shade: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cast a ray through every pixel to ground, wall or sky: (rows, columns, 3) and (rows, columns) uint8."""
        rows, columns = camera.size
        across = ((np.arange(columns) + 0.5 - columns / 2) / camera.focal).astype(np.float32)
        down = ((np.arange(rows)[:, None] + 0.5 - camera.horizon) / camera.focal).astype(np.float32)
        along, aside = np.float32(math.cos(camera.yaw)), np.float32(math.sin(camera.yaw))
        ray_x, ray_z = _away_from_zero(along - across * aside), _away_from_zero(aside + across * along)

        # Each column of pixels meets one wall first; `place` is the position along it.
        side_depth = (np.copysign(np.float32(self._half_street), ray_z) - np.float32(camera.z)) / ray_z
        end_depth = (np.copysign(np.float32(END), ray_x) - np.float32(camera.x)) / ray_x
        is_end = end_depth < side_depth
        wall_depth = np.where(is_end, end_depth, side_depth)
        place = np.where(is_end, camera.z + wall_depth * ray_z, camera.x + wall_depth * ray_x)
        which = np.where(is_end, 2, np.where(ray_z > 0, 1, 0))
        texel_column = (place * walls.TEXELS).astype(np.intp) % (walls.LENGTH * walls.TEXELS)
        from_top = (walls.HEIGHT - camera.height + down * wall_depth) * walls.TEXELS
        texel_row = from_top.clip(0, walls.HEIGHT * walls.TEXELS - 1).astype(np.intp)
        image = self._wall_colour[which, texel_row, texel_column].astype(np.float32)
        label = self._wall_label[which, texel_row, texel_column]
        label[from_top < 0] = SKY

        ground_depth = np.float32(camera.height) / np.maximum(down, np.float32(1e-4))
        is_ground = ground_depth < wall_depth
        depth = np.where(is_ground, ground_depth, wall_depth)
        x, z = np.float32(camera.x) + ground_depth * ray_x, np.float32(camera.z) + ground_depth * ray_z
        colour, label[is_ground] = self._ground(x[is_ground], z[is_ground], depth[is_ground])
        image[is_ground] = colour * shade[is_ground, None]

        clear = np.exp(depth / np.float32(-self._light.haze_distance))[..., None]
        image *= clear * _row(self._light.tint)
        image += (1 - clear) * _row(self._light.haze)
        row, column = np.nonzero(label == SKY)
        image[row, column] = self._sky(down[row, 0], np.arctan(across)[column] + np.float32(camera.yaw))
        return image.clip(0, 255).astype(np.uint8), label

    def _ground(self, x: np.ndarray, z: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colour (n, 3) and class (n,) of the ground at world points (n,): lanes, kerb, slabs, shadows of houses."""
        grain = self._noise[(x * GRAIN).astype(np.intp) % NOISE, (z * GRAIN).astype(np.intp) % NOISE]
        coarse = self._noise[(x * 1.5).astype(np.intp) % NOISE, (z * 3).astype(np.intp) % NOISE]
        fine = np.exp(depth / np.float32(-25))  # small details fade with distance
        from_middle = np.abs(z)
        is_road = from_middle < self._half_road
        bright = 1 + np.float32(0.08) * grain * fine + np.float32(0.06) * coarse
        joint = ~is_road & ((x % self._slab < 0.06) | (from_middle % self._slab < 0.06))
        bright[joint] -= np.float32(0.22) * fine[joint]
        bright[np.abs(from_middle - self._half_road - 0.1) < 0.1] += np.float32(0.25)
        white = (from_middle < 0.09) & (x % 6 < 3) | (np.abs(from_middle - self._half_road + 0.3) < 0.06)
        for crossing in self._crossings:
            white |= (np.abs(x - crossing) < 1.5) & (z % 1.2 < 0.6) & (from_middle < self._half_road - 0.4)
        colour = np.where(is_road[:, None], _row(self._road), _row(self._pavement))
        white &= is_road
        colour[white] = colour[white] * np.float32(0.3) + 160
        slope = self._light.shadow_slope
        from_wall = self._half_street + math.copysign(1, slope) * z
        height = self._sun_wall[(x * walls.TEXELS).astype(np.intp) % self._sun_wall.size]
        bright[from_wall < height * abs(slope)] *= np.float32(self._light.shadow)
        return colour * bright[:, None], np.where(is_road, ROAD, PAVEMENT).astype(np.uint8)

    def _sky(self, down: np.ndarray, heading: np.ndarray) -> np.ndarray:
        """Colour of the sky, (n, 3), given slope below the horizon and heading (n,); clouds do not move."""
        rise = np.clip(down * np.float32(-1.6), 0, 1)[:, None]
        colour = _row(self._light.zenith) * rise + _row(self._light.haze) * (1 - rise)
        cloud = self._clouds[(down * -200).astype(np.intp) % NOISE, (heading * 120).astype(np.intp) % NOISE]
        cover = np.clip(0.6 * cloud + np.float32(2 * self._light.clouds - 0.9), 0, 1)[:, None] * np.float32(0.8)
        white = 0.25 * _row(self._light.haze) + 0.75 * 245 * np.float32(np.mean(self._light.tint))
        return colour * (1 - cover) + white * cover

    def _develop(self, drawing: Image.Image) -> np.ndarray:
        """Apply the effects of lens and sensor, (H, W, 3) uint8: blur, vignette, uneven light, noise."""
        small = drawing.reduce(OVERSAMPLING).filter(ImageFilter.GaussianBlur(self._blur))
        rows, columns = self._size
        y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
        field = 1 - self._vignette * (x**2 + y**2) / 2 + self._gradient[0] * x + self._gradient[1] * y
        noise = self._rng.standard_normal((rows, columns, 3), dtype=np.float32) * np.float32(self._sensor_noise)
        return (np.asarray(small) * field[..., None].astype(np.float32) + noise).clip(0, 255).astype(np.uint8)


def _row(colour: Colour) -> np.ndarray:
    return np.array(colour, dtype=np.float32)


def _away_from_zero(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < 1e-4, np.copysign(np.float32(1e-4), values), values)


def _reduce_label(label: np.ndarray) -> np.ndarray:
    """The most frequent class of each 2 x 2 block, and void where three classes meet."""
    blocks = np.stack([label[0::2, 0::2], label[0::2, 1::2], label[1::2, 0::2], label[1::2, 1::2]])
    blocks.sort(axis=0)
    kinds = 1 + (blocks[1:] != blocks[:-1]).sum(axis=0)
    # Of four sorted values of two kinds, the second is the more frequent one, or the lower one in a tie.
    return np.where(kinds > 2, VOID, blocks[1]).astype(np.uint8)
