"""What runs on a GPU, on one that is not there: every tensor on its device, and no hidden wait for it (`fake_cuda`)."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import CUDA, fake_cuda, on_cuda
from network_samples import CLASSES, CONFIGS
from small import small_recipe
from torch import Tensor, nn

from vsscli.data.samples import Crops, StoredPixels, present_labels
from vsscli.inference.encode import encode_frame
from vsscli.inference.plans import AugmentationPlan
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.models.build import build_network, read_config
from vsscli.models.mask2former.config import Mask2FormerModel
from vsscli.models.mask2former.deformable import _WeightedSamples
from vsscli.models.network import Network
from vsscli.models.plain_vit.config import PlainVitModel
from vsscli.recipes.training import Unlabelled
from vsscli.store.header import Encoding
from vsscli.training.averaging import AveragedWeights
from vsscli.training.evidence import StoreMeaning
from vsscli.training.objectives.table import build_objectives
from vsscli.training.optimiser import build_optimiser
from vsscli.training.state import TrainingState
from vsscli.training.step import Stepper

# Copying a teacher looks at where its tensors lie, which is nowhere.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

TTA = AugmentationPlan("two", (1.0, 1.5), flip=True)


def network_of(name: str) -> Network:
    return build_network(CONFIGS[name].config, CLASSES, load_pretrained=False).eval()


@pytest.mark.parametrize("what", ["a list is uploaded", "a mask selects", "a value is fetched", "a large copy"])
def test_a_wait_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cuda(monkeypatch) as watch:
        values = torch.ones(64, 64, 64, device=CUDA)
        assert watch.waits == []
        if what == "a list is uploaded":
            torch.tensor([1.0, 2.0], device=CUDA)
        elif what == "a mask selects":
            values[values > 0] = torch.ones(3, device=CUDA)
        elif what == "a value is fetched":
            values.cpu()
        else:
            torch.ones(64, 64, 64).to(CUDA, non_blocking=True)
    assert len(watch.waits) == 1


@pytest.mark.parametrize("name", CONFIGS)
def test_networks_predict_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, size = network_of(name), CONFIGS[name].size(64, 96)
    with fake_cuda(monkeypatch) as watch, torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        on_cuda(network)
        images = torch.empty(2, 3, *size, device=CUDA)
        values = network(images).values
        if network.frames > 1:
            _, handed = network.follow(images)
            values = network.follow(images, handed)[0].scores.values
    assert watch.waits == []
    assert values.device == CUDA
    assert values.shape[:2] == (2, CLASSES)


@pytest.mark.parametrize(
    ("name", "keep"),
    [
        ("light-resnet", Encoding(kept=3)),
        ("light-resnet", Encoding(grid=4, kept=3)),
        ("light-resnet", Encoding(keep="all")),
        pytest.param("beit", Encoding(kept=3), marks=pytest.mark.slow),
        ("pmt-video", Encoding(kept=3)),
    ],
)
def test_frames_are_predicted_and_encoded_without_waiting(
    name: str, keep: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(name)
    images = [np.zeros((90, 120, 3), np.uint8)] * 2
    with fake_cuda(monkeypatch) as watch:
        on_cuda(network)
        how = ReadOut(64, network.crop or (64, 64), None, TTA, "bf16")
        predictor = Predictor(network, network.normalisation, how, CUDA, batch_size=64)
        answers = predictor.predict(images, lambda views: encode_frame(views, keep))
        assert watch.waits == []
        assert watch.downs == 1  # all values of all frames in one copy
        assert not answers.here
        frames = answers.frames()
    assert watch.waits == []
    assert [frame["label"].shape for frame in frames] == [(90, 120)] * 2


def test_labels_come_down_without_a_further_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of("light-resnet")
    with fake_cuda(monkeypatch) as watch:
        on_cuda(network)
        predictor = Predictor(network, network.normalisation, ReadOut(None, None, None, TTA), CUDA)
        (label,) = predictor.labels([np.zeros((64, 64, 3), np.uint8)])
    assert watch.waits == []
    assert label.shape == (64, 64)


class Fabric:
    """What a step needs of Fabric on one device. Gradients are zeros: without a GPU, torch does not run backwards."""

    strategy = SimpleNamespace(precision=None)
    global_rank, world_size = 0, 1

    def setup(self, learner: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[Any, torch.optim.Optimizer]:
        def run(*args: Any) -> Any:
            with self.autocast():
                return learner(*args)

        self.learner = learner
        return run, optimiser

    def autocast(self) -> torch.autocast:
        return torch.autocast("cuda", torch.bfloat16)

    def no_backward_sync(self, module: Any, enabled: bool) -> nullcontext[None]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        assert loss.requires_grad
        assert loss.device == CUDA
        for weight in self.learner.parameters():
            weight.grad = torch.zeros_like(weight) if weight.requires_grad else None

    def clip_gradients(self, module: Any, optimiser: torch.optim.Optimizer, *, max_norm: float, **how: bool) -> Tensor:
        return nn.utils.clip_grad_norm_(self.learner.parameters(), max_norm, **how)


CONTRAST = {"queue": 40, "keys": 20, "anchors": 8, "negatives": 4, "channels": 8, "confidence": 0.0, "low_rank": 1}
STEPS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "labels": ("light-efficientnet", None),
    "store": ("light-resnet", {"contrast": CONTRAST, "mixing": "cutmix"}),
    "store, narrowing": ("light-resnet", {"contrast": CONTRAST, "split": "narrowing", "mixing": "classmix"}),
    "teacher": ("light-resnet", {"teacher": "ema", "contrast": CONTRAST, "mixing": "cutout", "scale_weight": True}),
    "unimatch": ("light-resnet", {"method": "unimatch", "teacher": "ema"}),
    "swin": ("swin", None),
    "adapter": ("vit-adapter", {"teacher": "ema", "contrast": CONTRAST}),
    "eomt": ("eomt", {"method": "unimatch", "teacher": "ema"}),
    "clips": ("pmt-video", None),
}


SHOWN = ("adapter", "labels", "teacher")
"""What others show, too, each with less."""


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SHOWN)) for case in STEPS])
def test_a_step_does_not_wait_but_for_the_costs_of_matching(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, unlabelled = STEPS[case]
    config = {**CONFIGS[name].config, **({"checkpointing": False} if name == "pmt-video" else {})}
    network = build_network(config, CLASSES, load_pretrained=False).train()
    recipe = small_recipe(
        tmp_path, clip=1.0, ema=0.9, precision="bf16", void="ignored" if case == "swin" else "negative"
    )
    settings = None if unlabelled is None else Unlabelled.model_validate(unlabelled)
    recipe = recipe.model_copy(update={"unlabelled": settings, "model": read_config(config)})
    size, fabric = CONFIGS[name].size(64, 96), Fabric()
    # A second step differs in what trains, which the other networks show, not in the layers of these large ones.
    steps = 1 if isinstance(recipe.model, Mask2FormerModel) else 2
    labels = torch.zeros(4, *size, dtype=torch.uint8)
    labels[:, :9], labels[1, 9:] = 255, 3
    noted = present_labels(labels).numpy()
    present: Any = SimpleNamespace(numpy=lambda: noted)  # stays on the host, where numbers are real
    with fake_cuda(monkeypatch) as watch:
        on_cuda(network)
        stored = StoreMeaning((40,) * CLASSES, 5)
        objectives = build_objectives(recipe, network, stored, fabric.autocast)
        optimiser = build_optimiser(network, recipe.train, objectives.learner.projection)
        state = TrainingState(objectives, optimiser, AveragedWeights(network, 0.9))
        stepper = Stepper(fabric, recipe, state)  # type: ignore[arg-type]
        crops = [_crops(size, present) for _ in range(2)]
        watch.waits.clear()
        watch.downs = 0
        for _ in range(steps):
            losses, _ = stepper.step([(crops[0], crops[1] if settings else None)], measure=True)
        assert all(figure.device == CUDA for figure in losses.figures.values())
        assert set(losses.figures) >= {"loss", "loss_supervised"}
    matches = steps if isinstance(recipe.model, Mask2FormerModel | PlainVitModel) else 0
    assert [wait.partition(", at ")[0] for wait in watch.waits] == ["a copy to the host is waited for"] * matches
    assert all("matching.py" in wait for wait in watch.waits)


def _crops(size: tuple[int, int], present: Tensor) -> Crops:
    def maps(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
        return torch.empty(4, *shape, *size, dtype=dtype, device=CUDA)

    stored = StoredPixels(maps(), maps(), maps(5))
    return Crops(maps(3), maps(), maps(dtype=torch.bool), stored, maps(2, 3), present)


def test_the_gradient_of_deformable_attention_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cuda(monkeypatch) as watch:
        values = torch.empty(2, 20, 2, 8, device=CUDA)
        locations, weights = torch.empty(2, 7, 2, 2, 3, 2, device=CUDA), torch.empty(2, 7, 2, 2, 3, device=CUDA)
        context = SimpleNamespace(saved_tensors=(values, locations, weights), shapes=((4, 4), (2, 2)))
        found = _WeightedSamples.backward(context, torch.empty(2, 7, 16, device=CUDA))
    assert watch.waits == []
    assert [gradient.shape for gradient in found[:3]] == [values.shape, locations.shape, weights.shape]
