"""The user's own frames: every folder of images and every video file is a video, and what is left out is reported."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from listener import Listener
from PIL import Image

from vsscli.data.inputs import open_input
from vsscli.data.walk import folders_below, kinds
from vsscli.errors import VssError


def images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        suffix = Path(name).suffix.lower()
        kind = {".jfif": "JPEG", ".jpe": "JPEG", ".jif": "JPEG", ".dib": "BMP"}.get(suffix)
        Image.new("RGB", (8, 6)).save(folder / name, kind)


def clip(path: Path, frames: int = 2) -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".m2ts": "mpegts", ".3gp": "3gp"}.get(path.suffix.lower(), "mp4")
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream("mpeg4", rate=15)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            image = np.zeros((48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def names(place: Path, talk: Listener | None = None) -> list[str]:
    return [video.name for video in open_input(place, talk or Listener())]


def test_images_of_every_suffix_that_can_be_read_are_frames(tmp_path: Path) -> None:
    files = ("0.jpg", "1.JPG", "2.jpeg", "3.jpe", "4.jfif", "5.PNG", "6.bmp", "7.TIF", "8.tiff", "9.webp")
    images(tmp_path / "v", *files)
    (video,) = open_input(tmp_path / "v")
    assert video.stems == tuple("0123456789")
    assert [image.shape for image in video.images()] == [(6, 8, 3)] * 10


def test_every_folder_of_images_and_every_video_file_is_a_video_at_any_depth(tmp_path: Path) -> None:
    images(tmp_path / "a", "0.jpg")
    images(tmp_path / "day2" / "cam1", "0.jpg")
    images(tmp_path / "day2" / "far" / "down", "0.jpg")
    clip(tmp_path / "c.mp4")
    clip(tmp_path / "day2" / "d.M2TS")
    clip(tmp_path / "e.3gp")
    assert names(tmp_path) == ["a", "c", "cam1", "d", "down", "e"]


def test_videos_beside_images_are_videos_too(tmp_path: Path) -> None:
    images(tmp_path / "dcim", "IMG_1.JPG")
    clip(tmp_path / "dcim" / "MOV_2.MP4")
    assert names(tmp_path / "dcim") == ["dcim", "MOV_2"]


def test_names_that_repeat_are_those_of_the_whole_path_and_it_is_said(tmp_path: Path) -> None:
    for day in ("day1", "day2"):
        images(tmp_path / day / "cam", "0.jpg")
    images(tmp_path / "other", "0.jpg")
    talk = Listener()
    assert names(tmp_path, talk) == ["day1_cam", "day2_cam", "other"]
    assert "day1/cam is named day1_cam" in talk.said[0]


def test_a_file_called_like_a_folder_has_its_suffix_behind(tmp_path: Path) -> None:
    images(tmp_path / "c", "0.jpg")
    clip(tmp_path / "c.mp4")
    assert names(tmp_path) == ["c", "c_mp4"]


def test_names_that_repeat_even_so_are_refused_with_their_places(tmp_path: Path) -> None:
    for place in ("a_b/x", "a/b_x", "a/x", "b_x"):
        images(tmp_path / place, "0.jpg")
    with pytest.raises(VssError, match=r"more than one video named a_b_x: \S+a/b_x, \S+a_b/x"):
        open_input(tmp_path)


def test_what_is_left_out_is_counted_by_kind(tmp_path: Path) -> None:
    images(tmp_path / "a", "0.jpg")
    for name in ("1.heic", "2.HEIC", "notes.txt", "README"):
        (tmp_path / "a" / name).write_bytes(b"x")
    talk = Listener()
    names(tmp_path, talk)
    assert talk.warned == [
        f"input {tmp_path}: 4 files left out that can't be read as frames: 2 .heic, 1 without suffix and 1 .txt"
    ]
    (tmp_path / "a" / "1.heic").unlink()
    (tmp_path / "a" / "2.HEIC").unlink()
    (tmp_path / "a" / "README").unlink()
    names(tmp_path, calm := Listener())
    assert not calm.warned
    assert "1 .txt" in calm.said[0]


def test_nothing_that_can_be_read_is_told_by_kind(tmp_path: Path) -> None:
    (tmp_path / "1.heic").write_bytes(b"x")
    with pytest.raises(VssError, match=r"holds neither images .* it holds 1 \.heic"):
        open_input(tmp_path)


def test_service_folders_and_files_hold_no_frames(tmp_path: Path) -> None:
    images(tmp_path / "a", "0.jpg", "._1.jpg")
    for folder in ("@eaDir", "__MACOSX", ".ipynb_checkpoints", ".thumbnails", "a/@eaDir", "$RECYCLE.BIN"):
        images(tmp_path / folder, "0.jpg")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    talk = Listener()
    (video,) = open_input(tmp_path, talk)
    assert (video.name, video.stems) == ("a", ("0",))
    assert not talk.warned


def test_links_do_not_multiply_a_tree(tmp_path: Path) -> None:
    root = tmp_path / "in"
    images(root / "b", "0.jpg")
    images(tmp_path / "outside", "0.jpg")
    (root / "a").symlink_to(root / "b")
    (root / "b" / "loop").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    (root / "c").symlink_to(tmp_path / "outside")
    (root / "d").symlink_to(tmp_path / "outside")
    (root / "gone").symlink_to(tmp_path / "nowhere")
    talk = Listener()
    assert names(root, talk) == ["b", "c"]
    assert "a, b/loop, d, up left out, links to what is already read" in talk.warned[-1]
    assert folders_below(root).there == (Path(), Path("b"), Path("c"))


def test_a_link_to_a_video_file_is_no_second_video(tmp_path: Path) -> None:
    clip(tmp_path / "z.mp4")
    (tmp_path / "a.mp4").symlink_to(tmp_path / "z.mp4")
    assert names(tmp_path) == ["z"]


def test_masks_of_a_video_are_none_of_its_frames(tmp_path: Path) -> None:
    images(tmp_path / "v", "0.jpg")
    images(tmp_path / "v" / "mask", "0.png")
    images(tmp_path / "w" / "origin", "0.jpg")
    images(tmp_path / "w" / "mask", "0.png")
    assert names(tmp_path) == ["v", "w"]


@pytest.mark.parametrize(("image", "mask"), [("{}.jpg", "{}.png"), ("{}.jpg", "{}_mask.png"), ("{}.png", "{}-gt.png")])
def test_masks_among_frames_are_to_be_moved_and_not_thrown_away(image: str, mask: str, tmp_path: Path) -> None:
    for number in range(3):
        images(tmp_path / "v", image.format(number), mask.format(number))
    with pytest.raises(VssError) as caught:
        open_input(tmp_path / "v")
    assert f"move them into {tmp_path / 'v' / 'mask'}" in str(caught.value.hint)


def test_of_a_frame_that_is_there_twice_the_usual_file_is_taken(tmp_path: Path) -> None:
    images(tmp_path / "v", "0.jpg", "0.tif", "1.bmp", "1.png", "2.webp")
    (video,) = open_input(tmp_path / "v")
    assert [frame.image.name for frame in video.frames if frame.image] == ["0.jpg", "1.png", "2.webp"]  # type: ignore[attr-defined]


def test_two_spellings_of_one_frame_are_refused(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        images(tmp_path / "v", unicodedata.normalize(form, "é.jpg"))
    with pytest.raises(VssError, match=r"\(NFC\).*\(NFD\)|\(NFD\).*\(NFC\)"):
        open_input(tmp_path / "v")


def test_a_published_tree_gives_its_images_alone(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        images(tmp_path / "images" / split, "a.jpg")
        images(tmp_path / "annotations" / split, "a.png")
    talk = Listener()
    assert names(tmp_path, talk) == ["training", "validation"]
    assert "2 folders of images that are not frames" in talk.warned[0]


def test_kinds_are_counted_in_words() -> None:
    assert kinds([]) == ""
    assert kinds(["a.HEIC"]) == "1 .heic"
    assert kinds(["a.x", "b.x", "c"]) == "2 .x and 1 without suffix"
    assert kinds([f"a.{n}" for n in range(9)]).endswith("and 5 of other kinds")
