"""Networks of mmsegmentation, compared with mmsegmentation's own output: run by `nox -s mmseg`."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from cli_process import vss
from PIL import Image
from test_models_contract import CLASSES, Case, TestEveryFamily

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.checkpoints import load_checkpoint, restore_network, save_checkpoint
from vsscli.models.mmseg.files import find_config, number_of_classes, read_mmseg, read_mmseg_config
from vsscli.models.mmseg.mmcv_ext import ms_deform_attn_forward
from vsscli.models.mmseg.openmmlab import import_mmseg
from vsscli.models.network import Network
from vsscli.models.scores import ScoreKind, Scores, to_probabilities
from vsscli.store.reader import open_store

pytestmark = pytest.mark.mmseg
pytest.importorskip("mmengine", reason="the extra `mmseg` is not installed")

SEGFORMER = "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py"
MASK2FORMER = "mask2former/mask2former_swin-t_8xb2-160k_ade20k-512x512.py"
PSPNET = "pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-769x769.py"  # align_corners
KINDS = {SEGFORMER: ScoreKind.LOGITS, MASK2FORMER: ScoreKind.MASK_SCORES}
SIZE = (64, 96)


@dataclass(frozen=True)
class Trained:
    """A network of mmsegmentation, and its files."""

    config: str
    checkpoint: Path
    segmentor: Any


def untrained(name: str) -> Any:
    """The segmentor of a config with random weights, built by mmsegmentation."""
    import_mmseg()
    from mmengine import Config, DefaultScope
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    settings = Config.fromfile(str(find_config(name)))
    settings.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope("mmseg"):
        torch.manual_seed(5)
        segmentor = MODELS.build(settings.model)
        segmentor.init_weights()
    with torch.no_grad():
        for parameter in segmentor.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.02)  # no two queries or classes alike
        head = segmentor.eval().decode_head
        (head.conv_seg if name == SEGFORMER else head.cls_embed).weight.mul_(20)  # and some sure of themselves
        if name == MASK2FORMER:
            head.mask_embed[-1].weight.mul_(3)
            # What all queries say alike is taken away, or one class would have every pixel.
            said, _ = head(segmentor.extract_feat(torch.randn(1, 3, *SIZE)), [SegDataSample(metainfo={})])
            head.cls_embed.bias.sub_(said[-1].mean((0, 1)))
    return segmentor


def save(segmentor: Any, path: Path) -> None:
    """Save as mmengine's runner does, with the history of a loss."""
    from mmengine.logging import MessageHub
    from mmengine.runner import save_checkpoint as save_theirs
    from mmseg.datasets import ADE20KDataset

    hub = MessageHub.get_instance(f"hub of {path}")
    for loss in (2.0, 1.5):
        hub.update_scalar("train/loss", loss)
    hub.update_info("iter", 2)
    facts = {"dataset_meta": dict(ADE20KDataset.METAINFO), "cfg": "model = dict()", "seed": 0, "iter": 2}
    save_theirs({"meta": facts, "state_dict": segmentor.state_dict(), "message_hub": hub.state_dict()}, str(path))


