"""A line chart as SVG, without a drawing library, sharp at any size."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from vsscli.printable import printable

WIDTH, HEIGHT = 560, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 40, 56
COLOURS = ("#1b6ca8", "#c4562a", "#3d8b40", "#7a4fa3")

Line = tuple[str, Sequence[tuple[float, float]]]
"""A name, and points (x, y)."""


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_title: str,
    y_title: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    mark: tuple[float, str] | None = None,
) -> str:
    """Draw lines over a grid of ten by ten.

    Parameters
    ----------
    title
        Title of the chart.
    lines
        At most as many as there are colours.
    x_title, y_title
        Titles of the axes.
    x_range, y_range
        Ranges of the axes, as fractions; the labels are in per cent.
    mark
        A position on the x axis and its label, drawn as a dashed line.

    Returns
    -------
    str
        The SVG.
    """
    if len(lines) > len(COLOURS):
        raise ValueError(f"{len(lines)} lines; a chart has {len(COLOURS)} colours")

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_range[0]) / (x_range[1] - x_range[0])
        up = (y - y_range[0]) / (y_range[1] - y_range[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [_text(WIDTH / 2, TOP / 2 + 4, title, size=15)]
    for tick in range(11):
        x, y = (low + tick / 10 * (high - low) for low, high in (x_range, y_range))
        for (x1, y1), (x2, y2) in (
            (place(x, y_range[0]), place(x, y_range[1])),
            (place(x_range[0], y), place(x_range[1], y)),
        ):
            parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>')
        parts.append(_text(place(x, 0)[0], HEIGHT - BOTTOM + 18, f"{x:.0%}"))
        parts.append(_text(LEFT - 8, place(0, y)[1] + 4, _percent(y, y_range), anchor="end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title))
    parts.append(f'<g transform="translate(16 {HEIGHT / 2}) rotate(-90)">{_text(0, 0, y_title)}</g>')
    if mark is not None:
        (x1, y1), (_, y2) = place(mark[0], y_range[0]), place(mark[0], y_range[1])
        parts.append(f'<path d="M{x1:.1f} {y1:.1f}V{y2:.1f}" stroke="#555" stroke-dasharray="5 4"/>')
        parts.append(_text(x1 - 6, y2 + 14, mark[1], anchor="end"))
    for number, (name, points) in enumerate(lines):
        way = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in points))
        colour = COLOURS[number]
        if way:
            parts.append(f'<path d="M{way}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(_text(LEFT + 10, HEIGHT - BOTTOM - 12 - 18 * number, name, anchor="start", colour=colour))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _percent(value: float, shown: tuple[float, float]) -> str:
    return f"{value:.1%}" if shown[1] - shown[0] < 0.1 else f"{value:.0%}"


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "middle", colour: str = "#1e1e1e") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(printable(text))}</text>"
