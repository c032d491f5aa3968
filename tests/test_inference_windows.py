"""Sliding windows: their positions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsscli.errors import VssError
from vsscli.inference.windows import window_corners, window_starts, window_step


def test_windows_of_the_vit_adapter_configuration_lie_where_it_puts_them() -> None:
    # specs/vit_adapter.md: 1600 wide, crop 896, stride 512: three windows at 0, 512, 704.
    assert window_starts(1600, 896, 512) == (0, 512, 704)
    assert window_corners((896, 1600), (896, 896), (512, 512)) == [(0, 0), (0, 512), (0, 704)]


@given(length=st.integers(1, 300), window=st.integers(1, 100), data=st.data())
def test_windows_cover_every_pixel_and_stay_inside(length: int, window: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, window))
    starts = window_starts(length, window, step)
    assert len(starts) == max(length - window + step - 1, 0) // step + 1
    assert starts[0] == 0
    assert list(starts) == sorted(set(starts))
    covered = {pixel for start in starts for pixel in range(start, start + window)}
    assert covered >= set(range(length))
    assert starts[-1] + window == max(length, window)


def test_the_step_is_two_thirds_of_the_window_on_a_cell_of_the_score_map() -> None:
    assert window_step((896, 480), None, stride=4, divisor=32) == (596, 320)
    assert window_step((32, 32), None, stride=32, divisor=32) == (32, 32)
    assert window_step((896, 896), (512, 512), stride=4, divisor=32) == (512, 512)


@pytest.mark.parametrize("window", [(100, 96), (96, 0), (-32, 32)])
def test_a_window_that_the_network_can_not_take_is_refused_with_one_that_it_can(window: tuple[int, int]) -> None:
    with pytest.raises(VssError, match="multiples of 32") as raised:
        window_step(window, None, stride=4, divisor=32)
    assert "predict.window" in raised.value.hint


@pytest.mark.parametrize("step", [(0, 32), (100, 32), (30, 32), (32, -4)])
def test_a_step_that_leaves_gaps_or_falls_between_cells_is_refused(step: tuple[int, int]) -> None:
    with pytest.raises(VssError, match=f"{step[0]}x{step[1]}"):
        window_step((96, 96), step, stride=4, divisor=32)
