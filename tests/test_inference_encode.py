"""What the device encodes is what the NumPy reference encodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from inference_samples import dense, distributions

from vsscli.inference import bands
from vsscli.inference.bands import ViewMaps
from vsscli.inference.encode import encode_frame
from vsscli.inference.ranking import top_classes
from vsscli.store.encode import arrays_for, encode, normalised_entropy, score_size
from vsscli.store.header import COMPACT, MAX_LEVEL, Encoding

SIZE = (37, 50)


def views_of(classes: int) -> ViewMaps:
    return ViewMaps(distributions(classes, [(9, 12), (5, 7), (14, 20)]), (0.25, 0.25, 0.5), SIZE)


def assert_levels_agree(found: np.ndarray, expected: np.ndarray, exact: np.ndarray) -> None:
    """Equal, but where ``exact`` (in levels) lies so near the border of two levels that float32 can't tell."""
    on_border = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    assert on_border.mean() < 0.01
    assert (np.abs(found.astype(int) - expected)[on_border] <= 1).all()
    np.testing.assert_array_equal(found[~on_border], expected[~on_border])


@pytest.mark.parametrize("grid", [1, 2, 4])
@pytest.mark.parametrize(
    ("classes", "encoding"),
    [
        (2, Encoding(kept=1)),
        (11, Encoding()),
        (11, Encoding(kept=11, drop=0)),
        (40, COMPACT),
        (124, Encoding(drop=0.001, step=1)),
    ],
)
def test_label_entropy_and_lists_equal_the_reference(
    grid: int, classes: int, encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, encoding = views_of(classes), replace(encoding, grid=grid)
    kept = min(encoding.kept, classes)
    on_grid = dense(views, score_size(encoding, SIZE))
    at_frame = dense(views if grid == 1 else ViewMaps((on_grid,), (1.0,), SIZE), SIZE)
    expected = encode(at_frame.numpy(), on_grid.numpy(), encoding)
    for band_bytes in (1, bands.CPU_BAND_BYTES):
        monkeypatch.setattr(bands, "CPU_BAND_BYTES", band_bytes)
        found = {name: array.numpy() for name, array in encode_frame(views, encoding).items()}
        assert found.keys() == expected.keys() == arrays_for(encoding, classes, SIZE).keys()
        np.testing.assert_array_equal(found["label"], expected["label"])
        top = np.sort(on_grid.numpy().astype(np.float64), axis=0)[::-1][:kept]
        # What is near a border may fall to either side, and out of the list with it.
        near = np.abs(top - encoding.drop) < 1e-6
        steps = np.where(found["top_class"] == expected["top_class"], top * (MAX_LEVEL / encoding.step), 0.5)
        assert (near | (found["top_class"] == expected["top_class"])).all()
        levels = [frame["top_probability"] // encoding.step for frame in (found, expected)]
        assert_levels_agree(*levels, steps)
        steps = normalised_entropy(at_frame.double().numpy()) * (MAX_LEVEL / encoding.entropy_step)
        assert_levels_agree(*(frame["entropy"] // encoding.entropy_step for frame in (found, expected)), steps)


@pytest.mark.parametrize("grid", [1, 2])
def test_keeping_all_gives_the_references_log_probabilities_as_float16(grid: int) -> None:
    views, encoding = views_of(7), Encoding(grid, keep="all")
    on_grid = dense(views, score_size(encoding, SIZE))
    expected = encode(on_grid.numpy(), on_grid.numpy(), encoding)["logits"]
    found = encode_frame(views, encoding)
    assert found.keys() == {"label", "entropy", "logits"}
    assert found["logits"].dtype == torch.float16
    # One step of float16 at most, where float32 noise crosses the border of two steps.
    np.testing.assert_allclose(found["logits"].numpy(), expected, rtol=2**-10, atol=0)


@pytest.mark.parametrize("keep", ["top", "all"])
def test_frames_have_the_shapes_and_types_that_the_store_expects(keep: str) -> None:
    encoding = Encoding(2, 3, keep)
    specs = arrays_for(encoding, 5, SIZE)
    for name, array in encode_frame(views_of(5), encoding).items():
        assert (tuple(array.shape), str(array.numpy().dtype)) == (specs[name].tail, specs[name].dtype)


def test_probabilities_of_zero_and_one_are_kept_as_the_reference_keeps_them() -> None:
    sure = torch.zeros(4, *SIZE)
    sure[2] = 1.0
    views, encoding = ViewMaps((sure,), (1.0,), SIZE), Encoding(kept=4)
    expected = encode(sure.numpy(), sure.numpy(), encoding)
    for name, array in encode_frame(views, encoding).items():
        np.testing.assert_array_equal(array.numpy(), expected[name])


def test_a_single_class_leaves_no_doubt() -> None:
    found = encode_frame(ViewMaps((torch.ones(1, 5, 5),), (1.0,), SIZE), Encoding(kept=8))
    assert not found["entropy"].any()
    assert found["top_class"].shape == (1, *SIZE)


@pytest.mark.parametrize("classes", [1, 2, 11, 124, 254])
@pytest.mark.parametrize("kept", [1, 8, 254])
def test_of_classes_equally_likely_the_lower_comes_first(classes: int, kept: int) -> None:
    kept = min(kept, classes)
    generator = torch.Generator().manual_seed(3)
    mean = torch.randint(0, 5, (6, 7, classes), generator=generator) / 4
    top_class, probability = top_classes(mean, kept)
    values, order = torch.sort(mean, dim=-1, descending=True, stable=True)
    assert torch.equal(top_class.long(), order[..., :kept].movedim(-1, 0))
    assert torch.equal(probability, values[..., :kept].movedim(-1, 0))


def test_the_way_of_the_gpu_ranks_like_the_way_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    mean = distributions(11, [(6, 7)])[0].permute(1, 2, 0).contiguous()
    expected = top_classes(mean, 5)
    monkeypatch.setattr("vsscli.inference.ranking.sorts_in_numpy", lambda device: False)
    found = top_classes(mean, 5)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
