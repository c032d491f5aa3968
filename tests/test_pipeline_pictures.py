"""Pictures and films of predictions, over the frames of a data set or of one's own clips."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest
from evaluation_samples import refusal
from PIL import Image
from report_samples import FRAMES, SIZE, Sample, label_of, make_sample, make_store
from test_cli_disk import full_disk

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.data.classes import load_class_table
from vsscli.data.inputs import expanded, open_inputs
from vsscli.data.masks import write_mask
from vsscli.data.videofile import FileVideo
from vsscli.errors import VssError
from vsscli.pipeline.masks import film_masks
from vsscli.pipeline.pictures import draw_film, draw_pictures
from vsscli.report.film import Film
from vsscli.report.overlay import coloured


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample"))


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def drawn(sample: Sample, t: int) -> np.ndarray:
    """A frame of the flickering prediction as it should be drawn."""
    table = load_class_table("classes.json", sample.root)
    return coloured(np.full((*SIZE, 3), 90 + 5 * (t % 10), np.uint8), label_of(t, flickers=True), table)


def test_a_film_has_the_pixels_of_the_pictures(sample: Sample, tmp_path: Path) -> None:
    draw_film(sample.flickering, tmp_path / "a.mkv", video="street")
    frames = decoded(tmp_path / "a.mkv")
    assert len(frames) == FRAMES
    assert all((frame == drawn(sample, t)).all() for t, frame in enumerate(frames))
    draw_film(sample.flickering, tmp_path / "a.mp4", every=3)
    small = decoded(tmp_path / "a.mp4")
    assert len(small) == -(-FRAMES // 3)
    assert np.abs(small[2].astype(int) - drawn(sample, 6)).mean() < 12  # colours at half resolution
    refusal(lambda: draw_film(sample.flickering, tmp_path / "a.gif"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "a.mp4"]


def test_frames_are_found_where_a_name_is_spelled_otherwise_than_in_the_store(tmp_path: Path) -> None:
    sample = make_sample(tmp_path, frames=2)
    composed, decomposed = "all\u00e9e", "alle\u0301e"
    (sample.root / "data" / "alley").rename(sample.root / "data" / decomposed)
    (sample.root / "val.txt").write_text(decomposed)
    table = load_class_table("classes.json", sample.root)
    store = make_store(sample.root, table, [composed], tmp_path / "a.zarr", frames=2)
    for video in (composed, decomposed):
        pictures = draw_pictures(store, tmp_path / "out", video=video, stems=["00001"])
        assert pictures == [tmp_path / "out" / composed / "00001.png"]


def test_every_nth_and_named_frames_are_drawn(sample: Sample, tmp_path: Path) -> None:
    pictures = draw_pictures(sample.steady, tmp_path, video="alley", every=15)
    assert pictures == [tmp_path / "alley" / f"{stem}.png" for stem in ("00000", "00015", "00030")]
    pictures = draw_pictures(sample.steady, tmp_path, video="alley", stems=["00007"])
    assert pictures == [tmp_path / "alley" / "00007.png"]
    refusal(lambda: draw_pictures(sample.steady, tmp_path, video="alley", stems=["7"]))


def test_masks_are_drawn_as_a_store_is_but_for_entropy(sample: Sample, tmp_path: Path) -> None:
    for t in (1, 2):
        write_mask(tmp_path / "masks" / "street" / f"{t:05d}.png", label_of(t, flickers=True))
    context = Context(sample.workspace, sample.root)
    pictures = draw_pictures(tmp_path / "masks", tmp_path / "out", context=context)
    assert [path.name for path in pictures] == ["00001.png", "00002.png"]
    (whole,) = draw_pictures(sample.flickering, tmp_path / "whole", video="street", stems=["00001"])
    own, all_of_it = np.asarray(Image.open(pictures[0])), np.asarray(Image.open(whole))
    assert (own[30:100] == all_of_it[30:100, : own.shape[1]]).all()
    film = ["show", "--store", str(tmp_path / "masks"), "--data", str(sample.root), "--film", str(tmp_path / "a.mkv")]
    assert run([*film, "--width", "600"]) == 2
    assert not (tmp_path / "a.mkv").exists()
    assert run(film) == 0
    assert (decoded(tmp_path / "a.mkv")[1] == drawn(sample, 2)).all()


# One's own clips


def write_clip(path: Path, frames: int = 3) -> Path:
    with Film(path, (16, 32), 5) as film:
        for t in range(frames):
            film.add(np.full((16, 32, 3), 40 * t % 256, np.uint8))
    return path


def test_several_inputs_patterns_and_folders_are_opened(tmp_path: Path) -> None:
    write_clip(tmp_path / "a" / "cam.mp4")
    write_clip(tmp_path / "b" / "cam.mp4")
    write_clip(tmp_path / "b" / "other.mkv")
    (tmp_path / "c").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "c" / "1.png")
    paths = expanded([tmp_path / "a" / "*.mp4", tmp_path / "b", tmp_path / "c"])
    assert [video.name for video in open_inputs(paths)] == ["a_cam", "b_cam", "other", "c"]
    assert [video.name for video in open_inputs(expanded([tmp_path / "?" / "o*"]))] == ["other"]
    assert "matches nothing" in refusal(lambda: expanded([tmp_path / "*.avi"])).message
    assert "does not exist" in refusal(lambda: open_inputs([tmp_path / "a", tmp_path / "z"])).message
    refusal(lambda: expanded([]))


def test_masks_of_a_clip_become_a_film_at_its_speed(sample: Sample, tmp_path: Path) -> None:
    clip = FileVideo(write_clip(tmp_path / "cam.mp4"))
    assert clip.fps == 5
    table = load_class_table("classes.json", sample.root)
    for t in range(3):
        write_mask(tmp_path / "out" / "cam" / f"{t:06d}.png", np.full((16, 32), t, np.uint8), table)
    film = film_masks(clip, tmp_path / "out", table)
    assert film == tmp_path / "out" / "cam.mp4"
    frames = decoded(film)
    assert FileVideo(film).fps == 5
    for t, (frame, image) in enumerate(zip(frames, clip.images(), strict=True)):
        wanted = coloured(image, np.full((16, 32), t, np.uint8), table)
        assert np.abs(frame.astype(int) - wanted).mean() < 6


def test_masks_of_a_clip_are_drawn_over_its_frames_and_the_film_is_the_same_frame_by_frame(
    sample: Sample, tmp_path: Path
) -> None:
    clip, table = (
        FileVideo(write_clip(tmp_path / "clips" / "cam.mp4", 30)),
        load_class_table("classes.json", sample.root),
    )
    for t in range(30):
        label = np.full((16, 32), t % 3, np.uint8)
        write_mask(tmp_path / "masks" / "cam" / f"{t:06d}.png", label, table)
    context = Context(tmp_path, tmp_path / "clips" / "cam.mp4")
    pictures = draw_pictures(tmp_path / "masks", tmp_path / "out", context=context, every=1)
    assert len(pictures) == 30
    for video in ("whole.mkv", "cam.mp4"):
        own = draw_film(tmp_path / "masks", tmp_path / video, context=context) if video == "whole.mkv" else None
        frames = decoded(own or film_masks(clip, tmp_path / "masks", table))
        assert len(frames) == 30
        for t, (frame, picture) in enumerate(zip(frames, pictures, strict=True)):
            shown = np.asarray(Image.open(picture))[21 : 21 + 160 : 10, 8 : 8 + 320 : 10]
            # `vss show` enlarges small frames tenfold; a film of H.264 has colours at half the resolution.
            assert np.abs(frame.astype(int) - shown).mean() < (1 if own else 4), t
    arguments = ["--store", str(tmp_path / "masks"), "--data", str(tmp_path / "clips"), "--out", str(tmp_path / "o")]
    assert run(["show", *arguments]) == 0


def test_a_film_keeps_a_speed_that_is_no_whole_number(tmp_path: Path) -> None:
    with Film(tmp_path / "a.mp4", (16, 16), 30000 / 1001) as film:
        film.add(np.zeros((16, 16, 3), np.uint8))
    assert FileVideo(tmp_path / "a.mp4").fps == 30000 / 1001


def test_a_film_is_there_in_full_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> None:
        with Film(tmp_path / "a.mp4", (16, 16)) as film:
            film.add(np.zeros((16, 16, 3), np.uint8))
            raise VssError("no more", "try again")

    refusal(fail)
    refusal(lambda: Film(tmp_path / "a.mp4", (1, 16)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("pictures", [2, 200])  # H.264 writes the first ones at the end, the others meanwhile
def test_a_film_that_does_not_fit_on_the_disk_is_one_error_and_leaves_nothing(
    tmp_path: Path, name: str, pictures: int
) -> None:
    rng = np.random.default_rng(0)

    def fill() -> None:
        with full_disk(20_000), Film(tmp_path / name, (128, 128)) as film:
            for _ in range(pictures):
                film.add(rng.integers(0, 255, (128, 128, 3), np.uint8))

    assert str(tmp_path / name) in refusal(fill).message
    assert list(tmp_path.iterdir()) == []
