"""A curve as an SVG file, drawn with nothing but text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from vsscli.files import write_text

WIDTH, HEIGHT, MARGIN = 480, 320, 56


def draw_curve(path: Path, points: Sequence[tuple[float, float]], across: str, up: str) -> None:
    """Write a curve, its best point marked.

    Parameters
    ----------
    path
        The file, ``.svg``.
    points
        Two or more, from left to right.
    across, up
        What the axes show.
    """
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    room = (high - low) * 0.08 or abs(high) * 0.01 or 1.0
    low, high = low - room, high + room

    def place(x: float, y: float) -> tuple[float, float]:
        right = MARGIN + (x - min(xs)) / (max(xs) - min(xs) or 1) * (WIDTH - 1.5 * MARGIN)
        return round(right, 2), round(HEIGHT - MARGIN - (y - low) / (high - low) * (HEIGHT - 1.5 * MARGIN), 2)

    best = max(points, key=lambda point: point[1])
    line = " ".join(",".join(map(str, place(x, y))) for x, y in points)
    dots = "".join(f'<circle cx="{place(x, y)[0]}" cy="{place(x, y)[1]}" r="3"/>' for x, y in points)
    marks = [f'<text x="{place(x, low)[0]}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{x:g}</text>' for x in xs]
    scale = [low + (high - low) * share for share in (0, 0.25, 0.5, 0.75, 1)]
    marks += [f'<text x="{MARGIN - 6}" y="{place(xs[0], y)[1] + 4}" text-anchor="end">{y:.4g}</text>' for y in scale]
    bottom, left, top = HEIGHT - MARGIN, MARGIN, 0.5 * MARGIN
    at = place(*best)
    write_text(
        path,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<path d="M{left},{top}V{bottom}H{WIDTH - 0.5 * MARGIN}" fill="none" stroke="black"/>'
        f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="2"/>'
        f'<g fill="#1f5fa8">{dots}</g>{"".join(marks)}'
        f'<circle cx="{at[0]}" cy="{at[1]}" r="6" fill="none" stroke="#c0392b" stroke-width="2"/>'
        f'<text x="{at[0]}" y="{at[1] - 10}" text-anchor="middle">{best[1]:.4g}</text>'
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across)}</text>'
        f'<text x="{left}" y="{top - 8}">{escape(up)}</text></svg>\n',
    )
