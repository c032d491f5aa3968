"""napari, without a screen, shows the values of a store that vss reads, frame by frame."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import zarr
from napari.components import ViewerModel

from vsscli.store.header import MAX_LEVEL
from vsscli.store.reader import open_store

STORE = Path(__file__).parents[1] / "fixtures" / "format4" / "prediction.zarr"


def require_shown(path: Path) -> None:
    """Add layers as docs/store.md does, and compare what each frame shows."""
    warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3")
    store, group = open_store(path), zarr.open_group(path, mode="r")
    for video in store.videos():
        viewer = ViewerModel()
        labels = viewer.add_labels(group[video]["label"])
        entropy = viewer.add_image(group[video]["entropy"])
        for t in range(len(store.stems(video))):
            viewer.dims.set_point(0, t)
            np.testing.assert_array_equal(np.asarray(labels._slice.image.raw), store.label(video, t))
            shown = np.asarray(entropy._slice.image.raw)
            np.testing.assert_allclose(shown / MAX_LEVEL, store.entropy(video, t), rtol=2e-7)


def test_layers_show_what_vss_reads() -> None:
    require_shown(STORE)
