"""The interface of all networks, whatever their family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vsscli.errors import VssError
from vsscli.models.config import UNRECORDED
from vsscli.models.constants import kept_on_device
from vsscli.models.dropout import ChannelDropout
from vsscli.models.frozen import Seen
from vsscli.models.outputs import MapOutputs, Outputs
from vsscli.models.scores import Scores


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each colour, red, green, blue, on the scale 0..255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, H, W) of uint8 or float values 0..255; the result is float32, or the float given."""
        dtype = images.dtype if images.is_floating_point() else torch.float32
        mean, std = kept_on_device((self.mean, self.std), images.device, dtype)[..., None, None]
        return (images.to(dtype) - mean) / std


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with the same learning rate and weight decay.

    ``lr_scale`` is the factor of layer-wise decay alone; a recipe's factor for encoders applies too if ``encoder``.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    lr_scale: float
    decay: bool
    encoder: bool


class Network(nn.Module, ABC):
    """A network that scores every pixel of an image.

    A family implements ``forward``; ``outputs`` and ``feature_channels``, if training uses more than scores; and
    ``place_of``, if its encoder's layers have their own learning rates.

    Parameters
    ----------
    num_classes
        C, the channels of the scores.
    stride
        Pixels per cell of the score map, in both directions.
    divisor
        Height and width of the input must be multiples of it, so that the cells cover the image exactly.
    normalisation
        Normalisation of the input.

    Attributes
    ----------
    feature_channels
        D, channels of the features in ``outputs``; 0 if it has none.
    crop
        Height and width of the only images it takes, so that larger ones are predicted in windows; None if it takes
        any.
    between
        Through which a family passes what its encoder gives its head.
    fresh
        Names of the parameters without loaded weights, set by whoever loads; empty if unknown.
    frames
        Frames of a clip, for a `VideoNetwork` that learns from consecutive frames together and predicts them in order;
        1 if images are independent.
    answers
        Predictions of each image in its scores: those of all images by one network, then by the next
        (`vsscli.models.together.Together`).
    trunk_digest
        Digest of a frozen trunk that checkpoints leave out because it can be loaded from its source; else empty.
    licence
        Licence of the weights that it began from, set by whoever loads; `vsscli.models.config.RANDOM` if it began from
        none, `UNRECORDED` if unknown.
    """

    feature_channels: int = 0
    crop: tuple[int, int] | None = None
    fresh: frozenset[str] = frozenset()
    frames: int = 1
    answers: int = 1
    trunk_digest: str = ""
    licence: str = UNRECORDED

    def __init__(self, num_classes: int, stride: int, divisor: int, normalisation: Normalisation) -> None:
        super().__init__()
        self.between = ChannelDropout()
        self.num_classes = num_classes
        self.stride = stride
        self.divisor = divisor
        self.normalisation = normalisation

    @abstractmethod
    def forward(self, images: Tensor) -> Scores:
        """Score normalised images (B, 3, H, W): values (B, C, H / stride, W / stride) and their kind."""

    def outputs(self, images: Tensor) -> Outputs:
        """Everything that training can use, for normalised images (B, 3, H, W); of a network with ``frames`` above 1
        they are whole clips, frame by frame."""
        return MapOutputs(self(images))

    @property
    def shares(self) -> bool:
        """Whether a frozen trunk sees the same whatever network over it is asked, so that it need see images once."""
        return False

    def see(self, images: Tensor) -> Seen | None:
        """What its frozen trunk makes of normalised images (B, 3, H, W); None unless it ``shares``."""
        return None

    def outputs_from(self, images: Tensor, seen: Seen | None) -> Outputs:
        """`outputs` for images of which a frozen trunk has ``seen`` everything already; None: it has not."""
        return self.outputs(images)

    def place_of(self, name: str) -> tuple[bool, int]:
        """Whether a parameter belongs to the encoder, and the depth of its layer.

        Depth 0 learns at the full rate; the encoder's last layer has depth 1, as in BEiT's layer-wise decay.
        """
        return False, 0

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay applies: not to norms and biases."""
        return parameter.ndim > 1 and not name.endswith("bias")

    def parameter_groups(self, layer_decay: float) -> list[ParameterGroup]:
        """Sort the trainable parameters into groups.

        Parameters
        ----------
        layer_decay
            Factor per layer of the encoder, counted from the last: ``lr_scale`` is this to the power of the depth. It
            protects loaded weights, so fresh parameters have depth 0, wherever they are.

        Returns
        -------
        list of ParameterGroup
            Every trainable parameter in exactly one group; the order is that of the network's modules.
        """
        members: dict[tuple[bool, int, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                encoder, depth = self.place_of(name)
                place = (encoder, 0 if name in self.fresh else depth, self.decays(name, parameter))
                members.setdefault(place, []).append(parameter)
        groups = []
        for (encoder, depth, decay), parameters in members.items():
            part = f"encoder-{depth}" if encoder else "decoder" if depth == 0 else f"decoder-{depth}"
            name = f"{part} {'with' if decay else 'without'} weight decay"
            groups.append(ParameterGroup(name, tuple(parameters), layer_decay**depth, decay, encoder))
        return groups

    def at_progress(self, fraction: float) -> None:
        """Called before each step of training with its progress, from 0 at the first step to 1 after the last.

        Annealing must depend on the fraction alone, so that a resumed run continues identically. It is called on the
        network that is trained, not on averages of it.
        """

    def kept_state(self) -> dict[str, Tensor]:
        """The state dict as a checkpoint keeps it: without a frozen trunk that ``trunk_digest`` names."""
        return self.state_dict()

    def note_loaded(self, names: Collection[str]) -> None:
        """Note which tensors were loaded: all other parameters are fresh."""
        self.fresh = frozenset(name for name, _ in self.named_parameters() if name not in names)

    def check_sides(self, images: Tensor) -> None:
        """Refuse images (B, 3, H, W) whose sides are not multiples of the divisor, or not those of the crop."""
        height, width = images.shape[-2:]
        if height % self.divisor or width % self.divisor:
            fits = tuple(-(-side // self.divisor) * self.divisor for side in (height, width))
            raise VssError(
                f"an image of {height}x{width} does not fit the network: its sides must be multiples of {self.divisor}",
                f"pad it, or choose another crop or window, {fits[0]}x{fits[1]} for example",
            )
        require_crop(images, self.crop)


class VideoNetwork(Network):
    """A network that may have ``frames`` above 1, and then predicts a video frame by frame."""

    @abstractmethod
    def follow(self, images: Tensor, handed: Tensor | None = None) -> tuple[Outputs, Tensor]:
        """Predict the next frame of several videos.

        Parameters
        ----------
        images
            (B, 3, H, W), normalised, a frame of each.
        handed
            What the frame before handed on, of any shape (B, ...); None at the start of a video.

        Returns
        -------
        tuple
            Outputs, whose scores of a first frame are those of `forward`; and what is handed on to the next frame.
        """


def require_crop(images: Tensor, crop: tuple[int, int] | None) -> None:
    """Refuse images (B, 3, H, W) of another height and width than the crop, if there is one."""
    height, width = images.shape[-2:]
    if crop is not None and (height, width) != crop:
        raise VssError(
            f"an image of {height}x{width} does not fit a network made for {crop[0]}x{crop[1]}",
            "predict in windows of that size, or set the network's crop",
        )
