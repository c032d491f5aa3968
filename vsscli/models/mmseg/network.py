"""Networks of mmsegmentation, with their scores before any softmax.

The network is mmsegmentation's own, built from the ``model`` section of a config (`models/mmseg/files.py` reads the
files). This module wraps it as a `Network`: which of its outputs to take, their kind, and the alignment of their cells.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsscli.errors import VssError
from vsscli.models.mmseg.openmmlab import TOGETHER, first_line, import_mmseg, require_registered
from vsscli.models.network import Network, Normalisation
from vsscli.models.scores import ScoreKind, Scores

DIVISOR = 32  # the deepest maps of most encoders: with sides of these multiples no level is padded
PROBE = (128, 192)
ALIGNED_STRIDE = 4

Size = tuple[int, int]


MASK_HEADS = ("Mask2FormerHead", "MaskFormerHead", "SideAdapterCLIPHead")


class MmsegNetwork(Network):
    """A segmentor of mmsegmentation.

    Decode heads give logits, at their own stride. Mask classifiers (Mask2Former, MaskFormer, SAN) give mask scores:
    the sum over queries of class probability times mask probability, at the resolution of the masks.

    Heads with ``align_corners`` were trained with the outermost cells on the outermost pixels; everywhere else in vss a
    cell is at the centre of its pixels. Their logits are resampled accordingly, at a stride of at most 4, by the rule
    that mmsegmentation upsamples them with.

    Attributes
    ----------
    only_size
        Height and width of the only images that the encoder takes; None if it takes others.
    """

    def __init__(self, segmentor: nn.Module, settings: Mapping[str, Any], num_classes: int) -> None:
        normalisation, rgb = read_preprocessor(settings.get("data_preprocessor") or {})
        super().__init__(num_classes, stride=1, divisor=1, normalisation=normalisation)
        head = last_head(segmentor)
        heads = importlib.import_module("mmseg.models.decode_heads")
        self.segmentor = segmentor
        self.rgb = rgb
        self.queries = isinstance(head, heads.Mask2FormerHead | heads.MaskFormerHead)
        side_adapter = isinstance(head, heads.SideAdapterCLIPHead)
        self.kind = ScoreKind.MASK_SCORES if self.queries or side_adapter else ScoreKind.LOGITS
        self.aligned = self.kind is ScoreKind.LOGITS and bool(head.align_corners)
        if not self.queries:
            # The last step of a head's own `predict`, which resizes to the image. All before it stays as it is.
            head.predict_by_feat = _product if side_adapter else _unchanged
        self.only_size: Size | None = None
        self._measure(_trained_size(settings))

    def forward(self, images: Tensor) -> Scores:
        """Score normalised images (B, 3, H, W): (B, C, H / stride, W / stride), logits or mask scores."""
        self.check_sides(images)
        values = self._raw(images)
        if self.aligned:
            height, width = images.shape[-2:]
            values = centred(values, self.stride, (height, width))
        return Scores(values, self.kind)

    def check_sides(self, images: Tensor) -> None:
        """Refuse images (B, 3, H, W) of a size that the network does not take."""
        super().check_sides(images)
        height, width = images.shape[-2:]
        if self.only_size is not None and (height, width) != self.only_size:
            only = self.only_size
            raise VssError(
                f"an image of {height}x{width} does not fit the network: its encoder only takes {only[0]}x{only[1]}",
                f"predict in windows of that size: `predict: {{window: [{only[0]}, {only[1]}]}}` in the recipe",
            )

    def _raw(self, images: Tensor) -> Tensor:
        """Scores (B, C, h, w) of the segmentor, before it resizes them."""
        if not self.rgb:
            images = images.flip(1)
        segmentor: Any = self.segmentor
        size = tuple(images.shape[-2:])
        about = [{"ori_shape": size, "img_shape": size, "pad_shape": size, "batch_input_shape": size} for _ in images]
        if self.queries:
            sample = importlib.import_module("mmseg.structures").SegDataSample
            samples = [sample(metainfo=facts) for facts in about]
            class_logits, mask_logits = segmentor.decode_head(segmentor.extract_feat(images), samples)
            return _product((mask_logits[-1], class_logits[-1]))
        # SegNeXt's head starts from random numbers; the same image must get the same scores.
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else [], enabled=not self.training):
            if not self.training:
                torch.manual_seed(0)
            values: Tensor = segmentor.encode_decode(images, about)
        if values.shape[1] == 1 and self.num_classes == 2:
            # One logit for class 1: its sigmoid is the softmax of 0 and it.
            return torch.cat([torch.zeros_like(values), values], dim=1)
        return values

    @torch.no_grad()
    def _measure(self, trained: Size | None) -> None:
        """Find stride and divisor, and whether the encoder takes only one size, by running it."""
        self.eval()
        size = PROBE
        shape, fault = self._shape(size)
        if fault is not None and trained is not None:
            size = trained
            shape, fault = self._shape(size)
            larger = (trained[0] + DIVISOR, trained[1] + DIVISOR)
            if fault is None and self._shape(larger)[1] is not None:
                self.only_size = trained
        if fault is not None:
            raise VssError(
                f"the network of this config does not run on an image of {size[0]}x{size[1]}: {first_line(fault)}",
                "try the config in mmsegmentation itself",
            ) from fault
        self.train()
        channels, h, w = shape
        stride = size[0] // h
        if channels != self.num_classes or (h * stride, w * stride) != size:
            raise VssError(
                f"the network of this config outputs {channels}x{h}x{w} scores for an image of {size[0]}x{size[1]}",
                f"vss needs {self.num_classes} classes and a whole number of pixels per cell",
            )
        self.stride = min(stride, ALIGNED_STRIDE) if self.aligned else stride
        self.divisor = self.stride if self.only_size else math.lcm(DIVISOR, stride)

    def _shape(self, size: Size) -> tuple[tuple[int, int, int], Exception | None]:
        """C, h, w of the scores of an image of H, W, or the error."""
        try:
            _, channels, h, w = self._raw(torch.zeros(1, 3, *size)).shape
        except (RuntimeError, AssertionError, ValueError) as error:
            return (0, 0, 0), error
        return (channels, h, w), None


def build_mmseg(model: Mapping[str, Any], num_classes: int) -> MmsegNetwork:
    """Build a network of mmsegmentation; its weights always come from a checkpoint."""
    import_mmseg()
    require_registered(model)
    own = number_of_classes(model)
    if own != num_classes:
        raise VssError(
            f"the config of mmsegmentation has {own} classes, the class table {num_classes}",
            "use the config that the checkpoint was trained with, and its classes",
        )
    mmengine = importlib.import_module("mmengine")
    models = importlib.import_module("mmseg.registry").MODELS
    try:
        with mmengine.DefaultScope.overwrite_default_scope("mmseg"):
            segmentor: nn.Module = models.build(mmengine.ConfigDict(model))
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError, ImportError, RuntimeError) as error:
        raise VssError(
            f"mmsegmentation can't build the network of this config: {first_line(error)}",
            f"it must be a config of mmsegmentation 1.x; known to work together: {TOGETHER}",
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about a missing option
        return MmsegNetwork(segmentor, model, num_classes)


def kind_of(model: Mapping[str, Any]) -> ScoreKind:
    """Kind of the scores of `MmsegNetwork` for a config's ``model`` section, without building it."""
    head = model.get("decode_head")
    if isinstance(head, list | tuple) and head:
        head = head[-1]
    named = head.get("type") if isinstance(head, Mapping) else None
    heads = importlib.import_module("mmseg.models.decode_heads")
    made = importlib.import_module("mmseg.registry").MODELS.get(named) if isinstance(named, str) else None
    masks = tuple(getattr(heads, name) for name in MASK_HEADS)
    return ScoreKind.MASK_SCORES if isinstance(made, type) and issubclass(made, masks) else ScoreKind.LOGITS


