"""A submission is checked as a server would, and no zip can harm the checker."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from png_samples import palette_file, png_file, rows_of
from submission_samples import (
    CLASSES,
    ENTRIES,
    SIZE,
    Entry,
    good_entries,
    label_of,
    open_split,
    png,
    write_labels,
    write_split,
    zip_of,
)

from vsscli.data.classes import ClassTable
from vsscli.data.palettes import legend_of
from vsscli.data.png import encode_label
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels
from vsscli.submission import check as checking
from vsscli.submission.archive import write_submission
from vsscli.submission.check import Checked, check_submission
from vsscli.submission.layout import Layout

FIRST = ENTRIES[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("check") / "street")


def found(root: Path, path: Path, layout: Layout | None = None, workers: int = 1) -> Checked:
    return check_submission(path, open_split(root), layout or Layout(CLASSES), workers=workers)


def kinds(checked: Checked) -> list[tuple[str, str]]:
    return [(fault.kind, fault.entry) for fault in checked.faults]


def replaced(data: bytes) -> list[Entry]:
    """Valid entries, except for the first."""
    return [(FIRST, data), *good_entries()[1:]]


# Zips that are right


@pytest.mark.parametrize("layout", [Layout(CLASSES), Layout(CLASSES, 1, "top")])
def test_what_is_packed_is_found_right(layout: Layout, root: Path, tmp_path: Path) -> None:
    labels = FolderLabels(write_labels(tmp_path / "labels"))
    write_submission(open_split(root), labels, tmp_path / "s.zip", layout)
    checked = found(root, tmp_path / "s.zip", layout, workers=2)
    assert checked.ok
    assert (checked.frames, checked.entries, checked.classes) == (6, 6, CLASSES)
    assert checked.to_json()["faults"] == []
    assert not found(root, tmp_path / "s.zip", Layout(CLASSES, 1 - layout.offset, layout.prefix)).ok


def test_palette_images_folders_and_any_order_are_right_too(root: Path, tmp_path: Path) -> None:
    entries: list[Entry] = [("one/", b""), ("two/", b"")]
    for entry in reversed(ENTRIES):
        image = Image.fromarray(label_of(entry))
        image.putpalette(bytes(range(256)) * 3)
        image.save(tmp_path / "p.png")
        entries.append((entry, (tmp_path / "p.png").read_bytes()))
    checked = found(root, zip_of(tmp_path / "s.zip", entries, zipfile.ZIP_DEFLATED))
    assert checked.ok
    assert checked.entries == 6


# Zips that are wrong


def test_missing_surplus_and_duplicate_frames_are_told_apart(root: Path, tmp_path: Path) -> None:
    entries = [*good_entries()[1:], ("one/0009.png", b""), (".DS_Store", b"")]
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zip_of(tmp_path / "s.zip", [*entries, good_entries()[-1]])
    assert kinds(found(root, path)) == [
        ("surplus", "one/0009.png"),
        ("surplus", ".DS_Store"),
        ("duplicate", ENTRIES[-1]),
        ("missing", FIRST),
    ]


LABEL = label_of(FIRST)
WRONG = {
    "another size": (png(LABEL[:12]), "size", "is 32x12, its frame is 32x24"),
    "turned": (png(np.ascontiguousarray(LABEL.T)), "size", "is 24x32"),
    "colour": (png(np.stack([LABEL] * 3, axis=2)), "mode", "8-bit RGB"),
    "16 bits": (png(LABEL.astype(np.uint16)), "mode", "16-bit grey"),
    "1 bit": (png(LABEL > 2), "mode", "1-bit grey"),
    "void": (png(np.where(LABEL == 3, 255, LABEL).astype(np.uint8)), "values", "holds value 255, outside 0..4"),
    "many": (png((LABEL + 5).astype(np.uint8)), "values", "holds values 5, 6, 7, 8, 9, outside 0..4"),
    "no PNG": (b"GIF89a and so on", "mode", "is not a PNG"),
    "nothing": (b"", "mode", "is not a PNG"),
    "rows missing": (png_file(LABEL, rows=rows_of(LABEL[..., None], 8)[:200]), "damaged", "it is truncated"),
    "rows missing, interlaced": (
        png_file(LABEL, interlaced=True, rows=rows_of(LABEL[..., None], 8, True)[:200]),
        "damaged",
        "it is truncated",
    ),
    "half": (png(LABEL)[:-40], "damaged", "does not decode"),
    "only a head": (png(LABEL)[:33], "damaged", "does not decode"),
}


def test_a_palette_in_another_order_is_told_since_servers_read_numbers(root: Path, tmp_path: Path) -> None:
    colours = [(70, 0, 0), (0, 90, 0), (0, 0, 110), (130, 130, 0), (0, 150, 150)]
    legend = legend_of(ClassTable("t", tuple("abcde"), tuple(colours)))
    order = [3, 1, 0, 4, 2]
    numbers = np.argsort(order).astype(np.uint8)[LABEL]
    right = palette_file(LABEL, colours)
    assert check_submission(
        zip_of(tmp_path / "s.zip", replaced(right)), open_split(root), Layout(CLASSES), legend=legend
    ).ok
    path = zip_of(tmp_path / "s.zip", replaced(palette_file(numbers, [colours[value] for value in order])))
    checked = check_submission(path, open_split(root), Layout(CLASSES), legend=legend)
    assert kinds(checked) == [("values", FIRST)]
    assert "a server reads the numbers" in checked.faults[0].what


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_an_image_is_told(name: str, root: Path, tmp_path: Path) -> None:
    data, kind, words = WRONG[name]
    checked = found(root, zip_of(tmp_path / "s.zip", replaced(data)))
    assert kinds(checked) == [(kind, FIRST)]
    assert words in checked.faults[0].what
    assert checked.counts == {kind: 1}


@pytest.mark.parametrize(
    "name",
    [
        "../up.png",
        "one/../../up.png",
        "/etc/up.png",
        "C:/up.png",
        "..\\up.png",
        "one\\0001.png",
        "\\\\host\\up.png",
        "one//0001.png",
        "./one/0001.png",
        "one/0001.png\0.txt",
        "\0.txt",
        "one/\x1b[2J.png",
        "../",
    ],
)
def test_names_that_lead_elsewhere_are_told(name: str, root: Path, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("harmless")
    info.filename = name  # the constructor would cut it at a null byte
    checked = found(root, zip_of(tmp_path / "s.zip", [*good_entries(), (info, b"x")]))
    assert checked.counts == {"path": 1}


def test_a_link_is_no_frame(root: Path, tmp_path: Path) -> None:
    info = zipfile.ZipInfo(FIRST)
    info.external_attr = 0o120777 << 16
    checked = found(root, zip_of(tmp_path / "s.zip", [(info, b"/etc/passwd"), *good_entries()[1:]]))
    assert kinds(checked) == [("path", FIRST), ("missing", FIRST)]


def test_faults_are_counted_and_the_first_of_each_kind_listed(root: Path, tmp_path: Path) -> None:
    entries = [(f"more/{number:04d}.png", b"") for number in range(500)]
    checked = found(root, zip_of(tmp_path / "s.zip", [*entries, ("x" * 5000, b"")]))
    assert checked.counts == {"surplus": 501, "missing": 6}
    assert len(checked.faults) == 16
    assert all(len(fault.entry) < 300 for fault in checked.faults)


@pytest.mark.parametrize(
    ("made", "expected", "hint"),
    [
        (Layout(CLASSES, 0, "top/folder"), Layout(CLASSES), "add --prefix top/folder"),
        (Layout(CLASSES, 0, "top"), Layout(CLASSES, 0, "other"), "add --prefix top"),
        (Layout(CLASSES), Layout(CLASSES, 0, "top"), "leave --prefix out"),
        (Layout(CLASSES, 1), Layout(CLASSES), "add --label-offset 1"),
        (Layout(CLASSES), Layout(CLASSES, 1), "leave --label-offset out"),
    ],
)
def test_a_zip_for_another_server_is_recognised(
    made: Layout, expected: Layout, hint: str, root: Path, tmp_path: Path
) -> None:
    write_submission(open_split(root), FolderLabels(write_labels(tmp_path / "labels")), tmp_path / "s.zip", made)
    assert hint in found(root, tmp_path / "s.zip", expected).hint


# Zips that are meant to harm


def patched(path: Path, entry: str, offset: int, value: bytes) -> Path:
    """Change a field in the list of entries: ``offset`` counts from the start of that entry's record."""
    data = bytearray(path.read_bytes())
    place = data.rindex(entry.encode()) - 46 + offset
    data[place : place + len(value)] = value
    path.write_bytes(data)
    return path


