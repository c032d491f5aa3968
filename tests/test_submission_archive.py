"""A submission contains every frame of its split, has the same bytes every time, and is written atomically."""

from __future__ import annotations

import io
import os
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cli_process import start
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from store_crashes import part_of
from submission_samples import (
    CLASSES,
    ENTRIES,
    SIZE,
    label_of,
    open_split,
    write_labels,
    write_split,
    write_store,
)
from zlib_ng import zlib_ng

from vsscli.data import png
from vsscli.data.masks import write_mask
from vsscli.data.png import parse_png
from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels, StoreLabels
from vsscli.store.reader import open_store
from vsscli.submission.archive import write_submission
from vsscli.submission.layout import Layout, entry_fault

LABELS = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_split(tmp_path / "street")


@pytest.fixture
def labels(tmp_path: Path) -> FolderLabels:
    return FolderLabels(write_labels(tmp_path / "labels"))


def refusal(root: Path, labels: FolderLabels, out: Path, layout: Layout | None = None) -> VssError:
    with pytest.raises(VssError) as caught:
        write_submission(open_split(root), labels, out, layout or Layout(CLASSES), engine=Engine(1))
    assert caught.value.hint
    return caught.value


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("street", "labels"))


# The PNGs


@given(LABELS)
def test_any_label_comes_back_from_pillow_as_grey_class_indices(label: np.ndarray) -> None:
    data = png.encode_label(label)
    with Image.open(io.BytesIO(data)) as image:
        image.verify()
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.array(image), label)
    np.testing.assert_array_equal(parse_png(data).numbers(), label)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3, 1.0])
