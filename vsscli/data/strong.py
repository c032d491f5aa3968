"""Strong views of a crop: its colours changed far, twice, for learning to predict alike (UniMatch V2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

VIEWS = 2


def strong_colours() -> v2.Transform:
    """Colour jitter for 4 of 5 crops, then grey for 1 of 5, then blur for half of them."""
    jitter = v2.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.25)
    in_pillow = v2.Compose([v2.ToPILImage(), jitter, v2.PILToTensor()])
    blur = v2.GaussianBlur(13, sigma=(0.1, 2.0))
    return v2.Compose([v2.RandomApply([in_pillow], p=0.8), v2.RandomGrayscale(p=0.2), v2.RandomApply([blur], p=0.5)])


def strong_views(image: Tensor, padding: Tensor, colours: v2.Transform) -> Tensor:
    """Views of a crop (3, H, W) uint8 with other colours, which stays 0 in its padding (H, W): (2, 3, H, W)."""
    return torch.stack([colours(image).masked_fill(padding, 0) for _ in range(VIEWS)])
