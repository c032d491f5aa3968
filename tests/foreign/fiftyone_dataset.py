"""FiftyOne's importer reads the samples that vss writes; its data base (MongoDB) is not needed for that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from exchange_samples import ADDRESSES, LABELS, TABLE, write_as
from fiftyone.utils.data.importers import LegacyFiftyOneDatasetImporter
from PIL import Image


def test_samples(tmp_path: Path) -> None:
    write_as("fiftyone", tmp_path)
    importer = LegacyFiftyOneDatasetImporter(str(tmp_path))
    importer.setup()
    samples = list(importer)
    assert len(samples) == len(ADDRESSES)
    for sample, (address, label) in zip(samples, LABELS.items(), strict=True):
        assert sample.filepath == str(tmp_path / f"{address}.png")
        values = np.array(Image.open(sample["labels"].mask_path))
        np.testing.assert_array_equal(values, np.where(label == 255, 0, label + 1))
    targets = importer.get_dataset_info()["mask_targets"]
    assert list(targets.values()) == list(TABLE.names)