def test_another_deflate_gives_the_same_bytes(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    label = np.repeat(np.repeat(rng.integers(0, 124, (12, 20)), 40, axis=0), 42, axis=1).astype(np.uint8)
    noisy = rng.random(label.shape) < noise
    label[noisy] = rng.integers(0, 124, int(noisy.sum()))
    ours = png.encode_label(label)
    monkeypatch.setattr(png, "zlib", zlib_ng)
    assert png.encode_label(label) == ours


# What is written


def test_every_frame_is_an_entry_in_the_order_of_names(root: Path, labels: FolderLabels, tmp_path: Path) -> None:
    out = tmp_path / "new" / "submission.zip"
    written = write_submission(open_split(root), labels, out, Layout(CLASSES))
    assert (written.path, written.videos, written.frames) == (out, 2, 6)
    assert written.bytes == out.stat().st_size
    with zipfile.ZipFile(out) as packed:
        assert packed.namelist() == ENTRIES
        assert packed.testzip() is None
        for info in packed.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o100644
            with Image.open(io.BytesIO(packed.read(info))) as image:
                assert image.mode == "L"
                np.testing.assert_array_equal(np.array(image), label_of(info.filename))


def test_the_bytes_depend_on_the_labels_alone(root: Path, labels: FolderLabels, tmp_path: Path) -> None:
    store = StoreLabels(open_store(write_store(tmp_path / "a.zarr", root)))
    videos = open_split(root)
    digests = {
        write_submission(order, source, tmp_path / f"{name}.zip", Layout(CLASSES), engine=Engine(workers)).sha256
        for name, order, source, workers in (
            ("a", videos, labels, 1),
            ("b", videos, labels, 2),
            ("c", videos[::-1], labels, None),
            ("d", videos, store, 1),
        )
    }
    assert len(digests) == 1
    other = StoreLabels(open_store(write_store(tmp_path / "b.zarr", root, shift=1)))
    assert write_submission(videos, other, tmp_path / "e.zip", Layout(CLASSES)).sha256 not in digests


def test_values_and_folder_are_as_the_server_wants_them(root: Path, labels: FolderLabels, tmp_path: Path) -> None:
    layout = Layout.for_classes(CLASSES, 1, "result_submission/")
    write_submission(open_split(root), labels, tmp_path / "s.zip", layout)
    with zipfile.ZipFile(tmp_path / "s.zip") as packed:
        assert packed.namelist() == [f"result_submission/{entry}" for entry in ENTRIES]
        with Image.open(packed.open(f"result_submission/{ENTRIES[0]}")) as image:
            np.testing.assert_array_equal(np.array(image), label_of(ENTRIES[0]) + 1)


@pytest.mark.parametrize(
    ("classes", "offset", "prefix", "words"),
    [
        (124, 133, "", "0..255"),
        (124, -1, "", "0..255"),
        (5, 0, "../up", "leads out"),
        (5, 0, "/top", "absolute"),
        (5, 0, "a//b", "plain path"),
        (5, 0, "a\\b", "backslash"),
    ],
)
def test_a_layout_that_no_zip_can_have_is_refused(classes: int, offset: int, prefix: str, words: str) -> None:
    with pytest.raises(VssError, match=words):
        Layout.for_classes(classes, offset, prefix)


@given(st.text(max_size=20))
def test_a_name_without_fault_stays_in_its_folder(name: str) -> None:
    if not entry_fault(name):
        assert os.path.normpath(f"/top/{name}") == f"/top/{name}"
        assert os.path.normpath(name) == name


# What is refused


def test_missing_frames_and_odd_sizes_are_named_before_anything_is_written(
    root: Path, labels: FolderLabels, tmp_path: Path
) -> None:
    (labels.path / "one" / "0002.png").unlink()
    write_mask(labels.path / "two" / "0003.png", np.zeros((12, 16), np.uint8))
    (labels.path / "two" / "0001.png").write_bytes(b"\x89PNG and no more")
    error = refusal(root, labels, tmp_path / "new" / "s.zip")
    assert error.message.splitlines()[0].startswith(
        "3 of 6 frames can't be submitted: 1 missing, 1 damaged, 1 of another size"
    )
    assert "  one/0002: has no prediction" in error.message
    assert "  two/0003: the prediction is 16x12, the frame 32x24" in error.message
    assert "two/0001.png is damaged" in error.message
    assert not (tmp_path / "new").exists()


def test_of_many_missing_frames_the_first_are_named_and_all_counted(root: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for number in range(10, 40):
        Image.new("RGB", SIZE[::-1]).save(root / "data" / "one" / "origin" / f"00{number}.jpg")
    lines = refusal(root, FolderLabels(tmp_path / "labels"), tmp_path / "s.zip").message.splitlines()
    assert "36 of 36" in lines[0]
    assert lines[1].startswith("  one/0001")
    assert lines[-1] == "  … and 30 more"
    assert len(lines) == 8


def test_a_video_that_a_store_lacks_is_missing(root: Path, tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path / "a.zarr", root, videos=["two"]))
    with pytest.raises(VssError, match=r"(?s)3 of 6 frames.*3 missing.*one/0001: has no prediction"):
        write_submission(open_split(root), StoreLabels(store), tmp_path / "s.zip", Layout(CLASSES))
    assert leftovers(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("value", [CLASSES, 255])
def test_a_value_that_is_no_class_leaves_the_zip_that_was_there(
    value: int, root: Path, labels: FolderLabels, tmp_path: Path
) -> None:
    before = write_submission(open_split(root), labels, tmp_path / "s.zip", Layout(CLASSES))
    label = label_of(ENTRIES[4])
    label[0, 0] = value
    write_mask(labels.path / ENTRIES[4], label)
    error = refusal(root, labels, tmp_path / "s.zip")
    assert f"{ENTRIES[4]} holds value {value}" in error.message
    assert leftovers(tmp_path) == ["s.zip"]
    assert (tmp_path / "s.zip").stat().st_size == before.bytes


def test_only_a_zip_is_replaced(root: Path, labels: FolderLabels, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "not a zip" in refusal(root, labels, tmp_path / "notes.txt").message
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "is a folder" in refusal(root, labels, tmp_path / "labels").message


def test_a_frame_whose_name_no_zip_should_have_is_refused(root: Path, labels: FolderLabels, tmp_path: Path) -> None:
    folder = root / "data" / "one" / "origin"
    (folder / "0001.jpg").rename(folder / "up\\..\\..\\up.jpg")
    assert "leads to another folder" in refusal(root, labels, tmp_path / "s.zip").message


# What is left by runs that end early

DYING = """
import os, signal, sys
from pathlib import Path
from vsscli.cli.app import main
from vsscli.submission import archive
whole, count = archive.encode_label, iter(range(100))
def encode(label):
    if next(count) == 3:
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
    return whole(label)
archive.encode_label = encode
main(["submit", "--workers", "1", *sys.argv[2:]])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_no_half_zip(
    number: signal.Signals, root: Path, labels: FolderLabels, tmp_path: Path
) -> None:
    out = tmp_path / "s.zip"
    process = start(DYING, number.name, "--pred", str(labels.path), "--data", str(root), "--out", str(out))
    process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert leftovers(tmp_path) == ([part_of(out, process.pid).name] if number == signal.SIGKILL else [])
    write_submission(open_split(root), labels, out, Layout(CLASSES))
    assert leftovers(tmp_path) == ["s.zip"]


def test_what_another_run_is_writing_is_left_alone(root: Path, labels: FolderLabels, tmp_path: Path) -> None:
    part = part_of(tmp_path / "s.zip", os.getppid())
    part.touch()
    write_submission(open_split(root), labels, tmp_path / "s.zip", Layout(CLASSES))
    assert leftovers(tmp_path) == [part.name, "s.zip"]


def test_a_full_disk_is_the_users_to_mend_and_leaves_nothing(
    root: Path, labels: FolderLabels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", write)
    assert "No space left on device" in refusal(root, labels, tmp_path / "s.zip").message
    assert leftovers(tmp_path) == []
