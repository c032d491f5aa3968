"""The cost of a network is counted correctly."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from vsscli.cli.app import run
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.catalogue import find_listed
from vsscli.models.cost import _peak, count_cost, listed_cost
from vsscli.models.network import Network, Normalisation
from vsscli.models.scores import ScoreKind, Scores

BEIT = {"family": "mask2former", "backbone": "beit_tiny", "crop": (64, 64)}


def sizes(depth: int) -> dict[str, object]:
    return {"sizes": {"depth": depth, "taps": (0, 1, 2, depth - 1), "width": 96, "hidden": 384, "heads": 3}}


def test_one_more_block_costs_its_matrix_products() -> None:
    few, more = (count_cost({**BEIT, **sizes(depth)}, 7, (64, 64)) for depth in (4, 5))
    tokens, width, hidden = 17, 96, 384
    products = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    assert more.flops - few.flops == 2 * products
    block = 4 * width**2 + 2 * width * hidden + 10 * width + hidden + 3 * (7**2 + 3)
    assert more.parameters - few.parameters == block
    assert more.weights - few.weights == 4 * block


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
    cost = count_cost(config, 7, (64, 64), batch=2)
    network = build_network(config, 7, load_pretrained=False)
    assert cost.predict - cost.weights == _peak(network, torch.rand(2, 3, 64, 64), training=False)


def test_training_takes_more_and_checkpointing_less_of_it() -> None:
    head = {"encoder_layers": 1, "decoder_layers": 1, "encoder_width": 64, "decoder_width": 64, "channels": 32}
    config = {**BEIT, **sizes(4), "head": head, "crop": (256, 256)}
    plain, again, frozen = (
        count_cost({**config, **changes}, 7, (256, 256), batch=4)
        for changes in ({}, {"checkpointing": True}, {"frozen": True})
    )
    assert plain.weights < plain.predict < again.train < plain.train
    assert 3 * plain.weights < again.train
    assert (plain.parameters, plain.flops) == (again.parameters, again.flops)
    assert frozen.learning < frozen.parameters == plain.learning
    assert frozen.train < plain.train


def test_the_verb_lists_and_informs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "ls", "--json"]) == 0
    names = [listed["name"] for listed in json.loads(capsys.readouterr().out)]
    assert {"swin_l", "beit_l", "vit_adapter_l", "one_peace_g", "light"} < set(names)
    assert run(["model", "info", "one_peace_tiny", "--crop", "64", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["size"], told["classes"]) == ([64, 64], 124)
    assert told["memory"]["predict"] > told["memory"]["weights"] == pytest.approx(4 * told["parameters"], rel=0.01)
    assert run(["model", "info", "swin_l", "--crop", "100"]) == 2
    assert "multiples of 32" in capsys.readouterr().err
    assert run(["model", "info"]) == 2
    assert run(["model", "info", "vgg"]) == 2


def test_what_is_counted_is_the_read_out_that_will_run() -> None:
    swin, size = find_listed("swin_t"), (256, 256)
    published, grid = (listed_cost(swin, size, 1, 124, readout) for readout in (None, "grid"))
    assert find_listed("swin_l").config()["readout"] == swin.config()["readout"] == "full"
    assert published.plain == count_cost(swin.config(), 124, size)
    assert published.plain.predict > grid.plain.predict
    with pytest.raises(VssError, match="only one read-out"):
        listed_cost(find_listed("light"), readout="full")


def test_the_verb_says_which_read_out_it_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "info", "swin_tiny", "--crop", "64", "96", "--readout", "full", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["size"], told["readout"]) == ([64, 96], "full")
