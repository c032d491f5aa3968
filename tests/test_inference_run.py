"""From videos to a store or masks: whole, resumable, and with the original error when something fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_samples import Colours, Heard, Narrow, SeenVideo, predictor, read_out
from store_samples import class_table, prediction_header, snapshot
from torch import Tensor

from vsscli.data.masks import read_mask
from vsscli.errors import VssError
from vsscli.inference.bands import mean_map
from vsscli.inference.plans import FLIP
from vsscli.inference.run import Done, predict_masks, predict_videos
from vsscli.inference.threads import WriteBehind, read_ahead
from vsscli.models.scores import Scores
from vsscli.store import encode as store_encode
from vsscli.store import record
from vsscli.store.encode import encode
from vsscli.store.header import Encoding
from vsscli.store.reader import open_store
from vsscli.store.writer import Segment, StoreWriter


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_encode, "MAX_SEGMENT", 4)
    monkeypatch.setattr(record, "MAX_SEGMENT", 4)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("vss-")] == []


def videos() -> list[SeenVideo]:
    return [SeenVideo("first", 10), SeenVideo("second one", 3, (24, 16)), SeenVideo("3rd", 5)]


def predict(path: Path, some: list[SeenVideo], network: Colours | None = None, talk: Heard | None = None) -> Done:
    with StoreWriter(path, prediction_header()) as writer:
        return predict_videos(predictor(network or Colours(), read_out(FLIP)), some, [writer], talk=talk or Heard())


def test_every_frame_is_predicted_encoded_and_stored(tmp_path: Path) -> None:
    heard = Heard()
    assert predict(tmp_path / "a.zarr", videos(), talk=heard) == Done(18, 0)
    assert (heard.done, heard.total) == (18, 18)
    store = open_store(tmp_path / "a.zarr")
    assert store.videos() == ("3rd", "first", "second one")
    encoding = Encoding(kept=3)
    for video in videos():
        assert store.stems(video.name) == video.stems
        for number, image in enumerate(video.frames):
            (views,) = predictor(Colours(), read_out(FLIP)).maps([image])
            mean = mean_map(views, video.size).numpy()
            expected = encode(mean, mean, encoding)
            np.testing.assert_array_equal(store.label(video.name, number), expected["label"])
            np.testing.assert_array_equal(store.read(video.name, "top_class", number), expected["top_class"])
            entropy = store.read(video.name, "entropy", number).astype(int)
            assert np.abs(entropy - expected["entropy"]).max() <= 1


def test_a_second_run_predicts_nothing_and_decodes_nothing(tmp_path: Path) -> None:
    predict(tmp_path / "a.zarr", videos())
    before = snapshot(tmp_path / "a.zarr")
    again, network, heard = videos(), Colours(), Heard()
    assert predict(tmp_path / "a.zarr", again, network, heard) == Done(0, 18)
    assert network.batches == []
    assert [video.decoded for video in again] == [0, 0, 0]
    assert (heard.done, heard.total) == (18, 18)
    assert snapshot(tmp_path / "a.zarr") == before


class Stopping(Colours):
    """Raises at its n-th forward pass."""

    def __init__(self, passes: int, error: BaseException) -> None:
        super().__init__()
        self.passes, self.error = passes, error

    def forward(self, images: Tensor) -> Scores:
        if len(self.batches) == self.passes:
            raise self.error
        return super().forward(images)


@pytest.mark.parametrize("passes", [0, 1, 2, 5])
def test_a_run_stopped_by_ctrl_c_is_continued_and_ends_with_the_same_bytes(tmp_path: Path, passes: int) -> None:
    predict(tmp_path / "whole.zarr", videos())
    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path / "parts.zarr", videos(), Stopping(passes, KeyboardInterrupt()))
    assert not (tmp_path / ".parts.zarr.work").exists()
    # Segments of 4, 4, 2, 3, 4 and 1 frames, one pass each: those that were whole were kept.
    done = predict(tmp_path / "parts.zarr", videos())
    assert done.predicted + done.present == 18
    assert done.present == {0: 0, 1: 4, 2: 8, 5: 17}[passes]
    assert snapshot(tmp_path / "parts.zarr") == snapshot(tmp_path / "whole.zarr")


def test_the_error_of_a_damaged_frame_reaches_the_caller_as_it_was_raised(tmp_path: Path) -> None:
    some, damage = videos(), VssError("image 00009.jpg is damaged", "fetch it again")
    some[0].broken[9] = damage
    with pytest.raises(VssError) as raised:
        predict(tmp_path / "a.zarr", some)
    assert raised.value is damage
    assert predict(tmp_path / "a.zarr", videos()).present == 8


def test_the_error_of_a_refusing_disk_reaches_the_caller_as_it_was_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = VssError("cannot write: no space left", "make room")
    write = StoreWriter.write

    def full(self: StoreWriter, video: str, segment: Segment, arrays: dict[str, np.ndarray]) -> None:
        if segment.start == 4:
            raise refusal
        write(self, video, segment, arrays)

    monkeypatch.setattr(StoreWriter, "write", full)
    with pytest.raises(VssError) as raised:
        predict(tmp_path / "a.zarr", videos())
    assert raised.value is refusal
    monkeypatch.undo()
    assert open_store(tmp_path / "a.zarr").record("first").segments.keys() == {0}


def test_a_video_that_ends_early_is_an_error(tmp_path: Path) -> None:
    class Short(SeenVideo):
        def images(self, start: int = 0) -> Iterator[np.ndarray]:
            yield from self.frames[start:7]

    with pytest.raises(VssError, match="video short ends after 7 of 10 frames"):
        predict(tmp_path / "a.zarr", [Short("short", 10)])


def test_shares_of_the_videos_together_make_the_same_store(tmp_path: Path) -> None:
    predict(tmp_path / "one.zarr", videos())
    assert predict(tmp_path / "two.zarr", videos()[0::2]) == Done(15, 0)
    assert predict(tmp_path / "two.zarr", videos()[1::2]) == Done(3, 0)
    assert snapshot(tmp_path / "two.zarr") == snapshot(tmp_path / "one.zarr")


def test_short_memory_is_said_to_the_caller(tmp_path: Path) -> None:
    heard = Heard()
    predict(tmp_path / "a.zarr", videos(), Narrow(), heard)
    assert len(heard.warnings) == 1


@pytest.mark.parametrize("encoding", [Encoding(2, 3), Encoding(4, 200), Encoding(keep="all")])
def test_every_encoding_can_be_written(tmp_path: Path, encoding: Encoding) -> None:
    with StoreWriter(tmp_path / "a.zarr", prediction_header(encoding=encoding)) as writer:
        predict_videos(predictor(Colours()), [SeenVideo("only", 2, (18, 27))], [writer])
    (views,) = predictor(Colours()).maps(SeenVideo("only", 2, (18, 27)).frames[:1])
    grid_mean = mean_map(views, (-(-18 // encoding.grid), -(-27 // encoding.grid))).numpy()
    rebuilt = open_store(tmp_path / "a.zarr").probabilities("only", 0)
    assert rebuilt.shape == grid_mean.shape
    assert (rebuilt.argmax(0) == grid_mean.argmax(0)).mean() > 0.97


def test_masks_of_ones_own_frames_are_written_one_file_each(tmp_path: Path) -> None:
    heard = Heard()
    assert predict_masks(predictor(Colours()), videos(), tmp_path, table=class_table(), talk=heard) == 18
    assert (heard.done, heard.total) == (18, 18)
    names = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*"))
    assert names == sorted(f"{video.name}/{stem}.png" for video in videos() for stem in video.stems)
    for video in videos():
        for stem, image in zip(video.stems, video.frames, strict=True):
            mask = read_mask(tmp_path / video.name / f"{stem}.png")
            np.testing.assert_array_equal(mask, predictor(Colours()).label(image))


def test_masks_that_are_there_are_kept_and_only_the_others_predicted(tmp_path: Path) -> None:
    predict_masks(predictor(Colours()), videos(), tmp_path)
    before = snapshot(tmp_path)
    for name in ("first/00000", "first/00004", "first/00005", "3rd/00004"):
        (tmp_path / f"{name}.png").unlink()
    network, some, heard = Colours(), videos(), Heard()
    assert predict_masks(predictor(network), some, tmp_path, talk=heard) == 4
    assert network.batches == [1, 2, 1]
    assert [video.decoded for video in some] == [3, 0, 1]
    assert (heard.done, heard.total) == (18, 18)
    assert snapshot(tmp_path) == before
    assert predict_masks(predictor(Stopping(0, AssertionError())), videos(), tmp_path) == 0


def test_reading_ahead_keeps_the_order_and_no_more_than_it_may() -> None:
    made: list[int] = []

    def count() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    seen = []
    for number in read_ahead(count(), 3):
        seen.append(number)
        assert len(made) <= len(seen) + 3
    assert seen == list(range(20))


def test_reading_ahead_can_be_left_early() -> None:
    with closing(read_ahead(iter(range(1000)), 2)) as numbers:
        assert next(numbers) == 0


def test_writing_behind_keeps_the_order_and_hands_on_the_first_error() -> None:
    written: list[int] = []

    def write(number: int) -> None:
        if number == 5:
            raise OSError("full")
        written.append(number)

    with pytest.raises(OSError, match="full"), WriteBehind(write, 2) as behind:  # noqa: PT012
        for number in range(20):
            behind(number)
    assert written == [0, 1, 2, 3, 4]


def test_what_is_computed_is_written_also_when_the_computing_fails() -> None:
    written: list[int] = []
    release = threading.Event()

    def write(number: int) -> None:
        release.wait(10)
        written.append(number)

    with pytest.raises(KeyboardInterrupt), WriteBehind(write, 3) as behind:  # noqa: PT012
        behind(1)
        behind(2)
        release.set()
        raise KeyboardInterrupt
    assert written == [1, 2]


def test_torch_is_used_in_the_main_thread_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A second thread that computes brings its own pool of threads onto the same cores.
    used: set[str] = set()
    empty = torch.empty

    def noted(*args: object, **kwargs: object) -> Tensor:
        used.add(threading.current_thread().name)
        return empty(*args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "empty", noted)
    predict(tmp_path / "a.zarr", videos())
    assert used == {threading.main_thread().name}
