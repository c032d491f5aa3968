"""Pseudo-labels for mask classifiers: by their own losses, by cross-entropy, or not at all, on drawn videos.

    python tests/benchmarks/masks.py --out runs/masks --seeds 1 2 3

Trains an EoMT of width 96 (recipes/tiny/2026/teacher.yaml) on labels, gives the unlabelled frames its own reliable
pseudo-labels, and continues from it: on labels alone (the control), with cross-entropy of reliable pixels, or with the
losses of masks that leave all other pixels out (`unlabelled.loss`), of pixels alike or by their certainty. Scored on
`val`, without test-time augmentation.
Finished runs are kept: running it again continues, and prints the table so far.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from rare import scored
from unreliable import METRICS, Printed

from vsscli.context import Context
from vsscli.pipeline.pseudo import pseudo
from vsscli.recipes.load import load_recipe
from vsscli.training.begun import begun_run
from vsscli.training.inputs import training_inputs
from vsscli.training.run import train

SHIPPED = "recipes/tiny/2026/teacher.yaml"
ROWS = {
    "labels alone": [],
    "cross-entropy of reliable pixels": ["unlabelled.loss=pixels"],
    "masks, other pixels ignored": ["unlabelled.loss=masks"],
    "cross-entropy by certainty": ["unlabelled.loss=pixels", "unlabelled.pixel_weights=certainty"],
    "masks by certainty": ["unlabelled.loss=masks", "unlabelled.pixel_weights=certainty"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/masks"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", nargs=2, type=int, default=[300, 150], help="on labels, and after")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--unlabelled", type=int, default=4, help="crops of a step")
    parser.add_argument("--percentile", type=float, default=60.0)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate after")
    parser.add_argument("--set", nargs="*", default=[], dest="changes", help="of every run")
    arguments = parser.parse_args()
    alike = [f"train.batch_size={arguments.batch}", *arguments.changes]
    figures: dict[str, list[list[float]]] = {}
    for seed in arguments.seeds:
        before = [f"train.steps={arguments.steps[0]}", *alike]
        start = trained(arguments.out, f"start-{seed}", [*before, f"seed={seed}"])
        figures.setdefault("the start", []).append(by_metric(start))
        labels = pseudo([start], percentile=arguments.percentile, context=Context(arguments.out)).store
        for row, changes in ROWS.items():
            later = [f"train.steps={arguments.steps[1]}", f"train.lr={arguments.rate}", f"seed={10 + seed}", *alike]
            if changes:
                later += [f"unlabelled.batch_size={arguments.unlabelled}", f"unlabelled.weight={arguments.weight}"]
            name = f"{row.split(',')[0].replace(' ', '-')}-{seed}"
            last = trained(arguments.out, name, [*later, *changes], start, labels if changes else None)
            figures.setdefault(row, []).append(by_metric(last))
            print(f"{row}, seed {seed}: mIoU {figures[row][-1][0]:.2f}", flush=True)
    print(f"| learned from | {' | '.join(METRICS)} |")
    print(f"| --- |{' ---: |' * len(METRICS)}")
    for row, of_seeds in figures.items():
        means = [statistics.mean(values) for values in zip(*of_seeds, strict=True)]
        each = " / ".join(f"{values[0]:.2f}" for values in of_seeds)
        print(f"| {row} | {means[0]:.2f} ({each}) | {' | '.join(f'{mean:.2f}' for mean in means[1:])} |", flush=True)


def by_metric(last: Path) -> list[float]:
    """The figures of a run's last checkpoint on `val`."""
    data = load_recipe(SHIPPED).data
    return scored(last, Path(data.root), data)[: len(METRICS)]


def trained(out: Path, name: str, changes: list[str], init: Path | None = None, labels: Path | None = None) -> Path:
    """The last checkpoint of a run."""
    alike = ["train.threads=1", "train.workers=0", "train.validate_every=0", "data.val=train"]
    recipe = load_recipe(SHIPPED, [f"name={name}", *alike, *changes])
    folder, since = out / name, time.process_time()
    begun = begun_run(folder, recipe, training_inputs(recipe, init, labels))
    context = Context(out, talk=Printed())
    last = train(
        recipe,
        folder,
        context=context,
        init=init,
        pseudo_labels=labels,
        resume=begun is True,
        force=begun is False,
        check=False,
    ).last
    print(f"{name}: {time.process_time() - since:.0f} s of processor", flush=True)
    return last


if __name__ == "__main__":
    main()
