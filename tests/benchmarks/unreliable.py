"""The gain of unlabelled video on CamVid: the table of rows a to f, 46 labelled frames of 367.

    CAMVID_ROOT=… python tests/benchmarks/unreliable.py --out runs/unreliable --teacher runs/camvid-teacher/last.pt

a  labelled frames only                              d  c, pseudo-labels of teacher and student fused, with TTA
b  and reliable pseudo-labels (the student's own)    e  c, labelled by a mean teacher as it learns
c  and unreliable pixels by contrast                 f  all 367 labels, the ceiling

Every row continues from the supervised checkpoint of its seed for the same number of steps of eight labelled crops, b
to e with eight unlabelled ones as well, and is scored on `val` with its last checkpoint, without test-time
augmentation. Finished runs are kept: running it again continues, and prints the table so far. `--set` changes all rows
that use unlabelled frames; name such a variant with `--tag`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.pipeline.pseudo import pseudo
from vsscli.recipes.load import load_recipe
from vsscli.recipes.schema import Recipe
from vsscli.training.begun import begun_run
from vsscli.training.inputs import training_inputs
from vsscli.training.run import train

METRICS = ("miou", "wiou", "vc8", "vc16")
NAMES = {
    "a": "labelled only",
    "b": "+ reliable pseudo-labels",
    "c": "+ unreliable by contrast",
    "d": "c, fused teacher and student with TTA",
    "e": "c, mean teacher",
    "f": "all labels",
}
UNLABELLED = ["unlabelled.batch_size=8"]
CONTRAST = ["unlabelled.contrast.weight=0.1", "unlabelled.contrast.queue=4096", "unlabelled.contrast.keys=256"]
ROWS = {
    "a": [],
    "b": UNLABELLED,
    "c": [*UNLABELLED, *CONTRAST],
    "d": [*UNLABELLED, *CONTRAST],
    "e": [*UNLABELLED, *CONTRAST, "unlabelled.teacher=ema", "unlabelled.scale_weight=true", "unlabelled.mixing=cutmix"],
    "f": ["data.labelled=null"],
}


class Printed:
    """Says what the library says, with the time; follows nothing."""

    def say(self, text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, flush=True)

    warn = say

    @contextmanager
    def track(self, label: str, total: int, unit: str = "frame") -> Iterator[Callable[[int], None]]:
        yield lambda done: None


@dataclass(frozen=True)
class Experiment:
    """Where runs go, and what they have in common."""

    out: Path
    data_root: Path
    steps: int
    percentile: float
    by_class: bool
    weights: list[float]
    teacher: Path | None
    recipe: str
    changes: list[str]
    tag: str
    talk: Printed

    def base(self, seed: int) -> Path:
        """The supervised checkpoint of a seed."""
        return self._trained(self._recipe(f"base-{seed}", seed, ["train.lr=1.0e-3"])).last

    def row(self, row: str, seed: int) -> dict[str, Any]:
        """Figures of a row."""
        base = self.base(seed)
        changes, pseudo = ["train.lr=5.0e-4", *ROWS[row]], None
        if row in "bcde":
            changes += self.changes
        if row in "bc":
            pseudo = self._pseudo([base], tta=False)
        if row == "d":
            pseudo = self._pseudo(
                [self.teacher or self._trained(load_recipe("recipes/camvid/teacher.yaml")).last, base],
                weights=self.weights,
            )
        name = f"{row}-{seed}{'-' + self.tag if self.tag and row in 'bcde' else ''}"
        since = time.perf_counter()
        result = self._trained(self._recipe(name, seed + 100, changes), base, pseudo)
        return {**result.figures, "seconds": round(time.perf_counter() - since)}

    def _recipe(self, name: str, seed: int, changes: list[str]) -> Recipe:
        common = [
            f"name={name}",
            f"seed={seed}",
            f"train.steps={self.steps}",
            f"train.warmup={min(20, self.steps // 4)}",
            "train.validate_every=0",
            f"train.checkpoint_every={min(100, self.steps)}",
        ]
        return load_recipe(self.recipe, [*common, *changes])

    def _trained(self, recipe: Recipe, init: Path | None = None, pseudo: Path | None = None) -> Any:
        folder = self.out / recipe.name
        begun = begun_run(folder, recipe, training_inputs(recipe, init, pseudo))
        return train(
            recipe,
            folder,
            context=Context(self.out, self.data_root, talk=self.talk),
            init=init,
            pseudo_labels=pseudo,
            resume=begun is True,
            force=begun is False,
            check=False,
        )

    def _pseudo(self, models: list[Path], *, tta: bool = True, weights: list[float] | None = None) -> Path:
        made = pseudo(
            models,
            weights=weights,
            context=Context(self.out, data_root=self.data_root, device="auto", talk=self.talk),
            tta=tta,
            percentile=self.percentile,
            by_class=self.by_class,
        )
        return made.store


def table(results: dict[str, dict[str, Any]], steps: int) -> str:
    """Means over seeds in per cent, with the standard deviation where there are several."""
    lines = [
        f"| row ({steps} + {steps} steps) | seeds | mIoU | wIoU | VC8 | VC16 |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row, of_seeds in sorted(results.items()):
        cells = []
        for metric in METRICS:
            values = [100 * figures[metric] for figures in of_seeds.values()]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        lines.append(f"| {row} {NAMES[row[0]]} | {', '.join(of_seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/unreliable"))
    parser.add_argument("--rows", nargs="+", default=list("abcdef"), choices=list("abcdef"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--teacher", type=Path, help="checkpoint of a trained teacher; none: trained here")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--percentile", type=float, default=80.0)
    parser.add_argument("--by-class", action="store_true", help="the percentile is one of each class's pixels")
    parser.add_argument("--weights", nargs=2, type=float, default=[1.0, 1.0], help="of teacher and student in row d")
    parser.add_argument("--recipe", default="recipes/camvid/student.yaml")
    parser.add_argument("--set", nargs="+", default=[], dest="changes", metavar="KEY=VALUE")
    parser.add_argument("--tag", default="")
    arguments = parser.parse_args()
    if arguments.changes and not arguments.tag:
        parser.error("--set takes a --tag, so that its runs have names of their own")
    experiment = Experiment(
        arguments.out,
        Path(os.environ["CAMVID_ROOT"]),
        arguments.steps,
        arguments.percentile,
        arguments.by_class,
        arguments.weights,
        arguments.teacher,
        arguments.recipe,
        arguments.changes,
        arguments.tag,
        Printed(),
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "results.json"
    results: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for row in arguments.rows:
        for seed in arguments.seeds:
            name = f"{row}-{arguments.tag}" if arguments.tag and row in "bcde" else row
            figures = experiment.row(row, seed)
            kept = results.setdefault(name, {})
            # A cached run takes no time; what it took is what stood there.
            figures["seconds"] = max(figures["seconds"], kept.get(str(seed), {}).get("seconds", 0))
            kept[str(seed)] = figures
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{name} seed {seed}: {figures}", flush=True)
    print(table(results, arguments.steps))


if __name__ == "__main__":
    main()
