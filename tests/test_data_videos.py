"""Videos from folders and from files: order, size, damage."""

from __future__ import annotations

import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsscli.data.videos import FileVideo, FolderVideo, Frame
from vsscli.errors import VssError

RED = (255, 0, 0)


def folder_video(folder: Path, sizes: list[tuple[int, int]]) -> FolderVideo:
    """Frames whose first pixel's red tells their number; sizes are width, height."""
    frames = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.png"
        Image.new("RGB", size, (number, 0, 0)).save(path)
        frames.append(Frame("clip", path.stem, path))
    return FolderVideo("clip", tuple(frames))


def test_a_folder_gives_its_frames_in_order_and_from_any_start(tmp_path: Path) -> None:
    video = folder_video(tmp_path, [(6, 4)] * 3)
    assert (video.name, video.stems, video.size, len(video)) == ("clip", ("0", "1", "2"), (4, 6), 3)
    assert [int(image[0, 0, 0]) for image in video.images()] == [0, 1, 2]
    assert [int(image[0, 0, 0]) for image in video.images(start=2)] == [2]
    assert video.read(1).shape == (4, 6, 3)
    assert video.frames[1].address == "clip/1"


def test_a_folder_video_travels_to_worker_processes(tmp_path: Path) -> None:
    video = folder_video(tmp_path, [(6, 4)] * 2)
    assert pickle.loads(pickle.dumps(video)).stems == video.stems


def test_a_frame_of_another_size_is_refused_by_name(tmp_path: Path) -> None:
    video = folder_video(tmp_path, [(6, 4), (6, 4), (8, 4)])
    with pytest.raises(VssError, match=r"2\.png is 8x4, but video clip is 6x4"):
        list(video.images())


def test_a_frame_without_image_is_told_when_it_is_read(tmp_path: Path) -> None:
    Image.new("L", (6, 4)).save(tmp_path / "m.png")
    video = FolderVideo("clip", (Frame("clip", "m", None, tmp_path / "m.png"),))
    assert video.size == (4, 6)
    with pytest.raises(VssError, match="clip/m has a mask but no image"):
        video.read(0)


def test_a_video_has_frames() -> None:
    with pytest.raises(VssError, match="no frames"):
        FolderVideo("clip", ())


class TestFiles:
    """Video files, through PyAV."""

    @pytest.fixture(autouse=True)
    def _with_pyav(self) -> None:
        pytest.importorskip("av")

    @staticmethod
    def write(path: Path, frames: int = 12, codec: str = "mpeg4") -> Path:
        """A clip of 64x48: a red quarter at the top left, and noise, so that frames cost bytes."""
        import av

        rng = np.random.default_rng(0)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=15)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(frames):
                image = rng.integers(0, 255, (48, 64, 3), np.uint8)
                image[:24, :32] = RED
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        return path

    @pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
    def test_frames_are_counted_numbered_and_decoded_to_rgb(self, tmp_path: Path, name: str) -> None:
        video = FileVideo(self.write(tmp_path / name))
        assert (video.name, len(video), video.size) == ("clip", 12, (48, 64))
        assert video.stems[:2] == ("000000", "000001")
        images = list(video.images())
        assert len(images) == 12
        assert (images[0].shape, images[0].dtype) == ((48, 64, 3), np.uint8)
        assert np.abs(images[0][10, 10].astype(int) - RED).max() < 30
        later = list(video.images(start=9))
        assert len(later) == 3
        np.testing.assert_array_equal(later[0], images[9])

    def test_a_container_that_knows_no_number_of_frames_is_counted_all_the_same(self, tmp_path: Path) -> None:
        import av

        path = self.write(tmp_path / "clip.mkv")
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames == 0
        assert len(FileVideo(path)) == 12

    def test_a_clip_held_upright_is_turned_upright(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "phone.mp4")
        content = bytearray(path.read_bytes())
        # The matrix in the track header: a phone's "turn by 90 degrees clockwise" instead of the identity.
        identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
        clockwise = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
        start = content.index(identity, content.index(b"tkhd"))
        content[start : start + 36] = clockwise
        path.write_bytes(content)
        video = FileVideo(path)
        assert video.size == (64, 48)
        image = next(iter(video.images()))
        assert image.shape == (64, 48, 3)
        assert np.abs(image[10, 37].astype(int) - RED).max() < 30  # top left has become top right

    def test_missing_and_junk_files_are_refused_when_opened(self, tmp_path: Path) -> None:
        with pytest.raises(VssError, match="is not there"):
            FileVideo(tmp_path / "none.mp4")
        for content in (b"", b"no video at all" * 50):
            (tmp_path / "junk.mp4").write_bytes(content)
            with pytest.raises(VssError, match=r"junk\.mp4 is damaged or no video") as caught:
                FileVideo(tmp_path / "junk.mp4")
            assert caught.value.hint

    def test_a_file_cut_short_is_refused(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "clip.avi")
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        with pytest.raises(VssError, match=r"clip\.avi is damaged"):
            len(FileVideo(path))

    def test_sound_alone_is_no_video(self, tmp_path: Path) -> None:
        import av

        with av.open(str(tmp_path / "sound.wav"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with pytest.raises(VssError, match="no pictures"):
            FileVideo(tmp_path / "sound.wav")

    def test_without_pyav_the_error_tells_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "clip.mp4").write_bytes(b"x")
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(VssError, match="PyAV") as caught:
            FileVideo(tmp_path / "clip.mp4")
        assert caught.value.hint == 'pip install "vsscli[video]"'
