"""``do: train``: a network, trained by a recipe."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from vsscli.data.content import INDEX, Digests
from vsscli.errors import VssError
from vsscli.inside import Inside
from vsscli.pipeline.workspace import Begin
from vsscli.recipes.load import recipe_from_dict
from vsscli.recipes.pipeline import TrainStage
from vsscli.recipes.schema import Recipe
from vsscli.stages.key import CONTENT, Frames, content, read_out_digest
from vsscli.stages.kind import Kind, Reads, StageCost, unlike
from vsscli.stages.leaks import learned, on_disk
from vsscli.stages.record import Parts, Result
from vsscli.structured import digest_of

RUN = ("last.pt", "last.pt.shares", "best.pt", "journal.jsonl")
"""The files of a training run, and the folder of those that processes write of their shares of the weights."""

WORTH_SAYING = 0.05
"""Validation is mentioned if it is more than this share of a training's operations."""


class TrainKind(Kind[TrainStage]):
    """A network."""

    @property
    def together(self) -> bool:
        return True

    def version(self) -> int:
        section, version = self.recipe.unlabelled, 4
        if section is not None:
            # What the mean teacher is certain of follows from mask scores.
            version += self.recipe.model.masks
            # Pseudo-labels are weighted by their share of the pixels, which once left out unreliable black rows.
            weighed = section.teacher == section.split == "store" and section.contrast is None
            version += weighed and section.scale_weight
        return version

    def reads(self) -> list[Reads]:
        recipe = self.recipe
        found = [Reads("labelled", recipe.data, "labelled", True), Reads("val", recipe.data, "val", True)]
        if recipe.unlabelled is not None:
            found.append(Reads("unlabelled", recipe.data, "unlabelled", False))
        return found + [Reads(f"{o.data.name}/labelled", o.data, "labelled", True) for o in recipe.also]

    def section(self) -> Parts:
        return {"init": self.stage.init, "pseudo": self.stage.pseudo}

    def own_parts(self, frames: Frames) -> Parts:
        files = {str(path): CONTENT + frames.files.of(path) for path in weight_files(self.recipe)}
        frames.files.save()
        return {"recipe": content(self.recipe), "files": files}

    def goes_on(self, before: Parts, key: Parts) -> bool:
        # A checkpoint of an earlier version doesn't note which labels it was trained on.
        pseudo = self.stage.pseudo
        same = pseudo is None or (before.get("inputs") or {}).get(pseudo) == key["inputs"][pseudo]
        if self._knows_its_score():
            before, key = ({**part, "frames": {**(part.get("frames") or {}), "val": ""}} for part in (before, key))
        return same and super().goes_on(before, key)

    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        from vsscli.pipeline.train import train

        init, pseudo = self._taken(results)
        run = train(
            self.recipe,
            self.folder,
            context=replace(self.job.context, data_root=self.job.root(self.recipe.data)),
            init=init,
            pseudo_labels=pseudo,
            resume=True,
            checked=self.job.checked,
        )
        facts = {"steps": run.trained_steps, "best": run.best.name, **run.figures}
        return Result(run.last, _fingerprint(run.last), facts)

    def is_begun(self) -> bool:
        return (self.folder / "last.pt").exists()

    def is_other(self, results: Mapping[str, Result]) -> bool:
        from vsscli.training.begun import begun_run
        from vsscli.training.inputs import data_inputs, training_inputs
        from vsscli.training.sources import open_sources

        if not self.is_begun():
            return False
        with Digests(self.job.workspace / INDEX) as digests:
            data = data_inputs(open_sources(self.recipe, self.job.root(self.recipe.data)), digests)
        try:
            inputs = {**training_inputs(self.recipe, *self._taken(results)), **data}
            return begun_run(self.folder, self.recipe, inputs) is False
        except VssError:
            return True  # a checkpoint that can't be read can't be continued

    def discard(self, stores: Iterable[Path]) -> None:
        for file in RUN:
            Inside(self.job.workspace).remove(self.folder / file)

    def fault(self, result: Result) -> str:
        return unlike(result, _fingerprint)

    def cost(self, frames: Frames) -> StageCost:
        from vsscli.inference.plans import NONE
        from vsscli.stages.cost import extent_of, frame_flops, network_of

        recipe = self.recipe
        settings, unlabelled, crop = recipe.train, recipe.unlabelled, recipe.augment.crop
        labelled_crops = settings.batch_size * settings.accumulate
        other_crops = unlabelled.batch_size * settings.accumulate if unlabelled is not None else 0
        views = 2 if unlabelled is not None and unlabelled.method == "unimatch" else 1  # of an unlabelled crop
        crops = settings.steps * (labelled_crops + views * other_crops)
        clip = f"clips of {recipe.model.frames} " if recipe.model.frames > 1 else ""
        each = f"{labelled_crops + views * other_crops} {clip}crops of {crop[0]}x{crop[1]}"
        work = f"{settings.steps} steps x {each}, forward and backward"
        network, notes = network_of(self)
        if network is None:
            return StageCost(work, crops, None, 0.0, notes)
        asked = 0  # crops that the mean teacher predicts too
        if unlabelled is not None and (unlabelled.contrast is not None or unlabelled.teacher == "ema"):
            asked = settings.steps * (other_crops + (labelled_crops if unlabelled.contrast is not None else 0))
        shared = asked if network.shares and views == 1 else 0  # of them, those that the student sees unchanged
        if unlabelled is not None and unlabelled.teacher == "ema" and unlabelled.mixing != "none" and views == 1:
            asked += round(settings.steps * other_crops * unlabelled.mixing_share)  # labelled before they are mixed
        val = extent_of(self, "val", frames)
        every = settings.validate_every
        times = math.ceil(settings.steps / every) if every else int(recipe.validated)
        notes = tuple(f"validation not counted: {note}" for note in val.notes if times)
        try:
            forward, frozen = network.training(crop)
            # Backward is twice forward: a gradient of the input and one of the weights; with checkpointing forward
            # comes twice. Through a frozen trunk leads no way back.
            again = 3 if recipe.model.recomputes else 2
            flops = float(crops * (forward + again * (forward - frozen)))
            flops += asked * recipe.model.frames * network.flops(crop) - shared * frozen if asked else 0
            if val.frames is not None and times:
                counted = min(val.frames, settings.validate_frames or val.frames)
                checked = times * counted * frame_flops(network, recipe, NONE, val.size)
                flops += checked
                if checked > WORTH_SAYING * flops:
                    what, are = ("the last validation", "is") if times == 1 else (f"its {times} validations", "are")
                    notes += (f"{what} of {counted} frames {are} {checked / flops:.0%} of the operations",)
        except (VssError, RuntimeError, ValueError) as error:
            return StageCost(work, crops, None, 0.0, (f"crops of {crop[0]}x{crop[1]} do not fit the network: {error}",))
        return StageCost(work, crops, flops, 0.0, notes)

    def lacks(self) -> Iterator[str]:
        where = self.recipe.model.published
        for path in weight_files(self.recipe):
            if not path.is_file():
                yield f"no such file {path}{f': {where}' if where else ''}"

    def leaks(self) -> Iterator[str]:
        held, data = self.job.pipeline.holdout, self.recipe.data
        if held is not None and self.job.predicts(data) and on_disk(data, held) & learned(self.job, self.recipe, data):
            yield f"stages.{self.name}: trains on {held!r}, which the pipeline holds out"

    def _knows_its_score(self) -> bool:
        """Whether the checkpoint notes what its figures are of: then training scores it again if that changes."""
        from vsscli.models.checkpoints import load_checkpoint
        from vsscli.training.inputs import SCORED

        try:
            return SCORED in load_checkpoint(self.folder / "last.pt", weights=False).inputs
        except VssError:
            return False

    def _taken(self, results: Mapping[str, Result]) -> tuple[Path | None, Path | None]:
        """Its initial checkpoint and its pseudo-labels."""
        init, pseudo = (None if one is None else results[one].path for one in (self.stage.init, self.stage.pseudo))
        return init, pseudo


def weight_files(recipe: Recipe) -> list[Path]:
    """The files of weights that a recipe names."""
    named = [recipe.train.init, recipe.model.weights[1] if recipe.model.weights else None]
    return [Path(os.path.expanduser(path)) for path in named if path is not None]


def _fingerprint(path: Path) -> str:
    """Fingerprint of a checkpoint's weights, and of what its recipe says about predicting."""
    from vsscli.models.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(path, weights=False)
    recipe = recipe_from_dict(checkpoint.recipe, f"the recipe inside {path}")
    return digest_of({"weights": checkpoint.fingerprint, "read out": read_out_digest(recipe)})
