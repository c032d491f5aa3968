"""The page of a report, made from the values of its ``summary.json`` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vsscli.metrics.registry import title
from vsscli.page.script import page_json
from vsscli.printable import printable
from vsscli.report.curves import reliability_chart, training_charts

HERE = Path(__file__).parent

ASSETS = ("report.css", "report.js")
"""Files that the page loads, besides those of the videos."""

TENTHS = tuple(number / 10 for number in range(1, 11))


def asset(name: str) -> bytes:
    """One of `ASSETS`."""
    return (HERE / "static" / name).read_bytes()


def page(summary: Mapping[str, Any]) -> str:
    """The HTML of a report."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "count": _count, "title_of": title, "short": _short}
    reliability = summary.get("reliability")
    runs = [(run["name"], run["curves"]) for run in summary["networks"]]
    return environment.get_template("report.html").render(
        summary,
        classes_of=_by_name(summary, "per_class"),
        videos_of=_by_name(summary, "per_video"),
        colours=[f"#{bytes(one['colour']).hex()}" for one in summary["classes"]["classes"]],
        reliability=reliability,
        reliability_svg=Markup(_reliability_chart(reliability)) if reliability else "",
        tenths=_tenths(reliability["thresholds"]) if reliability else [],
        training={name: Markup(svg) for name, svg in training_charts(runs).items()},
        player=Markup(page_json(_player(summary))),
    )


def _player(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the script of the page needs to know before it loads a video's own."""
    kept = ("name", "drawn", "layers", "stretches")
    rows = summary["classes"]["classes"]
    return {
        "videos": [{name: video[name] for name in kept} for video in summary["videos"]],
        "layers": summary["layers"],
        "classes": [[row["name"], f"#{bytes(row['colour']).hex()}"] for row in rows],
        "chunk": summary["drawn"]["chunk"],
    }


def _by_name(summary: Mapping[str, Any], table: str) -> dict[str, dict[str, Any]]:
    """Rows of a table by name, each with the rows of the predictions by their keys."""
    found: dict[str, dict[str, Any]] = {}
    for one in summary["predictions"]:
        for row in one.get(table, ()):
            found.setdefault(row["name"], {})[one["key"]] = row
    return found


def _reliability_chart(values: Mapping[str, Any]) -> str:
    pseudo = values.get("pseudo") or {}
    rows = values["thresholds"]
    return reliability_chart(
        [row["coverage"] for row in rows],
        [row["precision"] for row in rows],
        covered=pseudo.get("coverage"),
        threshold=pseudo.get("threshold"),
    )


def _tenths(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first threshold at which each tenth of the pixels is reliable, each once."""
    found = [next((row for row in rows if row["coverage"] >= share * (1 - 1e-12)), rows[-1]) for share in TENTHS]
    return [row for number, row in enumerate(found) if row not in found[:number]]


def _visible(value: Any) -> Any:
    """Foreign text with its control characters visible; markup is ours alone."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _count(value: float) -> str:
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _short(value: Any) -> str:
    """A value in a list of facts; digests are cut."""
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    digest = len(text) == 64 and not set(text) - set("0123456789abcdef")
    return f"{text[:12]}…" if digest else text
