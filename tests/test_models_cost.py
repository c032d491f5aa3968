"""The cost of a network is counted correctly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vsscli.cli.app import run
from vsscli.errors import VssError
from vsscli.models import cost
from vsscli.models.build import build_network
from vsscli.models.catalogue import find_listed
from vsscli.models.cost import Cost, _peak, count_cost, listed_cost, outline
from vsscli.models.network import Network, Normalisation
from vsscli.models.scores import ScoreKind, Scores

HEAD = {"encoder_layers": 1, "decoder_layers": 1, "encoder_width": 64, "decoder_width": 64, "channels": 32}
BEIT = {"family": "mask2former", "backbone": "beit_tiny", "crop": (64, 64), "head": HEAD}


def sizes(depth: int) -> dict[str, object]:
    return {"sizes": {"depth": depth, "taps": (0, 1, 2, depth - 1), "width": 96, "hidden": 384, "heads": 3}}


def test_one_more_block_costs_its_matrix_products() -> None:
    few, more = (outline({**BEIT, **sizes(depth)}, 7) for depth in (4, 5))
    tokens, width, hidden = 17, 96, 384
    products = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    assert more.flops((64, 64)) - few.flops((64, 64)) == 2 * products
    block = 4 * width**2 + 2 * width * hidden + 10 * width + hidden + 3 * (7**2 + 3)
    assert more.parameters - few.parameters == block


class Chain(Network):
    """x to tanh(tanh(x * weight)): two results that the gradient needs, one that it does not."""

    def __init__(self) -> None:
        super().__init__(3, 1, 1, Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
        self.weight = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, images: Tensor) -> Scores:
        return Scores((images * self.weight).tanh().tanh(), ScoreKind.LOGITS)


def test_memory_is_what_is_alive_at_one_time() -> None:
    image = torch.rand(2, 3, 16, 16)
    # Of the chain's three results two are there at a time while it predicts.
    assert _peak(Chain(), image, training=False) == 2 * image.nbytes
    # The gradient keeps the two tanh, and is itself a third on the way back; beside them are only sums.
    assert 3 * image.nbytes <= _peak(Chain(), image, training=True) <= 3 * image.nbytes + 100


def test_a_run_without_numbers_is_counted_like_one_with_them() -> None:
    config = {**BEIT, **sizes(4), "drop_path": 0.0}
    found = count_cost(config, 7, (64, 64), batch=2)
    network = build_network(config, 7, load_pretrained=False)
    assert found.predict - found.weights == _peak(network, torch.rand(2, 3, 64, 64), training=False)


@pytest.mark.slow
def test_training_takes_more_and_checkpointing_less_of_it() -> None:
    config = {**BEIT, **sizes(4), "crop": (256, 256)}
    plain, again, frozen = (
        count_cost({**config, **changes}, 7, (256, 256), batch=4)
        for changes in ({}, {"checkpointing": True}, {"frozen": True})
    )
    assert 4 * plain.parameters <= plain.weights < plain.predict < again.train < plain.train
    assert 3 * plain.weights < again.train
    assert (plain.parameters, plain.flops) == (again.parameters, again.flops)
    assert frozen.learning < frozen.parameters == plain.learning
    assert frozen.train < plain.train


def test_the_command_lists_and_informs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "ls", "--json"]) == 0
    names = [listed["name"] for listed in json.loads(capsys.readouterr().out)]
    assert {"swin_l", "beit_l", "vit_adapter_l", "one_peace_g", "light"} < set(names)
    assert run(["model", "info", "light", "--crop", "64", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["size"], told["classes"]) == ([64, 64], 124)
    assert told["memory"]["predict"] > told["memory"]["weights"] == pytest.approx(4 * told["parameters"], rel=0.05)
    assert run(["model", "info", "swin_tiny", "--crop", "100"]) == 2
    assert "multiples of 32" in capsys.readouterr().err
    assert run(["model", "info"]) == 2
    assert run(["model", "info", "vgg"]) == 2


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """The configurations of which a cost is asked for; counting itself takes seconds."""
    asked: list[Mapping[str, Any]] = []

    def count(config: Mapping[str, Any], *how: object) -> Cost:
        asked.append(config)
        return Cost(1, 1, 2, 4, 8, 16)

    monkeypatch.setattr(cost, "count_cost", count)
    return asked


def test_what_is_counted_is_the_read_out_that_will_run(counted: list[Mapping[str, Any]]) -> None:
    swin = find_listed("swin_t")
    for readout in (None, "grid"):
        listed_cost(swin, (256, 256), 1, 124, readout)
    assert [config["readout"] for config in counted] == ["full", "full", "grid", "grid"]  # plain, and checkpointed
    assert [config.get("checkpointing", False) for config in counted] == [False, True, False, True]
    assert find_listed("swin_l").config()["readout"] == swin.config()["readout"] == "full"
    with pytest.raises(VssError, match="only one read-out"):
        listed_cost(find_listed("light"), readout="full")


def test_masks_added_up_at_full_size_take_more_memory() -> None:
    tiny = find_listed("swin_tiny").config(head=HEAD, sizes={"width": 12, "depths": (1, 1, 1, 1)})
    images = torch.rand(1, 3, 64, 64)
    full, grid = (
        _peak(build_network({**tiny, "readout": readout}, 124, load_pretrained=False), images, training=False)
        for readout in ("full", "grid")
    )
    assert full > grid


def test_the_command_says_which_read_out_it_counted(
    counted: list[Mapping[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["model", "info", "swin_tiny", "--crop", "64", "96", "--readout", "full", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["size"], told["readout"]) == ([64, 96], "full")
    assert {config["readout"] for config in counted} == {"full"}
