"""EoMT and VidEoMT of the transformers library: random networks of its classes, converted, give its outputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.models.official.plain_vit import convert_plain_vit, recognise_plain_vit
from vsscli.models.plain_vit.network import PlainVit
from vsscli.pipeline.convert import convert_checkpoint

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 64,
    "num_queries": 7,
    "num_blocks": 2,
    "num_labels": 5,
}
DINOV3 = {"intermediate_size": 128, "layer_norm_eps": 1e-5}
GIANT = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True}


def built(kind: str, **changes: Any) -> Any:
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **changes})
    return getattr(transformers, f"{kind}ForUniversalSegmentation")(config).eval()


def theirs(kind: str, **changes: Any) -> Any:
    """A network of theirs in evaluation mode, all of whose numbers are random, and which masks no attention."""
    torch.manual_seed(4)
    network = built(kind, **changes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        network.attn_mask_probs.zero_()
    return network


def ours(network: Any, folder: Path, **options: Any) -> PlainVit:
    network.save_pretrained(folder / "theirs")
    options = {"heads": SIZES["num_attention_heads"], **options}
    convert_checkpoint(folder / "theirs" / "model.safetensors", folder / "ours.pt", **options)
    restored = restore_network(load_checkpoint(folder / "ours.pt"))
    assert isinstance(restored, PlainVit)
    return restored


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize(("kind", "changes"), [("Eomt", {}), ("EomtDinov3", DINOV3)])
def test_a_network_for_images_gives_their_outputs(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    network = theirs(kind, **changes)
    expected, (found,) = network(images(2)), ours(network, tmp_path, crop=64).outputs(images(2)).layers
    torch.testing.assert_close(found.class_logits, expected.class_queries_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.mask_logits, expected.masks_queries_logits, atol=1e-4, rtol=1e-4)
    assert load_checkpoint(tmp_path / "ours.pt").network["blocks"] == SIZES["num_blocks"]


@torch.no_grad()
def test_a_network_for_video_gives_their_outputs_frame_by_frame(tmp_path: Path) -> None:
    network = theirs("Videomt")
    expected, converted = network(images(3)[None]), ours(network, tmp_path)
    (found,) = converted.predict(images(3), masked=False, every_layer=False, frames=3).layers
    torch.testing.assert_close(found.class_logits, expected.class_queries_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.mask_logits, expected.masks_queries_logits, atol=1e-4, rtol=1e-4)


def test_the_gated_blocks_of_dinov2_g_are_joined_as_timm_has_them() -> None:
    with torch.device("meta"):
        state = built("Eomt", **GIANT).state_dict()
    found = recognise_plain_vit(state, "giant")
    converted = convert_plain_vit(found, SIZES["num_labels"])
    assert converted.config.model_dump()["backbone"] == "vit_giant_patch14_reg4_dinov2"
    assert converted.fitted.weights["trunk.blocks.39.mlp.fc1.weight"].shape == (8192, 1536)
    assert converted.fitted.fresh == ()


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in theirs("Eomt").state_dict().items() if "layers.1.norm2" not in name}
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(VssError, match=r"short\.pth.*trunk\.blocks\.1\.norm2"):
        convert_checkpoint(tmp_path / "short.pth", tmp_path / "ours.pt", heads=2)
