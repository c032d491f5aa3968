"""The cost of a prediction compared with its bare forward passes.

    python tests/benchmarks/inference.py --frames 16 --repeats 5

Draws a video of JPEG files into a temporary folder and, in turns, (1) predicts it into a store with the paper's eight
scales and flip: read, resize, normalise, forward, softmax, average, enlarge, label, entropy, most likely classes,
quantise, compress, sync; and (2) passes the same batches, already normalised in memory in the same layout, through the
same network and drops the result. The network is a light one with random weights, in the same process, with the same
number of threads. Prints both times and their ratio, the median of the rounds' ratios; `--parts` adds the cost of each
part alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vsscli.data.classes import ClassTable
from vsscli.data.videos import FolderVideo, Frame
from vsscli.inference.devices import autocast, resolve_device
from vsscli.inference.encode import encode_frame
from vsscli.inference.plans import load_plan
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.inference.run import predict_videos
from vsscli.models.build import build_network
from vsscli.models.catalogue import find_listed
from vsscli.models.network import Network
from vsscli.store.header import Encoding, Header
from vsscli.store.writer import StoreWriter


def draw_video(root: Path, frames: int, size: tuple[int, int]) -> FolderVideo:
    """Irregular coloured areas, panned, with the noise of a camera, as JPEG files."""
    generator = np.random.default_rng(0)
    height, width = size
    field = Image.fromarray(generator.integers(0, 256, (9, 14, 3), np.uint8))
    large = np.asarray(field.resize((width + 4 * frames, height), Image.Resampling.BICUBIC), np.float32)
    drawn = []
    for number in range(frames):
        image = large[:, 4 * number : 4 * number + width] + generator.normal(0, 6, (height, width, 3))
        path = root / f"{number:05d}.jpg"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        drawn.append(Frame("video", path.stem, path))
    return FolderVideo("video", tuple(drawn))


def random_network(name: str, classes: int) -> Network:
    """A named network, random weights. The last layer of the light one is enlarged so that distributions are neither
    flat nor sure."""
    torch.manual_seed(0)
    config = find_listed(name).config(pretrained="none")
    network = build_network(config, classes, load_pretrained=False).eval()
    if name == "light":
        last = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
        nn.init.normal_(last.weight, std=0.5)
    return network


def header_for(classes: int, encoding: Encoding) -> Header:
    """The header of a store that is thrown away."""
    names = tuple(f"class {index}" for index in range(classes))
    table = ClassTable("benchmark", names, tuple((index, index, index) for index in range(classes)))
    return Header("prediction", table, "logits", {}, encoding.to_dict())


@contextmanager
def kept_inputs(network: Network) -> Iterator[list[Tensor]]:
    """A list to which every batch that goes through the network is added."""
    batches: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> None:
        batches.append(inputs[0].clone())

    handle = network.register_forward_pre_hook(keep)
    try:
        yield batches
    finally:
        handle.remove()


@dataclass(frozen=True)
class Spent:
    """What a call cost: seconds on the clock, and seconds of processor in all threads."""

    clock: float
    processor: float


def timed(work: Callable[[], object], device: torch.device) -> Spent:
    """What a call costs, until the device is done."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Spent(time.perf_counter() - clock, time.process_time() - processor)


