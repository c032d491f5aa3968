"""The official EoMT and PMT of the fixtures, built as ours by what converts published checkpoints."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsscli.models.build import build_network
from vsscli.models.official.plain_vit import convert_plain_vit, recognise_plain_vit
from vsscli.models.plain_vit.network import PlainVit

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = ("eomt_dinov2_tiny", "eomt_dinov3_tiny", "pmt_image_dinov3_tiny")


@cache
def numbers(name: str) -> dict[str, Any]:
    return torch.load(FIXTURES / f"{name}.pt", weights_only=True)


@cache
def facts(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def official_network(name: str, crop: tuple[int, int] | None = None, **changes: Any) -> PlainVit:
    """A fixture's network in evaluation mode, without masked attention; of another crop with its own positions."""
    about = facts(name)
    state = dict(numbers(name)["state_dict"])
    if crop is not None and "nonsq_pos_embed" in numbers(name):
        state["encoder.backbone.pos_embed"] = numbers(name)["nonsq_pos_embed"]
    official = recognise_plain_vit(
        {f"network.{key}": value for key, value in state.items()},
        name,
        crop=crop or tuple(about["img_size"]),
        heads=about["num_heads"],
        blocks=None if name.startswith("pmt") else about["num_blocks"],
    )
    converted = convert_plain_vit(official, about["num_classes"])
    config = {**converted.config.model_dump(mode="json"), **changes}
    network = build_network(config, about["num_classes"], load_pretrained=False)
    network.load_state_dict(converted.fitted.weights)
    assert isinstance(network, PlainVit)
    return network.eval()


def gradient_of(network: PlainVit, name: str) -> Tensor:
    """The gradient of a parameter by its official name; of queries, keys and values, which we hold joined, its part."""
    gradient = parameter_of(network, name).grad
    assert gradient is not None, name
    found = re.search(r"\.attention\.([qkv])_proj\.(weight|bias)$", name)
    return gradient.chunk(3)["qkv".index(found[1])] if found and found[2] == "weight" else gradient


def parameter_of(network: PlainVit, name: str) -> nn.Parameter:
    """Our parameter by its official name."""
    for pattern, ours in (
        (r"^backbone\.", ""),
        (r"^(?:decoder\.)?query_updater\.", "updater."),
        (r"^encoder\.backbone\.", "trunk."),
        (r"^(?:decoder\.)?q\.", "queries."),
        (r"^(?:decoder\.)?(class_head|mask_head|upscale)\.", r"head.\1."),
        (r"^decoder\.decoder_norm", "decoder.norm"),
        (r"^bn\.", "laterals.bn."),
        (r"^decoder\.(lateral_projections|scalers)", r"laterals.\1"),
        (r"patch_embed\.cls_token", "cls_token"),
        (r"patch_embed\.register_tokens", "reg_token"),
        (r"patch_embeddings", "proj"),
        (r"layer_scale(\d)\.lambda1", r"gamma_\1"),
        (r"attention\.o_proj", "attn.proj"),
        (r"attention\.[qkv]_proj\.weight", "attn.qkv.weight"),
        (r"attention\.([qv])_proj\.bias", r"attn.\1_bias"),
        (r"mlp\.up_proj", "mlp.fc1"),
        (r"mlp\.down_proj", "mlp.fc2"),
    ):
        name = re.sub(pattern, ours, name)
    return network.get_parameter(name)


def listed(file: str) -> dict[str, dict[str, Any]]:
    return json.loads((FIXTURES / f"{file}.json").read_text())


def expanded(keys: dict[str, list[int]], prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a list of names and shapes, of equal numbers, that take no memory."""
    tensors = {}
    for name, shape in keys.items():
        span = re.search(r"\{(\d+)\.\.(\d+)\}", name)
        names = [name]
        if span:
            names = [name.replace(span[0], str(number)) for number in range(int(span[1]), int(span[2]) + 1)]
        tensors |= {prefix + one: torch.full((), 0.5).expand(shape) for one in names}
    return tensors
