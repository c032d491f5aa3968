"""The page of a report in a browser, opened from disk: ``nox -s browser``.

The browser is Chromium as a Linux distribution packages it, at ``VSS_CHROMIUM`` or `/usr/bin/chromium`. Reports that
`VSS_REPORTS` names, folders with a colon between them, are gone through as well; their screenshots lie in the folder
``shots`` beside each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from report_samples import FRAMES, HOSTILE, ODD, make_sample

from vsscli.context import Context
from vsscli.pipeline.report import Report, write_report

CHROMIUM = os.environ.get("VSS_CHROMIUM", "/usr/bin/chromium")
LONG = 300
SLOW = 50.0
"""Milliseconds between two frames of the screen that are seen as a stutter, at the median."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Two predictions and pseudo-labels, with hostile names."""
    sample = make_sample(tmp_path_factory.mktemp("sample"), hostile=True)
    return write_report([sample.flickering, sample.steady], pseudo=sample.pseudo, context=Context(sample.workspace))


@pytest.fixture
def page(browser: Browser, report: Report) -> Iterator[Page]:
    yield from opened(browser, report.page)


def opened(browser: Browser, path: Path, **options: Any) -> Iterator[Page]:
    """A page that has shown its first frame; any error of the page fails the test."""
    page = browser.new_page(**options)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(request.url))
    page.on("request", lambda request: errors.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(path.as_uri())
    shows(page, "(1 of")
    yield page
    assert errors == []
    assert page.evaluate("typeof boom") == "undefined"
    page.close()


def shows(page: Page, text: str) -> None:
    """Wait until the line below the picture says something."""
    page.wait_for_function("text => document.getElementById('where').textContent.includes(text)", arg=text)


def pixels(page: Page, number: int = 0) -> bytes:
    """A picture as it is on the screen."""
    return page.locator(".pane canvas").nth(number).screenshot()


def test_keys_slider_and_buttons_step_through_the_frames(page: Page) -> None:
    first = pixels(page)
    page.keyboard.press("ArrowRight")
    shows(page, f"00001 (2 of {FRAMES})")
    page.keyboard.press("Shift+ArrowRight")
    shows(page, "00011 (12 of")
    page.keyboard.press("ArrowLeft")
    shows(page, "00010 (11 of")
    page.keyboard.press("End")
    shows(page, f"({FRAMES} of {FRAMES})")
    page.keyboard.press("Home")
    shows(page, "00000 (1 of")
    assert pixels(page) == first
    page.locator("#place").fill("6")
    shows(page, "00006 (7 of")
    page.locator("#on").click()
    shows(page, "00007 (8 of")
    page.locator("#track").click(position={"x": 3, "y": 5})
    shows(page, "00000 (1 of")
    page.locator("#stretches button").first.click()
    shows(page, "00004 (5 of")
    page.keyboard.press("Home")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    shows(page, f"({FRAMES} of {FRAMES})")
    page.wait_for_function("document.getElementById('play').getAttribute('aria-pressed') === 'false'")


def test_layers_are_switched_and_marks_lie_above(page: Page) -> None:
    page.locator("#place").fill("6")
    shows(page, "00006 (7 of")
    pane = page.locator(".pane").first
    seen = {pixels(page)}
    keys = [button.get_attribute("data-layer") for button in pane.locator(".layers button").all()]
    assert keys == ["labels-a", "labels-b", "truth", "pseudo", "entropy-a", "entropy-b", "differ", "wrong-a", "wrong-b"]
    for number in range(2, 7):
        page.keyboard.press(str(number))
        page.wait_for_function("document.querySelectorAll('.layers [aria-pressed=true]').length === 1")
        page.wait_for_timeout(100)
        seen.add(pixels(page))
    assert len(seen) == 5  # both are equally sure
    page.keyboard.press("7")
    page.wait_for_function("document.querySelectorAll('.layers [aria-pressed=true]').length === 2")
    page.locator("#opacity").fill("0")
    page.wait_for_timeout(100)
    assert pixels(page) not in seen
    label = pane.locator("canvas").get_attribute("aria-label")
    assert label == "frame 00006: entropy B, A differs from B"


def test_two_pictures_stand_side_by_side(page: Page) -> None:
    page.locator("#place").fill("6")
    page.keyboard.press("s")
    page.wait_for_function("document.querySelectorAll('.pane').length === 2")
    page.wait_for_timeout(200)
    assert pixels(page, 0) != pixels(page, 1)  # one flickers
    page.locator(".pane canvas").nth(1).click()
    page.keyboard.press("1")
    page.wait_for_timeout(200)
    pressed = "[...document.querySelectorAll('.pane')].map(p => p.querySelector('[aria-pressed=true]').dataset.layer)"
    assert page.evaluate(pressed) == ["labels-a", "labels-a"]
    page.keyboard.press("s")
    page.wait_for_function("document.querySelectorAll('.pane').length === 1")


def test_the_class_under_the_pointer_is_named_and_names_stay_text(page: Page) -> None:
    canvas = page.locator(".pane canvas").first
    bounds = canvas.bounding_box()
    assert bounds is not None
    canvas.hover(position={"x": bounds["width"] * 0.9, "y": bounds["height"] * 0.9})
    assert page.locator("#pointer").inner_text().startswith(f"here – prediction A: {HOSTILE[0]}; ")
    assert page.locator(".legend .here").inner_text().startswith(HOSTILE[0])
    assert "\\u202eevil \\x1b[31m" in page.locator("#by-class").inner_text()
    videos = page.locator("#video option").all_inner_texts()
    assert videos == [ODD, "alley"]
    page.locator("#by-video button.link", has_text="alley").click()
    page.wait_for_function("document.getElementById('video').value === '1'")
    shows(page, "00000 (1 of")


def test_tables_are_sorted_and_filtered(page: Page) -> None:
    rows = page.locator("#by-class tbody tr:visible")
    assert rows.count() == 3  # the tree does not occur
    page.locator("#occurring").uncheck()
    assert page.locator("#shown").inner_text() == "4 of 4"
    page.locator("#by-class thead button").nth(2).click()
    values = [cell.get_attribute("data-value") or "" for cell in page.locator("#by-class tbody td:nth-child(3)").all()]
    assert values[-1] == ""
    known = [float(value) for value in values[:-1]]
    assert known == sorted(known, reverse=True)
    page.locator("#filter").fill("EVIL")
    assert rows.count() == 1
    assert page.locator("#by-class th[aria-sort=descending]").count() == 1


def test_numbers_are_those_of_the_summary(page: Page, report: Report) -> None:
    require_numbers(page, report.folder)


def require_numbers(page: Page, folder: Path) -> None:
    """Every score on the page is that of the summary, if there are masks, and the IoU of all classes are there."""
    summary = json.loads((folder / "summary.json").read_text())
    shown = page.locator(".scores td").all_inner_texts()
    headlines = [one[key] for one in summary["predictions"] for key in ("held_out", "scores") if key in one]
    wanted = [value for one in headlines for value in one.get("scores", one).values()]
    assert shown == ["–" if value is None else f"{100 * value:.2f}" for value in wanted]
    words = page.locator("body").inner_text()
    for one in summary["predictions"]:
        for row in one.get("per_class", ()):
            assert row["iou"] is None or f"{100 * row['iou']:.2f}" in words
        for pair in one.get("confused", ()):
            assert f"{100 * pair['share']:.2f}" in words


@pytest.mark.parametrize("folder", [Path(name) for name in os.environ.get("VSS_REPORTS", "").split(":") if name])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_report_of_ones_own(browser: Browser, folder: Path, width: int, scheme: Any) -> None:
    shots = folder.with_name("shots")
    shots.mkdir(exist_ok=True)
    for page in opened(browser, folder / "index.html", viewport={"width": width, "height": 800}, color_scheme=scheme):
        require_numbers(page, folder)
        for video in range(page.locator("#video option").count()):
            page.locator("#video").select_option(index=video)
            page.keyboard.press("Home")
            page.locator("#place").fill(page.locator("#place").get_attribute("max") or "0")
            last = int(page.locator("#place").get_attribute("max") or "0") + 1
            shows(page, f"({last} of {last})")
        for button in page.locator(".pane .layers button:enabled").all():
            button.click()
            page.wait_for_timeout(100)
        page.keyboard.press("s")
        page.wait_for_function("document.querySelectorAll('.pane').length === 2")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=shots / f"{folder.name}-{width}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(browser: Browser, report: Report, width: int, scheme: Any) -> None:
    for page in opened(browser, report.page, viewport={"width": width, "height": 800}, color_scheme=scheme):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("s")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_hundred_classes_are_filtered_and_fit_a_phone(browser: Browser, tmp_path: Path) -> None:
    sample = make_sample(tmp_path, classes=124, frames=8)
    done = write_report([sample.steady], context=Context(sample.workspace))
    for page in opened(browser, done.page, viewport={"width": 390, "height": 800}):
        assert page.locator("#shown").inner_text() == "3 of 124"
        page.locator("#occurring").uncheck()
        assert page.locator("#by-class tbody tr:visible").count() == 124
        page.locator("#filter").fill("number_11")
        assert page.locator("#shown").inner_text() == "11 of 124"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        box = page.locator("#by-class thead").bounding_box()
        assert box is not None
        assert box["width"] <= 390  # no column is hidden


def test_three_hundred_frames_are_scrubbed_without_a_stutter(browser: Browser, tmp_path: Path) -> None:
    sample = make_sample(tmp_path, frames=LONG)
    done = write_report([sample.flickering, sample.steady], context=Context(sample.workspace))
    for page in opened(browser, done.page, viewport={"width": 1280, "height": 800}):
        page.keyboard.press("s")
        took = page.evaluate(
            """async (count) => {
              const place = document.getElementById("place"), took = [];
              let before = performance.now();
              for (let number = 0; number < count; number++) {
                place.value = number;
                place.dispatchEvent(new Event("input"));
                await new Promise(requestAnimationFrame);
                took.push(performance.now() - before);
                before = performance.now();
              }
              return took;
            }""",
            LONG,
        )
        shows(page, f"({LONG} of {LONG})")
        ordered = sorted(took)
        print(f"median {ordered[LONG // 2]:.1f} ms, 95th percentile {ordered[LONG * 95 // 100]:.1f} ms")
        assert ordered[LONG // 2] < SLOW