class Comparison:
    """A predictor and a video, and the two ways to run one over the other."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.folder = folder
        self.device = resolve_device(arguments.device)
        self.precision = arguments.precision
        self.encoding = Encoding(arguments.grid, arguments.kept)
        self.classes = arguments.classes
        plan = load_plan(arguments.plan)
        network = random_network(arguments.network, arguments.classes)
        how = ReadOut(arguments.short_side, None, None, plan, arguments.precision)
        self.predictor = Predictor(network, network.normalisation, how, self.device, arguments.batch_size)
        self.video = draw_video(folder, arguments.frames, tuple(arguments.size))
        self.batches: list[Tensor] = []
        # One part of a segment is enough: the others are of the same shapes.
        self.part = self.predictor.frames_at_once(self.video.size)
        with kept_inputs(self.predictor.network) as batches:
            self.predictor.maps([self.video.read(index % len(self.video)) for index in range(self.part)])
        self.batches = batches
        self.number = 0

    def whole(self) -> None:
        """Predict the video into a new store."""
        self.number += 1
        path = self.folder / f"{self.number}.zarr"
        with StoreWriter(path, header_for(self.classes, self.encoding)) as writer:
            predict_videos(self.predictor, [self.video], [writer])

    @torch.inference_mode()
    def bare(self) -> None:
        """The forward passes of as many frames."""
        for _ in range(len(self.video) // self.part):
            for batch in self.batches:
                with autocast(self.device, self.precision):
                    self.predictor.network(batch)

    def parts(self, repeats: int) -> dict[str, float]:
        """Milliseconds per frame of what surrounds the network, each part alone."""
        images = [self.video.read(index) for index in range(len(self.video))]
        maps = [views for image in images for views in self.predictor.maps([image])]
        frames = [{name: array.cpu().numpy() for name, array in encode_frame(v, self.encoding).items()} for v in maps]
        arrays = {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}

        def write() -> None:
            self.number += 1
            with StoreWriter(self.folder / f"{self.number}.zarr", header_for(self.classes, self.encoding)) as writer:
                (segment,) = writer.pending("video", self.video.stems, self.video.size)
                writer.write("video", segment, arrays)

        works: dict[str, Callable[[], object]] = {
            "read": lambda: list(self.video.images()),
            "encode": lambda: [encode_frame(views, self.encoding) for views in maps],
            "write": write,
        }
        each = 1000 / len(self.video)
        return {
            name: each * statistics.median(timed(work, self.device).clock for _ in range(repeats))
            for name, work in works.items()
        }


def main() -> None:
    """Run both ways in turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="light", help="named as in `vss model ls` (default light)")
    parser.add_argument("--frames", type=int, default=16, help="of the video, whole batches (default 16)")
    parser.add_argument("--repeats", type=int, default=5, help="turns (default 5)")
    parser.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("H", "W"), help="(default 360 480)")
    parser.add_argument("--short-side", type=int, help="test size (default: the frame's own)")
    parser.add_argument("--classes", type=int, default=11, help="(default 11)")
    parser.add_argument("--plan", default="paper", help="augmentation plan (default paper: 16 views)")
    parser.add_argument("--grid", type=int, default=1, help="stride of the score grid (default 1)")
    parser.add_argument("--kept", type=int, default=8, help="classes kept (default 8)")
    parser.add_argument("--batch-size", type=int, default=8, help="views at a time (default 8)")
    parser.add_argument("--precision", default="32", choices=("32", "bf16", "16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--parts", action="store_true", help="also what reading, encoding and writing cost alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vss-benchmark-") as folder:
        comparison = Comparison(arguments, Path(folder))
        if len(comparison.video) % comparison.part:
            parser.error(f"--frames must be a multiple of {comparison.part}, the frames that are predicted together")
        comparison.whole()
        comparison.bare()
        turns = [
            (timed(comparison.whole, comparison.device), timed(comparison.bare, comparison.device))
            for _ in range(arguments.repeats)
        ]
        parts = comparison.parts(arguments.repeats) if arguments.parts else {}
    ratio = statistics.median(whole.clock / bare.clock for whole, bare in turns)
    processor = statistics.median(whole.processor / bare.processor for whole, bare in turns)
    each = 1000 / arguments.frames
    milliseconds = {
        "whole": each * statistics.median(whole.clock for whole, _ in turns),
        "bare": each * statistics.median(bare.clock for _, bare in turns),
    }
    machine = {
        "device": arguments.device,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }
    if arguments.json:
        figures = {"ratio": ratio, "ratio_of_processor": processor, "milliseconds": milliseconds, "parts": parts}
        turned = [{"whole": asdict(whole), "bare": asdict(bare)} for whole, bare in turns]
        print(json.dumps({"machine": machine, "arguments": vars(arguments), **figures, "turns": turned}))
        return
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    views = len(load_plan(arguments.plan).views())
    print(
        f"{arguments.frames} frames of {arguments.size[0]}x{arguments.size[1]}, {arguments.classes} classes, "
        f"{views} views, precision {arguments.precision}; milliseconds per frame"
    )
    print(f"  whole prediction     {milliseconds['whole']:8.1f}")
    print(f"  bare forward passes  {milliseconds['bare']:8.1f}")
    print(f"  ratio                {ratio:8.3f}   (of processor time {processor:.3f})")
    print(f"  ratios of the turns  {', '.join(f'{whole.clock / bare.clock:.3f}' for whole, bare in turns)}")
    for name, spent in parts.items():
        print(f"  {name:20} {spent:8.1f}   alone")


if __name__ == "__main__":
    main()
