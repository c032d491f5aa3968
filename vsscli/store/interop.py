"""Stores opened for other libraries: as a Zarr group, and as xarray data sets."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from vsscli.errors import VssError
from vsscli.store.arrays import specs_of
from vsscli.store.reader import Store, open_store
from vsscli.store.verify import require_complete

if TYPE_CHECKING:
    import xarray
    import zarr


def open_zarr(path: str | Path) -> zarr.Group:
    """A store as a read-only Zarr group: a group for each video, with the arrays that docs/store.md describes.

    Parameters
    ----------
    path
        A complete store of any kind; a path or a URL.

    Raises
    ------
    VssError
        There is no store, frames of it are missing (Zarr would silently fill them in), or it has format 3, whose
        differences no other reader undoes.
    """
    store = open_store(path)
    require_complete(store)
    if store.header.differences == "up":
        raise VssError(
            f"{store.path} has format 3, whose entropies and probabilities Zarr can't decode",
            "make it again, or read it with vss or as an xarray data set",
        )
    import zarr

    _accept_numcodecs()
    return zarr.open_group(str(store.path), mode="r", zarr_format=3, use_consolidated=False)


def open_xarray(path: str | Path, video: str) -> xarray.Dataset:
    """A video of a store as an xarray data set, read lazily.

    Parameters
    ----------
    path
        A store of any kind; a path or a URL.
    video
        One of its videos, which must be complete.

    Returns
    -------
    xarray.Dataset
        ``label`` (t, y, x) uint8, ``entropy`` (t, y, x) float64 in [0, 1], ``top_class`` (t, k, y, x) uint8 and
        ``top_probability`` (t, k, y, x) float64 in [0, 1], or whatever else the store keeps. ``t`` holds the names of
        the frames, the attribute ``classes`` those of the classes.

    Raises
    ------
    VssError
        There is no such video, frames of it are missing, or xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise VssError("xarray is not installed", 'pip install "vsscli[xarray]"') from error
    store = open_store(path)
    record = store.record(video)
    if not record.is_complete:
        raise VssError(f"{store.path} lacks frames of video {video}", "run the command that makes it again")
    if store.header.differences == "up":
        dataset = _decoded(store, video)
    else:
        _accept_numcodecs()
        dataset = xarray.open_dataset(
            str(store.path),
            group=video,
            engine="zarr",
            consolidated=False,
            zarr_format=3,
        )
    about = {"classes": list(store.header.table.names), "fingerprint": store.fingerprint}
    return dataset.assign_coords(t=list(record.stems)).assign_attrs(about)


def _decoded(store: Store, video: str) -> xarray.Dataset:
    """A video of format 3, loaded into memory, since xarray can't decode its files."""
    import xarray

    specs = specs_of(store.header, store.size(video))
    arrays = {
        name: (spec.dims, store.read(video, name, slice(None)), dict(spec.attributes)) for name, spec in specs.items()
    }
    return xarray.decode_cf(xarray.Dataset(arrays))


def _accept_numcodecs() -> None:
    """Silence Zarr's warning, one for each array, that its specification does not name `numcodecs.*`."""
    warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3", UserWarning)
