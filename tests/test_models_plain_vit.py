"""EoMT and PMT give what the official programs give: outputs, label maps, losses, matchings, gradients, schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plain_vit_samples import NAMES, facts, gradient_of, numbers, official_network, parameter_of
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from vsscli.errors import VssError
from vsscli.inference.parity import official_scores
from vsscli.models.build import build_network
from vsscli.models.outputs import QueryPrediction
from vsscli.models.plain_vit.masking import mask_probability, usual_windows
from vsscli.models.plain_vit.network import PlainVit
from vsscli.recipes.training import Train
from vsscli.training.matching import match, target_masks
from vsscli.training.optimiser import build_optimiser, set_learning_rates
from vsscli.training.set_prediction import SetPredictionLoss, SetPredictionSettings

TOLERANCE = 1e-4
SMALL = {"family": "plain_vit", "crop": (64, 96), "num_queries": 9}


def near(ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= tolerance


def same(layers: tuple[QueryPrediction, ...], expected: dict[str, list[Tensor]]) -> None:
    assert len(layers) == len(expected["class_logits"])
    for layer, classes in zip(layers, expected["class_logits"], strict=True):
        near(layer.class_logits, classes)
    for layer, masks in zip(layers, expected.get("mask_logits", ()), strict=False):
        near(layer.mask_logits, masks)
    if "mask_logits_final" in expected:
        near(layers[-1].mask_logits, expected["mask_logits_final"])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_outputs_are_the_official_ones_without_masks_and_with(name: str) -> None:
    network, given = official_network(name), numbers(name)
    images = network.normalisation(given["image_u8"])
    outputs = network.outputs(images)
    (last,) = outputs.layers
    near(last.mask_logits, given["eval_nomask"]["mask_logits"])
    near(last.class_logits, given["eval_nomask"]["class_logits"])
    assert outputs.scores.values.shape[2:] == images.shape[2:]
    same(network.predict(images, masked=True, every_layer=True).layers, given["eval_p1"])
    network.masked_attention.set_probabilities([0.0] * facts(name)["num_blocks"])
    near(network.predict(images, masked=True, every_layer=True).layers[-1].mask_logits, last.mask_logits, 1e-6)


@pytest.mark.parametrize("name", NAMES[:2])
@torch.no_grad()
def test_queries_are_freed_by_the_numbers_that_are_drawn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, given = official_network(name), numbers(name)
    expected = given["eval_prob"]
    draws = iter(expected["rand"])
    network.masked_attention.set_probabilities(expected["attn_mask_probs"].tolist())
    monkeypatch.setattr(torch, "rand", lambda *shape, device: next(draws))
    layers = network.predict(network.normalisation(given["image_u8"]), masked=True, every_layer=True).layers
    same(layers, expected)


@pytest.mark.parametrize("name", NAMES[:2])
@torch.no_grad()
def test_images_need_not_be_square(name: str) -> None:
    expected = numbers(name)["nonsq"]
    height, width = facts(name)["nonsq_size"]
    network = official_network(name, (height, width))
    images = network.normalisation(expected["image_u8"])
    same(network.predict(images, masked=True, every_layer=True).layers, expected)
    with pytest.raises(VssError, match=f"made for {height}x{width}"):
        network(network.normalisation(numbers(name)["image_u8"]))


@pytest.mark.parametrize("name", NAMES[:2])
def test_windows_give_the_official_label_map(name: str) -> None:
    network, expected = official_network(name), numbers(name)["window"]
    (image,), (height, width) = (expected["image_u8"][None],), expected["resized_hw"]
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.BILINEAR)
    images = network.normalisation(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None])
    crop = (height, height)
    scores = official_scores(network, images, window=crop, step=crop, size=tuple(image.shape[-2:]))
    near(scores[0], expected["scores"])
    assert torch.equal(scores[0].argmax(dim=0).byte(), expected["labels"])


@pytest.mark.parametrize(("name", "case"), [(NAMES[0], "p1"), (NAMES[0], "p05"), (NAMES[1], "p1"), (NAMES[1], "p05")])
def test_losses_matchings_and_gradients_are_the_official_ones(name: str, case: str) -> None:
    network, given, about = official_network(name).train(), numbers(name), facts(name)
    training = given["train"][case]
    _assert_training(network, given, about["num_points"], training, about["train_losses"][case])


def test_pmt_learns_as_the_official_one_from_batch_statistics() -> None:
    network, given, about = official_network(NAMES[2]).train(), numbers(NAMES[2]), facts(NAMES[2])
    training = {**given["train"], "torch_seed": about["train"]["torch_seed"]}
    _assert_training(network, given, about["num_points"], training, about["train"])
    assert network.laterals is not None
    near(network.laterals.bn[0].running_mean, given["train"]["bn0_running_mean_after"], 1e-5)
    near(network.laterals.bn[0].running_var, given["train"]["bn0_running_var_after"], 1e-5)
    assert all(parameter.grad is None for parameter in network.trunk.parameters())


def _assert_training(
    network: PlainVit, given: dict[str, Any], points: int, training: dict[str, Any], expected: dict[str, Any]
) -> None:
    if "attn_mask_probs" in training:
        network.masked_attention.set_probabilities(training["attn_mask_probs"].tolist())
    torch.manual_seed(training["torch_seed"])
    layers = network.outputs(network.normalisation(given["image_u8"])).layers
    criterion, drawn = SetPredictionLoss(SetPredictionSettings(points=points)), []

    def draw(shape: tuple[int, ...], device: torch.device) -> Tensor:
        drawn.append(torch.rand(shape))
        return drawn[-1]

    criterion.draw = draw
    labels = given["label_map"]
    losses = criterion(layers, labels)
    for own, theirs in (
        (losses.masks, "loss_mask"),
        (losses.dice, "loss_dice"),
        (losses.classes, "loss_cross_entropy"),
    ):
        near(own.detach(), torch.tensor([layer[theirs] for layer in expected["losses_per_layer"]]))
    assert float(losses.total.detach()) == pytest.approx(expected["loss_total"], abs=1e-3)
    targets = target_masks(labels, network.num_classes)
    places = [[drawn[layer * 4 + image][0] for image in range(2)] for layer in range(len(layers))]
    for own, theirs in zip(
        match(layers, targets, places, criterion.settings.weights), expected["matching"], strict=True
    ):
        for image, (queries, masks) in enumerate(theirs):
            found = own.image == image
            assert own.query[found].tolist() == queries
            assert own.target_class[found].tolist() == [targets.classes[image][mask] for mask in masks]
    losses.total.backward()
    own_gradients = {name: gradient_of(network, name) for name in training.get("grads", ())}
    for name, theirs in training.get("grads", {}).items():
        near(own_gradients[name], theirs, TOLERANCE * float(theirs.abs().max()))
    for entry in expected["grad_norms"].split():
        name, _, norm = entry.partition("=")
        assert float(gradient_of(network, name).norm()) == pytest.approx(float(norm), rel=2e-4, abs=1e-5), name


def test_masks_are_annealed_as_published() -> None:
    schedules = facts("eomt_schedules")
    for config in schedules["configs"].values():
        starts, ends, total = config["annealing_start"], config["annealing_end"], config["total_steps_used"]
        for step, probabilities in config["attn_mask_prob_at_step (used in the forward of that step)"].items():
            own = [
                mask_probability(int(step) / total, start / total, end / total)
                for start, end in zip(starts, ends, strict=True)
            ]
            assert own == pytest.approx(probabilities, abs=1e-4 if min(own) < 0.001 else 1e-5)


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("case", ["default", "llrd_l2_disabled", "lr_mult_0.1_llrd_1"])
def test_every_layer_learns_at_its_published_rate(name: str, case: str) -> None:
    schedule = facts(name)["schedules"][case]
    wanted = schedule["kwargs"]
    network = official_network(name, full_rate_blocks=not wanted.get("llrd_l2_enabled", True))
    train = Train(
        lr=wanted.get("lr", 1e-4),
        layer_decay=wanted.get("llrd", 0.8),
        weight_decay=0.05,
        schedule="poly_after",
        steps=schedule["total_steps"],
        warmup=schedule["warmup_steps"][0],
        encoder_warmup=schedule["warmup_steps"][1],
    )
    optimiser = build_optimiser(network, train)
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.05}
    rates = {id(part): group["base_lr"] for group in optimiser.param_groups for part in group["params"]}
    given = schedule["base_lr_by_name"]
    if isinstance(given, dict):  # by the beginnings of names
        given = {f"encoder.backbone.{key[3:]}" if key.startswith("bb.") else key: rate for key, rate in given.items()}
    else:
        pairs = (entry.partition("=") for entry in given.split())
        given = {key.removeprefix("network."): float(rate) for key, _, rate in pairs}
    checked = 0
    for official in numbers(name)["state_dict"]:
        rate = next((rate for key, rate in given.items() if f"{official}.".startswith(f"{key}.")), None)
        if rate is None and not isinstance(schedule["base_lr_by_name"], dict):
            continue
        if rate is None:
            rate = given["encoder.backbone.patch_embed"]
        assert rates[id(parameter_of(network, official))] == pytest.approx(rate), official
        checked += 1
    assert checked > 100
    for part, factors in schedule.get("lr_factor_at_step", {}).items():
        for step, factor in factors.items():
            set_learning_rates(optimiser, int(step), train)
            group = next(
                group for group in optimiser.param_groups if (group["part"] == "encoder") == (part == "backbone")
            )
            assert group["lr"] == pytest.approx(group["base_lr"] * factor, rel=1e-9, abs=1e-18)


def test_pmt_warms_up_and_follows_a_cosine() -> None:
    given = facts(NAMES[2])["lr"]
    train = Train(
        lr=given["base"],
        min_lr=given["min_lr"],
        schedule="cosine",
        steps=given["total_steps"],
        warmup=given["warmup_steps"],
    )
    optimiser = build_optimiser(official_network(NAMES[2]), train)
    for step, (rate,) in given["lr_at_step"].items():
        assert set_learning_rates(optimiser, int(step), train) == pytest.approx(rate, rel=1e-8)


def test_without_windows_of_its_own_a_network_has_the_published_ones() -> None:
    published = [(6520, 13040), (13040, 19560), (19560, 26080), (26080, 32600)]
    for own, steps in zip(usual_windows(4), published, strict=True):
        assert own == pytest.approx(tuple(step / 39122 for step in steps), abs=2 / 39122)
    starts = [start for start, _ in usual_windows(6)]
    assert starts[1:] == pytest.approx([step / 20192 for step in (5384, 7403, 9422, 11442, 13461)], abs=2 / 20192)
    network = build_network(
        {"family": "plain_vit", "sizes": {"width": 24, "heads": 2, "depth": 4}}, 3, load_pretrained=False
    )
    assert isinstance(network, PlainVit)
    network.at_progress(0.25)
    assert network.masked_attention.probabilities.tolist() == pytest.approx([0.5358867, 1.0, 1.0])


def test_patches_that_are_no_whole_cells_are_read_out_in_full_alone() -> None:
    config = {**SMALL, "backbone": "vit_small_patch14_reg4_dinov2", "patch": 18, "crop": (36, 54)}
    with pytest.raises(VssError, match=r"readout: grid: patches of 18 pixels are not 4 cells"):
        build_network({**config, "readout": "grid"}, 3, load_pretrained=False)
    scores = build_network({**config, "readout": "full"}, 3, load_pretrained=False).eval()(torch.randn(1, 3, 36, 54))
    assert scores.values.shape == (1, 3, 36, 54)


@pytest.mark.parametrize("backbone", ["resnet18", "vit_pwee_patch16_reg1_gap_256", "vit_small_patch16_rope_mixed_224"])
def test_a_backbone_whose_blocks_can_not_take_queries_is_refused(backbone: str) -> None:
    with pytest.raises(VssError, match=f"{backbone} is not a ViT whose blocks can take queries"):
        build_network({**SMALL, "backbone": backbone}, 3, load_pretrained=False)


def test_heads_that_rotary_positions_do_not_fit_are_refused() -> None:
    sizes = {"width": 30, "heads": 3, "depth": 4}
    config = {**SMALL, "backbone": "vit_small_patch14_reg4_dinov2", "sizes": sizes}
    build_network(config, 3, load_pretrained=False)
    for change in ({"queries": "decoder"}, {"backbone": "vit_small_patch16_dinov3_qkvb"}):
        with pytest.raises(VssError, match="3 heads over a width of 30 have 10 channels each"):
            build_network({**config, **change}, 3, load_pretrained=False)


def test_weights_of_other_patches_and_images_are_resized_as_timm_does() -> None:
    expected = numbers(NAMES[0])["resample"]
    near(resample_patch_embed(expected["patch14"], [16, 16]), expected["patch16"], 1e-5)
    table = expected["pos37"].float()
    near(resample_abs_pos_embed(table, [32, 32], [37, 37], num_prefix_tokens=0), expected["pos32"], 1e-5)


def test_rotary_positions_are_the_official_ones() -> None:
    expected, network = numbers(NAMES[1])["rope"], official_network(NAMES[1])
    sin, cos = network.trunk.rope.get_embed(shape=[6, 9]).chunk(2, dim=-1)
    near(cos, expected["eval_cos"], 1e-5)
    near(sin, expected["eval_sin"], 1e-5)


def test_a_decoder_scales_its_own_positions_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**SMALL, "backbone": "vit_small_patch14_reg4_dinov2", "queries": "decoder", "rescale": 2.0}
    decoder = build_network(
        {**config, "sizes": {"width": 48, "heads": 3, "depth": 4}}, 3, load_pretrained=False
    ).decoder
    expected = numbers(NAMES[1])["rope"]
    near(decoder.eval().positions((6, 9)), torch.cat([expected["eval_sin"], expected["eval_cos"]], dim=1), 1e-5)
    factor = expected["train_rescale"]
    monkeypatch.setattr(Tensor, "uniform_", lambda self, low, high: self.copy_(factor.log()))
    near(decoder.train().positions((6, 9)), torch.cat([expected["train_sin"], expected["train_cos"]], dim=1), 1e-5)
