"""A network that can't fit into memory is refused before any is allocated."""

from __future__ import annotations

from typing import Any

import pytest

from vsscli.errors import VssError
from vsscli.models import fits
from vsscli.models.build import build_network
from vsscli.recipes.load import load_recipe, recipe_from_dict

LIGHT = {"family": "light", "encoder": "test_efficientnet", "pretrained": "none"}
LARGE = {"family": "mask2former", "backbone": "swin_t"}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (LIGHT | {"channels": 100_000_000}, "channels: 100000000 .* less than .* 65536"),
        (LIGHT | {"channels": 60_000}, r"weights of [34]\d\d\.\d GiB; this machine has"),
        (LARGE | {"sizes": {"width": 30_000}}, r"weights of \d+\.\d GiB"),
        (LARGE | {"sizes": {"mlp_ratio": 1e6}}, r"weights of \d+\.\d GiB"),
        (
            LARGE | {"sizes": {"depths": [2, 2, 10**9, 2]}},
            r"sizes\.depths\.2: 1000000000 .* less than .* 1000",
        ),
        (LARGE | {"head": {"queries": 10**9}}, r"head\.queries: 1000000000 .* less than .* 65536"),
    ],
)
def test_a_network_that_can_not_fit_is_refused(
    config: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "memory", lambda: 24 * 2**30)
    with pytest.raises(VssError, match=says) as caught:
        build_network(config, 3, load_pretrained=False)
    assert "model" in caught.value.hint


def test_the_machine_says_how_large_it_is() -> None:
    assert fits.memory() is None or fits.memory() > 2**28  # type: ignore[operator]


def test_a_recipe_with_a_number_that_can_not_be_is_refused_with_its_place(tmp_path: Any) -> None:
    path = tmp_path / "a.yaml"
    for value in ("100000000", "9" * 400, "0x" + "f" * 400):
        path.write_text(f"name: a\nmodel:\n  channels: {value}\n")
        with pytest.raises(VssError, match=r"a\.yaml:3: "):
            load_recipe(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_recipe_in_a_checkpoint_has_finite_numbers(value: float) -> None:
    with pytest.raises(VssError, match=r"augment\.brightness: should be a finite number"):
        recipe_from_dict({"name": "a", "augment": {"brightness": value}}, "the recipe inside t.pt")