def last_head(segmentor: Any) -> Any:
    """The head whose scores count: the only one, or the last of a cascade; refuses one that scores no classes."""
    models = importlib.import_module("mmseg.models")
    head = getattr(segmentor, "decode_head", None)
    if isinstance(head, nn.ModuleList):
        head = head[-1]
    heads = models.decode_heads
    known = (heads.decode_head.BaseDecodeHead, heads.Mask2FormerHead, heads.MaskFormerHead)
    if not isinstance(head, known) or isinstance(segmentor, models.DepthEstimator):
        raise VssError(
            f"{type(segmentor).__name__} with {type(head).__name__} does not score classes",
            "use the config of a semantic segmentor",
        )
    return head


def read_preprocessor(preprocessor: Mapping[str, Any]) -> tuple[Normalisation, bool]:
    """A config's ``data_preprocessor``: the normalisation of red, green and blue, and whether the network takes them in
    that order.

    mmsegmentation decodes images as BGR. Either conversion swaps red and blue; mean and standard deviation apply after
    it.
    """
    rgb = bool(preprocessor.get("bgr_to_rgb") or preprocessor.get("rgb_to_bgr"))
    colours = []
    for name, neutral in (("mean", 0.0), ("std", 1.0)):
        given = preprocessor.get(name)
        numbers = [float(number) for number in ([neutral] if given is None else given)]
        numbers = numbers * 3 if len(numbers) == 1 else numbers
        if len(numbers) != 3 or (name == "std" and min(numbers) <= 0):
            raise VssError(
                f"data_preprocessor.{name} of the config of mmsegmentation is {given}, not one for three colours",
                "vss reads RGB images; it can't use networks with other inputs",
            )
        first, green, last = numbers
        colours.append((first, green, last) if rgb else (last, green, first))
    return Normalisation(colours[0], colours[1]), rgb


