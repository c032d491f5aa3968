"""Published checkpoints become ours with the same numbers, or are refused with the tensor named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backbone_samples import assert_maps
from converted_samples import (
    CLASSES,
    COLOURS,
    NAMES,
    official,
    our_name,
    projections,
    restored,
    write_detectron2,
    write_mmseg,
)
from mask2former_samples import assert_same
from PIL import Image
from torch import nn

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.inference.parity import official_mean, official_scores
from vsscli.models.build import build_network
from vsscli.models.checkpoints import load_checkpoint, save_checkpoint
from vsscli.models.mask2former.network import Mask2Former
from vsscli.models.mask2former.relative_position import resize_table
from vsscli.pipeline.convert import convert_checkpoint
from vsscli.pipeline.masks import predict_input
from vsscli.recipes.load import recipe_from_dict
from vsscli.training.set_prediction import SetPredictionLoss, SetPredictionSettings

WINDOWS: dict[str, Any] = {"window": (64, 64), "step": (40, 40)}
# The network of the fixture, as a recipe would describe it.
SMALL: dict[str, Any] = {
    "family": "mask2former",
    "backbone": "vit_adapter_l",
    "sizes": {
        "width": 32,
        "depth": 4,
        "heads": 4,
        "hidden": 128,
        "adapter": {"stem": 8, "heads": 4, "interactions": ((0, 0), (1, 1), (2, 2), (3, 3))},
    },
    "head": {
        "layout": "base",
        "channels": 32,
        "heads": 4,
        "queries": 10,
        "encoder_layers": 2,
        "encoder_width": 48,
        "decoder_layers": 4,
        "decoder_width": 64,
    },
    "crop": (64, 64),
}


@pytest.fixture(scope="module")
def mmseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mmseg")
    convert_checkpoint(write_mmseg(folder / "official.pth"), folder / "t.pt")
    return folder / "t.pt"


@pytest.fixture(scope="module")
def network(mmseg: Path) -> Mask2Former:
    return restored(mmseg)


@pytest.fixture(scope="module")
def swin(tmp_path_factory: pytest.TempPathFactory) -> Mask2Former:
    folder = tmp_path_factory.mktemp("detectron2")
    convert_checkpoint(write_detectron2(folder / "model_final.pkl"), folder / "t.pt")
    return restored(folder / "t.pt")


@pytest.fixture(scope="module")
def beit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trunk") / "beit.pth"
    torch.save({"model": trunk()}, path)
    return path


class TestViTAdapterOfMmsegmentation:
    """The whole segmentor: backbone, pixel decoder, every query, score map, read-out, training step."""

    def test_every_layer_predicts_what_the_official_one_predicts(self, network: Mask2Former) -> None:
        numbers = official("full_vitadapter_mmseg")
        with torch.no_grad():
            assert_maps(network.backbone(numbers["input"]), numbers["backbone_out"])
            outputs = network.outputs(numbers["input"])
        assert_same(outputs.features, numbers["mask_feature"])
        logits, masks = numbers["pred_logits_all"], numbers["pred_masks_all"]
        for layer, class_logits, mask_logits in zip(outputs.layers, logits, masks, strict=True):
            assert_same(layer.class_logits, class_logits)
            assert_same(layer.mask_logits, mask_logits)
        assert_same(outputs.scores.values, numbers["seg_quarter_res"])

    def test_whole_and_sliding_read_out_and_the_double_softmax(self, network: Mask2Former) -> None:
        numbers = official("full_vitadapter_mmseg")
        images = numbers["slide_input"]
        assert_same(official_scores(network, numbers["input"]), numbers["encode_decode"])
        assert_same(official_scores(network, images, **WINDOWS), numbers["slide_preds_before_rescale"])
        size = numbers["slide_meta"]["ori_shape"]
        assert_same(official_scores(network, images, **WINDOWS, size=size), numbers["slide_preds_rescaled"])
        softmax = official_scores(network, images, **WINDOWS, size=size, double_softmax=True)
        assert_same(softmax, numbers["inference_softmax"])

    def test_the_mean_over_views(self, network: Mask2Former) -> None:
        numbers = official("full_vitadapter_mmseg")
        images, _, other = numbers["tta_inputs"]
        views = [(images, False), (images.flip(3), True), (other, False)]
        mean = official_mean(network, views, **WINDOWS, size=numbers["slide_meta"]["ori_shape"])
        assert_same(mean, numbers["tta_mean_softmax"])
        assert torch.equal(mean.argmax(dim=1), numbers["tta_pred_label"])

    def test_losses_and_gradients_of_a_training_step(self, mmseg: Path) -> None:
        numbers = official("full_vitadapter_mmseg")
        network = restored(mmseg).train()
        torch.manual_seed(123)
        loss = SetPredictionLoss(SetPredictionSettings(points=200))
        losses = loss(network.outputs(numbers["input"]).layers, numbers["train_label"])
        for layer, start in enumerate(["d0.", "d1.", "d2.", "d3.", ""]):
            for part, name in ((2 * losses.classes, "cls"), (5 * losses.masks, "mask"), (5 * losses.dice, "dice")):
                assert_same(part[layer], numbers["losses_seed123"][f"decode.{start}loss_{name}"].squeeze())
        assert_same(losses.total, numbers["loss_total"][0])
        losses.total.backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        assert gradients.keys() == {our_name(name) for name in numbers["grad_norms"]}
        for name, norm in numbers["grad_norms"].items():
            assert abs(gradients[our_name(name)].norm().item() - norm) <= 1e-4 * max(1.0, norm), name

    def test_its_checkpoint_says_classes_windows_and_normalisation(self, mmseg: Path) -> None:
        checkpoint = load_checkpoint(mmseg, weights=False)
        assert checkpoint.table.names == NAMES
        assert [list(colour) for colour in checkpoint.table.colours] == COLOURS
        assert checkpoint.normalisation.mean == (123.675, 116.28, 103.53)
        predict = recipe_from_dict(checkpoint.recipe, "recipe").predict
        assert (predict.size, predict.window, predict.step) == (64, (64, 64), (36, 36))

    def test_tables_are_resized_for_another_crop(self, tmp_path: Path) -> None:
        done = convert_checkpoint(write_mmseg(tmp_path / "o.pth"), tmp_path / "t.pt", crop=96)
        name = "blocks.2.attn.relative_position_bias_table"
        table = official("full_vitadapter_mmseg")["state_dict"][f"backbone.{name}"]
        network = restored(tmp_path / "t.pt")
        assert torch.equal(dict(network.backbone.named_parameters())[name], resize_table(table, (4, 4), (6, 6)))
        assert (network.crop, done.crop, len(done.resized)) == ((96, 96), (96, 96), 4)
        with torch.no_grad():
            assert network(torch.randn(1, 3, 96, 96)).values.shape == (1, CLASSES, 24, 24)


class TestSwinOfDetectron2:
    def test_its_maps_are_the_official_ones(self, swin: Mask2Former) -> None:
        with torch.no_grad():
            assert_maps(swin.backbone(official("swin_d2")["input"]), list(official("swin_d2")["outputs"].values()))

    def test_its_head_predicts_and_reads_out_at_full_size_as_the_official_one(self, swin: Mask2Former) -> None:
        numbers = official("mask2former_head_d2")
        head = swin.head
        decoder: Any = head.pixel_decoder
        for name in projections():  # those of the fixture are for maps of fewer channels
            module = decoder.get_submodule(name.removesuffix(".weight"))
            module.weight = nn.Parameter(numbers["pixel_decoder_state"][name])
        maps = [numbers["features"][f"res{stage}"] for stage in (2, 3, 4, 5)]
        with torch.no_grad():
            outputs = head(maps)
        assert_same(outputs.layers[-1].class_logits, numbers["pred_logits"])
        assert_same(outputs.layers[-1].mask_logits, numbers["pred_masks"])
        assert (swin.stride, swin.crop) == (1, None)
        assert_same(outputs.scores.values, numbers["semantic"])

    def test_classes_without_names_are_numbered(self, tmp_path: Path) -> None:
        convert_checkpoint(write_detectron2(tmp_path / "m.pkl"), tmp_path / "t.pt", readout="grid")
        assert load_checkpoint(tmp_path / "t.pt", weights=False).table.names[-1] == "class 6"
        assert restored(tmp_path / "t.pt").stride == 4


class TestOnePeace:
    """Its backbone has official numbers in a fixture; its head is that of the small ViT-Adapter."""

    SPANS = ((0, 0), (1, 2), (3, 3), (4, 5))

    def state(self) -> dict[str, torch.Tensor]:
        head = official("full_vitadapter_mmseg")["state_dict"]
        trunk = official("onepeace_adapter_64")["state_dict"]
        state = {name: value for name, value in head.items() if name.startswith("decode_head.")}
        return state | {f"backbone.{name}": value for name, value in trunk.items()}

    def test_its_maps_are_the_official_ones(self, tmp_path: Path) -> None:
        source = write_mmseg(tmp_path / "o.pth", self.state())
        done = convert_checkpoint(source, tmp_path / "t.pt", interactions=self.SPANS)
        network = restored(tmp_path / "t.pt")
        numbers = official("onepeace_adapter_64")
        with torch.no_grad():
            assert_maps(network.backbone(numbers["input"]), numbers["eval_outputs"])
            assert network(numbers["input"]).values.shape == (2, CLASSES, 16, 16)
        assert (network.normalisation.mean[0], done.fresh) == (122.771, ())

    def test_spans_are_told_by_the_configuration_beside_the_weights(self, tmp_path: Path) -> None:
        config = f"backbone=dict(interaction_indexes={[list(span) for span in self.SPANS]})"
        done = convert_checkpoint(write_mmseg(tmp_path / "o.pth", self.state(), config=config), tmp_path / "t.pt")
        assert not any("interactions" in assumed for assumed in done.assumed)
        assert restored(tmp_path / "t.pt").backbone.spans == self.SPANS

    def test_places_and_tables_are_resized_for_another_crop(self, tmp_path: Path) -> None:
        source = write_mmseg(tmp_path / "o.pth", self.state())
        done = convert_checkpoint(source, tmp_path / "t.pt", interactions=self.SPANS, crop=96)
        assert len(done.resized) == 7
        state = restored(tmp_path / "t.pt").state_dict()
        assert state["backbone.image_adapter.pos_embed"].shape == (37, 32)
        table = self.state()["backbone.encoder.layers.4.rel_pos_table.weight"]
        resized = state["backbone.encoder.layers.4.rel_pos_table.weight"]
        assert torch.equal(resized, resize_table(table, (4, 4), (6, 6)))


class TestPretraining:
    """Files of a trunk: a network around it, as a recipe's ``train.init`` or ``model.pretrained``."""

    @pytest.mark.parametrize("backbone", ["beit_tiny", "vit_adapter_tiny"])
    def test_a_trunk_gets_the_same_fresh_parts_around_it_every_time(
        self, beit: Path, backbone: str, tmp_path: Path
    ) -> None:
        layout: dict[str, Any] = {"classes": "vspw124", "backbone": backbone}
        done = [convert_checkpoint(beit, tmp_path / f"{copy}.pt", **layout) for copy in "ab"]
        assert done[0].fingerprint == done[1].fingerprint
        assert (done[0].loaded, done[0].classes) == (len(trunk()), 124)
        assert done[0].fresh
        network = restored(tmp_path / "a.pt")
        loaded = network.backbone.state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in trunk().items())
        with torch.no_grad():
            assert network(torch.randn(1, 3, 64, 64)).values.isfinite().all()

    def test_without_a_class_table_it_is_refused(self, beit: Path, tmp_path: Path) -> None:
        with pytest.raises(VssError, match="a BEiT trunk, which has no classes") as caught:
            convert_checkpoint(beit, tmp_path / "t.pt")
        assert "--classes" in caught.value.hint

    def test_a_recipe_starts_from_it_at_another_crop(self, beit: Path) -> None:
        network = build_network(SMALL | {"crop": (96, 64), "pretrained": str(beit)}, CLASSES, load_pretrained=True)
        loaded = network.state_dict()
        assert torch.equal(loaded["backbone.blocks.3.mlp.fc1.weight"], trunk()["blocks.3.mlp.fc1.weight"])
        name = "blocks.3.attn.relative_position_bias_table"
        assert torch.equal(loaded[f"backbone.{name}"], resize_table(trunk()[name], (4, 4), (6, 4)))

    def test_a_recipe_starts_from_a_whole_network_of_other_classes(self, mmseg: Path) -> None:
        weights = load_checkpoint(mmseg).weights
        for start in (mmseg, mmseg.with_name("official.pth")):
            loaded = build_network(SMALL | {"pretrained": str(start)}, 3, load_pretrained=True).state_dict()
            assert len(loaded) == len(weights)
            same = {name for name, value in weights.items() if torch.equal(loaded[name], value)}
            assert weights.keys() - same == {f"head.predictor.class_embed.{part}" for part in ("weight", "bias")}

    def test_a_recipe_of_other_sizes_is_refused(self, mmseg: Path) -> None:
        config = SMALL | {"head": {**SMALL["head"], "queries": 12}, "pretrained": str(mmseg)}
        with pytest.raises(VssError, match=r"t\.pt.*predictor\.query_feat\.weight is \(10, 32\), not \(12, 32\)"):
            build_network(config, CLASSES, load_pretrained=True)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_a_compiled_network_converts_as_the_plain_one(mmseg: Path, prefix: str, tmp_path: Path) -> None:
    state = official("full_vitadapter_mmseg")["state_dict"]
    source = write_mmseg(tmp_path / "o.pth", {f"{prefix}{name}": value for name, value in state.items()})
    assert convert_checkpoint(source, tmp_path / "t.pt").fingerprint == load_checkpoint(mmseg).fingerprint
    loaded = build_network(SMALL | {"pretrained": str(source)}, CLASSES, load_pretrained=True).state_dict()
    assert torch.equal(loaded["backbone.cls_token"], state["backbone.cls_token"])


