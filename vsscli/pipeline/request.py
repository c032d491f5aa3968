"""What is asked of a model: to predict a split, in a way, into a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.videos import FolderVideo
from vsscli.inference.plans import NONE, AugmentationPlan, load_plan
from vsscli.inference.readout import ReadOut
from vsscli.inference.windows import chosen_window
from vsscli.models.checkpoints import Checkpoint
from vsscli.models.config import NetworkConfig
from vsscli.models.scores import ScoreKind
from vsscli.pipeline.learned import learned_note
from vsscli.pipeline.source import open_model, take_classes
from vsscli.pipeline.workspace import store_path
from vsscli.recipes.load import recipe_from_dict
from vsscli.recipes.readout import Predict, StoreSection
from vsscli.recipes.schema import Recipe
from vsscli.store.header import COMPACT, FAMILY, FINE, Encoding, Header
from vsscli.talk import Talk

# Raised only if a change of the code alters predictions, so that old stores are not continued with new numbers.
NUMERICS = 2


@dataclass(frozen=True)
class Look:
    """How a network looks at frames, and what is kept of its C classes.

    ``sees`` is as for `vsscli.models.config.NetworkConfig`.
    """

    sees: dict[str, Any] | None
    how: ReadOut
    encoding: Encoding
    classes: int

    def joins(self, other: Look) -> bool:
        """Whether networks that look so predict together, if they are over one frozen trunk."""
        return self.sees is not None and self == other


def look_of(
    config: NetworkConfig,
    recipe: Recipe,
    classes: int,
    plan: AugmentationPlan,
    *,
    precision: str | None,
    keep: str | None,
) -> Look:
    """How a network of a recipe looks at frames; ``precision`` and ``keep``, if given, override the recipe's."""
    how = read_out(recipe.predict, plan, precision, config)
    return Look(config.sees, how, _encoding(recipe.store, keep or recipe.store.keep, classes), classes)


@dataclass(frozen=True)
class Request:
    """A model, how it looks at the videos of a data set's split, and the store for that, whose name begins with
    ``name``."""

    checkpoint: Checkpoint
    look: Look
    dataset: Dataset
    videos: list[FolderVideo]
    header: Header
    workspace: Path
    name: str

    @property
    def place(self) -> Path:
        """The store's place in the workspace; raises as `vsscli.pipeline.workspace.store_path`."""
        return store_path(self.workspace, self.header, self.name)

    def fits(self, other: Request) -> bool:
        """Whether another model can predict the same frames together with this one: both are networks over one frozen
        trunk that look at them alike."""
        own, theirs = self.checkpoint, other.checkpoint
        return (
            bool(own.trunk)
            and own.trunk == theirs.trunk
            and own.normalisation == theirs.normalisation
            and self.look.joins(other.look)
            and [(one.name, one.frames) for one in self.videos] == [(one.name, one.frames) for one in other.videos]
        )


def request(
    model: Path,
    split: str,
    context: Context,
    *,
    tta: bool,
    plan: str | AugmentationPlan | None,
    keep: str | None,
    talk: Talk,
) -> Request:
    """Open a model and its data set; arguments and errors as for `vsscli.pipeline.predict.predict_split`."""
    checkpoint = open_model(model, data_root=context.data_root, talk=talk)
    recipe = recipe_from_dict(checkpoint.recipe, f"the recipe inside {model}")
    chosen = chosen_plan(recipe.predict, tta=tta, named=plan)
    classes = checkpoint.table.num_classes
    look = look_of(checkpoint.config, recipe, classes, chosen, precision=context.precision, keep=keep)
    dataset = open_dataset(recipe.data, context.data_root, talk, noted=True)
    take_classes(checkpoint, dataset)
    videos = dataset.split(split)
    header = _header(checkpoint, recipe, dataset, split, look)
    return Request(checkpoint, look, dataset, videos, header, context.workspace, f"{recipe.name}-{chosen.name}")


def chosen_plan(predict: Predict, *, tta: bool, named: str | AugmentationPlan | None) -> AugmentationPlan:
    """``--tta-plan`` if given, else with ``--tta`` the recipe's plan, else no augmentation."""
    if isinstance(named, AugmentationPlan):
        return named
    if named is not None:
        return load_plan(named)
    if not tta:
        return NONE
    if isinstance(predict.tta, str):
        return load_plan(predict.tta)
    return AugmentationPlan("recipe", predict.tta.scales, predict.tta.flip)


def read_out(predict: Predict, plan: AugmentationPlan, precision: str | None, config: NetworkConfig) -> ReadOut:
    """How to read out a network, from the recipe's section, a plan, and a precision if given."""
    window = chosen_window(predict.window, config.fixed_crop)
    return ReadOut(predict.size, window, predict.step, plan, precision or predict.precision, predict.missing)


def made_by(checkpoint: Checkpoint, how: ReadOut) -> dict[str, Any]:
    """Everything that decides the predictions of a frame, as plain JSON values."""
    # Noted only if it matters: otherwise predictions of earlier versions, which lack the note, remain valid.
    lacking = checkpoint.config.scores is ScoreKind.MASK_SCORES and how.missing != "normalise"
    return {
        "weights": checkpoint.fingerprint,
        "size": how.size,
        "window": list(how.window) if how.window else None,
        "step": list(how.step) if how.step else None,
        "scales": list(how.plan.scales),
        "flip": how.plan.flip,
        "precision": how.precision,
        "numerics": NUMERICS,
        **({"missing": how.missing} if lacking else {}),
    }


def _encoding(store: StoreSection, keep: str, num_classes: int) -> Encoding:
    preset = {"compact": COMPACT, "fine": FINE}.get(keep)
    encoding = preset or Encoding(kept=store.kept, keep=keep)
    kept = COMPACT.kept if keep == "compact" else max(encoding.kept, store.kept)
    drop = encoding.drop if store.drop is None else store.drop
    return replace(encoding, grid=store.grid, kept=min(kept, num_classes), drop=drop)


def _header(checkpoint: Checkpoint, recipe: Recipe, dataset: Dataset, split: str, look: Look) -> Header:
    return Header(
        kind="prediction",
        table=checkpoint.table,
        scores=checkpoint.config.scores or "",
        source={**made_by(checkpoint, look.how), FAMILY: checkpoint.network["family"]},
        encoding=look.encoding.to_dict(),
        data={
            "name": dataset.name,
            "split": split,
            "root": str(dataset.root.resolve()),
            "section": recipe.data.model_dump(mode="json"),
            **learned_note(checkpoint, recipe),
        },
        summary={"model": recipe.name, "plan": look.how.plan.name},
    )