@pytest.fixture(scope="module", params=[SEGFORMER, MASK2FORMER], ids=["segformer", "mask2former"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    segmentor = untrained(request.param)
    path = tmp_path_factory.mktemp("trained") / "iter_2.pth"
    save(segmentor, path)
    return Trained(request.param, path, segmentor)


def names_missing() -> ClassTable:
    raise AssertionError("the checkpoint names its classes")


def frames(count: int) -> np.ndarray:
    """Images (count, H, W, 3) uint8, RGB, of smooth colours."""
    coarse = torch.rand(count, 3, 6, 8, generator=torch.Generator().manual_seed(1))
    smooth = F.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def theirs(segmentor: Any, images: np.ndarray, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """mmsegmentation's output for images as OpenCV reads them, in `whole` mode, at a given size."""
    blue_first = [torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) for image in images]
    segmentor.data_preprocessor.test_cfg = None  # the sides are multiples of 32 already
    inputs = segmentor.data_preprocessor({"inputs": blue_first})["inputs"]
    about = [{"ori_shape": SIZE, "img_shape": SIZE, "pad_shape": size} for _ in images]
    segmentor.test_cfg = copy.deepcopy(segmentor.test_cfg)
    segmentor.test_cfg.mode = "whole"
    with torch.no_grad():
        return segmentor.inference(inputs, about)


def ours(network: Network, images: np.ndarray) -> torch.Tensor:
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        return network(network.normalisation(batch)).values


def labels(trained: Trained, images: np.ndarray) -> np.ndarray:
    """Most likely classes (B, H, W) of the scores as a distribution, upsampled."""
    network = restore_network(read_mmseg(trained.config, str(trained.checkpoint), names_missing))
    probabilities = to_probabilities(Scores(ours(network, images), network.kind))
    return F.interpolate(probabilities, SIZE, mode="bilinear", align_corners=False).argmax(1).numpy()


class TestAgainstMmsegmentation:
    def test_the_scores_are_its_own_before_any_softmax(self, trained: Trained) -> None:
        network = restore_network(read_mmseg(trained.config, str(trained.checkpoint), names_missing))
        images = frames(2)
        scores = ours(network, images)
        assert (network.stride, network.divisor) == (4, 32)
        assert scores.shape == (2, 150, 16, 24)
        if KINDS[trained.config] is ScoreKind.LOGITS:
            expected = theirs(trained.segmentor, images)
            resized = F.interpolate(scores, SIZE, mode="bilinear", align_corners=False)
            torch.testing.assert_close(resized, expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(resized.softmax(1), expected.softmax(1))
        else:
            # It enlarges the mask logits first; asked for the size they have, it leaves them.
            expected = theirs(trained.segmentor, images, (16, 24))
            torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
            assert scores.min() >= 0
            resized = F.interpolate(scores, SIZE, mode="bilinear", align_corners=False)
            agree = resized.argmax(1) == theirs(trained.segmentor, images).argmax(1)
            assert agree.float().mean() > 0.98
        assert len(scores.argmax(1).unique()) > 1  # or agreement would be worth nothing

    def test_the_kind_says_what_makes_a_distribution_of_them(self, trained: Trained) -> None:
        network = restore_network(read_mmseg(trained.config, str(trained.checkpoint), names_missing))
        with torch.no_grad():
            scores = network(torch.randn(1, 3, *SIZE))
        assert scores.kind is KINDS[trained.config]
        torch.testing.assert_close(to_probabilities(scores).sum(1), torch.ones(1, 16, 24))

    def test_aligned_heads_are_sampled_where_our_cells_lie(self) -> None:
        model = read_mmseg_config(find_config(PSPNET))["model"]
        torch.manual_seed(2)
        network = build_network({"family": "mmseg", "model": model}, 19, load_pretrained=False).eval()
        assert (network.stride, network.divisor) == (4, 32)
        with torch.no_grad():
            scores = network(torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(3))).values
            raw = network.segmentor  # its own resize, to four times as many places, so that ours are among them
            network.segmentor.decode_head.__dict__.pop("predict_by_feat")
            about = [{"ori_shape": SIZE, "img_shape": SIZE, "pad_shape": tuple(2 * side - 1 for side in SIZE)}]
            images = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(3))
            finer = raw.encode_decode(images, about)  # every pixel, and the middle between every two
        torch.testing.assert_close(scores, finer[:, :, 3::8, 3::8], atol=1e-5, rtol=1e-5)

    def test_its_deformable_attention_stands_in_for_the_compiled_one(self) -> None:
        import_mmseg()
        from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

        value, places = torch.randn(1, 20, 2, 4), torch.rand(1, 5, 2, 2, 3, 2)
        shapes, weights = torch.tensor([[4, 4], [2, 2]]), torch.rand(1, 5, 2, 2, 3)
        arguments = (value, shapes, torch.tensor([0, 16]), places, weights, 64)
        assert torch.equal(MultiScaleDeformableAttnFunction.apply(*arguments), ms_deform_attn_forward(*arguments))


class TestFiles:
    def test_a_dumped_config_makes_the_same_network(self, trained: Trained, tmp_path: Path) -> None:
        from mmengine import Config

        settings = Config.fromfile(str(find_config(trained.config)))
        first = read_mmseg(trained.config, str(trained.checkpoint), names_missing)
        for suffix in ("yaml", "json"):
            settings.dump(str(tmp_path / f"dumped.{suffix}"))
            again = read_mmseg(str(tmp_path / f"dumped.{suffix}"), str(trained.checkpoint), names_missing)
            assert again.fingerprint == first.fingerprint
            assert (again.table, again.normalisation) == (first.table, first.normalisation)
        restore_network(again)

    def test_a_checkpoint_of_ours_carries_the_network_without_the_config(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        read = read_mmseg(trained.config, str(trained.checkpoint), names_missing)
        save_checkpoint(tmp_path / "own.pt", read)
        restored = restore_network(load_checkpoint(tmp_path / "own.pt"))
        assert torch.equal(ours(restored, frames(1)), ours(restore_network(read), frames(1)))

    def test_the_fingerprint_is_of_weights_and_config(self, trained: Trained, tmp_path: Path) -> None:
        first = read_mmseg(trained.config, str(trained.checkpoint), names_missing)
        changed = copy.deepcopy(trained.segmentor)
        next(changed.parameters()).data.view(-1)[0] += 1
        save(changed, tmp_path / "changed.pth")
        assert read_mmseg(trained.config, str(tmp_path / "changed.pth"), names_missing).fingerprint != first.fingerprint
        assert first.table.num_classes == 150
        assert first.table.names[0] == "wall"
        assert first.table.colours[0] == (120, 120, 120)

    def test_a_type_that_is_no_registered_module_is_never_imported(self, tmp_path: Path) -> None:
        model = read_mmseg_config(find_config(SEGFORMER))["model"]
        sprung = tmp_path / "sprung"
        evil = {**model, "neck": {"type": "os.mkdir", "path": str(sprung)}}
        with pytest.raises(VssError, match=r"asks for os\.mkdir"):
            build_network({"family": "mmseg", "model": evil}, 150, load_pretrained=False)
        evil["neck"] = {"type": "mmengine.mkdir_or_exist", "dir_name": str(sprung)}
        with pytest.raises(VssError, match=r"asks for mmengine\.mkdir_or_exist"):
            build_network({"family": "mmseg", "model": evil}, 150, load_pretrained=False)
        assert not sprung.exists()

    def test_weights_of_another_network_are_named(self, trained: Trained) -> None:
        other = MASK2FORMER if trained.config == SEGFORMER else SEGFORMER
        with pytest.raises(VssError, match=r"tensors are missing \(segmentor\..*tensors are surplus"):
            restore_network(read_mmseg(other, str(trained.checkpoint), names_missing))

    def test_a_config_of_other_classes_is_refused(self, trained: Trained) -> None:
        with pytest.raises(VssError, match=r"pspnet.* has 19 classes, .*iter_2\.pth has 150"):
            read_mmseg(PSPNET, str(trained.checkpoint), names_missing)

    def test_a_config_that_fails_is_named(self, trained: Trained, tmp_path: Path) -> None:
        (tmp_path / "own.py").write_text("model = dict(depth=1 / 0)\n")
        with pytest.raises(VssError, match=r"own\.py can't be read: ZeroDivisionError"):
            read_mmseg(str(tmp_path / "own.py"), str(trained.checkpoint), names_missing)

    def test_a_network_that_scores_no_classes_is_refused(self) -> None:
        model = read_mmseg_config(find_config(SEGFORMER))["model"]
        with pytest.raises(VssError, match="DepthEstimator with SegformerHead"):
            build_network({"family": "mmseg", "model": {**model, "type": "DepthEstimator"}}, 150, load_pretrained=False)


def test_the_mask2former_fixture_has_the_shipped_number_of_classes() -> None:
    assert number_of_classes(read_mmseg_config(find_config(MASK2FORMER))["model"]) == 150


class TestOnTheCommandLine:
    @pytest.fixture
    def recipe(self, trained: Trained, tmp_path: Path) -> Path:
        """Three frames in VSPW's layout, as unlabelled data, and a recipe that names the network."""
        table = read_mmseg(trained.config, str(trained.checkpoint), names_missing).table
        for video in ("one", "two"):
            folder = tmp_path / "data" / "data" / video / "origin"
            folder.mkdir(parents=True)
            for number, image in enumerate(frames(2)):
                Image.fromarray(image).save(folder / f"{number:04d}.png")
        (tmp_path / "data" / "val.txt").write_text("one\n")
        (tmp_path / "data" / "train.txt").write_text("one\n")
        (tmp_path / "data" / "more.txt").write_text("two\n")
        (tmp_path / "data" / "classes.json").write_text(json.dumps(table.to_dict()))
        data = {"name": "rooms", "root": "data", "classes": "classes.json", "unlabelled": ["more"]}
        model = {"family": "mmseg", "config": trained.config, "checkpoint": str(trained.checkpoint)}
        path = tmp_path / "foreign.yaml"
        path.write_text(yaml.safe_dump({"name": "foreign", "data": data, "model": model}))
        return path

    def test_predict_fills_a_store_and_then_finds_it(self, trained: Trained, recipe: Path) -> None:
        done = vss("predict", "--model", recipe.name, "--json", cwd=recipe.parent)
        assert done.returncode == 0, done.stderr
        assert f"running config {find_config(trained.config)}" in " ".join(done.stderr.split())
        made = json.loads(done.stdout)
        assert (made["predicted"], made["cached"]) == (2, 0)
        store = open_store(recipe.parent / made["store"])
        label = np.stack([store.label("one", t) for t in range(2)])
        assert (label == labels(trained, frames(2))).mean() > 0.999
        again = vss("predict", "--model", recipe.name, "--json", cwd=recipe.parent)
        assert json.loads(again.stdout) == {**made, "predicted": 0, "cached": 2}

    def test_predict_writes_masks_of_ones_own_frames(self, trained: Trained, recipe: Path) -> None:
        done = vss("predict", "--model", recipe.name, "--input", "data", "--out", "masks", cwd=recipe.parent)
        assert done.returncode == 0, done.stderr
        for video in ("one", "two"):
            masks = [np.asarray(Image.open(recipe.parent / "masks" / video / f"{n:04d}.png")) for n in range(2)]
            assert (np.stack(masks) == labels(trained, frames(2))).mean() > 0.999

    def test_pseudo_labels_unlabelled_frames(self, recipe: Path) -> None:
        done = vss("pseudo", "--models", recipe.name, "--percentile", "50", "--json", cwd=recipe.parent)
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        assert made["frames"] == 2
        assert 0.4 < made["reliable"] < 0.6

    def test_classes_of_other_data_are_refused(self, recipe: Path) -> None:
        (recipe.parent / "data" / "classes.json").write_text(json.dumps(["road", "sky"]))
        done = vss("predict", "--model", recipe.name, cwd=recipe.parent)
        assert done.returncode == 2
        assert "150 classes of 'ADE20KDataset'" in " ".join(done.stderr.split())


class TestContract(TestEveryFamily):
    """The contract of all families."""

    @pytest.fixture
    def case(self) -> Case:
        model = copy.deepcopy(read_mmseg_config(find_config(SEGFORMER))["model"])
        model["decode_head"] |= {"num_classes": CLASSES, "dropout_ratio": 0}
        model["backbone"]["drop_path_rate"] = 0.0
        return Case({"family": "mmseg", "model": model}, ScoreKind.LOGITS, 4, 32)

    @pytest.fixture
    def network(self, case: Case) -> Network:
        torch.manual_seed(1)
        return build_network(case.config, CLASSES, load_pretrained=False)


del TestEveryFamily  # the name in this module would run it once more
