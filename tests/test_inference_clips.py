"""Networks that follow videos: frames in order, each view and window on its own, from the start when interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from inference_samples import Colours, Heard, SeenVideo, predictor, read_out
from store_samples import prediction_header, snapshot
from torch import Tensor

from vsscli.data.masks import read_mask
from vsscli.inference.plans import FLIP, AugmentationPlan
from vsscli.inference.run import Done, predict_masks, predict_videos
from vsscli.models.network import VideoNetwork
from vsscli.models.outputs import MapOutputs
from vsscli.models.scores import Scores
from vsscli.store import encode as store_encode
from vsscli.store import record
from vsscli.store.writer import StoreWriter
from vsscli.training.validation import LiveLabels


class Sum(Colours, VideoNetwork):
    """Scores a frame by its colours and those of all frames before it in the same window."""

    frames = 3

    def __init__(self, stops: int = -1) -> None:
        super().__init__()
        self.stops = stops

    def follow(self, images: Tensor, handed: Tensor | None = None) -> tuple[MapOutputs, Tensor]:
        if len(self.batches) == self.stops:
            raise KeyboardInterrupt
        own = super().forward(images)
        total = own.values if handed is None else own.values + handed
        return MapOutputs(Scores(total, own.kind)), total

    def forward(self, images: Tensor) -> Scores:
        raise AssertionError("a video is followed")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_encode, "MAX_SEGMENT", 4)
    monkeypatch.setattr(record, "MAX_SEGMENT", 4)


def videos() -> list[SeenVideo]:
    return [SeenVideo("first", 10), SeenVideo("a single image", 1, (24, 16)), SeenVideo("3rd", 6)]


def predict(path: Path, network: Sum, share: slice = slice(None)) -> Done:
    with StoreWriter(path, prediction_header()) as writer:
        return predict_videos(predictor(network, read_out(FLIP)), videos()[share], [writer], talk=Heard())


def test_every_view_and_window_follows_its_own() -> None:
    plan = AugmentationPlan("two", (1.0, 2.0), True)
    how = read_out(plan, window=(16, 16), step=(8, 8))
    network = Sum()
    follower = predictor(network, how, batch_size=3)  # windows of a frame in several passes
    (first, second), single = SeenVideo("a", 2).frames, predictor(Colours(), how)
    seen = follower.maps([first]), follower.maps([second])
    assert follower.frames_at_once((16, 24)) == 1
    (alone,) = single.maps([first])
    for own, other in zip(seen[0][0].maps, alone.maps, strict=True):
        torch.testing.assert_close(own, other)
    follower.begin()
    again = follower.maps([first, second])
    for (own,), other in zip(seen, again, strict=True):
        assert all(torch.equal(map_, same) for map_, same in zip(own.maps, other.maps, strict=True))
    follower.begin()
    (fresh,) = follower.maps([second])
    assert not torch.equal(fresh.maps[0], seen[1][0].maps[0])


def test_frames_after_the_first_depend_on_those_before_it_alone() -> None:
    follower, (first, second) = predictor(Sum()), SeenVideo("a", 2).frames
    follower.maps([first])
    (views,) = follower.maps([second])
    images = torch.from_numpy(np.stack([first, second])).permute(0, 3, 1, 2) / 255
    logits = Colours()(images).values.sum(dim=0)
    torch.testing.assert_close(views.maps[0], logits.softmax(dim=0))


@pytest.mark.parametrize("passes", [0, 1, 5, 9, 12])
def test_an_interrupted_video_is_seen_again_and_ends_with_the_same_bytes(tmp_path: Path, passes: int) -> None:
    predict(tmp_path / "whole.zarr", Sum())
    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path / "parts.zarr", Sum(passes))
    network = Sum()
    done = predict(tmp_path / "parts.zarr", network)
    # Segments of 4, 4, 2 frames, of 1, and of 4 and 2: what is kept is not written again, and not counted.
    assert done.present == {0: 0, 1: 0, 5: 4, 9: 8, 12: 11}[passes]
    assert done.predicted == 17 - done.present
    assert len(network.batches) == {0: 17, 1: 17, 5: 17, 9: 17, 12: 6}[passes]
    assert snapshot(tmp_path / "parts.zarr") == snapshot(tmp_path / "whole.zarr")
    assert predict(tmp_path / "parts.zarr", Sum(0)) == Done(0, 17)


def test_processes_that_share_the_videos_write_the_same_bytes(tmp_path: Path) -> None:
    predict(tmp_path / "whole.zarr", Sum())
    for rank in (0, 1):
        predict(tmp_path / "shared.zarr", Sum(), slice(rank, None, 2))
    assert snapshot(tmp_path / "shared.zarr") == snapshot(tmp_path / "whole.zarr")


def test_missing_masks_are_predicted_with_all_frames_before_them(tmp_path: Path) -> None:
    assert predict_masks(predictor(Sum()), videos(), tmp_path) == 17
    before = {path: read_mask(path) for path in tmp_path.rglob("*.png")}
    for name in ("first/00003.png", "first/00007.png"):
        (tmp_path / name).unlink()
    network = Sum()
    assert predict_masks(predictor(network), videos(), tmp_path) == 2
    assert len(network.batches) == 8
    assert all(np.array_equal(label, read_mask(path)) for path, label in before.items())


class Folder(SeenVideo):
    def read(self, index: int) -> np.ndarray:
        return self.frames[index]


def test_validation_sees_the_frames_between_those_with_masks() -> None:
    video = Folder("a", 6)
    follower = predictor(Sum())
    wanted = follower.labels(video.frames)
    live = LiveLabels(predictor(Sum()), [video])  # type: ignore[list-item]
    for index in (1, 4, 5, 2):
        assert np.array_equal(live.label("a", index, ""), wanted[index])