def number_of_classes(model: Mapping[str, Any]) -> int:
    """C of a config's ``model`` section."""
    head = model.get("decode_head")
    if isinstance(head, list | tuple) and head:
        head = head[-1]
    if isinstance(head, Mapping) and "kernel_generate_head" in head:
        head = head["kernel_generate_head"]  # K-Net refines the output of another head
    number = head.get("num_classes") if isinstance(head, Mapping) else None
    if not isinstance(number, int) or number < 1:
        raise VssError(
            f"the config of mmsegmentation has num_classes {number!r} in its model.decode_head",
            "is it the config of a semantic segmentor of mmsegmentation 1.x, with its bases?",
        )
    return number


def centred(values: Tensor, stride: int, size: Size) -> Tensor:
    """Resample scores (B, C, h, w) whose outermost cells are on the outermost pixels to cells centred on their pixels.

    Cell i of the input is at pixel i (H - 1) / (h - 1); cell j of the result (B, C, H / stride, W / stride), which is
    bilinear between them, at pixel (j + 1/2) stride - 1/2.
    """
    # Coordinates of grid_sample go from -1 to 1, from the first cell to the last.
    ends = [1 - (stride - 1) / max(side - 1, 1) for side in size]
    y, x = (
        torch.linspace(-end, end, side // stride, dtype=values.dtype, device=values.device)
        for end, side in zip(ends, size, strict=True)
    )
    places = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
    return F.grid_sample(
        values, places.expand(len(values), -1, -1, -1), mode="bilinear", padding_mode="border", align_corners=True
    )


def _product(prediction: Any, *about: Any) -> Tensor:
    """Mask scores (B, C, h, w) from mask logits (B, Q, h, w) and class logits (B, Q, C + 1), the last one "no object".

    Cheng et al. 2021 (arXiv:2107.06278), section 3.4, semantic inference; at the resolution of the masks.
    """
    mask_logits, class_logits = prediction
    return torch.einsum("bqc,bqhw->bchw", class_logits.softmax(dim=-1)[..., :-1], mask_logits.sigmoid())


def _unchanged(scores: Tensor, *about: Any) -> Tensor:
    return scores


def _trained_size(settings: Mapping[str, Any]) -> Size | None:
    """Height and width of the crops that a network was trained on, if its config says so."""
    for place, name in (("data_preprocessor", "size"), ("test_cfg", "crop_size")):
        size = (settings.get(place) or {}).get(name)
        if isinstance(size, list | tuple) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None
