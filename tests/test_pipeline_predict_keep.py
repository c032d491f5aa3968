"""The effect of ``--keep`` on a recipe's `store` section."""

from __future__ import annotations

from dataclasses import replace

from vsscli.pipeline.request import _encoding
from vsscli.recipes.readout import StoreSection
from vsscli.store.header import COMPACT, FINE, Encoding


def test_keep_chooses_between_lists_fewer_lists_and_everything() -> None:
    assert _encoding(StoreSection(), "top", 124) == Encoding()
    assert _encoding(StoreSection(kept=5), "top", 3) == Encoding(kept=3)
    assert _encoding(StoreSection(grid=2), "compact", 124) == replace(COMPACT, grid=2)
    assert _encoding(StoreSection(), "compact", 2).kept == 2
    assert _encoding(StoreSection(grid=2, kept=5), "fine", 124) == replace(FINE, grid=2)
    assert _encoding(StoreSection(kept=12), "fine", 124) == replace(FINE, kept=12)
    assert _encoding(StoreSection(), "all", 124).keep == "all"
    assert _encoding(StoreSection(kept=20, drop=0), "top", 124) == Encoding(kept=20, drop=0)
    assert _encoding(StoreSection(drop=0.002), "fine", 124) == replace(FINE, drop=0.002)
    assert Encoding.from_dict(COMPACT.to_dict()) == COMPACT