def test_a_claim_beyond_any_mask_is_not_unpacked(root: Path, tmp_path: Path) -> None:
    path = patched(zip_of(tmp_path / "s.zip", good_entries()), FIRST, 24, struct.pack("<I", 2**32 - 2))
    checked = found(root, path)
    assert kinds(checked) == [("bomb", FIRST)]
    assert "claims 4294967294 bytes" in checked.faults[0].what


def bomb(size: int, method: int = zipfile.ZIP_DEFLATED) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(FIRST)
    info.compress_type = method
    return info, bytes(size)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("honest", [True, False])
def test_unpacking_stops_where_a_mask_would_end(method: int, honest: bool, root: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "s.zip", [bomb(2**25, method), *good_entries()[1:]])
    if not honest:
        patched(path, FIRST, 24, struct.pack("<I", 600))
    assert peak(root, path) < 2**21


def test_an_image_that_inflates_beyond_its_head_is_not_followed(root: Path, tmp_path: Path) -> None:
    head = encode_label(np.zeros(SIZE, np.uint8))[:33]
    deflated = zlib.compress(bytes(2**25))
    data = head + struct.pack(">I", len(deflated)) + b"IDAT" + deflated
    data += struct.pack(">I", zlib.crc32(b"IDAT" + deflated)) + struct.pack(">I", 0) + b"IEND" + b"\xaeB`\x82"

    assert peak(root, zip_of(tmp_path / "s.zip", replaced(data))) < 2**21


