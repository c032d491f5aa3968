"""Frames that `vss next` chooses against frames evenly spaced: the student on CamVid with 46 labels of 367.

    CAMVID_ROOT=… python tests/benchmarks/advice.py --out runs/advice --seeds 1 2 3

Both sides end with the same number of labels and train the student of recipes/camvid/student.yaml from scratch for the
same steps. One takes frames evenly spaced over the training videos. The other begins with a third of these, evenly
spaced, and chooses the rest in two rounds, each by the prediction of a student that was trained on the labels so far
(with half the steps). Scored with the last checkpoint, without test-time augmentation: on `val`, which goes on with the
longest of the clips, and on the frames of `train` that neither side has labels of. Finished runs are kept.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

from rare import scored
from unreliable import METRICS, Printed

from vsscli.context import Context
from vsscli.data.layouts import open_dataset
from vsscli.fusion.informative import choose, measure
from vsscli.pipeline.predict import predict_split
from vsscli.recipes.load import load_recipe
from vsscli.store.reader import open_store
from vsscli.training.begun import begun_run
from vsscli.training.inputs import training_inputs
from vsscli.training.run import train

COLUMNS = (*METRICS, "train, miou", "train, wiou")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/advice"))
    parser.add_argument("--recipe", default="recipes/camvid/student.yaml")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--labels", type=int, default=46)
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    root, out, steps = Path(os.environ["CAMVID_ROOT"]), arguments.out.resolve(), arguments.steps
    out.mkdir(parents=True, exist_ok=True)
    frames = [
        frame.address
        for video in open_dataset(load_recipe(arguments.recipe, ["data.labelled=null"]).data, root).split("train")
        for frame in video.frames
        if frame.mask is not None
    ]
    counts = [round(arguments.labels * share) for share in (1 / 3, 2 / 3, 1)]
    figures: dict[str, list[list[float]]] = {"evenly spaced": [], "vss next": []}
    for seed in arguments.seeds:
        spaced = evenly(frames, arguments.labels)
        even = trained(arguments.recipe, out, root, "even", spaced, seed, steps)
        chosen = evenly(frames, counts[0])
        for number, count in enumerate(counts[1:], start=1):
            last = trained(arguments.recipe, out, root, f"round-{number}", chosen, seed, steps // 2)
            done = predict_split(last, "train", context=Context(out, root, talk=Printed()))
            measures = measure([open_store(done.store)])
            more = choose(measures, count - len(chosen), chosen, frames)
            chosen = sorted([*chosen, *(one.address for one in more)], key=frames.index)
        last = trained(arguments.recipe, out, root, "chosen", chosen, seed, steps)
        for row, one in (("evenly spaced", even), ("vss next", last)):
            in_val, in_train = scored(one, root), scored(one, root, split="train", without={*spaced, *chosen})
            figures[row].append([*in_val[: len(METRICS)], *in_train[:2]])
            print(f"seed {seed}, {row}: mIoU {in_val[0]:.2f}, of train {in_train[0]:.2f}", flush=True)
    print(f"| labels | {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * len(COLUMNS)}")
    for row, of_seeds in figures.items():
        columns = list(zip(*of_seeds, strict=True))
        spread = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
        cells = (f"{statistics.mean(column):.2f} ± {s:.2f}" for column, s in zip(columns, spread, strict=True))
        print(f"| {row} | {' | '.join(cells)} |")


def evenly(frames: list[str], count: int) -> list[str]:
    """So many frames at equal distances, the first in the middle of its part."""
    return [frames[int((number + 0.5) * len(frames) / count)] for number in range(count)]


def trained(recipe: str, out: Path, root: Path, what: str, labelled: list[str], seed: int, steps: int) -> Path:
    """Train on some labels; the checkpoint."""
    name = f"advice-{what}-{seed}-{steps}"
    listed = out / f"{name}.txt"
    listed.write_text("".join(f"{address}\n" for address in labelled))
    changes = [f"name={name}", f"seed={seed}", f"data.labelled={listed}", f"train.steps={steps}"]
    loaded = load_recipe(recipe, [*changes, "train.validate_every=0", f"train.warmup={min(40, steps // 4)}"])
    begun = begun_run(out / name, loaded, training_inputs(loaded, None, None))
    context = Context(out, root, talk=Printed())
    return train(loaded, out / name, context=context, resume=begun is True, force=begun is False, check=False).last


if __name__ == "__main__":
    main()
