"""Tables of relative positions: the official numbers for other windows, and the index into them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vsscli.models.mask2former.relative_position import (
    gather_bias,
    index_fits,
    lookup_index,
    relative_position_index,
    resize_positions,
    resize_table,
    table_rows,
    windows_with_rows,
)

FIXTURE = torch.load(Path(__file__).parent / "fixtures/relpos_resize.pt", weights_only=True)


@pytest.mark.parametrize(("case", "source", "target"), [("64to112", 4, 7), ("64to96", 4, 6), ("224to896", 14, 56)])
def test_a_resized_table_has_the_official_numbers(case: str, source: int, target: int) -> None:
    table = FIXTURE[case]["table_in"]
    assert windows_with_rows(len(table))[0] == (source, source)
    resized = resize_table(table, (source, source), (target, target))
    torch.testing.assert_close(resized, FIXTURE[case]["table_out"], atol=1e-6, rtol=0)
    assert len(resized) == table_rows((target, target))


def test_position_embeddings_are_resized_as_one_peace_does() -> None:
    case = FIXTURE["onepeace_4to7"]
    resized = resize_positions(case["pos_in"], (4, 4), (7, 7))
    torch.testing.assert_close(resized, case["pos_out"], atol=1e-6, rtol=0)


def test_a_table_for_the_same_window_is_left_alone() -> None:
    table = FIXTURE["64to96"]["table_in"]
    assert resize_table(table, (4, 4), (4, 4)) is table


def test_a_table_for_a_wide_window_agrees_with_those_for_squares_along_each_axis() -> None:
    # A function of dy alone, plus one of dx alone: splines of a sum are sums of splines.
    down, across = torch.linspace(-1, 1, 7).square(), torch.linspace(-2, 3, 7)
    parts = [down[:, None].expand(7, 7), across[None].expand(7, 7)]
    tables = [torch.cat([part.reshape(-1, 1), torch.tensor([[5.0], [6.0], [7.0]])]) for part in (sum(parts), *parts)]
    wide = resize_table(tables[0], (4, 4), (6, 9))
    square = [resize_table(table, (4, 4), (side, side)) for table, side in zip(tables[1:], (6, 9), strict=True)]
    expected = square[0][:-3].view(11, 11)[:, :1] + square[1][:-3].view(17, 17)[:1]
    torch.testing.assert_close(wide[:-3].view(11, 17), expected, atol=1e-5, rtol=0)
    assert wide[-3:].tolist() == [[5.0], [6.0], [7.0]]


def test_the_index_follows_beits_rule() -> None:
    index = relative_position_index((2, 3))
    rows = (2 * 2 - 1) * (2 * 3 - 1) + 3
    assert index[0].tolist() == [rows - 1] + [rows - 3] * 6
    assert index[1:, 0].tolist() == [rows - 2] * 6
    for a in range(6):
        for b in range(6):
            dy, dx = a // 3 - b // 3, a % 3 - b % 3
            assert index[1 + a, 1 + b] == (dy + 1) * 5 + dx + 2


@pytest.mark.parametrize("learning", [False, True])
def test_a_gathered_bias_is_the_table_at_the_index(learning: bool) -> None:
    index = relative_position_index((3, 3))
    lookup = lookup_index((3, 3))
    assert torch.equal(lookup[:, :10], index.int())
    table = torch.randn(table_rows((3, 3)), 2, requires_grad=True)
    with torch.set_grad_enabled(learning):
        bias = gather_bias(table, lookup, torch.float32)
    assert torch.equal(bias, table[index].permute(2, 0, 1)[None])
    assert bias.stride(2) % 16 == 0
    if learning:
        bias.sum().backward()
        assert torch.equal(table.grad, torch.bincount(index.flatten()).float()[:, None].expand(-1, 2))


def test_rows_tell_windows_but_not_which_side_is_which() -> None:
    assert windows_with_rows(table_rows((4, 6))) == [(4, 6), (6, 4)]
    assert windows_with_rows(table_rows((8, 8))) == [(8, 8), (5, 13), (13, 5), (3, 23), (23, 3), (2, 38), (38, 2)]
    assert windows_with_rows(table_rows((1, 4))) == [(1, 4), (4, 1)]
    assert windows_with_rows(2) == windows_with_rows(3) == windows_with_rows(table_rows((4, 4)) + 1) == []


@pytest.mark.parametrize("window", [(4, 6), (6, 4), (5, 5)])
def test_the_index_of_a_file_tells_which_side_is_which(window: tuple[int, int]) -> None:
    index = relative_position_index(window)
    assert [other for other in windows_with_rows(table_rows(window)) if index_fits(index, other)] == [window]
    assert not index_fits(torch.zeros_like(index), window)
