"""Frames to label next: measures against plain loops, and the order in which frames are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fusion_samples import source
from store_samples import SIZE, prediction_header, stems

from vsscli.errors import VssError
from vsscli.fusion.informative import FLOOR, Measures, choose, measure
from vsscli.store.reader import open_store
from vsscli.store.writer import StoreWriter


def test_measures_are_those_of_plain_loops(tmp_path: Path) -> None:
    one, other = source(tmp_path / "a.zarr", 1), source(tmp_path / "b.zarr", 2)
    seen: list[int] = []
    found = measure([one, other], seen.append)
    assert len(found.addresses) == sum(seen) == 9
    number = 0
    for video_number, video in enumerate(one.videos()):
        labels = np.stack([one.label(video, t) for t in range(len(one.stems(video)))])
        for t, stem in enumerate(one.stems(video)):
            assert found.addresses[number] == f"{video}/{stem}"
            assert (found.videos[number], found.times[number]) == (video_number, t)
            np.testing.assert_allclose(found.entropy[number], one.entropy(video, t).mean(), rtol=1e-6)
            inside = 0 < t < len(labels) - 1
            back = (labels[t] != labels[t - 1]) & (labels[t - 1] == labels[t + 1]) if inside else np.zeros(1)
            np.testing.assert_allclose(found.flicker[number], back.mean())
            assert found.disagreement is not None
            np.testing.assert_allclose(found.disagreement[number], (other.label(video, t) != labels[t]).mean())
            np.testing.assert_allclose(np.linalg.norm(found.looks[number]), 1, rtol=1e-6)
            number += 1
    assert measure([one]).disagreement is None


def test_a_store_without_a_complete_video_is_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "a.zarr", prediction_header()) as writer:
        writer.pending("alley", stems(3), SIZE)
    with pytest.raises(VssError, match="no complete video yet"):
        measure([open_store(tmp_path / "a.zarr")])


def measures(entropy: list[float], looks: list[int], videos: list[int] | None = None) -> Measures:
    """Frames with an entropy each, which look alike where their number is the same."""
    count = len(entropy)
    return Measures(
        tuple(f"v/{number}" for number in range(count)),
        np.array(videos or range(count)),
        np.arange(count),
        np.array(entropy),
        np.zeros(count),
        None,
        np.eye(max(looks) + 1, dtype=np.float32)[looks],
    )


def chosen(*given: object, **options: object) -> list[str]:
    return [choice.address for choice in choose(*given, **options)]  # type: ignore[arg-type]


def test_the_most_uncertain_comes_first_and_then_what_is_unlike_it() -> None:
    frames = measures([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 2])
    assert chosen(frames, 3) == ["v/0", "v/2", "v/3"]
    first, second, _ = choose(frames, 3)
    assert first.distance is None
    assert second.distance == pytest.approx(1)


def test_frames_with_labels_are_left_out_and_make_others_worth_less() -> None:
    frames = measures([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 2])
    assert chosen(frames, 2, known=["v/0"]) == ["v/2", "v/3"]
    assert chosen(frames, 9, known=["v/0", "other/5"], allowed=["v/1", "v/3"]) == ["v/3", "v/1"]
    assert choose(frames, 1, known=["v/0"], allowed=["v/1"])[0].distance == pytest.approx(0, abs=1e-3)
    assert chosen(frames, 3, known=list(frames.addresses)) == []


def test_neighbours_in_time_are_near_duplicates() -> None:
    alike = measures([0.5] * 100, [0] * 100, videos=[0] * 100)
    times = sorted(int(address.removeprefix("v/")) for address in chosen(alike, 5))
    assert min(np.diff(times)) >= 10


def test_looks_alike_still_count_for_something() -> None:
    assert 0 < FLOOR < 1
    assert len(chosen(measures([0.5, 0.4], [0, 0]), 2)) == 2
