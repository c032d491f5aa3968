"""Videos from folders and from files: order, size, damage."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsscli.data.videofile import FileVideo
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError

RED = (255, 0, 0)


def folder_video(folder: Path, sizes: list[tuple[int, int]]) -> FolderVideo:
    """Frames with their number in the red of the first pixel; sizes are width, height."""
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

    @staticmethod
    def write(path: Path, frames: int = 12, codec: str = "mpeg4", title: str = "", faststart: bool = False) -> Path:
        """A clip of 64x48: a red quarter at the top left, and noise, so that frames cost bytes."""
        import av

        rng = np.random.default_rng(0)
        options = {"movflags": "faststart"} if faststart else {}
        with av.open(str(path), "w", options=options) as container:
            container.metadata["title"] = title
            stream = container.add_stream(codec, rate=15)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
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

    @staticmethod
    def shown_by(path: Path, a: float, b: float, c: float, d: float) -> Path:
        """Put a display matrix into the track header, where the identity stands."""
        content = bytearray(path.read_bytes())
        identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
        numbers = [round(value * 65536) for value in (a, b, 0, c, d, 0, 0, 0)]
        start = content.index(identity, content.index(b"tkhd"))
        content[start : start + 36] = struct.pack(">9i", *numbers, 1 << 30)
        path.write_bytes(content)
        return path

    def test_a_clip_held_upright_is_turned_upright(self, tmp_path: Path) -> None:
        path = self.shown_by(self.write(tmp_path / "phone.mp4"), 0, 1, -1, 0)  # a phone's "90 degrees clockwise"
        video = FileVideo(path)
        assert video.size == (64, 48)
        image = next(iter(video.images()))
        assert image.shape == (64, 48, 3)
        assert np.abs(image[10, 37].astype(int) - RED).max() < 30  # top left has become top right

    @pytest.mark.parametrize("quarter", range(4))
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_every_quarter_turn_is_honoured_mirrored_or_not(self, tmp_path: Path, quarter: int, mirrored: bool) -> None:
        plain = next(iter(FileVideo(self.write(tmp_path / "plain.mp4")).images()))
        # Clockwise by quarters, from (1, 0) to (0, 1); what is mirrored is so before it is turned.
        a, b, c, d = ((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))[quarter]
        if mirrored:
            a, b = -a, -b
        video = FileVideo(self.shown_by(self.write(tmp_path / "turned.mp4"), a, b, c, d))
        expected = np.rot90(plain[:, ::-1] if mirrored else plain, -quarter)
        image = next(iter(video.images()))
        np.testing.assert_array_equal(image, expected)
        assert video.size == expected.shape[:2]

    def test_what_is_shown_askew_is_refused(self, tmp_path: Path) -> None:
        cos, sin = np.cos(np.radians(37)), np.sin(np.radians(37))
        path = self.shown_by(self.write(tmp_path / "askew.mp4"), cos, sin, -sin, cos)
        with pytest.raises(VssError, match="turned by 37 degrees") as caught:
            len(FileVideo(path))
        assert "ffmpeg" in caught.value.hint

    def test_an_edit_list_shows_what_a_player_shows(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "trimmed.mp4")
        content = bytearray(path.read_bytes())
        start = content.index(b"elst") + 12  # behind version and number of entries
        (duration,) = struct.unpack(">I", content[start : start + 4])
        content[start : start + 4] = struct.pack(">I", duration // 2)
        path.write_bytes(content)
        assert len(FileVideo(path)) == len(list(FileVideo(path).images())) == 6

    def test_a_capture_that_dropped_frames_is_sound(self, tmp_path: Path) -> None:
        import av

        whole = self.write(tmp_path / "whole.avi", codec="mjpeg")
        path = tmp_path / "dropped.avi"
        with av.open(str(whole)) as source, av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for number, packet in enumerate(source.demux(video=0)):
                if packet.size and number not in (5, 6):
                    packet.stream = stream
                    out.mux(packet)
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames == 12
        assert len(FileVideo(path)) == 10

    @pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.avi", "c.wmv", "c.webm", "c.ts"])
    @pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9, 0.99])
    def test_a_file_that_is_cut_never_ends_early_without_a_word(self, tmp_path: Path, name: str, share: float) -> None:
        path = self.write(tmp_path / name, codec={"c.wmv": "wmv2", "c.webm": "libvpx"}.get(name, "mpeg4"))
        assert len(FileVideo(path)) == 12
        keep = int(path.stat().st_size * share)
        path.write_bytes(path.read_bytes()[: keep + (keep % 188 == 0)])
        with pytest.raises(VssError, match="is damaged"):
            len(FileVideo(path))

    def test_a_file_cut_between_two_frames_is_refused(self, tmp_path: Path) -> None:
        import av

        path = self.write(tmp_path / "clip.mp4", faststart=True)
        with av.open(str(path)) as container:
            place = container.streams.video[0].index_entries[8].pos
        path.write_bytes(path.read_bytes()[:place])
        with pytest.raises(VssError, match="ends after 8 of 12 frames"):
            len(FileVideo(path))

    @pytest.mark.parametrize(
        "text", ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n", "ffconcat version 1.0\nfile {}\n"]
    )
    def test_a_playlist_opens_no_other_file(self, tmp_path: Path, text: str) -> None:
        self.write(tmp_path / "other.mp4")
        for lead in ("", "\ufeff", "\n"):
            (tmp_path / "clip.mp4").write_text(lead + text.format("other.mp4"))
            with pytest.raises(VssError, match=r"clip\.mp4 is not a video but a playlist|not a video: Inv"):
                FileVideo(tmp_path / "clip.mp4")

    def test_pictures_are_no_videos(self, tmp_path: Path) -> None:
        Image.new("RGB", (64, 48)).save(tmp_path / "clip.mp4", "GIF")
        with pytest.raises(VssError, match=r"a picture or an animation \(GIF\)"):
            FileVideo(tmp_path / "clip.mp4")
        (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypheic" + bytes(90))
        with pytest.raises(VssError, match="HEIC"):
            FileVideo(tmp_path / "clip.mp4")

    def test_a_cover_is_not_the_video(self, tmp_path: Path) -> None:
        import av

        path = self.write(tmp_path / "clip.mp4")
        covered = tmp_path / "covered.mp4"
        with av.open(str(path)) as source, av.open(str(covered), "w") as out:
            cover = out.add_stream("mjpeg", rate=15)
            cover.width, cover.height, cover.pix_fmt = 20, 20, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            stream = out.add_stream_from_template(source.streams.video[0])
            out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((20, 20, 3), np.uint8), format="rgb24")))
            out.mux(cover.encode())
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
        assert FileVideo(covered).size == (48, 64)

    def test_tags_that_are_no_text_do_no_harm(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "clip.mkv", title="some title of some length")
        path.write_bytes(path.read_bytes().replace(b"some title", b"\xff\xfe\x80 itle\xc3 "))
        assert len(FileVideo(path)) == 12

    def test_a_frame_that_claims_too_many_pixels_is_refused(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "clip.avi", codec="mjpeg")
        content = path.read_bytes()
        size = struct.pack(">HH", 48, 64)
        assert content.count(b"\xff\xc0\x00\x11\x08" + size) == 12
        claims = content.replace(b"\xff\xc0\x00\x11\x08" + size, b"\xff\xc0\x00\x11\x08" + b"\x7d\x00" * 2)
        place = claims.index(struct.pack("<II", 64, 48), claims.index(b"strf"))
        for data in (claims, claims[:place] + struct.pack("<II", 32000, 32000) + claims[place + 8 :]):
            path.write_bytes(data)
            with pytest.raises(VssError, match=r"too large|is damaged"):
                len(FileVideo(path))

    def test_missing_and_junk_files_are_refused_when_opened(self, tmp_path: Path) -> None:
        with pytest.raises(VssError, match="does not exist"):
            FileVideo(tmp_path / "none.mp4")
        for content in (b"", b"no video at all" * 50):
            (tmp_path / "junk.mp4").write_bytes(content)
            with pytest.raises(VssError, match=r"junk\.mp4 is damaged or not a video") as caught:
                FileVideo(tmp_path / "junk.mp4")
            assert caught.value.hint

    def test_a_file_cut_short_is_refused(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "clip.avi")
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        with pytest.raises(VssError, match=r"clip\.avi is damaged"):
            len(FileVideo(path))

    def test_a_table_that_claims_more_than_memory_holds_is_damage(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "clip.mp4")
        whole = path.read_bytes()
        count = whole.index(b"stts") + 8  # how many entries the table of times has (ISO 14496-12, 8.6.1.2)
        path.write_bytes(whole[:count] + b"\xff" * 4 + whole[count + 4 :])
        with pytest.raises(VssError, match="is damaged or not a video: Cannot allocate memory"):
            FileVideo(path)

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
