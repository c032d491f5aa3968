"""The parts of a report's page: scripts, pictures, and the folder."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import find_boundaries
from store_samples import snapshot

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.page.folder import MARKER, fresh_report
from vsscli.page.layers import LEVELS, drawn_size, heat_layer, label_layer, mark_layer, photograph, readout
from vsscli.page.script import call_script, page_json
from vsscli.report.overlay import heat, outlines

TABLE = ClassTable("t", ("road", "sky", "car"), ((200, 0, 0), (0, 200, 0), (0, 0, 200)))


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_nothing_in_a_value_ends_a_script_or_hides() -> None:
    values = {"</script><!--": ["&amp;", "\u2028\u2029", "\x1b[31m", "\u202e", "é", 0.5, None, True]}
    text = page_json(values)
    assert text.isascii()
    assert not set(text) & set("<>&")
    assert json.loads(text) == {
        "</script><!--": ["&amp;", "\\u2028\\u2029", "\\x1b[31m", "\\u202e", "é", 0.5, None, True]
    }
    assert call_script("f", 1, "a") == b'f(1,"a");\n'


def test_labels_have_their_colours_and_void_is_transparent() -> None:
    label = np.zeros((6, 8), np.uint8)
    label[:, 4:] = 2
    label[4:] = 255
    shown = picture(label_layer(label, TABLE, (6, 8)))
    assert shown[0, 0].tolist() == [200, 0, 0, 255]
    assert shown[0, 6].tolist() == [0, 0, 200, 255]
    assert shown[0, 4].tolist() == [255, 255, 255, 128]  # the line between classes
    assert shown[5, 0, 3] == 0
    assert picture(label_layer(label, TABLE, (3, 4))).shape == (3, 4, 4)


def test_marks_are_stripes_and_elsewhere_nothing() -> None:
    marked = np.zeros((6, 8), bool)
    marked[2:4] = True
    shown = picture(mark_layer(marked, (6, 8)))
    assert (shown[..., 3] > 0).tolist() == marked.tolist()
    assert len({tuple(pixel) for pixel in shown[marked].tolist()}) == 2


def test_entropy_is_the_heat_map_in_steps() -> None:
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    shown = picture(heat_layer(values, (1, 3)))[..., :3]
    steps = np.round(values * (LEVELS - 1)) / (LEVELS - 1)
    assert shown.tolist() == heat(steps).tolist()


def test_large_frames_are_drawn_smaller() -> None:
    assert drawn_size((480, 853)) == (480, 853)
    assert drawn_size((1080, 1920)) == (540, 960)
    assert picture(photograph(np.zeros((1080, 1920, 3), np.uint8), (540, 960))).shape == (540, 960, 4)


def test_the_readout_has_exact_shares_and_coarse_labels() -> None:
    label = np.zeros((60, 128), np.uint8)
    label[:, 96:] = 1
    label[:10] = 255
    facts = readout(label, TABLE)
    assert facts["shares"] == [[0, 0.625], [1, round(50 * 32 / 60 / 128, 6)]]
    columns, rows, *runs = facts["grid"]
    assert (columns, rows) == (64, 30)
    grid = np.repeat(runs[::2], runs[1::2]).reshape(rows, columns)
    assert grid.tolist() == label[1::2, 1::2].tolist()


def test_outlines_are_those_of_scikit_image() -> None:
    label = np.random.default_rng(0).integers(0, 3, (20, 30)).repeat(3, 0).repeat(3, 1).astype(np.uint8)
    label[label == 2] = 255
    assert (outlines(label) == find_boundaries(label, mode="inner", background=255)).all()
    assert (outlines(label, thin=True) <= outlines(label)).all()


# The folder


def write(out: Path, text: bytes, *, fail: bool = False) -> None:
    with fresh_report(out) as inside:
        inside.write(inside.root / "index.html", text)
        if fail:
            raise VssError("no more")


def test_a_report_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "report"
    write(out, b"1")
    (out / "videos").mkdir()
    write(out, b"2")
    assert {path.name for path in out.iterdir()} == {MARKER, "index.html"}
    with pytest.raises(VssError, match="no more"):
        write(out, b"3", fail=True)
    assert (out / "index.html").read_bytes() == b"2"
    assert os.listdir(tmp_path) == ["report"]


def test_what_is_no_report_is_not_replaced(tmp_path: Path, others: Path) -> None:
    before = snapshot(others)
    with pytest.raises(VssError, match="something else"):
        write(others, b"1")
    assert snapshot(others) == before
    out = tmp_path / "report"
    write(out, b"1")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(VssError, match=r"notes\.txt"):
        write(out, b"2")
    assert (out / "index.html").read_bytes() == b"1"


def test_a_report_may_be_behind_a_link_and_leaves_alone_what_links_in_it_lead_to(tmp_path: Path, others: Path) -> None:
    before = snapshot(others)
    write(tmp_path / "disk" / "report", b"1")
    (tmp_path / "disk" / "report" / "videos").symlink_to(others)
    (tmp_path / "report").symlink_to(tmp_path / "disk" / "report")
    write(tmp_path / "report", b"2")
    assert (tmp_path / "report").is_symlink()
    assert (tmp_path / "disk" / "report" / "index.html").read_bytes() == b"2"
    assert snapshot(others) == before
