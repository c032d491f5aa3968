"""A store, opened for computing with its contents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vsscli.store.header import Header
from vsscli.store.interop import open_xarray, open_zarr
from vsscli.store.reader import Store
from vsscli.store.reader import open_store as open_reader

if TYPE_CHECKING:
    import xarray
    import zarr


class OpenVideo:
    """One video of a store. Frames are read on demand.

    Parameters
    ----------
    store, name
        The store's reader, and the video's name.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.stems)

    def __repr__(self) -> str:
        height, width = self.size
        return f"OpenVideo({self.name!r}, {len(self)} frames of {width}x{height})"

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the frames, in order."""
        return self._store.stems(self.name)

    @property
    def size(self) -> tuple[int, int]:
        """H, W."""
        return self._store.size(self.name)

    def labels(self, frames: int | slice = slice(None)) -> np.ndarray:
        """The most likely classes, uint8: (H, W) for one frame, (T, H, W) for several.

        In a pseudo-label store, those of the reliable pixels, and 255 elsewhere.
        """
        pseudo = self._store.header.kind == "pseudo"
        return self._store.read(self.name, "pseudo_label" if pseudo else "label", frames)

    def entropy(self, frames: int | slice = slice(None)) -> np.ndarray:
        """Entropy of the distribution as a share of its maximum, float32 in [0, 1]: (H, W), or (T, H, W)."""
        return self._store.entropy(self.name, frames)

    def top(self, frame: int, k: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The k most likely classes of a frame on the score grid, most likely first.

        Returns
        -------
        tuple
            Classes (k, h, w) uint8, 255 after the last one listed, and their probabilities (k, h, w) float32.
        """
        classes, probabilities = self._store.lists(self.name, frame)
        return classes[:k], probabilities[:k]

    def probabilities(self, frame: int) -> np.ndarray:
        """The distribution of a frame on the score grid, (C, h, w) float32, as far as it was kept."""
        return self._store.probabilities(self.name, frame)

    def to_xarray(self) -> xarray.Dataset:
        """The video as an xarray data set; see `vsscli.store.interop.open_xarray`."""
        return open_xarray(self._store.path, self.name)


class OpenStore(Mapping[str, OpenVideo]):
    """The complete videos of a store, by name; `open_store` opens one.

    Parameters
    ----------
    path
        The store, a folder or a URL.
    """

    def __init__(self, path: str | Path) -> None:
        self._store = open_reader(path)

    def __getitem__(self, video: str) -> OpenVideo:
        if video not in self._store.videos():
            raise KeyError(video)
        return OpenVideo(self._store, video)

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.videos())

    def __len__(self) -> int:
        return len(self._store.videos())

    def __repr__(self) -> str:
        return f"OpenStore({str(self.path)!r}, {self.kind}, {len(self)} videos, {len(self.classes)} classes)"

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._store.path

    @property
    def header(self) -> Header:
        """What it holds and how it was made."""
        return self._store.header

    @property
    def kind(self) -> str:
        """``prediction``, ``fusion`` or ``pseudo``."""
        return self.header.kind

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes."""
        return self.header.table.names

    def to_zarr(self) -> zarr.Group:
        """The store as a read-only Zarr group; see `vsscli.store.interop.open_zarr`."""
        return open_zarr(self.path)


def open_store(path: str | Path) -> OpenStore:
    """Open a store of predictions, of a fusion or of pseudo-labels.

    Raises
    ------
    VssError
        There is no store, it is damaged, or it was written by a later version.

    Examples
    --------
    >>> store = vsscli.open_store("runs/stores/camvid/val/fusion-1a2b3c4d.zarr")  # doctest: +SKIP
    >>> store["0016E5"].entropy(0).max()  # doctest: +SKIP
    """
    return OpenStore(path)
