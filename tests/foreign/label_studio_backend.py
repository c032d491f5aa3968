"""The ML backend that vss writes is a model of label_studio_ml, and answers tasks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from exchange_samples import LABELS, SIZE, TABLE, write_store
from PIL import Image

from vsscli.exchange.functions import LABEL_STUDIO, Answering, function_text
from vsscli.exchange.labelstudio import labeling_config
from vsscli.exchange.rle import unpack_brush


def test_the_backend_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "a.zarr")
    (tmp_path / "backend.py").write_text(function_text(LABEL_STUDIO, Answering(store=store)))
    spec = importlib.util.spec_from_file_location("backend", tmp_path / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "any.png")
    monkeypatch.setattr(module.VssBackend, "get_local_path", lambda *_: str(tmp_path / "any.png"))
    backend = module.VssBackend(label_config=labeling_config(TABLE))
    tasks = [{"data": {"image": f"/data/upload/1/0a1b2c3d-{address.replace('/', '_')}.png"}} for address in LABELS]
    for answer, label in zip(backend.predict(tasks), LABELS.values(), strict=True):
        drawn = np.full(SIZE, 255, np.uint8)
        for result in answer["result"]:
            assert (result["from_name"], result["to_name"]) == ("label", "image")
            drawn[unpack_brush(result["value"]["rle"], SIZE)] = TABLE.names.index(result["value"]["brushlabels"][0])
        np.testing.assert_array_equal(drawn, np.where(label == 255, 0, label))
