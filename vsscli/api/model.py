"""A model: a checkpoint with its network, classes, data set and read-out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from vsscli.api.store import OpenStore
from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.inference.bands import mean_map
from vsscli.inference.devices import resolve_device
from vsscli.inference.plans import AugmentationPlan
from vsscli.inference.predictor import Predictor
from vsscli.models.checkpoints import Checkpoint, restore_network
from vsscli.models.network import Network
from vsscli.names import several
from vsscli.pipeline.masks import predict_input
from vsscli.pipeline.predict import predict_split
from vsscli.pipeline.request import chosen_plan, read_out
from vsscli.pipeline.source import open_model, with_weights
from vsscli.recipes.load import recipe_from_dict
from vsscli.recipes.schema import Recipe


class Model:
    """A network that labels frames; `load` opens one.

    Parameters
    ----------
    path
        A checkpoint, or a recipe of a network of mmsegmentation.
    context
        What the network runs on, and where the results of `predict` go.

    Attributes
    ----------
    path, context
        As given.
    recipe
        How the checkpoint was trained, and how it is read out.

    Raises
    ------
    VssError
        The file is missing or unusable.
    """

    def __init__(self, path: str | Path, context: Context) -> None:
        self.path = Path(path)
        self.context = context
        self._checkpoint: Checkpoint = open_model(self.path, data_root=context.data_root, talk=context.talk)
        self.recipe: Recipe = recipe_from_dict(self._checkpoint.recipe, f"the recipe inside {path}")
        self._predictors: dict[AugmentationPlan, Predictor] = {}

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r}, {len(self.classes)} classes)"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes; a label is an index into them."""
        return self._checkpoint.table.names

    @property
    def palette(self) -> np.ndarray:
        """Colours of the classes, (256, 3) uint8; ``model.palette[label]`` is an RGB image."""
        return np.frombuffer(self._checkpoint.table.palette(), np.uint8).reshape(256, 3)

    @cached_property
    def network(self) -> Network:
        """The network with its weights, in evaluation mode: a `torch.nn.Module` that takes normalised images."""
        return restore_network(with_weights(self._checkpoint)).to(resolve_device(self.context.device))

    @overload
    def label(self, frames: np.ndarray, *, tta: bool = False, plan: str | None = None) -> np.ndarray: ...
    @overload
    def label(
        self, frames: Sequence[np.ndarray], *, tta: bool = False, plan: str | None = None
    ) -> list[np.ndarray]: ...
    def label(
        self, frames: np.ndarray | Sequence[np.ndarray], *, tta: bool = False, plan: str | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """Label one frame, or several of any size; several are consecutive ones to a network that follows videos.

        Parameters
        ----------
        frames
            (H, W, 3) uint8, RGB; a sequence of these; or (T, H, W, 3).
        tta, plan
            As for `predict`.

        Returns
        -------
        ndarray or list of ndarray
            The most likely class of every pixel, (H, W) uint8.

        Raises
        ------
        VssError
            A frame has another shape or type, or memory does not suffice.
        """
        predictor = self._predictor(tta, plan)
        given: Any = frames
        one = given.ndim != 4 if isinstance(given, np.ndarray) else not isinstance(given, Iterable)
        if one or isinstance(given, str):
            return predictor.label(_image(given, "the frame"))
        images = [_image(frame, f"frame {number}") for number, frame in enumerate(frames)]
        predictor.begin()
        return [predictor.labels([image])[0] for image in images]

    def probabilities(self, frame: np.ndarray, *, tta: bool = False, plan: str | None = None) -> np.ndarray:
        """The distribution over the classes at every pixel of a frame (H, W, 3) uint8: (C, H, W) float32."""
        predictor = self._predictor(tta, plan)
        predictor.begin()
        answers = predictor.predict([_image(frame, "the frame")], lambda views: {"all": mean_map(views, views.size)})
        return answers.frames()[0]["all"]

    def predict(
        self,
        split: str = "val",
        *,
        tta: bool = False,
        plan: str | None = None,
        keep: str | None = None,
        out: str | Path | None = None,
        force: bool = False,
    ) -> OpenStore:
        """Predict a split of the model's data set into a store; frames already in it are not predicted again.

        Parameters
        ----------
        split
            "train", "val", "labelled", "unlabelled", or any other list of the data set.
        tta, plan
            Test-time augmentation by the recipe's plan, or by another plan, given by name or file.
        keep
            "top", "fine", "compact" or "all"; `None`: as in the recipe.
        out
            Path of the store; `None`: its place in the workspace.
        force
            Write a new store beside one with other settings in the same place.
        """
        given: Any = split
        if not isinstance(given, str):
            what = f"predict takes the name of a split, not {type(given).__name__}"
            raise VssError(what, "label frames by model.label(frames), and files by model.predict_files(source, out)")
        done = predict_split(
            self.path,
            split,
            context=self.context,
            out=None if out is None else Path(out),
            tta=tta,
            plan=plan,
            keep=keep,
            force=force,
        )
        return OpenStore(done.store)

    def predict_files(
        self,
        source: str | Path | Sequence[str | Path],
        out: str | Path,
        *,
        tta: bool = False,
        plan: str | None = None,
        force: bool = False,
        overlay: bool = False,
    ) -> Path:
        """Label video files or folders of images, one or several, into palette images ``<out>/<video>/<stem>.png``.

        Existing predictions of the same model and frames are kept unless ``force``. With ``overlay``,
        ``<out>/<video>.mp4`` shows the labels over the frames. Returns ``out``.
        """
        sources = [Path(one) for one in several(source)]
        predict_input(
            self.path,
            sources,
            Path(out),
            context=self.context,
            tta=tta,
            plan=plan,
            force=force,
            overlay=overlay,
        )
        return Path(out)

    def _predictor(self, tta: bool, named: str | None) -> Predictor:
        plan = chosen_plan(self.recipe.predict, tta=tta, named=named)
        if plan not in self._predictors:
            how = read_out(self.recipe.predict, plan, self.context.precision, self._checkpoint.config)
            device = resolve_device(self.context.device)
            self._predictors[plan] = Predictor(
                self.network, self._checkpoint.normalisation, how, device, self.context.batch_size
            )
        return self._predictors[plan]


def load(path: str | Path, context: Context | None = None) -> Model:
    """Open a model.

    Parameters
    ----------
    path
        A checkpoint that `train` or ``vss convert`` left, or a recipe of a network of mmsegmentation.
    context
        What it runs on, and where results go; `None`: the defaults of the command line.

    Examples
    --------
    >>> model = vsscli.load("runs/student/last.pt")  # doctest: +SKIP
    >>> model.label(frame).shape  # doctest: +SKIP
    (480, 853)
    """
    return Model(path, context or Context())


def _image(frame: Any, what: str) -> np.ndarray:
    """The frame, after checking that networks can take it."""
    if isinstance(frame, str | Path):
        raise VssError(
            f"{what} is a path, {str(frame)!r}, not pixels", "label files by model.predict_files(source, out)"
        )
    values = np.asarray(frame)
    if values.ndim != 3 or values.shape[2] != 3 or not values.size:
        raise VssError(f"{what} has shape {values.shape}, not (H, W, 3)", "give one RGB image, or a sequence of them")
    if values.dtype != np.uint8:
        raise VssError(
            f"{what} has type {values.dtype}, not uint8",
            "give RGB values from 0 to 255; of values from 0 to 1, these are (frame * 255).round().astype('uint8')",
        )
    return np.require(values, requirements=["C", "W"])  # torch takes it without a copy
