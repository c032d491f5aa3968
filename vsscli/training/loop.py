"""The loop: fetch, step, record, validate, save, until the last step."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from vsscli.data.batches import TrainItems
from vsscli.data.layouts import Dataset
from vsscli.data.loader import LostLoader, training_loader
from vsscli.data.samples import Crops
from vsscli.errors import VssError
from vsscli.inference.transfer import Stopwatch
from vsscli.models.checkpoints import load_checkpoint, restore_network, save_checkpoint
from vsscli.models.frozen import learning_state, load_learning
from vsscli.recipes.schema import Recipe
from vsscli.talk import Talk
from vsscli.training.journal import Journal
from vsscli.training.objectives.table import Losses
from vsscli.training.sharding import is_sharding, whole_weights
from vsscli.training.state import TrainingState, is_finite, save_state
from vsscli.training.step import Stepper
from vsscli.training.stop import StopRequest
from vsscli.training.validation import validate

BALANCE_EVERY = 10
"""Lines of the journal between two that measure how the terms of the loss are balanced."""


class Loop:
    """Runs a training from its state's step to the last; writes ``last.pt``, ``best.pt`` and the journal.

    Only the first of several processes has a journal.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        dataset: Dataset,
        state: TrainingState,
        out: Path,
        journal: Journal | None,
        talk: Talk,
    ) -> None:
        self.fabric, self.recipe, self.dataset, self.state, self.talk = fabric, recipe, dataset, state, talk
        self.last, self.best = out / "last.pt", out / "best.pt"
        self.leader = fabric.is_global_zero
        self._kept = state.step  # the step of ``last.pt``; 0 if there is none yet
        self._journal = journal

    def run(self, items: TrainItems, unlabelled: TrainItems | None) -> None:
        """Train to the last step, or until asked to stop."""
        settings, state = self.recipe.train, self.state
        stepper = Stepper(self.fabric, self.recipe, state)
        state.learner.train()
        waited, since, counted, stopwatch = 0.0, time.perf_counter(), 0, Stopwatch(self.fabric.device)
        with (
            StopRequest(self.talk) as request,
            self._loaders_may_die(),
            self.talk.track(self.recipe.name, settings.steps, "step") as done,
            # Always closed: an error's traceback would keep it and its loaders alive until the process ends.
            closing(self._batches(items, unlabelled)) as batches,
        ):
            done(state.step)
            if state.outdated:
                self._score_best_anew()
            # The run was interrupted during validation, or its figures are of other masks.
            if state.step and self._is_validated() and not state.figures:
                self._validate_and_save()
            while state.step < settings.steps:
                before = time.perf_counter()
                fetched = [next(batches) for _ in range(settings.accumulate)]
                waited += time.perf_counter() - before
                with stopwatch.running():
                    losses, rate = stepper.step(fetched, measure=self._measures(state.step + 1))
                counted += 1
                done(1)
                ended = state.step == settings.steps
                stop = False
                if ended or state.step % settings.log_every == 0 or self.fabric.world_size == 1:
                    stop = self._agree(request.number is not None)
                if ended or state.step % settings.log_every == 0:
                    figures = self._figures(losses)  # waits for the device, and the steps' time ends there
                    elapsed = time.perf_counter() - since
                    times = {"data_time": waited / counted, "step_time": elapsed / counted}
                    self._record({**figures, "lr": rate, **times, "network_share": stopwatch.seconds() / elapsed})
                    waited, since, counted, stopwatch = 0.0, time.perf_counter(), 0, Stopwatch(self.fabric.device)
                if self._is_validated():
                    before = time.perf_counter()
                    self._require_finite()
                    # No steps are lost whatever happens during validation. A checkpoint without figures, at a step that
                    # is validated, means that validation is still to come.
                    state.figures = {}
                    self._save()
                    self._validate_and_save()
                    since += time.perf_counter() - before
                elif ended or stop or state.step % settings.checkpoint_every == 0:
                    self._require_finite()
                    self._save()
                if ended:  # a signal during the long validation counts too
                    stop = self._agree(request.number is not None)
                if stop:
                    request.obey()
        self.fabric.barrier()

    @contextmanager
    def _loaders_may_die(self) -> Iterator[None]:
        """Say what the run continues from if a loader process dies."""
        try:
            yield
        except LostLoader as lost:
            if self._kept:
                lost.hint = f"{lost.hint}; {self.last} is of step {self._kept}: --resume continues from there"
            raise

    def _measures(self, step: int) -> bool:
        """Whether gradients are compared at this step: at the first line of the journal, every tenth, and the last."""
        settings = self.recipe.train
        return step in (settings.log_every, settings.steps) or step % (BALANCE_EVERY * settings.log_every) == 0

    def _batches(self, items: TrainItems, unlabelled: TrainItems | None) -> Generator[tuple[Crops, Crops | None]]:
        labelled = self._loaded(items, self.recipe.train.batch_size, stream=0)
        if unlabelled is None or self.recipe.unlabelled is None:
            yield from ((batch, None) for batch in labelled)
        else:
            yield from zip(labelled, self._loaded(unlabelled, self.recipe.unlabelled.batch_size, stream=1), strict=True)

    def _loaded(self, items: TrainItems, batch_size: int, stream: int) -> Iterator[Crops]:
        settings, device = self.recipe.train, self.fabric.device
        loader = training_loader(
            items,
            batch_size=batch_size,
            # Labelled and unlabelled crops draw from separate random streams.
            seed=self.recipe.seed * 2 + stream,
            start=self.state.step * settings.accumulate,
            steps=settings.steps * settings.accumulate,
            workers=settings.workers,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            pin=device.type == "cuda",
        )
        for crops in loader:
            yield crops.to(device)

    def _figures(self, losses: Losses) -> dict[str, float]:
        """The figures of a step, means over all processes; waits for the device."""
        values = {}
        for name, figure in losses.figures.items():
            mean = self.fabric.all_reduce(figure, reduce_op="mean")
            assert isinstance(mean, Tensor)
            values[name] = float(mean)
        return values

    def _record(self, values: dict[str, float]) -> None:
        if not math.isfinite(values["loss"]):
            raise self._diverged(f"the loss is {values['loss']}")
        if self._journal is not None:
            self._journal.record(self.state.step, values)

    def _require_finite(self) -> None:
        """Refuse to validate or keep weights that are not finite, however long ago the loss was checked.

        This waits for the device, so it is called only before something that waits anyway.
        """
        if self._agree(not is_finite(self.state)):
            raise self._diverged("weights or statistics of the network are infinite or NaN")

    def _diverged(self, what: str) -> VssError:
        kept = f"last.pt is of step {self._kept}, before that" if self._kept else "there is no checkpoint yet"
        return VssError(
            f"{what} at step {self.state.step}", f"lower train.lr, set train.clip, or train.precision: '32'; {kept}"
        )

    def _is_validated(self) -> bool:
        """Whether the current step is validated."""
        every, step = self.recipe.train.validate_every, self.state.step
        due = step == self.recipe.train.steps or bool(every and step % every == 0)
        return due and self.recipe.validated

    def _validate_and_save(self) -> None:
        """Validate, keep the best weights, and save with the figures."""
        state, network = self.state, self.state.network
        raw = None
        if state.average is not None:
            raw = {name: tensor.clone() for name, tensor in learning_state(network).items()}
            load_learning(network, state.average.weights)
        network.eval()
        with whole_weights(state.learner):
            state.figures = validate(network, self.dataset, self.recipe, self.fabric)
        network.train()
        if raw is not None:
            load_learning(network, raw)
        figures = (f"{name} {value:.4f}" for name, value in state.figures.items() if value is not None)
        self.talk.say(f"step {state.step}: {', '.join(figures)}")
        miou = state.figures.get("miou")
        if miou is not None and miou > state.best:
            state.best = miou
            self._write(self.best, resumable=False)
        self._save()
        if self._journal is not None:
            self._journal.record(state.step, state.figures)

    def _score_best_anew(self) -> None:
        """Discard figures of masks that have changed, and validate the best weights so far on the current ones."""
        state = self.state
        self.talk.warn(f"{state.outdated} since {self.last} was validated: it is validated again")
        state.figures, state.best, state.outdated = {}, -1.0, ""
        if not self.best.exists():
            return
        best = load_checkpoint(self.best)
        network = restore_network(best).to(self.fabric.device)
        figures = validate(network, self.dataset, self.recipe, self.fabric)
        state.best = figures.get("miou") or -1.0
        if self.leader:
            save_checkpoint(self.best, replace(best, figures=figures, inputs=state.inputs))

    def _save(self) -> None:
        # While the run is under way no process gathers what all share out; at the end it is one file.
        shared = is_sharding(self.fabric) and self.fabric.world_size > 1 and self.state.step < self.recipe.train.steps
        self._write(self.last, resumable=True, shared=shared)
        self._kept = self.state.step

    def _write(self, path: Path, *, resumable: bool, shared: bool = False) -> None:
        table = self.dataset.table
        save_state(path, self.state, self.recipe, table, self.fabric, resumable=resumable, shared=shared)

    def _agree(self, stop: bool) -> bool:
        """Whether any process has to stop: all must stop at the same step."""
        if self.fabric.world_size == 1:
            return stop
        asked = self.fabric.all_reduce(torch.tensor(float(stop), device=self.fabric.device), reduce_op="sum")
        assert isinstance(asked, Tensor)
        return bool(asked > 0)
