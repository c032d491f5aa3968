"""VidEoMT and PMT for video give what the official programs give: outputs, label maps, losses, matchings, gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plain_vit_samples import expanded, facts, gradient_of, listed, numbers, parameter_of
from torch import Tensor
from torch.nn import functional

from vsscli.errors import VssError
from vsscli.inference.parity import official_clip_scores
from vsscli.models.build import build_network
from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.models.official.plain_vit import VSPW_THINGS, convert_plain_vit, in_order_of_ids, recognise_plain_vit
from vsscli.models.outputs import Clip, QueryPrediction
from vsscli.models.plain_vit.network import PlainVit
from vsscli.pipeline.convert import convert_checkpoint
from vsscli.recipes.training import Train
from vsscli.training.matching import MatchWeights, Seen, match, target_masks
from vsscli.training.optimiser import build_optimiser, set_learning_rates
from vsscli.training.set_prediction import SetPredictionLoss, SetPredictionSettings

NAMES = ("videomt_dinov2_tiny", "videomt_dinov3_tiny", "pmt_video_dinov3_tiny")
FRAMES = 3
# Predictions before the last norm are far larger than those after it.
TOLERANCES = {NAMES[0]: 4e-4, NAMES[1]: 1e-4, NAMES[2]: 6e-4}


def near(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).detach().abs().max()) <= tolerance


def official_network(name: str) -> PlainVit:
    about = facts(name)
    blocks = None if about["blocks"] is None else len(about["blocks"])
    official = recognise_plain_vit(
        numbers(name)["state_dict"], name, crop=(about["img"],) * 2, heads=about["heads"], blocks=blocks
    )
    converted = convert_plain_vit(official, about["C"])
    config = {**converted.config.model_dump(mode="json"), "clip": FRAMES, "variant": "published"}
    network = build_network(config, about["C"], load_pretrained=False)
    network.load_state_dict(converted.fitted.weights)
    assert isinstance(network, PlainVit)
    return network.eval()


def padded(name: str, images: Tensor, value: float = 0.0) -> Tensor:
    (height, width), (down, across) = facts(name)["frame_hw"], facts(name)["padded_hw"]
    return functional.pad(images, (0, across - width, 0, down - height), value=value)


def clip_of(name: str, network: PlainVit) -> Tensor:
    return padded(name, network.normalisation(numbers(name)["clips_u8"][0]))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_frames_are_predicted_one_after_another_as_by_the_official_program(name: str) -> None:
    network, expected = official_network(name), numbers(name)["eval"]
    clip, queries = clip_of(name, network), None
    for number, frame in enumerate(clip):
        outputs, queries = network.follow(frame[None], queries)
        (last,) = outputs.layers
        near(last.class_logits, expected["pred_logits"][:, number])
        near(last.mask_logits, expected["pred_masks"][:, :, number])
        near(queries[0], expected["propagated_queries"][number])
    (whole,) = network.outputs(clip).layers
    near(whole.class_logits, expected["pred_logits"][0])
    near(whole.mask_logits.transpose(0, 1), expected["pred_masks"][0])


@pytest.mark.parametrize("name", NAMES)
def test_a_video_is_read_out_as_published(name: str) -> None:
    network, expected, about = official_network(name), numbers(name)["eval"], facts(name)
    size = tuple(about["out_hw"])
    scores = official_clip_scores(network, clip_of(name, network), size=size, cut=tuple(about["frame_hw"]))
    near(scores[..., ::4, ::4].transpose(0, 1), expected["sem_scores_every_4th_pixel"])
    assert torch.equal(scores.argmax(dim=1).byte(), expected["sem_labels"])


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_is_learned_from_as_published(name: str) -> None:
    network, given, about = official_network(name).train(), numbers(name), facts(name)
    expected, training = given["train"], about["train"]
    torch.manual_seed(training["torch_seed"])
    outputs = network.outputs(clip_of(name, network))
    *early, last = outputs.layers
    near(last.class_logits, expected["pred_logits"][0])
    for layer, classes, masks in zip(
        early, expected["aux_pred_logits"], expected["aux_pred_masks_last_frame"], strict=True
    ):
        near(layer.class_logits, classes[0], TOLERANCES[name])
        near(layer.mask_logits[-1:], masks, TOLERANCES[name])
    drawn: list[Tensor] = []

    def draw(shape: tuple[int, ...], device: torch.device) -> Tensor:
        drawn.append(torch.rand(shape))
        return drawn[-1]

    labels = padded(name, given["label_maps"][0], 255)
    losses = SetPredictionLoss(SetPredictionSettings(points=about["Pn"]), draw)(outputs.layers, labels, outputs.clip)
    for own, theirs in zip(drawn, expected["rand"], strict=True):
        assert torch.equal(own, theirs)
    for part, own in (("ce", losses.classes), ("mask", losses.masks), ("dice", losses.dice)):
        theirs = [training["losses_unweighted_all"][f"loss_{part}_{number}"] for number in range(len(early))]
        assert own.tolist() == pytest.approx([*theirs, training["losses_unweighted_all"][f"loss_{part}"]], abs=1e-4)
    assert float(losses.total.detach()) == pytest.approx(expected["loss_total"], abs=1e-4)
    targets = target_masks(labels, about["C"], clip=outputs.clip)
    matches = match([last, *early], targets, [[drawn[3 * number][0]] for number in range(4)], MatchWeights())
    for own, theirs in zip(matches, training["matching_final_then_aux_per_frame(query,target)"], strict=True):
        for frame, (queries, masks) in enumerate(theirs):
            assert own.query[own.image == frame].tolist() == queries
            assert own.target_class[own.image == frame].tolist() == [targets.classes[frame][mask] for mask in masks]
    losses.total.backward()
    for official, theirs in expected["grads"].items():
        near(gradient_of(network, official), theirs, 1e-4 * float(theirs.abs().max()))
    for entry in training["grad_norms"].split():
        official, _, norm = entry.partition("=")
        assert float(gradient_of(network, official).norm()) == pytest.approx(float(norm), rel=2e-4, abs=1e-5), official
    if network.laterals is not None:
        near(network.laterals.bn[0].running_mean, expected["bn0_running_mean_after"], 1e-5)
        near(network.laterals.bn[0].running_var, expected["bn0_running_var_after"], 1e-5)


def test_a_class_is_matched_where_it_first_appears() -> None:
    labels = torch.full((4, 8, 8), 255, dtype=torch.uint8)
    labels[0, :4], labels[1, 4:], labels[1, :4] = 2, 0, 2  # a clip: 2, then 0 too
    labels[3, :4] = 1  # another: nothing, then 1
    targets = target_masks(labels, 3, clip=Clip(2))
    assert targets.classes == ((0, 2), (0, 2), (1,), (1,))
    assert targets.seen == ((Seen(0, (2,)), Seen(1, (0,))), (Seen(2, ()), Seen(3, (1,))))
    assert target_masks(labels, 3, clip=Clip(2, published=True)).seen == ((Seen(0, (0, 2)),), (Seen(2, (1,)),))
    points = [torch.rand(64, 2) for _ in targets.places]
    masks = torch.full((4, 3, 8, 8), -9.0)
    masks[0, 1, :4], masks[1, 2, 3:], masks[3, 0, :4] = 9.0, 9.0, 9.0
    masks[1, 1, 4:] = 9.0  # would fit the second class best, but has matched the first
    (found,) = match([QueryPrediction(torch.zeros(4, 3, 4), masks)], targets, [points], MatchWeights())
    pairs = list(zip(found.image.tolist(), found.query.tolist(), found.target_class.tolist(), strict=True))
    assert pairs == [(0, 1, 2), (0, 2, 0), (1, 1, 2), (1, 2, 0), (2, 0, 1), (3, 0, 1)]


def test_every_prediction_of_a_clip_counts_unless_faults_are_kept() -> None:
    layers = [QueryPrediction(torch.randn(2, 5, 4), torch.randn(2, 5, 8, 8)) for _ in range(3)]
    labels = torch.randint(0, 3, (2, 8, 8)).byte()
    loss = SetPredictionLoss(SetPredictionSettings(points=32))
    for clip in (Clip(2), Clip(2, published=True)):
        found = loss(layers, labels, clip)
        each = 2 * found.classes + 5 * found.masks + 5 * found.dice
        torch.testing.assert_close(found.total, each.sum() - (each[1] if clip.published else 0))


def published_network(which: str, kind: str) -> dict[str, Tensor]:
    return expanded(listed(f"keys_{which}_vitL_vspw")[kind])


@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
@pytest.mark.parametrize("which", ["videomt", "pmt"])
def test_vit_l_for_video_has_the_published_names_and_shapes(which: str, kind: str) -> None:
    official = recognise_plain_vit(published_network(which, kind), which)
    converted = convert_plain_vit(official, 124)
    config = converted.config
    assert {"attn_mask_probs", "empty_weight"} <= {name.rpartition(".")[2] for name in official.unused}
    assert (config.clip, config.num_queries, config.any_size) == (5, 200, True)  # type: ignore[attr-defined]
    published = facts(f"{which}_schedules")[kind]
    with torch.device("meta"):
        network = build_network(config, 124, load_pretrained=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == published["params_total"]
    learning = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert learning == published["params_trainable"]
    assert set(converted.fitted.weights) == set(network.state_dict())


@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
@pytest.mark.parametrize("which", ["videomt", "pmt"])
def test_vit_l_for_video_learns_at_the_published_rates(which: str, kind: str) -> None:
    published = facts(f"{which}_schedules")[kind]
    names = [name for name, t in published_network(which, kind).items() if t.ndim and "attn_mask_probs" not in name]
    config = convert_plain_vit(recognise_plain_vit(published_network(which, kind), which), 124).config
    with torch.device("meta"):
        network = build_network({**config.model_dump(), "variant": "published"}, 124, load_pretrained=False)
    both = which == "videomt"
    train = Train(
        lr=published["base_lr"],
        layer_decay=published["llrd"] or 1.0,
        schedule="poly_after",
        steps=published["max_iter"],
        warmup=published["warmup_steps"][0] if both else published["warmup_steps"],
        encoder_warmup=published["warmup_steps"][1] if both else 0,
    )
    optimiser = build_optimiser(network, train)
    rates = {id(part): group["base_lr"] for group in optimiser.param_groups for part in group["params"]}
    wanted = published["base_lr_by_bucket"]
    if not both:
        assert set(rates.values()) == set(wanted.values())
    for name in (name for name in names if both and name.startswith("backbone.")):
        rate = wanted[bucket_of(name.removeprefix("backbone."))]
        assert rates[id(parameter_of(network, name))] == pytest.approx(rate), name
    for step, factors in next(values for name, values in published.items() if name.startswith("lr_factor")).items():
        set_learning_rates(optimiser, int(step), train)
        for group in optimiser.param_groups:
            factor = factors[0] if group["part"] == "encoder" or not both else factors[1]
            assert group["lr"] == pytest.approx(group["base_lr"] * factor, rel=1e-9, abs=1e-18)


def bucket_of(name: str) -> str:
    if not name.startswith("encoder."):
        return f"backbone.{name.partition('.')[0]}"
    part, number, *_ = [*name.removeprefix("encoder.backbone.").split("."), ""]
    return f"encoder.blocks.{number}" if part == "blocks" else f"encoder.{'norm' if part == 'norm' else 'embeddings'}"


def test_heads_of_vspw_are_brought_into_the_order_of_ids() -> None:
    order = [*VSPW_THINGS, *(number for number in range(124) if number not in VSPW_THINGS)]
    assert (order[:4], order[57:62]) == ([2, 4, 8, 10], [123, 0, 1, 3, 5])
    official = recognise_plain_vit(published_network("videomt", "dinov2"), "file")
    official.rest["head.class_head.bias"] = torch.tensor([*order, 124.0])
    official.rest["head.class_head.weight"] = torch.tensor([*order, 124.0])[:, None].expand(-1, 1024)
    assert in_order_of_ids(official).rest["head.class_head.bias"].tolist() == [float(number) for number in range(125)]


def test_what_is_of_clips_needs_clips() -> None:
    for name, value in (("variant", "published"), ("handed", "normed")):
        with pytest.raises(VssError, match=f"{name} is of clips, and clip is 1"):
            build_network({"family": "plain_vit", name: value}, 3, load_pretrained=False)


@torch.no_grad()
def test_a_published_file_becomes_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"model": {name: t.float() for name, t in numbers(NAMES[0])["state_dict"].items()}}, tmp_path / "a.pth")
    done = convert_checkpoint(tmp_path / "a.pth", tmp_path / "a.pt", heads=3, blocks=3)
    assert (done.kind, done.crop, done.classes) == ("VidEoMT on a DINOv2", None, 7)
    checkpoint = load_checkpoint(done.path)
    assert checkpoint.recipe["predict"]["size"] == 720
    network = restore_network(checkpoint)
    assert isinstance(network, PlainVit)
    outputs, _ = network.follow(clip_of(NAMES[0], network)[:1])
    near(outputs.layers[0].mask_logits, numbers(NAMES[0])["eval"]["pred_masks"][:, :, 0])
