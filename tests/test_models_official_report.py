"""All tensors of a published checkpoint are used, or the user is told which are not."""

from __future__ import annotations

import pytest
import torch
from listener import Listener
from official_samples import official_state

from vsscli.errors import VssError
from vsscli.models.official.recognise import CheckpointKind, Official, recognise
from vsscli.models.official.report import check_classes, fitted_weights, split_unneeded


def official(name: str) -> Official:
    return recognise({"model": official_state(name)}, "checkpoint x.pth")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mask2former_swin_l", 215.5),
        ("vit_adapter_l", 331.1 + 239.7),
        ("one_peace_g", 1581 + 242),
    ],
)
def test_what_is_not_needed_is_no_parameter(name: str, parameters: float) -> None:
    """Millions of parameters, as in the specifications."""
    needed, unneeded = split_unneeded(official(name))
    assert unneeded
    count = sum(
        tensor.numel()
        for key, tensor in needed.items()
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    assert count / 1e6 == pytest.approx(parameters, rel=6e-4)
    assert all(key.endswith(("index", "rp_bucket")) or key.startswith("criterion.") for key in unneeded)


def test_the_ends_of_pretraining_are_not_needed_but_norms_of_a_segmentor_are() -> None:
    state = {
        f"blocks.{number}.{name}": value
        for number in range(2)
        for name, value in {
            "norm1.weight": torch.zeros(8),
            "attn.q_bias": torch.zeros(8),
            "attn.relative_position_bias_table": torch.zeros(9 + 3, 2),
            "mlp.fc1.weight": torch.zeros(32, 8),
        }.items()
    } | {"patch_embed.proj.weight": torch.zeros(8, 3, 16, 16), "cls_token": torch.zeros(1, 1, 8)}
    ends = ["norm.weight", "fc_norm.bias", "head.weight", "lm_head.weight", "mask_token"]
    trunk = recognise(state | {name: torch.zeros(8) for name in ends}, "x")
    assert trunk.kind is CheckpointKind.BEIT
    assert split_unneeded(trunk)[1] == tuple(f"backbone.{name}" for name in ends)
    adapter = official("full_vitadapter_mmseg")
    assert "backbone.norm1.weight" in split_unneeded(adapter)[0]


TARGET = {
    "backbone.a": torch.zeros(2, 3),
    "backbone.bn.num_batches_tracked": torch.tensor(4),
    "head.b": torch.full((5,), 7.0),
}


def test_every_tensor_of_the_network_is_filled_in_its_own_type() -> None:
    mapped = {"head.b": torch.arange(5), "backbone.a": torch.ones(2, 3).half()}
    fitted = fitted_weights(mapped, TARGET, "x", unused=("i",), resized=("backbone.a",))
    assert list(fitted.weights) == list(TARGET)
    assert fitted.weights["backbone.a"].dtype == fitted.weights["head.b"].dtype == torch.float32
    assert fitted.weights["head.b"].tolist() == [0, 1, 2, 3, 4]
    assert fitted.weights["backbone.bn.num_batches_tracked"] == 4
    assert (fitted.loaded, fitted.fresh) == (2, ())


def test_a_head_may_start_fresh_where_that_is_meant() -> None:
    trunk = {"backbone.a": torch.ones(2, 3)}
    with pytest.raises(VssError, match=r"1 tensors are missing \(head.b\)"):
        fitted_weights(trunk, TARGET, "x")
    fitted = fitted_weights(trunk, TARGET, "x", fresh=("head.",))
    assert fitted.fresh == ("head.b",)
    assert fitted.weights["head.b"].tolist() == [7.0] * 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"backbone.a": None}, "1 tensors are missing (backbone.a)"),
        ({"neck.c": torch.zeros(1)}, "1 tensors are surplus (neck.c)"),
        ({"head.b": torch.zeros(6)}, "1 tensors have another shape (head.b is (6,), not (5,))"),
        ({"backbone.a": None, "z": torch.zeros(1)}, "(backbone.a); 1 tensors are surplus (z)"),
    ],
)
def test_what_does_not_fit_is_one_error_that_names_it(change: dict[str, torch.Tensor | None], says: str) -> None:
    mapped = {"backbone.a": torch.ones(2, 3), "head.b": torch.zeros(5)} | change
    with pytest.raises(VssError) as error:
        fitted_weights({name: value for name, value in mapped.items() if value is not None}, TARGET, "checkpoint x.pth")
    assert says in error.value.message
    assert error.value.message.startswith("checkpoint x.pth does not fit")


def test_other_classes_than_the_recipes_are_refused_with_both_numbers() -> None:
    adapter = official("full_vitadapter_mmseg")
    check_classes(adapter, 7, "class table toy")
    with pytest.raises(VssError, match="7 classes, class table vspw124 has 124"):
        check_classes(adapter, 124, "class table vspw124")
    check_classes(official("swin_d2"), 124, "a trunk has none")


def test_the_report_says_what_was_loaded_resized_left_and_assumed() -> None:
    adapter = official("full_vitadapter_mmseg")
    fitted = fitted_weights({"a": torch.ones(1)}, {"a": torch.ones(1), "b": torch.ones(1)}, "x", unused=("u", "v"),
                         resized=("a",), fresh=("b",))  # fmt: skip
    listener = Listener()
    fitted.report(adapter, listener)
    assert listener.said == [
        "checkpoint x.pth is ViT-Adapter on BEiT, of mmsegmentation: 1 tensors loaded",
        "1 position tables resized (a)",
        "2 tensors not used (u, v)",
        "assumed, because shapes do not show it: 4 points of deformable attention; 4 attention heads in the "
        "mask decoder; adapter interactions over blocks 0-0, 1-1, 2-2, 3-3",
    ]
    assert listener.warned == ["1 tensors are not in the checkpoint and start from scratch"]
