"""What only a GPU can show: results equal to the CPU's, and the speed and memory of networks, training and prediction.

    python tests/benchmarks/gpu.py --out gpu.json         # one GPU, 16 cores, eight minutes, no network
    python tests/benchmarks/gpu.py --quick --device cpu   # everything once, tiny, so that it works when a GPU is there

Weights are random, frames are drawn. Parts, in this order (`--parts` chooses):

ceilings     the card's matrix products and copies, which the other rows are shares of
equal        labels, entropies and losses of training steps on the device, compared with the CPU's, in float32
forward      frames a second of networks, bf16, alone on the device
prediction   the plan `paper`, from JPEG files to a store, against its bare forward passes
training     whole training steps on crops in memory, bf16
contrast     the contrastive loss against U2PL's own way, a loop over classes
graphs       forward passes again, recorded as a CUDA graph: without the time that launching kernels takes
compiled     `forward` and `training` again with `model.compile`

A part that does not begin within `--minutes` is left out, and says so; an error ends its row, not the run. Rows are
printed as they come; the JSON file is rewritten after each one.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench import Bench, Row
from contrast import plain_loop, scene
from inference import Comparison, random_network, timed
from steps import DrawnOnTheCpu, TrainingStep, config_for, paper_recipe
from torch import Tensor

from vsscli.inference.devices import HALF, autocast
from vsscli.inference.encode import encode_frame
from vsscli.inference.plans import AugmentationPlan
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.inference.transfer import Stopwatch
from vsscli.models.build import build_network
from vsscli.recipes.training import Contrast
from vsscli.store.header import Encoding
from vsscli.training.bank import Banks
from vsscli.training.contrast import contrastive_loss, plan_step

CLASSES = 124
LABELS_BOUND, LOSS_BOUND, GRADIENT_BOUND = 1e-3, 1e-4, 1e-3
"""What float32 on two devices explains: the share of pixels with another label or an entropy more than a level away, at
scale 1; relative differences of a loss and of the gradient. The contrast draws other anchors on each device."""

RESIZED_BOUND = 2e-2
"""The share of other labels where frames are resized, which torchvision rounds differently on a GPU: a quarter of the
pixels by one of 255 levels."""

PAPERS, LIGHT = "vit_adapter_l", "light"
TINY = ("light", "swin_tiny", "vit_adapter_tiny", "one_peace_tiny", "eomt_tiny", "pmt_tiny")
SMALL = ("light", "vit_adapter_tiny", "eomt_tiny")
FRAME = (480, 864)  # VSPW's 480x853 in multiples that all networks take
LARGE = (896, 896)
Case = tuple[str, tuple[int, int], int]


def ceilings(bench: Bench) -> None:
    """Matrix products of random numbers, and a copy, counting bytes read and written."""
    side = 256 if bench.quick else 8192
    dtype = HALF.get(bench.precision, torch.float32)

    def products() -> Row:
        first, second = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))
        seconds = bench.seconds(lambda: first @ second)
        bench.peak_flops = 2 * side**3 / seconds
        return {"TFLOP/s": bench.peak_flops / 1e12}

    def copies() -> Row:
        source = torch.randint(256, (4 * side**2,), device=bench.device, dtype=torch.uint8)
        target = torch.empty_like(source)
        return {"GB/s": 2 * source.nbytes / bench.seconds(lambda: target.copy_(source)) / 1e9}

    bench.attempt("ceilings", f"product of {side}x{side}, {bench.precision}", products)
    bench.attempt("ceilings", "copy on the device", copies)


def equal(bench: Bench) -> None:
    """Predictions and training steps on both devices."""
    for name in TINY:
        for scales in ((1.0,), (1.0, 1.5)):
            what = f"{name}: labels and entropies, {len(scales)} scales"
            bench.attempt("equal", what, partial(_equal_predictions, bench, name, scales))
    for name in SMALL:
        for kind, what in (("labels", "labels"), ("pseudo", "labels and pseudo-labels")):
            bench.attempt("equal", f"{name}: losses of {what}", partial(_equal_losses, bench, name, kind))


def _equal_predictions(bench: Bench, name: str, scales: tuple[float, ...]) -> Row:
    image = _drawn((96, 160))
    plan = AugmentationPlan("two", scales, True)
    encoding = Encoding(1, 8)
    arrays = []
    for device in (torch.device("cpu"), bench.device):
        network = random_network(name, 21).to(device)
        predictor = Predictor(network, network.normalisation, ReadOut(None, None, None, plan, "32"), device, 8)
        (views,) = predictor.maps([image])
        arrays.append({key: value.cpu().numpy().astype(int) for key, value in encode_frame(views, encoding).items()})
    ours, theirs = arrays
    labels = float((ours["label"] != theirs["label"]).mean())
    apart = np.abs(ours["entropy"] - theirs["entropy"])
    levels = float((apart > encoding.entropy_step).mean())
    strict = labels <= LABELS_BOUND and levels <= LABELS_BOUND
    equal = strict if scales == (1.0,) else labels <= RESIZED_BOUND
    return {"other labels": labels, "other levels": levels, "levels apart": int(apart.max()), "equal": equal}


def _equal_losses(bench: Bench, name: str, kind: str) -> Row:
    steps = []
    for device in (torch.device("cpu"), bench.device):
        recipe = paper_recipe(name, (128, 128), kind, precision="32", batch=2, dropout=0.0)
        with DrawnOnTheCpu():
            step = TrainingStep(recipe, device, 21, keep=True)
            losses = step()
        assert step.gradient is not None
        steps.append((losses, step.gradient.cpu()))
    (ours, first), (theirs, second) = steps
    terms = {key: abs(theirs[key] - ours[key]) / max(abs(ours[key]), 1e-3) for key in ours if key != "loss"}
    gradient = float((first - second).norm() / first.norm())
    equal = max(terms.values()) <= LOSS_BOUND and gradient <= GRADIENT_BOUND
    return {**terms, "gradient": gradient, "equal": equal}


def forward(bench: Bench) -> None:
    """Frames a second of networks alone."""
    cases = [(name, FRAME, 8) for name in ("eomt_s", "eomt_b", "eomt_l", "pmt_s", "pmt_b", "pmt_l", PAPERS, LIGHT)]
    cases += [("eomt_l", FRAME, 1), (PAPERS, FRAME, 1), (PAPERS, LARGE, 2), ("one_peace_g", LARGE, 2)]
    if bench.quick:
        cases = [(name, (128, 128), 1) for name in TINY]
    _run_forward(bench, "forward", cases)


def graphs(bench: Bench) -> None:
    """The passes that launching kernels slows most."""
    if bench.device.type == "cuda":
        cases = [("eomt_l", FRAME, 1), (PAPERS, FRAME, 1), (PAPERS, LARGE, 2)]
        _run_forward(bench, "graphs", [("vit_adapter_tiny", (128, 128), 1)] if bench.quick else cases)


def _run_forward(bench: Bench, part: str, cases: list[Case]) -> None:
    for name, size, _ in cases:
        bench.count(name, size)
    for name, size, batch in cases:
        what = f"{name} {size[0]}x{size[1]}, {batch} at once"
        bench.attempt(part, what, partial(_forward, bench, name, size, batch, part))


def _forward(bench: Bench, name: str, size: tuple[int, int], batch: int, part: str) -> Row:
    config = config_for(name, size) | ({"compile": True} if part == "compiled" else {})
    with bench.device:
        network = build_network(config, CLASSES, load_pretrained=False).eval()
        images = torch.randn(batch, 3, *size).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def work() -> Tensor:
        with autocast(bench.device, bench.precision):
            return network(images).values

    figures: Row = {}
    first = timed(work, bench.device).clock
    if part == "compiled":
        figures["first call s"] = first
    if part == "graphs":
        graph, eager = torch.cuda.CUDAGraph(), work()
        with torch.cuda.graph(graph):
            recorded = work()
        graph.replay()
        figures["differs by"] = float((recorded - eager).abs().max())
        seconds = bench.seconds(graph.replay)
    else:
        seconds = bench.seconds(work)
    flops = batch * bench.count(name, size).result()[0]
    return {"frames/s": batch / seconds, **bench.share(flops, seconds), **bench.memory(), **figures}


def training(bench: Bench) -> None:
    """Whole steps: forward, loss, backward, clipping, AdamW."""
    cases = [
        (LIGHT, (480, 480), 16, "labels"),
        ("eomt_l", (640, 640), 4, "labels"),
        ("pmt_l", (640, 640), 4, "labels"),
        (PAPERS, LARGE, 2, "labels"),
        (PAPERS, LARGE, 1, "semi"),
        ("one_peace_g", LARGE, 1, "labels"),
    ]
    if bench.quick:
        cases = [(name, (128, 128), 1, "semi") for name in SMALL]
    _run_training(bench, "training", cases)


def _run_training(bench: Bench, part: str, cases: list[tuple[str, tuple[int, int], int, str]]) -> None:
    for name, crop, _, _ in cases:
        bench.count(name, crop)
    for name, crop, batch, kind in cases:
        others = f" and {batch} unlabelled" if kind == "semi" else ""
        what = f"{name} {crop[0]}x{crop[1]}, {batch} labelled{others}"
        bench.attempt(part, what, partial(_training, bench, name, crop, batch, kind, part))


def _training(bench: Bench, name: str, crop: tuple[int, int], batch: int, kind: str, part: str) -> Row:
    changes = {"compile": part == "compiled", "checkpointing": crop == LARGE}
    recipe = paper_recipe(name, crop, kind, precision=bench.precision, batch=batch, **changes)
    step = TrainingStep(recipe, bench.device, CLASSES)
    since = time.monotonic()
    losses = step()
    figures = {"first step s": time.monotonic() - since} if part == "compiled" else {}
    seconds = bench.seconds(step.run, repeats=min(bench.repeats, 5))
    images = 2 * batch if kind == "semi" else batch
    flops = 3 * images * bench.count(name, crop).result()[1]  # backward is twice forward; what is recomputed is no work
    rates = {"steps/s": 1 / seconds, "crops/s": images / seconds, **bench.share(flops, seconds), **bench.memory()}
    return rates | {"loss": losses["loss"], "later": step()["loss"]} | figures


def contrast(bench: Bench) -> None:
    """A step of the contrastive loss, and of published code."""
    side, queue = (16, 64) if bench.quick else (120, 4096)
    for present in (20, CLASSES):
        bench.attempt(
            "contrast",
            f"{CLASSES} classes, {present} in the batch, 4 crops of {side}x{side} cells",
            partial(_contrast, bench, present, side, queue),
        )


def _contrast(bench: Bench, present: int, side: int, queue: int) -> Row:
    settings = Contrast(queue=queue, keys=512)
    with bench.device:
        cells, teacher = scene(CLASSES, 4, side, present, settings.channels)
        full = torch.randn(queue, settings.channels)
        banks = Banks([queue] * CLASSES, settings.channels, bench.device)
        lengths = torch.full((CLASSES,), queue)
        banks.load_state_dict({"features": full.repeat(CLASSES, 1), "lengths": lengths})
        features = torch.randn_like(teacher).requires_grad_()
        lists = [full.clone() for _ in range(CLASSES)]

        def ours() -> None:
            plan = plan_step(teacher, cells, banks, settings)
            contrastive_loss(features[plan.anchors], plan, banks, settings).backward()

        def loop() -> None:
            plain_loop(features, teacher, cells, lists, settings).backward()

        seconds, looped = bench.seconds(ours), bench.seconds(loop, repeats=min(bench.repeats, 5))
    return {"ms": 1000 * seconds, "loop ms": 1000 * looped, "ratio": looped / seconds, **bench.memory()}


def prediction(bench: Bench) -> None:
    """From JPEG to store."""
    cases = [(LIGHT, 32), ("eomt_l", 8), (PAPERS, 4)]
    for name, frames in [("light", 4), ("eomt_tiny", 4)] if bench.quick else cases:
        what = f"{name}, plan paper, {frames} frames"
        bench.attempt("prediction", what, partial(_predict, bench, name, frames))


def _predict(bench: Bench, name: str, frames: int) -> Row:
    how = argparse.Namespace(
        device=str(bench.device),
        precision=bench.precision,
        classes=CLASSES,
        network=name,
        frames=frames,
        size=(48, 80) if bench.quick else (480, 853),
        short_side=None,
        plan="paper",
        grid=Encoding().grid,
        kept=Encoding().kept,
        batch_size=8,
    )
    with tempfile.TemporaryDirectory(prefix="vss-benchmark-") as folder:
        comparison = Comparison(how, Path(folder))
        comparison.whole()
        turns = []
        for _ in range(1 if bench.quick else 2):
            comparison.predictor.stopwatch = Stopwatch(bench.device)
            whole = timed(comparison.whole, bench.device).clock
            share = comparison.predictor.stopwatch.share()
            turns.append((whole, timed(comparison.bare, bench.device).clock, share))
    whole, bare, share = min(turns)
    rates = {"frames/s": frames / whole, "bare frames/s": frames / bare, "ratio": whole / bare}
    return {**rates, "network's share": share, **bench.memory()}


def compiled(bench: Bench) -> None:
    """Networks that torch compiles."""
    networks = [(name, FRAME, 8) for name in ("eomt_l", PAPERS, "eomt_b", "eomt_s")]
    _run_forward(bench, "compiled", [("eomt_tiny", (128, 128), 1)] if bench.quick else networks)
    steps = [("eomt_l", (640, 640), 4, "labels"), (PAPERS, LARGE, 2, "labels")]
    _run_training(bench, "compiled", [("eomt_tiny", (128, 128), 1, "labels")] if bench.quick else steps)


def _drawn(size: tuple[int, int]) -> np.ndarray:
    """Irregular coloured areas with noise, (H, W, 3) uint8."""
    generator = np.random.default_rng(0)
    rows, columns = (math.ceil(side / 24) for side in size)
    field = generator.integers(0, 256, (rows, columns, 3)).repeat(24, 0).repeat(24, 1)[: size[0], : size[1]]
    return (field + generator.normal(0, 8, field.shape)).clip(0, 255).astype(np.uint8)


PARTS: dict[str, Callable[[Bench], None]] = {
    part.__name__: part for part in (ceilings, equal, forward, prediction, training, contrast, graphs, compiled)
}


def main() -> None:
    """Run the parts and say whether the devices agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for all rows")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="tiny networks and sizes, for a CPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="no row begins later (default 8)")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    bench = Bench(parser.parse_args(), CLASSES)
    for name in parser.parse_args().parts:
        PARTS[name](bench)
    wrong = [row["what"] for row in bench.rows if row.get("equal") is False or "failed" in row]
    if wrong:
        raise SystemExit("not equal, or failed: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
