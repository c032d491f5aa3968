"""Dense predictions of two sources for measuring stores: the output of two networks for the frames of one video.

    python tests/benchmarks/predictions.py camvid.pt --checkpoints a.pt b.pt --frames 48
    python tests/benchmarks/predictions.py patches.pt --steps 500 --frames 18
    python tests/benchmarks/predictions.py surer.pt --steps 1200 --shift 3 --frames 6

With checkpoints, the frames are the first of their data set's evaluation split. Without, two networks of the light
family are first trained on a drawn scene of 124 classes (`Patches`), some minutes each on one core; the less a class
differs from video to video (``--shift``), the more certain they become. The file is small: it holds the networks' maps
at their own stride, which are upsampled to the dense float32 distributions. `encoding.py` and `fusion.py` read it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vsscli.data.layouts import open_dataset
from vsscli.data.masks import read_mask
from vsscli.inference.bands import ViewMaps, mean_map
from vsscli.inference.plans import AugmentationPlan
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.models.build import build_network
from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.models.network import Network
from vsscli.recipes.load import recipe_from_dict
from vsscli.training.losses import cross_entropy_sum

CLASSES = 124
SIZE = (480, 853)
IGNORE = 255
SHIFT = 7.0
CPU = torch.device("cpu")
SMALL = {"family": "light", "encoder": "resnet10t", "channels": 64, "pretrained": "none", "dropout": 0.0}
PLAN = AugmentationPlan("three", (0.75, 1.0, 1.25), True)


@dataclass(frozen=True)
class Predictions:
    """Two sources on T frames of one video: ``sources[s][t]``, and what is true, (T, H, W) uint8, 255 void."""

    sources: list[list[ViewMaps]]
    truth: np.ndarray

    @property
    def num_classes(self) -> int:
        return int(self.sources[0][0].maps[0].shape[0])

    def dense(self, source: int, t: int) -> Tensor:
        """The distribution of one frame at its own size, (C, H, W) float32."""
        views = self.sources[source][t]
        return mean_map(views, views.size)

    def save(self, path: Path) -> None:
        views = [[(list(view.maps), list(view.weights), view.size) for view in source] for source in self.sources]
        torch.save({"sources": views, "truth": torch.from_numpy(self.truth)}, path)


def load_predictions(path: Path) -> Predictions:
    """Read what `Predictions.save` wrote."""
    held = torch.load(path, weights_only=True)
    sources = [[ViewMaps(tuple(m), tuple(w), tuple(s)) for m, w, s in source] for source in held["sources"]]
    return Predictions(sources, held["truth"].numpy())


class Patches:
    """A drawn video of 124 classes: areas and moving discs, each class with a colour and a graininess of its own.

    Colour varies from video to video, by ``shift`` of 255 grey levels, and light over the frame: by default so far that
    neighbouring classes are taken for each other. What a class looks like depends neither on scale nor on side, so that
    test-time augmentation helps as it does on real frames.
    """

    def __init__(self, seed: int, size: tuple[int, int] = SIZE, shift: float = SHIFT) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size
        height, width = size
        self.classes = self.rng.choice(CLASSES, 30, replace=False)
        fields = self.rng.standard_normal((18, 7, 12)).astype(np.float32)
        wide = [np.asarray(Image.fromarray(f).resize((width + 160, height), Image.Resampling.BICUBIC)) for f in fields]
        self.background = self.classes[np.argmax(wide, axis=0)]
        low, high = (0, 0, 12, 12, -4, -2), (width, height, width / 8, height / 5, 4, 2)
        self.discs = self.rng.uniform(low, high, (12, 6))
        look = np.random.default_rng(5)  # of the classes, the same in all videos
        self.colour = look.uniform(20, 235, (CLASSES, 3)) + self.rng.normal(0, shift, (CLASSES, 3))
        self.grain = look.choice((2.0, 8.0, 20.0), CLASSES)

    def frame(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 and label (H, W) uint8 at time t; noise is drawn in order."""
        height, width = self.size
        y, x = np.mgrid[:height, :width].astype(np.float32)
        label = self.background[:, 2 * t % 160 : 2 * t % 160 + width].copy()
        for disc, (left, top, across, down, right, fall) in zip(self.classes[18:], self.discs, strict=True):
            from_left, from_top = (x - (left + right * t) % width) / across, (y - (top + fall * t) % height) / down
            label[from_left**2 + from_top**2 < 1] = disc
        image = self.colour[label] * (0.9 + 0.2 * x / width)[..., None]
        image += self.rng.normal(0, 1, (height, width, 1)) * self.grain[label][..., None]
        image += self.rng.normal(0, 3, image.shape)
        return image.clip(0, 255).astype(np.uint8), label.astype(np.uint8)


