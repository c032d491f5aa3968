"""From models or a store to pseudo-labels: what is refused, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.pipeline import pseudo as module
from vsscli.pipeline.pseudo import pseudo


@pytest.fixture
def no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(module, "predict_split", refuse)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 180}, "percentile 180 is not above 0 and at most 100"),
        ({"percentile": float("nan")}, "percentile nan"),
        ({"threshold": 3}, "threshold 3 is not in"),
        ({"weights": [-1, 2]}, "weight -1.0"),
        ({"weights": [0, 0]}, "all weights are 0"),
        ({"weights": [1]}, "1 weights for 2 models"),
    ],
)
def test_bad_numbers_are_refused_before_hours_of_prediction(
    options: dict[str, Any], message: str, tmp_path: Path, no_prediction: None
) -> None:
    with pytest.raises(VssError, match=message):
        pseudo([Path("a.pt"), Path("b.pt")], context=Context(tmp_path), **options)
