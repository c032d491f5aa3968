"""The gain of leaving void out of mask losses with partial labels: the twin of the submission, drawn videos.

    python tests/benchmarks/void.py --out runs/void --seeds 1 2

Labels of the twin's other streets are read through a mapping that leaves people and poles out. A network is trained on
those alone, as in recipes/tiny/pvuw2024/pretrain-*.yaml, then on the demo's streets and some of the others, as in the
student's or teacher's recipe there; with pixels without a label outside every mask, or ignored (`train.void`). Scored
on the demo's `val` after either, without test-time augmentation. Finished runs are kept: running it again continues,
and prints the table so far.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from rare import scored
from unreliable import METRICS, Printed

from vsscli.context import Context
from vsscli.data.layouts import open_dataset
from vsscli.recipes.load import load_recipe
from vsscli.training.begun import begun_run
from vsscli.training.inputs import training_inputs
from vsscli.training.run import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/void"))
    parser.add_argument("--network", choices=["student", "teacher"], default="student")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", nargs=2, type=int, default=[60, 90], help="before, on partial labels, and after")
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    streets = load_recipe(f"recipes/tiny/pvuw2024/{arguments.network}.yaml").data
    figures: dict[str, list[list[float]]] = {}
    for seed in arguments.seeds:
        for void in ("negative", "ignored"):
            init = None
            for shipped, steps in zip(
                (f"pretrain-{arguments.network}", arguments.network), arguments.steps, strict=True
            ):
                changes = [f"seed={seed}", f"train.void={void}", f"train.steps={steps}"]
                changes.append(f"train.batch_size={arguments.batch}")
                init = trained(arguments.out, shipped, f"{shipped}-{void}-{seed}", changes, init)
                row = f"{shipped}, {void}"
                figures.setdefault(row, []).append(scored(init, Path(streets.root), streets))
                print(f"{row}, seed {seed}: mIoU {figures[row][-1][0]:.2f}", flush=True)
    names = open_dataset(streets, Path(streets.root)).table.names
    print(f"| void | mIoU | wIoU | VC8 | VC16 | {' | '.join(names)} |")
    print(f"| --- |{' ---: |' * (len(METRICS) + len(names))}")
    for row, of_seeds in sorted(figures.items()):
        means = [statistics.mean(values) for values in zip(*of_seeds, strict=True)]
        each = " / ".join(f"{values[0]:.2f}" for values in of_seeds)
        cells = [f"{means[0]:.2f} ({each})", *(f"{mean:.2f}" for mean in means[1:4]), *(f"{m:.1f}" for m in means[4:])]
        print(f"| {row} | {' | '.join(cells)} |")


def trained(out: Path, shipped: str, name: str, changes: list[str], init: Path | None) -> Path:
    """The last checkpoint of a run of a shipped recipe."""
    alike = ["train.threads=1", "train.workers=0", "data.val=train", "train.validate_every=0"]
    recipe = load_recipe(f"recipes/tiny/pvuw2024/{shipped}.yaml", [f"name={name}", *alike, *changes])
    folder = out / name
    begun = begun_run(folder, recipe, training_inputs(recipe, init, None))
    since = time.process_time()
    context = Context(out, talk=Printed())
    last = train(
        recipe, folder, context=context, init=init, resume=begun is True, force=begun is False, check=False
    ).last
    print(f"{name}: {time.process_time() - since:.0f} s of processor", flush=True)
    return last


if __name__ == "__main__":
    main()
