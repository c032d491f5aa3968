"""Size and loss of the factored form of mask classifiers, compared with the lists that stores keep.

    python tests/benchmarks/factored.py teacher/last.pt student/last.pt --data ROOT

A mask classifier predicts a class and a mask for each query; its scores are the sum of their products. The factored
form stores these: for each query its class distribution in float16, and its mask, the sigmoid of the logits, in 255
levels at the masks' own stride, compressed like a store's arrays. Queries with more than ``--drop`` probability of "no
object" are left out. Each frame is predicted once, as a whole, at the network's crop: with test-time augmentation there
would be one such form per view, since each view has its own queries, but only one set of lists. Both forms of both
sources are fused as in `encoding.py`, and compared with the mean of the dense distributions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from encoding import Setting, blosc, entropy_of, fuse_kept, keep, ranked

from vsscli.data.layouts import open_dataset
from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.models.mask2former.network import Mask2Former
from vsscli.models.outputs import QueryPrediction, mask_scores
from vsscli.models.scores import to_probabilities
from vsscli.recipes.load import recipe_from_dict

LISTS = Setting(scale="linear", steps=255, drop=0.008, kept=6)  # the default
LEVELS = 255


def predict(network: Mask2Former, image: np.ndarray) -> QueryPrediction:
    """What the queries of the last layer say of a whole frame (H, W, 3) uint8, resized to the network's crop."""
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    batch = F.interpolate(batch, network.crop, mode="bilinear", align_corners=False, antialias=True)
    with torch.inference_mode():
        return network.outputs(network.normalisation(batch)).layers[-1]


def dense(prediction: QueryPrediction, size: tuple[int, ...]) -> np.ndarray:
    """The distribution at frame size, (C, H, W) float32."""
    mean = to_probabilities(mask_scores(prediction))
    return F.interpolate(mean, size, mode="bilinear", align_corners=False)[0].numpy()


def factored(prediction: QueryPrediction, drop: float) -> tuple[QueryPrediction, int]:
    """The prediction as its factored form gives it back, and the bytes of that."""
    classes, masks = prediction.class_logits.softmax(-1)[0], prediction.mask_logits[0].sigmoid()
    there = classes[:, -1] <= drop
    classes, level = classes[there].half(), (masks[there] * LEVELS).round()
    packed = [
        blosc.compress(np.ascontiguousarray(part), b"zstd", LISTS.level, blosc.NOSHUFFLE, LISTS.block, typesize=1)
        for part in (classes.numpy().view(np.uint8), level.to(torch.uint8).numpy())
    ]
    back = QueryPrediction(classes.float().log()[None], (level / LEVELS).logit(1e-6)[None])
    return back, sum(map(len, packed))


def main() -> None:
    """Print bytes a frame and source, and how a fusion agrees with that of dense distributions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs=2)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", default="val")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--drop", type=float, nargs="+", default=[1.0, 0.98, 0.9])
    arguments = parser.parse_args()
    networks = []
    for path in arguments.checkpoints:
        checkpoint = load_checkpoint(path)
        network = restore_network(checkpoint)
        assert isinstance(network, Mask2Former), f"{path} is no mask classifier"
        networks.append(network.eval())
    recipe = recipe_from_dict(checkpoint.recipe, str(path))
    video = open_dataset(recipe.data, arguments.data).split(arguments.split)[0]
    forms = ["lists", *(f"factored, no object <= {drop:g}" for drop in arguments.drop)]
    size: dict[str, list[int]] = {form: [] for form in forms}
    agree: dict[str, list[float]] = {form: [] for form in forms}
    error: dict[str, list[float]] = {form: [] for form in forms}
    for t in range(min(arguments.frames, len(video))):
        image = video.read(t)
        said = [predict(network, image) for network in networks]
        means = [dense(prediction, image.shape[:2]) for prediction in said]
        classes = len(means[0])
        right = (means[0] + means[1]) / 2
        right_label, right_entropy = right.argmax(axis=0), entropy_of(right) / np.log(classes)
        kept = [keep(LISTS, mean, ranked(mean, min(LISTS.kept, classes))) for mean in means]
        fused = {"lists": fuse_kept(LISTS, kept, classes)}
        size["lists"] += [sum(one.bytes.values()) for one in kept]
        for form, drop in zip(forms[1:], arguments.drop, strict=True):
            back = [factored(prediction, drop) for prediction in said]
            mean = sum(dense(prediction, image.shape[:2]) for prediction, _ in back) / 2
            fused[form] = mean.argmax(axis=0), entropy_of(mean) / np.log(classes)
            size[form] += [taken for _, taken in back]
        for form, (label, entropy) in fused.items():
            agree[form].append(float((label == right_label).mean()))
            error[form].append(float(np.abs(entropy - right_entropy).mean()))
    pixels = image.shape[0] * image.shape[1]
    queries, h, w = said[0].mask_logits.shape[1:]
    print(f"{classes} classes, frames of {image.shape[0]}x{image.shape[1]}, {queries} masks of {h}x{w}")
    print("kB a frame, view and source | bytes a pixel | labels of the fusion, % | mean error of its entropy")
    for form in forms:
        taken = np.mean(size[form])
        print(
            f"{taken / 1000:.1f} | {taken / pixels:.2f} | {100 * np.mean(agree[form]):.3f} | {np.mean(error[form]):.5f}"
            f" | {form}"
        )


if __name__ == "__main__":
    main()
