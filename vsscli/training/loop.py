"""Train a network from a recipe: one function, from data to checkpoints."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from torch import Tensor

from vsscli.data.augment import TrainAugment
from vsscli.data.batches import LabelledFrames, TrainItems, training_loader
from vsscli.data.check import check_once
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.checkpoints import load_checkpoint, load_weights
from vsscli.models.network import Network
from vsscli.models.norm import convert_sync
from vsscli.recipes.schema import Recipe
from vsscli.store.header import read_header
from vsscli.talk import SILENCE, Silence, Talk
from vsscli.training.averaging import AveragedWeights
from vsscli.training.journal import Journal
from vsscli.training.optimiser import build_optimiser, set_learning_rate
from vsscli.training.pseudo import open_pseudo_labels, pseudo_label_path
from vsscli.training.schedule import learning_rate_factor
from vsscli.training.state import TrainingState, load_state, other_run, save_state
from vsscli.training.step import Batch, StepLoss, average_over_processes
from vsscli.training.validation import validate


@dataclass(frozen=True)
class TrainResult:
    """Where a run left its checkpoints, and its figures on the evaluation split."""

    last: Path
    best: Path
    figures: dict[str, float | None]
    trained_steps: int


def train(
    recipe: Recipe,
    out: Path,
    *,
    data_root: Path | None = None,
    pseudo_labels: Path | None = None,
    init: Path | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    devices: int = 1,
    check: bool = True,
    talk: Talk = SILENCE,
) -> TrainResult:
    """Train a network and leave ``last.pt``, ``best.pt`` and ``journal.jsonl`` in a folder.

    The same recipe, seed, thread count and number of processes give the same weights bit for bit on the CPU, also
    when the run was killed and resumed in between: every random number follows from seed and step.

    Parameters
    ----------
    recipe
        What to train on what, and how.
    out
        Folder of the run.
    data_root, pseudo_labels, init
        Override the recipe's data root, pseudo-label store and initial checkpoint.
    resume
        Continue from ``last.pt`` in the folder.
    force
        Start anew where a run of this name exists.
    device, devices
        "auto", "cpu" or "cuda", and how many processes; more than one train with DDP.
    check
        Look at every file of the training data before the first step.

    Raises
    ------
    VssError
        The data is missing or damaged, the folder holds another run, or there is nothing to learn from.
    """
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision={"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[recipe.train.precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    if not fabric.is_global_zero:
        talk = Silence()
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    last, best = out / "last.pt", out / "best.pt"
    init = init or (Path(recipe.train.init) if recipe.train.init else None)
    inputs = training_inputs(recipe, init, pseudo_labels)
    finished = finished_run(out, recipe, inputs) if not force else None
    if finished is None and last.exists() and not (force or resume):
        checkpoint = load_checkpoint(last, weights=False)
        raise VssError(
            f"{out} holds a run of {checkpoint.recipe.get('name')!r}, {checkpoint.step} steps long",
            "--resume continues it, --force starts anew in its place, --out FOLDER puts the new run elsewhere",
        )
    fabric.barrier()  # every process has looked before one of them writes
    if finished is not None:
        talk.say(f"cached: {last} is finished ({finished.trained_steps} steps); --force trains it again")
        return finished

    dataset = open_dataset(recipe.data, data_root, talk)
    labelled = dataset.split("labelled")
    if check and fabric.is_global_zero:
        record = out / "checked.json"
        check_once(labelled, dataset.table, dataset.ids, masks=True, record=record, talk=talk)
    augment = TrainAugment(recipe.augment)
    items = TrainItems(LabelledFrames(labelled, dataset.ids, dataset.table.num_classes), augment)
    pseudo_frames = open_pseudo_labels(recipe, dataset, pseudo_labels)
    unlabelled = TrainItems(pseudo_frames, augment) if pseudo_frames is not None else None
    torch.manual_seed(recipe.seed)
    network = _initial_network(recipe, dataset, init, fresh=not (resume and last.exists()), talk=talk)
    if fabric.world_size > 1:
        convert_sync(network, world=fabric.world_size, device=fabric.device)
    network.to(fabric.device).to(memory_format=torch.channels_last)
    optimiser = build_optimiser(network, recipe.train)
    average = AveragedWeights(network, recipe.train.ema) if recipe.train.ema else None
    state = TrainingState(network, optimiser, average, inputs)
    if resume and last.exists():
        load_state(last, state, recipe)
        talk.say(f"continuing {last} at step {state.step} of {recipe.train.steps}")
    talk.say(
        f"training {recipe.name}: {len(items)} labelled frames"
        + (f", {len(unlabelled)} with pseudo-labels" if unlabelled is not None else "")
        + f", {recipe.train.steps} steps on {fabric.world_size} x {fabric.device.type}"
    )
    run = _Run(fabric, recipe, dataset, state, last, best, talk)
    run.go(items, unlabelled)
    return TrainResult(last, best, state.figures, state.step)


def training_inputs(recipe: Recipe, init: Path | None, pseudo_labels: Path | None) -> dict[str, str]:
    """Fingerprints of what goes into a run beside recipe and data: its first weights, its pseudo-labels."""
    inputs = {}
    init = init or (Path(recipe.train.init) if recipe.train.init else None)
    if init is not None:
        inputs["init"] = load_checkpoint(init, weights=False).fingerprint
    path = pseudo_label_path(recipe, pseudo_labels)
    if path is not None:
        inputs["pseudo_labels"] = read_header(path).fingerprint
    return inputs


def finished_run(out: Path, recipe: Recipe, inputs: dict[str, str]) -> TrainResult | None:
    """The run in a folder, if it is a finished one of this recipe and these inputs."""
    if not begun_run(out, recipe, inputs):
        return None
    checkpoint = load_checkpoint(out / "last.pt", weights=False)
    if checkpoint.step < recipe.train.steps:
        return None
    return TrainResult(out / "last.pt", out / "best.pt", checkpoint.figures, checkpoint.step)


def begun_run(out: Path, recipe: Recipe, inputs: dict[str, str]) -> bool | None:
    """Whether the run in a folder is of this recipe and these inputs; None where there is no run."""
    if not (out / "last.pt").exists():
        return None
    return not other_run(load_checkpoint(out / "last.pt", weights=False), recipe, inputs)


def _initial_network(recipe: Recipe, dataset: Dataset, init: Path | None, *, fresh: bool, talk: Talk) -> Network:
    config = recipe.model.model_dump(mode="json")
    network = build_network(config, dataset.table.num_classes, load_pretrained=fresh and init is None, talk=talk)
    if fresh and init is not None:
        checkpoint = load_checkpoint(init)
        if checkpoint.table != dataset.table:
            raise VssError(
                f"{init} knows the classes of {checkpoint.table.name!r}, the recipe those of {dataset.table.name!r}",
                "start from a checkpoint of the same class table",
            )
        load_weights(network, checkpoint)
        talk.say(f"starting from {init} (step {checkpoint.step})")
    return network


class _Run:
    """The loop itself, from the state's step to the last."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        dataset: Dataset,
        state: TrainingState,
        last: Path,
        best: Path,
        talk: Talk,
    ) -> None:
        self.fabric, self.recipe, self.dataset, self.talk = fabric, recipe, dataset, talk
        self.state, self.last, self.best = state, last, best
        self.leader = fabric.is_global_zero

    def go(self, items: TrainItems, unlabelled: TrainItems | None) -> None:
        fabric, settings, state = self.fabric, self.recipe.train, self.state
        module, optimiser = fabric.setup(state.network, state.optimiser)
        weight = self.recipe.unlabelled.weight if self.recipe.unlabelled else 0.0
        step_loss = StepLoss(state.network.normalisation, weight)
        labelled_batches = self._batches(items, settings.batch_size, stream=0)
        unlabelled_batches = None
        if unlabelled is not None and self.recipe.unlabelled is not None:
            unlabelled_batches = self._batches(unlabelled, self.recipe.unlabelled.batch_size, stream=1)
        journal = Journal(self.last.parent / "journal.jsonl", state.step) if self.leader else None
        state.network.train()
        waited, since, counted = 0.0, time.perf_counter(), 0
        with _StopRequest() as request, self.talk.track(self.recipe.name, settings.steps, "step") as done:
            done(state.step)
            while state.step < settings.steps:
                # What is random in the step (dropout, drop path) follows from its number, so that a resumed run
                # draws what an undisturbed one draws.
                torch.manual_seed(hash((self.recipe.seed, state.step, fabric.global_rank)) % 2**63)
                factor = learning_rate_factor(
                    state.step, steps=settings.steps, warmup=settings.warmup, power=settings.power
                )
                rate = set_learning_rate(state.optimiser, factor)
                for part in range(settings.accumulate):
                    before = time.perf_counter()
                    labelled_batch = self._next(labelled_batches)
                    unlabelled_batch = self._next(unlabelled_batches) if unlabelled_batches is not None else None
                    waited += time.perf_counter() - before
                    with fabric.no_backward_sync(module, enabled=part < settings.accumulate - 1):
                        losses = step_loss(module, labelled_batch, unlabelled_batch)
                        fabric.backward(losses.total / settings.accumulate)
                if settings.clip:
                    fabric.clip_gradients(module, optimiser, max_norm=settings.clip)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                state.step += 1
                counted += 1
                if state.average is not None:
                    state.average.update(state.network, state.step)
                if state.step % settings.log_every == 0 or state.step == settings.steps:
                    figures = {"loss": losses.total, "loss_supervised": losses.supervised}
                    if losses.unsupervised is not None:
                        figures["loss_unsupervised"] = losses.unsupervised
                    values = {name: average_over_processes(fabric, loss) for name, loss in figures.items()}
                    if not all(map(torch.isfinite, map(torch.tensor, values.values()))):
                        raise VssError(
                            f"the loss is {values['loss']} at step {state.step}",
                            "lower train.lr, set train.clip, or train.precision: '32'; last.pt is from before",
                        )
                    elapsed = time.perf_counter() - since
                    if journal is not None:
                        times = {"data_time": waited / counted, "step_time": elapsed / counted}
                        journal.record(state.step, {**values, "lr": rate, **times})
                    waited, since, counted = 0.0, time.perf_counter(), 0
                done(1)
                stop = self._agree(request.number is not None)
                ended = state.step == settings.steps
                if ended or (settings.validate_every and state.step % settings.validate_every == 0):
                    self._validate(journal)
                    since = time.perf_counter()
                if ended or stop or state.step % settings.checkpoint_every == 0:
                    self._save()
                if stop and not ended:
                    request.obey()
        if journal is not None:
            journal.close()
        fabric.barrier()

    def _batches(self, items: TrainItems, batch_size: int, stream: int) -> Iterator[tuple[Tensor, Tensor]]:
        settings = self.recipe.train
        loader = training_loader(
            items,
            batch_size=batch_size,
            # Labelled and unlabelled crops draw from streams of their own.
            seed=self.recipe.seed * 2 + stream,
            start=self.state.step * settings.accumulate,
            steps=settings.steps * settings.accumulate,
            workers=settings.workers,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            pin=self.fabric.device.type == "cuda",
        )
        return iter(loader)

    def _next(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Batch:
        images, labels = next(batches)
        device = self.fabric.device
        return Batch(images.to(device, non_blocking=True), labels.to(device, non_blocking=True))

    def _validate(self, journal: Journal | None) -> None:
        """Score the evaluation split, keep the best weights."""
        state, network = self.state, self.state.network
        raw = None
        if state.average is not None:
            raw = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            network.load_state_dict(state.average.weights)
        network.eval()
        state.figures = validate(network, self.dataset, self.recipe, self.fabric)
        network.train()
        if raw is not None:
            network.load_state_dict(raw)
        if journal is not None:
            journal.record(state.step, state.figures)
        miou = state.figures["miou"]
        figures = (f"{name} {value:.4f}" for name, value in state.figures.items() if value is not None)
        self.talk.say(f"step {state.step}: {', '.join(figures)}")
        if miou is not None and miou > state.best:
            state.best = miou
            if self.leader:
                save_state(self.best, state, self.recipe, self.dataset.table, resumable=False)

    def _save(self) -> None:
        if self.leader:
            save_state(self.last, self.state, self.recipe, self.dataset.table, resumable=True)

    def _agree(self, stop: bool) -> bool:
        """Whether any process was asked to stop: all must leave at the same step."""
        if self.fabric.world_size == 1:
            return stop
        asked = self.fabric.all_reduce(torch.tensor(float(stop), device=self.fabric.device), reduce_op="sum")
        assert isinstance(asked, Tensor)
        return bool(asked > 0)


class _StopRequest:
    """Lets a first Ctrl-C or SIGTERM end the step in hand, so that a checkpoint of it can be written.

    A second one is immediate. Leaving the block hands the signal on to whoever handled it before.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _StopRequest:
        if threading.current_thread() is threading.main_thread():  # signals belong to the main thread
            self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def obey(self) -> NoReturn:
        """Stop as asked, now that the step is saved; another process may have been asked instead of this one."""
        self._restore()
        if self.number is not None:
            signal.raise_signal(self.number)
        raise KeyboardInterrupt

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            self.obey()
        self.number = number
