"""The mean distribution in bands equals the dense one."""

from __future__ import annotations

import pytest
import torch
from inference_samples import dense, distributions

from vsscli.inference import bands
from vsscli.inference.bands import ViewMaps, label_map, mean_bands, mean_map

SIZES = [
    [(9, 12)],  # enlarged by 4 and something
    [(23, 31), (5, 4), (60, 70), (37, 50)],  # of different ratios, one larger than the frame, one equal to it
    [(1, 1), (2, 90)],
]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("band_bytes", [1, 5 * 50 * 4 * 7, 2**25])
def test_bands_are_the_rows_of_the_weighted_mean_of_the_enlarged_maps(
    sizes: list[tuple[int, int]], band_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bands, "CPU_BAND_BYTES", band_bytes)
    weights = tuple(0.5 / number for number in range(1, len(sizes) + 1))
    views = ViewMaps(distributions(5, sizes), weights, (37, 50))
    found = list(mean_bands(views, (37, 50)))
    rows = [start for start, _ in found]
    assert rows == [sum(len(mean) for _, mean in found[:number]) for number in range(len(found))]
    assert max(mean.numel() * 4 for _, mean in found) <= max(band_bytes, 5 * 50 * 4)
    joined = torch.cat([mean for _, mean in found]).permute(2, 0, 1)
    torch.testing.assert_close(joined, dense(views, (37, 50)), rtol=0, atol=1e-6)


def test_bands_leave_the_maps_as_they_were() -> None:
    maps = distributions(3, [(8, 9), (4, 5)])
    copies = [map_.clone() for map_ in maps]
    list(mean_bands(ViewMaps(maps, (0.3, 0.7), (8, 9)), (8, 9)))
    assert all(torch.equal(map_, copy) for map_, copy in zip(maps, copies, strict=True))


def test_the_mean_on_a_score_grid_is_the_same_thing_at_another_size() -> None:
    views = ViewMaps(distributions(4, [(9, 12), (5, 7)]), (0.5, 0.5), (37, 50))
    torch.testing.assert_close(mean_map(views, (19, 25)), dense(views, (19, 25)), rtol=0, atol=1e-6)


def test_the_label_is_the_most_likely_class_of_the_mean() -> None:
    views = ViewMaps(distributions(6, [(9, 12), (5, 7)]), (0.5, 0.5), (37, 50))
    assert torch.equal(label_map(views), dense(views, (37, 50)).argmax(0).to(torch.uint8))


def test_of_classes_equally_likely_the_label_is_the_lowest() -> None:
    map_ = torch.tensor([0.2, 0.4, 0.4])[:, None, None].expand(3, 4, 4)
    assert (label_map(ViewMaps((map_,), (1.0,), (8, 8))) == 1).all()
