"""Full disks and read-only folders: one clear error from every command, and nothing is lost."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted_samples import write_detectron2
from small import CHAIN, small_loop, small_recipe, train, write_recipe

from vsscli.cli.app import run
from vsscli.data.masks import write_mask

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")

WRITES = {
    "remap": ["--source", "camvid", "--masks", "masks", "--out", "new/masks", "--workers", "1"],
    "train": ["--recipe", "small.yaml", "--out", "new/run"],
    "predict": ["--model", "runs/small/last.pt", "--split", "val", "--workspace", "new"],
    "predict --input": ["--model", "runs/small/last.pt", "--input", "clip", "--out", "new/masks"],
    "pseudo": ["--models", "runs/small/last.pt", "--workspace", "new"],
    "pseudo --store": ["--store", "a.zarr", "--percentile", "50"],
    "ensemble": ["--stores", "a.zarr", "b.zarr", "--out", "new/fused.zarr"],
    "ensemble --temporal": ["--stores", "a.zarr", "--temporal", "1", "--out", "new/smooth.zarr"],
    "ensemble --sweep": ["--stores", "a.zarr", "b.zarr", "--sweep", "new/sweep.svg"],
    "convert": ["official.pkl", "--to", "new/official.pt"],
    "submit": ["--pred", "a.zarr", "--out", "new/submission.zip"],
    "show": ["--store", "a.zarr", "--out", "new/pictures"],
    "run": ["loop.yaml", "--workspace", "new"],
    "demo": ["--workspace", "new"],
    "recipe cp": ["teacher", "new/teacher.yaml"],
    "cache gc": [],
    "cache repair": ["--stores", "a.zarr"],
}
READS = {
    "eval": ["--pred", "a.zarr", "--metric", "miou"],
    "vc": ["--pred", "a.zarr"],
    "cache ls": [],
    "cache du": ["--stores", "a.zarr"],
    "cache verify": ["--stores", "a.zarr"],
    "doctor": ["--data", "data"],
    "recipe validate": ["small.yaml"],
    "run --dry-run": ["loop.yaml", "--workspace", "new"],
    "predict (cached)": ["--model", "runs/small/last.pt", "--split", "val"],
}
MENDS = ("cache gc", "cache repair")


def words_of(command: str, arguments: Sequence[str]) -> list[str]:
    words = command.split(" (")[0].split()
    return [word for word in words if not word.startswith("--")] + [*arguments, *(w for w in words if w == "--dry-run")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a bit of everything."""
    folder = tmp_path_factory.mktemp("made")
    recipe = small_recipe(folder / "data", steps=2)
    write_recipe(folder / "small.yaml", recipe)
    last = train(recipe, folder / "runs/small").last
    small_loop(folder, CHAIN, steps=2)
    write_detectron2(folder / "official.pkl")
    for number in range(3):
        write_mask(folder / f"masks/{number}.png", np.full((6, 8), number, np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for out in ("a.zarr", "b.zarr"):
            tta = ["--tta"] if out == "b.zarr" else []
            assert run(["predict", "--model", str(last), "--split", "val", "--out", out, "-q", *tta]) == 0
        assert run(["predict", "--model", str(last), "--split", "val", "-q"]) == 0
    shutil.copytree(next((folder / "data/data").glob("val-*/origin")), folder / "clip")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "place", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class _ReadOnly:
    """A hook that stays as long as Python runs, and refuses writing while it is asked to."""

    active = False
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    OTHERS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime")

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            path, _, flags = arguments
            if not flags & self.WRITING or isinstance(path, int) or str(path).startswith("/dev/"):
                return
        elif event in self.OTHERS:
            path = arguments[0]
        else:
            return
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


READ_ONLY = _ReadOnly()


@contextmanager
def read_only() -> Iterator[None]:
    """Refuse all that Python writes to, as a file system that is mounted so does."""
    if not hasattr(READ_ONLY, "added"):
        sys.addaudithook(READ_ONLY)
        READ_ONLY.added = True  # type: ignore[attr-defined]
    READ_ONLY.active = True
    try:
        yield
    finally:
        READ_ONLY.active = False


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "please report" not in err
    return err


@pytest.mark.parametrize("room", [0, 3000])
@pytest.mark.parametrize("command", WRITES)
def test_a_full_disk_is_one_error(command: str, room: int, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(place)
    with full_disk(room):
        code = run([*words_of(command, WRITES[command]), "--quiet"])
    err = complaint(capsys)
    assert code in ((0,) if command in MENDS else (0, 2) if room else (2,)), err
    if code:
        assert err.count("error: ") == 1
        assert "File too large" in err
    assert contents(place).items() >= before.items()
    assert not [path for path in place.rglob("*.part") if path.is_file()]


@pytest.mark.parametrize("command", WRITES)
def test_a_read_only_disk_is_one_error(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(place)
    with read_only():
        code = run([*words_of(command, WRITES[command]), "--quiet"])
    err = complaint(capsys)
    assert code == (0 if command in MENDS else 2), err
    if code:
        assert err.count("error: ") == 1
        assert "Read-only file system" in err
    assert contents(place) == before


@pytest.mark.parametrize("command", READS)
def test_what_only_reads_is_not_stopped_by_it(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(place)
    with read_only():
        code = run([*words_of(command, READS[command]), "--quiet"])
    assert code == 0, complaint(capsys)
    assert contents(place) == before
