"""Published checkpoints of EoMT and PMT become ours, whole or with the weights of their trunk beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from plain_vit_samples import NAMES, expanded, facts, listed, numbers
from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.models.cost import outline
from vsscli.models.official.plain_vit import convert_plain_vit, recognise_plain_vit
from vsscli.models.plain_vit.network import PlainVit
from vsscli.models.plain_vit.tensors import timm_names
from vsscli.pipeline.convert import convert_checkpoint

DINOV2, DINOV3, PMT = NAMES
ENCODER = "encoder.backbone."


def official(name: str) -> dict[str, Tensor]:
    return {f"network.{key}": value.float() for key, value in numbers(name)["state_dict"].items()}


def transformers_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A DINOv3 as transformers publishes it, out of one as EoMT names it."""
    found = {}
    for name, tensor in state.items():
        if ENCODER in name:
            short = name.partition(ENCODER)[2].replace("patch_embed.", "embeddings.")
            found[re.sub(r"^blocks\.", "layer.", short)] = tensor
    return found | {"embeddings.mask_token": torch.zeros(1, 1, 4)}


def sizes(name: str) -> dict[str, Any]:
    about = facts(name)
    blocks = {} if name == PMT else {"blocks": about["num_blocks"]}
    return {"crop": tuple(about["img_size"]), "heads": about["num_heads"], **blocks}


@torch.no_grad()
def assert_official(path: Path, name: str) -> PlainVit:
    network = restore_network(load_checkpoint(path))
    assert isinstance(network, PlainVit)
    (last,) = network.outputs(network.normalisation(numbers(name)["image_u8"])).layers
    assert float((last.mask_logits - numbers(name)["eval_nomask"]["mask_logits"]).abs().max()) < 1e-4
    return network


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_checkpoint_becomes_ours(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": official(name)}, tmp_path / "official.ckpt")
    done = convert_checkpoint(tmp_path / "official.ckpt", tmp_path / "ours.pt", **sizes(name))
    assert done.kind.startswith("PMT" if name == PMT else "EoMT")
    assert (done.classes, done.crop) == (7, tuple(facts(name)["img_size"]))
    assert not done.unused
    assert_official(done.path, name)
    # What is converted can be converted no further, and predicts in windows as it was published.
    recipe = load_checkpoint(done.path).recipe
    assert recipe["predict"]["window"] == recipe["predict"]["step"] == list(facts(name)["img_size"])


def test_differences_to_a_trunk_need_the_trunk(tmp_path: Path) -> None:
    state, generator = official(DINOV3), torch.Generator().manual_seed(1)
    base = {name: torch.rand(tensor.shape, generator=generator) for name, tensor in state.items() if ENCODER in name}
    delta = {name: tensor - base.get(name, torch.zeros(())) for name, tensor in state.items()}
    delta["network.encoder.pixel_mean"] = torch.zeros(1, 3, 1, 1)
    delta["network.attn_mask_probs"] = torch.zeros(3)
    torch.save(delta, tmp_path / "delta.bin")
    torch.save(transformers_names(base), tmp_path / "base.pth")
    how = {**sizes(DINOV3), "blocks": None}
    with pytest.raises(VssError, match="holds differences to its trunk's own weights") as caught:
        convert_checkpoint(tmp_path / "delta.bin", tmp_path / "ours.pt", **how)
    assert "--base" in caught.value.hint
    assert not (tmp_path / "ours.pt").exists()
    done = convert_checkpoint(tmp_path / "delta.bin", tmp_path / "ours.pt", base=tmp_path / "base.pth", **how)
    assert len(done.unused) == 2
    assert_official(done.path, DINOV3)
    torch.save({name: tensor[..., :1] for name, tensor in transformers_names(base).items()}, tmp_path / "other.pth")
    with pytest.raises(VssError, match="in its base"):
        convert_checkpoint(tmp_path / "delta.bin", tmp_path / "no.pt", base=tmp_path / "other.pth", **how)


def test_a_decoder_alone_names_its_trunk(tmp_path: Path) -> None:
    state = official(PMT)
    torch.save({name: tensor for name, tensor in state.items() if ENCODER not in name}, tmp_path / "pmt.bin")
    torch.save(transformers_names(state), tmp_path / "dinov3.pth")
    with pytest.raises(VssError, match="holds no trunk"):
        convert_checkpoint(tmp_path / "pmt.bin", tmp_path / "ours.pt", **sizes(PMT))
    done = convert_checkpoint(tmp_path / "pmt.bin", tmp_path / "ours.pt", base=tmp_path / "dinov3.pth", **sizes(PMT))
    checkpoint = load_checkpoint(done.path)
    assert checkpoint.network["pretrained"] == str(tmp_path / "dinov3.pth")
    assert not [name for name in checkpoint.weights if name.startswith("trunk.")]
    network = assert_official(done.path, PMT)
    assert network.trunk_digest == checkpoint.trunk
    (tmp_path / "dinov3.pth").unlink()
    with pytest.raises(VssError, match=r"dinov3\.pth"):
        restore_network(checkpoint)


def test_a_base_of_other_patches_and_images_is_resized(tmp_path: Path) -> None:
    state = official(PMT)
    torch.save({name: tensor for name, tensor in state.items() if ENCODER not in name}, tmp_path / "pmt.bin")
    sizes_of = {"embed_dim": 32, "depth": 6, "num_heads": 2, "img_size": 98}
    dinov2 = timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=False, num_classes=0, **sizes_of)
    torch.save(dinov2.state_dict(), tmp_path / "dinov2.pth")
    done = convert_checkpoint(tmp_path / "pmt.bin", tmp_path / "ours.pt", base=tmp_path / "dinov2.pth", **sizes(PMT))
    checkpoint = load_checkpoint(done.path)
    assert (checkpoint.network["patch"], checkpoint.network["rescale"]) == (16, 2.0)
    assert restore_network(checkpoint).get_parameter("trunk.pos_embed").shape == (1, 36, 32)


