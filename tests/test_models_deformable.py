"""Deformable attention has the official numbers, and those of a loop over levels with `grid_sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from vsscli.errors import VssError
from vsscli.models.mask2former.deformable import DeformableAttention, Shapes, deformable_attention

FIXTURE = Path(__file__).parent / "fixtures" / "msdeformattn.pt"
MODULES = ["module_mask2former", "module_vitadapter_ratio0.5", "module_vitadapter_1level"]


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    return torch.load(FIXTURE, weights_only=True)


def shapes_of(part: dict[str, Any]) -> list[tuple[int, int]]:
    return [(height, width) for height, width in part["spatial_shapes"].tolist()]


def by_grid_sample(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The definition: sample each level, weight, sum."""
    batch, _, heads, width = values.shape
    total = values.new_zeros(batch * heads, width, locations.shape[1])
    levels = values.split([height * columns for height, columns in shapes], dim=1)
    for level, (cells, (height, columns)) in enumerate(zip(levels, shapes, strict=True)):
        maps = cells.permute(0, 2, 3, 1).reshape(batch * heads, width, height, columns)
        grid = 2.0 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1.0
        sampled = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        total = total + (sampled * weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]).sum(dim=-1)
    return total.view(batch, heads * width, -1).transpose(1, 2)


def attention(part: dict[str, Any]) -> DeformableAttention:
    kwargs = part["kwargs"]
    module = DeformableAttention(
        kwargs["d_model"], kwargs["n_heads"], kwargs["n_levels"], kwargs["n_points"], kwargs.get("ratio", 1.0)
    )
    module.load_state_dict(part["state_dict"])
    return module


def test_result_and_gradients_are_the_official_ones(official: dict[str, Any]) -> None:
    core = official["core"]
    assert (core["sampling_locations"] < 0).any()
    assert (core["sampling_locations"] > 1).any()
    inputs = [core[name].clone().requires_grad_() for name in ("value", "sampling_locations", "attention_weights")]
    result = deformable_attention(inputs[0], shapes_of(core), inputs[1], inputs[2])
    assert_close(result, core["output"], atol=1e-5, rtol=0)
    result.backward(core["grad_output"])
    for tensor, name in zip(inputs, ("grad_value", "grad_loc", "grad_w"), strict=True):
        assert_close(tensor.grad, core[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODULES)
def test_modules_give_the_official_results(official: dict[str, Any], name: str) -> None:
    part = official[name]
    module, shapes = attention(part), shapes_of(part)
    query, values, points = part["query"], part["input_flatten"], part["reference_points"]
    assert_close(module(query, points, values, shapes), part["output"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODULES)
def test_a_new_module_looks_in_the_official_directions(official: dict[str, Any], name: str) -> None:
    part = official[name]
    module = attention(part)
    module.reset_parameters()
    assert_close(module.sampling_offsets.bias, part["init_sampling_offsets_bias"], atol=1e-6, rtol=0)
    assert not module.sampling_offsets.weight.any()
    assert not module.attention_weights.weight.any()


def test_reference_points_of_one_image_and_one_level_serve_all(official: dict[str, Any]) -> None:
    part = official["module_mask2former"]
    module, shapes = attention(part), shapes_of(part)
    points = part["reference_points"][:1, :, :1]
    every = points.expand(2, -1, 3, -1)
    values = part["input_flatten"]
    assert_close(module(part["query"], points, values, shapes), module(part["query"], every, values, shapes))


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    batch=st.integers(1, 3),
    count=st.integers(1, 5),
    heads=st.integers(1, 3),
    width=st.integers(1, 4),
    points=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_it_is_a_loop_over_levels_with_grid_sample(
    shapes: list[tuple[int, int]], batch: int, count: int, heads: int, width: int, points: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    cells = sum(height * columns for height, columns in shapes)
    places = (batch, count, heads, len(shapes), points)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    values, weights = draw(batch, cells, heads, width), draw(*places)
    locations = 0.5 + draw(*places, 2)  # a third lies outside
    upstream = draw(batch, count, heads * width)
    found = []
    for function in (deformable_attention, by_grid_sample):
        inputs = [tensor.clone().requires_grad_() for tensor in (values, locations, weights)]
        result = function(inputs[0], shapes, inputs[1], inputs[2])
        found.append([result, *torch.autograd.grad(result, inputs, upstream)])
    for ours, reference in zip(*found, strict=True):
        assert_close(ours, reference, atol=1e-9, rtol=1e-9)


def test_places_far_outside_count_as_zero_and_have_no_gradient() -> None:
    values = torch.ones(1, 4, 1, 1, requires_grad=True)
    locations = torch.tensor([1e6, 0.5, -1e6, 0.5, 0.5, 3e38, -torch.inf, 0.5]).view(1, 1, 1, 1, 4, 2).requires_grad_()
    result = deformable_attention(values, [(2, 2)], locations, torch.ones(1, 1, 1, 1, 4))
    result.backward()
    assert result.item() == 0.0
    assert locations.grad is not None
    assert not locations.grad.any()


def test_a_place_that_is_no_number_gives_none() -> None:
    locations = torch.tensor([[torch.nan, 0.5], [0.5, 0.5]]).view(1, 2, 1, 1, 1, 2).requires_grad_()
    values = torch.ones(1, 4, 1, 1, requires_grad=True)
    result = deformable_attention(values, [(2, 2)], locations, torch.ones(1, 2, 1, 1, 1))
    assert result.isnan().flatten().tolist() == [True, False]
    result.sum().backward()


def test_bfloat16_is_computed_in_float32(official: dict[str, Any]) -> None:
    part = official["module_mask2former"]
    module, values = attention(part), part["input_flatten"].clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = module(part["query"], part["reference_points"], values, shapes_of(part))
    assert result.dtype is torch.bfloat16
    assert_close(result.float(), part["output"], atol=0.05, rtol=0.05)
    result.float().sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()


@pytest.mark.slow
def test_it_compiles_in_one_graph(official: dict[str, Any]) -> None:
    part = official["module_mask2former"]
    module, shapes = attention(part), shapes_of(part)
    compiled = torch.compile(module, fullgraph=True)
    result = compiled(part["query"], part["reference_points"], part["input_flatten"], shapes)
    assert_close(result, part["output"], atol=1e-5, rtol=0)
    result.sum().backward()
    assert module.sampling_offsets.weight.grad is not None


def test_maps_and_values_that_do_not_belong_together_are_refused() -> None:
    locations, weights = torch.zeros(1, 1, 1, 1, 1, 2), torch.ones(1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"5 values .* 4 cells"):
        deformable_attention(torch.zeros(1, 5, 1, 1), [(2, 2)], locations, weights)
    with pytest.raises(VssError, match="3 heads do not divide the 16 channels"):
        DeformableAttention(32, heads=3, levels=1, points=4, ratio=0.5)
