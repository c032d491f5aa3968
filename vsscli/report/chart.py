"""A line chart as SVG, without a drawing library, sharp at any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from vsscli.printable import printable

WIDTH, HEIGHT = 480, 350  # on a phone its letters are still readable
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 40, 56
ROW = 18
"""Height of a line of the legend, which stands below the chart, where it hides nothing."""

COLOURS = ("#1b6ca8", "#c4562a", "#3d8b40", "#7a4fa3", "#8a6d1b", "#b03a73", "#2a8c8c", "#666666")
DASHES = ("", "8 3", "4 2", "10 3 2 3", "5 5", "2 4", "12 4", "4 2 1 2")
"""Lines are told apart without colour too."""

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
    x_format: Callable[[float], str] = "{:.0%}".format,
    y_format: Callable[[float], str] | None = None,
) -> str:
    """Draw lines over a grid of ten by ten.

    A page may restyle it: paper, ink and grid have classes of these names.

    Parameters
    ----------
    title
        Title of the chart.
    lines
        At most as many as there are colours.
    x_title, y_title
        Titles of the axes.
    x_range, y_range
        Ranges of the axes.
    mark
        A position on the x axis and its label, drawn as a dashed line.
    x_format, y_format
        Values as labels of the axes; by default fractions in per cent, with a decimal if the range is narrow.

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

    y_format = y_format or ("{:.1%}" if y_range[1] - y_range[0] < 0.1 else "{:.0%}").format
    parts = [_text(WIDTH / 2, TOP / 2 + 4, title, size=15)]
    for tick in range(11):
        x, y = (low + tick / 10 * (high - low) for low, high in (x_range, y_range))
        for (x1, y1), (x2, y2) in (
            (place(x, y_range[0]), place(x, y_range[1])),
            (place(x_range[0], y), place(x_range[1], y)),
        ):
            parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="grid" stroke="#ddd"/>')
        if tick % 2 == 0 or len(x_format(x_range[1])) < 5:  # long labels would touch
            parts.append(_text(place(x, 0)[0], HEIGHT - BOTTOM + 18, x_format(x)))
        parts.append(_text(LEFT - 8, place(0, y)[1] + 4, y_format(y), anchor="end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title))
    parts.append(f'<g transform="translate(16 {HEIGHT / 2}) rotate(-90)">{_text(0, 0, y_title)}</g>')
    if mark is not None:
        (x1, y1), (_, y2) = place(mark[0], y_range[0]), place(mark[0], y_range[1])
        parts.append(f'<path d="M{x1:.1f} {y1:.1f}V{y2:.1f}" class="rule" stroke="#555" stroke-dasharray="5 4"/>')
        parts.append(_text(x1 - 6, y2 + 14, mark[1], anchor="end"))
    for number, (name, points) in enumerate(lines):
        way = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in points))
        stroke = f'fill="none" stroke="{COLOURS[number]}" stroke-width="2.5" stroke-dasharray="{DASHES[number]}"'
        if points:
            parts.append(f'<path d="M{way}" {stroke}/>')
        if name:
            y = HEIGHT + ROW * number + 4
            parts.append(f'<path d="M{LEFT + 10} {y - 4}h30" {stroke}/>')
            parts.append(_text(LEFT + 46, y, name, anchor="start"))
    height = HEIGHT + ROW * sum(bool(name) for name, _ in lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
        f'<rect width="{WIDTH}" height="{height}" class="paper" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "middle") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" class="ink" fill="#1e1e1e"'
    return f"<text {place}>{escape(printable(text))}</text>"