def test_options_that_say_nothing_about_a_file_are_refused(tmp_path: Path) -> None:
    torch.save(official(DINOV2), tmp_path / "whole.ckpt")
    torch.save(transformers_names(official(DINOV3)), tmp_path / "base.pth")
    for changes, message in (
        ({"base": tmp_path / "base.pth"}, "needs no base"),
        ({"points": 4}, "--points"),
        ({"interactions": ((0, 1),)}, "--interactions"),
    ):
        with pytest.raises(VssError, match=message):
            convert_checkpoint(tmp_path / "whole.ckpt", tmp_path / "ours.pt", **sizes(DINOV2), **changes)
    done = convert_checkpoint(tmp_path / "whole.ckpt", tmp_path / "ours.pt", readout="grid", **sizes(DINOV2))
    assert load_checkpoint(done.path).network["readout"] == "grid"


def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    state = official(DINOV2)
    for gone in ("network.mask_head.2.bias", "network.encoder.backbone.patch_embed.proj.weight"):
        torch.save({name: tensor for name, tensor in state.items() if name != gone}, tmp_path / "short.bin")
        with pytest.raises(VssError, match=gone.removeprefix("network.").removeprefix(ENCODER).replace(".", r"\.")):
            convert_checkpoint(tmp_path / "short.bin", tmp_path / "ours.pt", force=True, **sizes(DINOV2))


def test_metas_own_names_are_read(tmp_path: Path) -> None:
    width = 8
    dinov2 = {
        "cls_token": torch.ones(1, 1, width),
        "register_tokens": torch.ones(1, 4, width),
        "mask_token": torch.ones(1, width),
        "pos_embed": torch.full((1, 5, width), 0.5),
        "blocks.0.mlp.w12.weight": torch.ones(2, width),
    }
    named = timm_names(dinov2)
    assert named.keys() == {"cls_token", "reg_token", "pos_embed", "blocks.0.mlp.fc1.weight"}
    assert torch.equal(named["cls_token"], torch.full((1, 1, width), 1.5))
    assert named["pos_embed"].shape == (1, 4, width)
    dinov3 = {
        "storage_tokens": torch.ones(1, 4, width),
        "rope_embed.periods": torch.ones(2),
        "blocks.0.attn.qkv.bias": torch.arange(3.0 * width),
        "blocks.0.attn.qkv.bias_mask": torch.ones(3 * width),
        "blocks.0.ls1.gamma": torch.ones(width),
    }
    named = timm_names(dinov3)
    assert named.keys() == {"reg_token", "blocks.0.attn.q_bias", "blocks.0.attn.v_bias", "blocks.0.gamma_1"}
    assert torch.equal(named["blocks.0.attn.v_bias"], torch.arange(2.0 * width, 3.0 * width))