def train_on_patches(seed: int, steps: int, shift: float) -> Network:
    """A small light network, trained from scratch for a minute or two on crops of drawn videos."""
    torch.manual_seed(seed)
    network = build_network(SMALL, CLASSES, load_pretrained=False).train()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (network.normalisation.mean, network.normalisation.std))
    pool = [Patches(10_000 * seed + number, (128, 160), shift) for number in range(120)]
    generator = np.random.default_rng(seed)
    for step in range(steps):
        drawn = [pool[index].frame(int(generator.integers(80))) for index in generator.integers(0, len(pool), 8)]
        images = torch.stack([(torch.from_numpy(image).permute(2, 0, 1) - mean) / std for image, _ in drawn])
        label = torch.from_numpy(np.stack([label[2::4, 2::4] for _, label in drawn]))
        loss, count = cross_entropy_sum(network(images), label)
        optimiser.zero_grad()
        (loss / count).backward()
        optimiser.step()
        schedule.step()
        if step % 25 == 0:
            print(f"seed {seed} step {step}: loss {loss.item() / count.item():.3f}", flush=True)
    return network.eval()


def predict_patches(steps: int, frames: int, shift: float) -> Predictions:
    """Two networks of different length of training, on a video that neither has seen."""
    networks = [train_on_patches(1, steps, shift), train_on_patches(2, steps * 2 // 3, shift)]
    video = Patches(1, shift=shift)
    drawn = [video.frame(t) for t in range(frames)]
    how = ReadOut(None, None, None, PLAN)
    predictors = [Predictor(network, network.normalisation, how, CPU) for network in networks]
    sources = [[predictor.maps([image])[0] for image, _ in drawn] for predictor in predictors]
    return Predictions(sources, np.stack([label for _, label in drawn]))


def predict_data(checkpoints: list[Path], frames: int) -> Predictions:
    """Two checkpoints on the first frames of their data set's evaluation split, each read out as its recipe says."""
    sources = []
    for path in checkpoints:
        checkpoint = load_checkpoint(path)
        recipe = recipe_from_dict(checkpoint.recipe, str(path))
        dataset = open_dataset(recipe.data)
        video = dataset.split("val")[0]
        predictor = Predictor(
            restore_network(checkpoint), checkpoint.normalisation, ReadOut(recipe.predict.size, None, None, PLAN), CPU
        )
        sources.append([predictor.maps([video.read(t)])[0] for t in range(frames)])
    lookup = dataset.ids.lookup(dataset.table.num_classes)
    truth = np.stack([lookup[read_mask(frame.mask)] for frame in video.frames[:frames]])
    return Predictions(sources, truth.astype(np.uint8))


def main() -> None:
    """Make the predictions and say how good they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoints", type=Path, nargs=2, help="two sources of one data set")
    parser.add_argument("--steps", type=int, default=500, help="of training without checkpoints (default 500)")
    parser.add_argument("--shift", type=float, default=SHIFT, help=f"of a class's colour, by video (default {SHIFT:g})")
    parser.add_argument("--frames", type=int, default=48)
    arguments = parser.parse_args()
    if arguments.checkpoints:
        made = predict_data(arguments.checkpoints, arguments.frames)
    else:
        made = predict_patches(arguments.steps, arguments.frames, arguments.shift)
    made.save(arguments.out)
    lookup = np.arange(256, dtype=np.uint8)
    lookup[made.num_classes :] = IGNORE
    for source in range(2):
        confusion, right, top, entropy = ConfusionMatrix(made.num_classes, lookup), 0.0, 0.0, 0.0
        for t, truth in enumerate(made.truth):
            dense = made.dense(source, t)
            label = dense.argmax(0).to(torch.uint8).numpy()
            confusion.update(truth, label)
            right += float((label == truth)[truth != IGNORE].mean()) / len(made.truth)
            top += float(dense.amax(0).mean()) / len(made.truth)
            entropy += float(torch.special.entr(dense).sum(0).mean()) / len(made.truth)
        print(
            f"source {source}: {right:.2%} of pixels right, mIoU {confusion.miou:.2%}, probability of the first class "
            f"{top:.3f}, entropy {entropy:.3f} nats or {entropy / np.log(made.num_classes):.3f} of its maximum"
        )


if __name__ == "__main__":
    main()