def test_a_second_head_does_not_enlarge_an_image(root: Path, tmp_path: Path) -> None:
    large, small = png(np.zeros((5000, 5000), np.uint8)), png(LABEL)
    checked = found(root, zip_of(tmp_path / "s.zip", replaced(small[:33] + large[8:])))
    assert kinds(checked) == [("damaged", FIRST)]


def peak(root: Path, path: Path) -> int:
    """Peak memory of checking a zip with only the first entry invalid."""
    found(root, path)  # imports and caches do not count
    tracemalloc.start()
    try:
        checked = found(root, path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {entry for _, entry in kinds(checked)} <= {FIRST}
    return most


def test_entries_that_share_their_bytes_are_told(root: Path, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "s.zip", good_entries())
    patched(path, FIRST, 20, struct.pack("<I", 2**20))
    assert ("bomb", "") in kinds(found(root, path))


def test_encrypted_entries_are_told(root: Path, tmp_path: Path) -> None:
    path = patched(zip_of(tmp_path / "s.zip", good_entries()), FIRST, 8, struct.pack("<H", 1))
    assert kinds(found(root, path)) == [("packing", FIRST)]


def test_a_list_of_entries_out_of_all_proportion_is_not_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "SPARE_BYTES", 0)
    path = zip_of(tmp_path / "s.zip", [(f"{number}/{'x' * 90}", b"") for number in range(100)])
    with pytest.raises(VssError, match="its list of entries takes"):
        found(root, path)


def test_a_large_frame_is_no_list_of_entries(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "SPARE_BYTES", 0)
    monkeypatch.setattr(checking, "NAME_BYTES", 100)
    noise = np.random.default_rng(0).integers(0, CLASSES, SIZE).astype(np.uint8)
    path = zip_of(tmp_path / "s.zip", replaced(png(noise, compress_level=0)))
    assert found(root, path).ok


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"no zip at all" * 99])
def test_what_is_no_zip_is_refused(content: bytes, root: Path, tmp_path: Path) -> None:
    (tmp_path / "s.zip").write_bytes(content)
    with pytest.raises(VssError, match=r"s\.zip is not a readable zip"):
        found(root, tmp_path / "s.zip")
    with pytest.raises(VssError, match="can't be read"):
        found(root, tmp_path / "gone.zip")
    with pytest.raises(VssError, match="is a folder"):
        found(root, tmp_path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_goes_unnoticed_or_ends_in_anything_but_a_finding(data: st.DataObject, root: Path) -> None:
    path = root.parent / "damaged.zip"
    whole = bytearray(zip_of(path, good_entries()).read_bytes())
    place = data.draw(st.integers(0, len(whole) - 2))
    whole[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.sampled_from([len(whole), place + 1]))
    path.write_bytes(whole[:cut])
    try:
        checked = found(root, path)
    except VssError:
        return
    assert cut == len(whole), "a zip that is cut has no list of entries at its end"
    if checked.ok:  # what was hit is a date, a version, permissions: every pixel is as it was
        with zipfile.ZipFile(path) as archive:
            for entry in ENTRIES:
                with archive.open(entry) as file, Image.open(file) as image:
                    np.testing.assert_array_equal(np.array(image), label_of(entry))
