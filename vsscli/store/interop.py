"""Stores opened for others: as a Zarr group, and as xarray data sets."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from vsscli.errors import VssError
from vsscli.store.arrays import specs_of
from vsscli.store.reader import Store, open_store
from vsscli.store.verify import require_whole

if TYPE_CHECKING:
    import xarray
    import zarr


def open_zarr(path: str | Path) -> zarr.Group:
    """A store as a Zarr group, to be read only: a group per video, with arrays as docs/store.md has them.

    Parameters
    ----------
    path
        A whole store of any kind; a path or a URL.

    Raises
    ------
    VssError
        There is none, frames of it are missing (which Zarr would fill up without a word), or it is of format 3, whose
        numbers no other reader undoes.
    """
    store = open_store(path)
    require_whole(store)
    if store.header.differences == "up":
        raise VssError(
            f"{store.path} has format 3, whose entropies and probabilities Zarr does not undo",
            "make it again, or read it with vss or as an xarray data set",
        )
    import zarr

    _take_numcodecs_for_known()
    return zarr.open_group(str(store.path), mode="r", zarr_format=3, use_consolidated=False)


def open_xarray(path: str | Path, video: str) -> xarray.Dataset:
    """A video of a store as an xarray data set, read as it is asked for.

    Parameters
    ----------
    path
        A store of any kind; a path or a URL.
    video
        One of its videos, with all its frames.

    Returns
    -------
    xarray.Dataset
        ``label`` (t, y, x) uint8, ``entropy`` (t, y, x) float64 in [0, 1], ``top_class`` (t, k, y, x) uint8 and
        ``top_probability`` (t, k, y, x) float64 in [0, 1], or what else the store keeps. ``t`` are the names of the
        frames, the attribute ``classes`` those of the classes.

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
        dataset = _undone(store, video)
    else:
        _take_numcodecs_for_known()
        dataset = xarray.open_dataset(
            str(store.path),
            group=video,
            engine="zarr",
            consolidated=False,
            zarr_format=3,
        )
    about = {"classes": list(store.header.table.names), "fingerprint": store.fingerprint}
    return dataset.assign_coords(t=list(record.stems)).assign_attrs(about)


def _undone(store: Store, video: str) -> xarray.Dataset:
    """A video of format 3, all in memory: what its files hold xarray can't undo."""
    import xarray

    specs = specs_of(store.header, store.size(video))
    arrays = {
        name: (spec.dims, store.read(video, name, slice(None)), dict(spec.attributes)) for name, spec in specs.items()
    }
    return xarray.decode_cf(xarray.Dataset(arrays))


def _take_numcodecs_for_known() -> None:
    """Zarr warns, array by array, that its specification does not name `numcodecs.*`: no news to who opens a store."""
    warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3", UserWarning)