def test_parts_compiled_by_themselves_convert_too(mmseg: Path, tmp_path: Path) -> None:
    state = official("full_vitadapter_mmseg")["state_dict"]
    wrapped = {name.replace("backbone.", "backbone._orig_mod.", 1): value for name, value in state.items()}
    done = convert_checkpoint(write_mmseg(tmp_path / "o.pth", wrapped), tmp_path / "t.pt")
    assert done.fingerprint == load_checkpoint(mmseg).fingerprint


def test_a_checkpoint_of_ours_that_was_saved_compiled_is_restored(mmseg: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(mmseg)
    wrapped = {f"_orig_mod.{name}": value for name, value in checkpoint.weights.items()}
    save_checkpoint(tmp_path / "t.pt", replace(checkpoint, weights=wrapped))
    assert torch.equal(restored(tmp_path / "t.pt").backbone.cls_token, checkpoint.weights["backbone.cls_token"])
    loaded = build_network(SMALL | {"pretrained": str(tmp_path / "t.pt")}, CLASSES, load_pretrained=True).state_dict()
    assert torch.equal(loaded["backbone.cls_token"], checkpoint.weights["backbone.cls_token"])


def test_a_converted_checkpoint_claims_nothing_that_nobody_chose(mmseg: Path) -> None:
    recipe = load_checkpoint(mmseg).recipe
    assert recipe.keys() == {"name", "data", "model", "predict", "store"}
    assert recipe_from_dict(recipe, "recipe").predict.window == (64, 64)


def test_the_command_prints_what_became_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_mmseg(tmp_path / "o.pth")
    arguments = ["convert", str(source), "--to", str(tmp_path / "t.pt"), "--interactions", "0-0,1-1,2-2,3-3"]
    assert run([*arguments, "--json", "--heads", "4", "--points", "4"]) == 0
    said = capsys.readouterr()
    done = json.loads(said.out)
    assert (done["classes"], done["crop"], done["fresh"]) == (7, [64, 64], [])
    assert done["loaded"] + len(done["unused"]) == len(official("full_vitadapter_mmseg")["state_dict"])
    assert "assumed" in said.err
    assert run(arguments) == 2


def trunk() -> dict[str, torch.Tensor]:
    """The fixture's trunk under the names of BEiT's own files."""
    state = official("full_vitadapter_mmseg")["state_dict"]
    parts = ("backbone.cls_token", "backbone.patch_embed.", "backbone.blocks.")
    return {
        name.removeprefix("backbone."): value
        for name, value in state.items()
        if name.startswith(parts) and not name.endswith("_index")
    }


def test_it_predicts_ones_own_frames_in_windows(mmseg: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    rng = np.random.default_rng(1)
    for number in range(2):
        Image.fromarray(rng.integers(0, 256, (50, 90, 3), np.uint8)).save(frames / f"{number:03d}.png")
    assert predict_input(mmseg, frames, tmp_path / "masks", context=Context(tmp_path, device="cpu")) == 2
    masks = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "masks").rglob("*.png"))]
    assert [mask.shape for mask in masks] == [(50, 90), (50, 90)]
    assert all(mask.max() < CLASSES for mask in masks)


def test_the_python_of_the_documentation_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    smaller = {
        '"vit_adapter.pth"': repr(str(write_mmseg(tmp_path / "official.pth"))),
        '"student.pt"': repr(str(tmp_path / "student.pt")),
        "(896, 896), (512, 512)": "(64, 64), (40, 40)",
        "points=12544": "points=200",
    }
    for published, here in smaller.items():
        assert published in code
        code = code.replace(published, here)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/models.md", "exec"), names)
    assert names["losses"].total.isfinite()
