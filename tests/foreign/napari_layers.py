"""napari, without a screen, shows the values of a store that vss reads, frame by frame."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import xarray
import zarr
from napari.components import ViewerModel
from napari.utils import DirectLabelColormap

from vsscli.store.header import MAX_LEVEL
from vsscli.store.reader import open_store

STORE = Path(__file__).parents[1] / "fixtures" / "format4" / "prediction.zarr"


def require_shown(path: Path) -> None:
    """Add layers as docs/store.md does, and compare what each frame shows."""
    warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3")
    store, group = open_store(path), zarr.open_group(path, mode="r")
    header = group.attrs["vss"]
    colours = {index: [*(c / 255 for c in one["colour"]), 1] for index, one in enumerate(header["table"]["classes"])}
    colormap = DirectLabelColormap(color_dict={**colours, None: [0, 0, 0, 0]})
    for video in store.videos():
        viewer = ViewerModel()
        labels = viewer.add_labels(group[video]["label"], opacity=0.5, colormap=colormap)
        entropy = viewer.add_image(group[video]["entropy"], colormap="inferno")
        as_xarray = ViewerModel().add_image(xarray.open_zarr(path, group=video)["entropy"])
        for t in range(len(store.stems(video))):
            viewer.dims.set_point(0, t)
            label = store.label(video, t)
            np.testing.assert_array_equal(np.asarray(labels._slice.image.raw), label)
            drawn = labels.colormap.map(label)
            for index in np.unique(label):
                assert (np.abs(drawn[label == index] - colours[index]) < 1e-6).all(), "0 is a class, and is drawn"
            shown = np.asarray(entropy._slice.image.raw)
            np.testing.assert_allclose(shown / MAX_LEVEL, store.entropy(video, t), rtol=2e-7)
            np.testing.assert_allclose(np.asarray(as_xarray.data[t]), store.entropy(video, t), rtol=2e-7)


def test_layers_show_what_vss_reads() -> None:
    require_shown(STORE)