@pytest.mark.parametrize("which", listed("keys_eomt_vitL_ade20k"))
def test_vit_l_has_the_published_names_and_shapes(which: str) -> None:
    about = listed("keys_eomt_vitL_ade20k")[which]
    found = recognise_plain_vit(expanded(about["keys"], about["prefix_in_checkpoint"]), which)
    converted = convert_plain_vit(found, 150)
    assert converted.config.model_dump()["backbone"].startswith("vit_large_patch1")
    assert converted.config.model_dump()["blocks"] == 4
    assert sum(tensor.numel() for tensor in converted.fitted.weights.values()) == about["params"]
    buffers = ["attn_mask_probs", "encoder.pixel_mean", "encoder.pixel_std"]
    assert list(found.unused) == buffers
    assert converted.fitted.fresh == ()


def test_what_no_plain_vit_can_be_is_refused() -> None:
    for changes, message in (
        ({"backbone": "resnet18"}, "resnet18 is not a ViT"),
        ({"backbone": "vit_nothing"}, "vit_nothing"),
        ({"crop": (500, 512)}, "not made of patches of 16"),
        ({"blocks": 13}, "13 of a trunk of 12"),
        ({"queries": "decoder", "taps": (3, 12)}, "taps"),
        ({"taps": (3, 11)}, "taps is of a decoder"),
        ({"annealing": ((0.0, 0.5),)}, "1 windows are not those of 3 blocks"),
        ({"annealing": ((0.5, 0.25),) * 3}, "not a span"),
        ({"sizes": {"hidden": 100}}, "sizes.hidden"),
        ({"sizes": {"heads": 5}}, "timm can't build"),
    ):
        with torch.device("meta"), pytest.raises(VssError, match=message):
            build_network({"family": "plain_vit", **changes}, 3, load_pretrained=False)


def test_the_dry_run_counts_a_frozen_trunk_once_and_every_prediction() -> None:
    sizes = {"width": 48, "depth": 12, "heads": 3, "hidden": 192}
    inside, behind = (
        outline({"family": "plain_vit", "sizes": sizes, "crop": (64, 64), "queries": queries}, 3)
        for queries in ("inside", "decoder")
    )
    forward, frozen = inside.training((64, 64))
    assert forward > inside.flops((64, 64))
    assert frozen == 0
    forward, frozen = behind.training((64, 64))
    tokens, width = 16 + 5, 48
    block = 2 * tokens * width * (3 * width + width + 2 * 192) + 2 * 2 * tokens * tokens * width
    assert frozen == 12 * block + 2 * 16 * width * 3 * 16 * 16
    assert forward > frozen


@pytest.mark.parametrize("which", ["dinov2", "dinov3"])
def test_a_decoder_over_vit_l_has_the_published_names_and_shapes(which: str) -> None:
    keys = {  # of the video network, which is the image network and one layer more
        name.removeprefix("backbone."): shape
        for name, shape in listed("keys_pmt_vitL_vspw")[which].items()
        if "query_updater" not in name
    }
    found = recognise_plain_vit(expanded(keys), which)
    converted = convert_plain_vit(found, 124)
    config = converted.config.model_dump()
    assert (config["taps"], config["blocks"], config["hidden"]) == ((5, 11, 17, 23), 6, 1024)
    assert config["num_queries"] == 200
    learning = {name: t for name, t in converted.fitted.weights.items() if not name.startswith("trunk.")}
    numbers = sum(tensor.numel() for name, tensor in learning.items() if "running" not in name and "num_b" not in name)
    assert numbers == 54_975_613 - 1024 * 1024 - 1024
    assert set(found.unused) <= {
        "encoder.pixel_mean",
        "encoder.pixel_std",
        "decoder.attn_mask_probs",
        "criterion.empty_weight",
    }
