"""The Mask2Former head has the numbers and the names of detectron2's and mmsegmentation's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mask2former_samples import (
    CLASSES,
    SMALL,
    assert_same,
    detectron_head,
    mmseg_head,
    names_and_shapes,
    official,
)
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from vsscli.errors import VssError
from vsscli.models.mask2former.config import LAYOUTS, HeadConfig
from vsscli.models.mask2former.head import Mask2FormerHead
from vsscli.models.mask2former.mask_decoder import FusedAttention, allowed_cells
from vsscli.models.mask2former.pixel_decoder import sine_positions
from vsscli.models.official.head import mmseg_head_to_detectron
from vsscli.models.outputs import MaskOutputs, QueryPrediction, mask_scores
from vsscli.models.scores import ScoreKind, to_probabilities


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def meta_head(in_channels: list[int], config: HeadConfig) -> Mask2FormerHead:
    with torch.device("meta"):
        return Mask2FormerHead(in_channels, 150, config)


class TestDetectron:
    def test_pixel_decoder_gives_the_official_features(self) -> None:
        head, maps = detectron_head()
        numbers = official("mask2former_head_d2")
        features = head.pixel_decoder(maps)
        assert_same(features.mask, numbers["mask_features"])
        for ours, theirs in zip(features.memory, numbers["multi_scale_features"], strict=True):
            assert_same(ours, theirs)

    def test_every_layer_predicts_what_the_official_one_predicts(self) -> None:
        head, maps = detectron_head()
        numbers = official("mask2former_head_d2")
        for ours, theirs in zip(head(maps).layers, [*numbers["aux_outputs"], numbers], strict=True):
            assert_same(ours.class_logits, theirs["pred_logits"])
            assert_same(ours.mask_logits, theirs["pred_masks"])

    def test_the_full_read_out_is_the_official_semantic_map(self) -> None:
        head, maps = detectron_head(full=True)
        scores = head(maps).scores
        assert (head.stride, scores.kind) == (1, ScoreKind.MASK_SCORES)
        assert_same(scores.values, official("mask2former_head_d2")["semantic"])

    def test_positions_are_the_official_ones(self) -> None:
        expected = official("mask2former_head_d2")["pe_c32_3x5"][0]
        assert_close(sine_positions((3, 5), 32, torch.device("cpu")), expected, atol=1e-6, rtol=0)

    def test_names_and_shapes_at_full_size_are_those_of_the_checkpoint(self) -> None:
        expected = names_and_shapes("keys_mask2former_swinL_ade20k_d2", "sem_seg_head.")
        assert shapes_of(meta_head([192, 384, 768, 1536], HeadConfig())) == expected


class TestMmsegmentation:
    def test_every_layer_predicts_what_the_official_one_predicts(self) -> None:
        head, _ = mmseg_head()
        numbers = official("full_vitadapter_mmseg")
        outputs = head(numbers["backbone_out"])
        assert_same(outputs.features, numbers["mask_feature"])
        logits, masks = numbers["pred_logits_all"], numbers["pred_masks_all"]
        for ours, class_logits, mask_logits in zip(outputs.layers, logits, masks, strict=True):
            assert_same(ours.class_logits, class_logits)
            assert_same(ours.mask_logits, mask_logits)

    def test_the_grid_read_out_is_the_official_score_map(self) -> None:
        head, _ = mmseg_head()
        numbers = official("full_vitadapter_mmseg")
        scores = head(numbers["backbone_out"], every_layer=False).scores
        assert (head.stride, scores.kind) == (4, ScoreKind.MASK_SCORES)
        assert_same(scores.values, numbers["seg_quarter_res"])
        enlarged = functional.interpolate(scores.values, size=(64, 64), mode="bilinear", align_corners=False)
        assert_same(enlarged, numbers["encode_decode"])

    @pytest.mark.parametrize(
        ("file", "channels", "parameters"),
        [("keys_vitadapter_beitL_mmseg", 1024, 239.7e6), ("keys_onepeace_g_mmseg", 1536, 241.7e6)],
    )
    def test_names_and_shapes_at_full_size_are_those_of_the_checkpoint(
        self, file: str, channels: int, parameters: float
    ) -> None:
        head = meta_head([channels] * 4, LAYOUTS["wide"])
        listed = names_and_shapes(file, "decode_head.")
        names = mmseg_head_to_detectron(listed)
        assert {names[name]: shape for name, shape in listed.items()} == shapes_of(head)
        assert sum(parameter.numel() for parameter in head.parameters()) == pytest.approx(parameters, abs=5e4)

    def test_names_of_1x_lead_to_the_same_tensors(self) -> None:
        pairs = {
            "pixel_decoder.encoder.layers.3.self_attn.value_proj.bias": "attentions.0.value_proj.bias",
            "pixel_decoder.encoder.layers.3.ffn.layers.0.0.weight": "ffns.0.layers.0.0.weight",
            "transformer_decoder.layers.8.cross_attn.attn.in_proj_bias": "attentions.0.attn.in_proj_bias",
            "transformer_decoder.layers.8.self_attn.attn.out_proj.weight": "attentions.1.attn.out_proj.weight",
            "transformer_decoder.layers.8.ffn.layers.1.bias": "ffns.0.layers.1.bias",
        }
        for new, end in pairs.items():
            old = ".".join([*new.split(".")[: 4 if new.startswith("pixel") else 3], end])
            assert mmseg_head_to_detectron([new])[new] == mmseg_head_to_detectron([old])[old]

    def test_what_is_no_part_of_the_head_is_left_out(self) -> None:
        assert mmseg_head_to_detectron(["conv_seg.weight", "query_feat.weight"]) == {
            "query_feat.weight": "predictor.query_feat.weight"
        }


def test_attention_is_torchs_multi_head_attention() -> None:
    torch.manual_seed(1)
    ours, theirs = FusedAttention(24, 4), nn.MultiheadAttention(24, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, memory = torch.randn(2, 5, 24), torch.randn(2, 9, 24)
    allowed = torch.rand(2, 1, 5, 9) > 0.3
    allowed[..., 0] = True
    expected, _ = theirs(query, memory + 1, memory, attn_mask=~allowed[:, 0].repeat_interleave(4, dim=0))
    assert_close(ours(query, memory + 1, memory, allowed), expected, atol=1e-6, rtol=1e-5)


def test_a_query_looks_inside_its_mask_or_everywhere_if_that_is_empty() -> None:
    mask_logits = torch.tensor([[[[5.0, -5.0], [0.0, -5.0]], [[-1.0, -2.0], [-3.0, -4.0]]]])
    assert allowed_cells(mask_logits, (2, 2))[0, 0].tolist() == [[True, False, True, False], [True] * 4]


def test_the_last_layer_alone_gives_the_same_scores() -> None:
    head, maps = detectron_head()
    last = head(maps, every_layer=False)
    assert len(last.layers) == 1
    assert torch.equal(last.scores.values, head(maps).scores.values)


def test_an_image_is_decoded_as_it_is_in_a_batch() -> None:
    head, maps = detectron_head()
    together = head(maps).scores.values
    alone = torch.cat([head([map_[[image]] for map_ in maps]).scores.values for image in range(2)])
    assert_same(alone, together)


@pytest.mark.parametrize("cells", [(1, 2), (3, 2)])  # of stride 32; group norm refuses groups of one value
def test_scores_cover_maps_of_any_size(cells: tuple[int, int]) -> None:
    head, _ = detectron_head(full=True)
    sizes = [(side * cells[0], side * cells[1]) for side in (8, 4, 2, 1)]
    maps = [torch.randn(1, channels, *size) for channels, size in zip((8, 12, 16, 20), sizes, strict=True)]
    outputs = head(maps)
    assert outputs.scores.values.shape == (1, CLASSES, 32 * cells[0], 32 * cells[1])
    assert outputs.features.shape == (1, SMALL["channels"], *sizes[0])


def test_bfloat16_leaves_the_pixel_decoder_in_float32_and_has_no_nan() -> None:
    head, maps = detectron_head()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head([map_.bfloat16() for map_ in maps])
        scores = outputs.scores.values
    exact = head([map_.bfloat16().float() for map_ in maps])
    assert torch.equal(outputs.features, exact.features)
    assert outputs.layers[-1].class_logits.dtype is torch.bfloat16
    assert scores.dtype is torch.float32
    sum(layer.mask_logits.float().sum() + layer.class_logits.float().sum() for layer in outputs.layers).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
    assert scores.isfinite().all()


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        head, maps = detectron_head(checkpointing=checkpointing)
        head.train()
        head(maps).scores.values.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in head.named_parameters()})
    assert_close(gradients[1], gradients[0])


@pytest.mark.slow
def test_it_compiles() -> None:
    head, maps = detectron_head()
    expected = head(maps).scores.values
    compiled = torch.compile(lambda *maps: head(maps).scores.values)
    assert_close(compiled(*maps), expected, atol=1e-4, rtol=1e-4)


class TestMaskScores:
    def test_a_sure_query_gives_its_class_its_mask(self) -> None:
        # Softmax of (ln 6, ln 1, ln 1): 6/8 and 1/8 without "no object"; masks of 1/2 and 3/4.
        class_logits = torch.tensor([[[6.0, 1.0, 1.0]]]).log()
        mask_logits = torch.tensor([[[[0.0, 3.0]]]])
        mask_logits[..., 1] = torch.tensor(3.0).log()
        values = mask_scores(QueryPrediction(class_logits, mask_logits)).values
        assert_close(values, torch.tensor([[[[3 / 8, 9 / 16]], [[1 / 16, 3 / 32]]]]))

    def test_scores_become_probabilities_without_a_softmax(self) -> None:
        prediction = QueryPrediction(torch.randn(2, 5, 4), torch.randn(2, 5, 3, 3))
        probabilities = to_probabilities(MaskOutputs((prediction,), torch.zeros(2, 1, 3, 3)).scores)
        assert_close(probabilities.sum(dim=1), torch.ones(2, 3, 3))

    def test_full_size_is_reached_before_the_sigmoid(self) -> None:
        masks = torch.tensor([[[[-40.0, 40.0]]]])
        prediction = QueryPrediction(torch.tensor([[[50.0, 0.0]]]), masks)
        enlarged: Tensor = functional.interpolate(masks, size=(1, 4), mode="bilinear", align_corners=False)
        assert_close(mask_scores(prediction, (1, 4)).values, enlarged.sigmoid())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 48}, "48 of a Mask2Former head do not fit 32 groups and 8 heads"),
        ({"heads": 3}, "256 of a Mask2Former head do not fit 32 groups and 3 heads"),
        ({"queries": 0}, "queries"),
    ],
)
def test_a_layout_that_can_not_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((VssError, ValidationError), match=message):
        HeadConfig(**changes)
