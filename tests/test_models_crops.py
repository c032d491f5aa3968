"""Position tables of non-square images: 64x96 has as many rows as 96x64, but other weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from network_samples import CONFIGS, VIT
from small import small_recipe, train
from torch import Tensor
from torch.testing import assert_close

from vsscli.cli.app import run
from vsscli.cli.options import read_crop
from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models.build import build_network, other_reading
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from vsscli.models.mask2former.config import Mask2FormerModel
from vsscli.models.mask2former.relative_position import relative_position_index, resize_positions, resize_table
from vsscli.pipeline.convert import convert_checkpoint

TABLE = ClassTable("seven", tuple("abcdefg"), tuple((i, i, i) for i in range(7)))
WIDE, TALL = (4, 6), (6, 4)
INDEX = {
    "beit": "attn.relative_position_index",
    "vit-adapter": "attn.relative_position_index",
    "one-peace": "rp_bucket",
}


@pytest.fixture(params=INDEX)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def state_of(name: str) -> dict[str, Tensor]:
    """The weights of a network for images of 64x96, tables with numbers in them."""
    torch.manual_seed(3)
    network = build_network(CONFIGS[name].config, 7, load_pretrained=False)
    with torch.no_grad():
        for part, parameter in network.named_parameters():
            if "table" in part or "pos_embed" in part:
                parameter.normal_()
    return network.state_dict()


def official_trunk(name: str, *, index: bool) -> dict[str, Tensor]:
    """The trunk under its official names, with or without the index in official files."""
    starts = ("cls_token", "patch_embed.", "blocks.", "image_adapter.", "encoder.")
    state = {part.removeprefix("backbone."): value for part, value in state_of(name).items()}
    trunk = {part: value for part, value in state.items() if part.startswith(starts)}
    block = "encoder.layers.0." if name == "one-peace" else "blocks.0."
    return trunk | ({block + INDEX[name]: relative_position_index(WIDE)} if index else {})


def assert_resized(name: str, state: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    tables = [part for part in state if part.endswith(("relative_position_bias_table", "rel_pos_table.weight"))]
    assert len(tables) == 4
    for part in tables:
        assert_close(state[part], resize_table(source[part], WIDE, TALL))
        assert not torch.equal(state[part], source[part])
    places = "backbone.image_adapter.pos_embed"
    assert (places in state) == (name == "one-peace")
    if places in state:
        assert_close(state[places], resize_positions(source[places], WIDE, TALL))


def test_a_checkpoint_of_ours_starts_the_other_way_up_with_its_tables_turned(name: str, tmp_path: Path) -> None:
    source, config = state_of(name), CONFIGS[name].config
    network = build_network(config, 7, load_pretrained=False)
    save_checkpoint(tmp_path / "wide.pt", Checkpoint(config, source, TABLE, network.normalisation, {}, {}, 1))
    start = {**config, "pretrained": str(tmp_path / "wide.pt")}
    assert_resized(name, build_network({**start, "crop": (96, 64)}, 7, load_pretrained=True).state_dict(), source)
    same = build_network(start, 7, load_pretrained=True).state_dict()
    assert all(torch.equal(same[part], value) for part, value in source.items())


@pytest.mark.parametrize("crop", [None, (64, 96), (96, 64)])
def test_an_official_file_says_by_its_index_which_side_is_which(
    name: str, crop: tuple[int, int] | None, tmp_path: Path
) -> None:
    torch.save({"model": official_trunk(name, index=True)}, tmp_path / "trunk.pth")
    config = CONFIGS[name].config
    done = convert_checkpoint(
        tmp_path / "trunk.pth", tmp_path / "t.pt", classes="vspw124", backbone=config["backbone"], crop=crop
    )
    state = load_checkpoint(tmp_path / "t.pt").weights
    assert done.crop == (crop or (64, 96))
    assert not any("images of" in assumed for assumed in done.assumed)
    if crop == (96, 64):
        assert len(done.resized) == (5 if name == "one-peace" else 4)
        assert_resized(name, state, state_of(name))
    else:
        assert done.resized == ()
        trunk = official_trunk(name, index=False)
        assert all(torch.equal(state[f"backbone.{part}"], value) for part, value in trunk.items())


def test_without_an_index_the_crop_must_be_said_and_is_then_assumed(name: str, tmp_path: Path) -> None:
    torch.save({"model": official_trunk(name, index=False)}, tmp_path / "trunk.pth")
    options: dict[str, Any] = {"classes": "vspw124", "backbone": CONFIGS[name].config["backbone"]}
    for crop in (None, (128, 128)):
        with pytest.raises(VssError, match="images of 64x96 or 96x64") as caught:
            convert_checkpoint(tmp_path / "trunk.pth", tmp_path / "t.pt", crop=crop, **options)
        assert "--crop H W" in caught.value.hint
    done = convert_checkpoint(tmp_path / "trunk.pth", tmp_path / "t.pt", crop=(64, 96), **options)
    assert "images of 64x96, not of 96x64" in done.assumed
    with pytest.raises(VssError, match="images of 64x96 or 96x64"):
        build_network({**CONFIGS[name].config, "pretrained": str(tmp_path / "trunk.pth")}, 7, load_pretrained=True)


def test_the_configuration_beside_the_weights_says_it_too(name: str, tmp_path: Path) -> None:
    content = {"state_dict": official_trunk(name, index=False), "meta": {"config": "model=dict(img_size=(64, 96))"}}
    torch.save(content, tmp_path / "trunk.pth")
    done = convert_checkpoint(
        tmp_path / "trunk.pth", tmp_path / "t.pt", classes="vspw124", backbone=CONFIGS[name].config["backbone"]
    )
    assert done.crop == (64, 96)


def test_an_initial_checkpoint_that_would_be_read_otherwise_is_refused(tmp_path: Path) -> None:
    config = {key: value for key, value in CONFIGS["vit-adapter"].config.items() if key != "family"}
    recipe = small_recipe(tmp_path / "data", steps=1)
    model = Mask2FormerModel.model_validate({"family": "mask2former", **config})
    recipe = recipe.model_copy(update={"model": model, "augment": recipe.augment.model_copy(update={"crop": (64, 96)})})
    first = train(recipe, tmp_path / "wide", device="cpu", check=False)
    tall = recipe.model_copy(
        update={
            "model": model.model_copy(update={"crop": (96, 64)}),
            "augment": recipe.augment.model_copy(update={"crop": (96, 64)}),
        }
    )
    with pytest.raises(VssError, match=r"crop 64x96, not 96x64") as caught:
        train(tall, tmp_path / "tall", init=first.last, device="cpu", check=False)
    assert "model.pretrained" in caught.value.hint


def test_what_no_shape_tells_is_compared_and_nothing_else() -> None:
    config = CONFIGS["vit-adapter"].config
    for same in ({"drop_path": 0.3}, {"frozen": True}, {"readout": "full"}, {"checkpointing": True}, {"compile": True}):
        assert other_reading(config, {**config, **same}) == ""
    other = {**config, "head": {**config["head"], "decoder_heads": 2}}
    assert other_reading(config, other) == "head.decoder_heads 4, not 2"
    light = CONFIGS["light-resnet"].config
    assert other_reading(light, config) == "family light, not mask2former"
    assert other_reading({**light, "encoder": "resnet50.a1_in1k"}, {**light, "encoder": "resnet50"}) == ""


def test_what_a_recipe_leaves_out_is_compared_as_what_is_usual() -> None:
    inside: dict[str, Any] = {**VIT, "crop": [64, 96]}
    assert other_reading({**inside, "blocks": 3}, inside) == ""
    assert other_reading({**inside, "blocks": 2}, inside) == "blocks 2, not 3"
    over = {**inside, "queries": "decoder"}
    assert other_reading({**over, "blocks": 6, "taps": [0, 1, 2, 3]}, over) == ""
    assert other_reading(over, {**over, "taps": [0, 3]}) == "taps (0, 1, 2, 3), not (0, 3)"
    small = {"family": "plain_vit"}
    assert other_reading({**small, "sizes": {"heads": 6}}, small) == ""


@pytest.mark.parametrize(
    ("words", "size"),
    [(["640"], (640, 640)), (["64", "96"], (64, 96)), (["64x96"], (64, 96)), (["64 × 96"], (64, 96)), (None, None)],
)
def test_a_crop_is_a_side_or_height_and_width(words: list[str] | None, size: tuple[int, int] | None) -> None:
    assert read_crop(words) == size


@pytest.mark.parametrize("words", [["a"], ["1", "2", "3"], ["1.5"]])
def test_other_words_are_no_crop(words: list[str]) -> None:
    with pytest.raises(VssError, match="--crop"):
        read_crop(words)


def test_the_file_may_follow_the_crop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": official_trunk("beit", index=True)}, tmp_path / "trunk.pth")
    out = ["--to", str(tmp_path / "t.pt"), "--classes", "vspw124", "--backbone", "beit_tiny", "--json"]
    for number, crop in enumerate((["96", "64"], ["96x64"], ["96,64"])):
        out[1] = str(tmp_path / f"{number}.pt")
        assert run(["convert", *out, "--crop", *crop, str(tmp_path / "trunk.pth")]) == 0
        assert '"crop": [' in capsys.readouterr().out
        assert load_checkpoint(tmp_path / f"{number}.pt").network["crop"] == [96, 64]
    assert run(["convert", *out, "--crop", "96", "wide", str(tmp_path / "trunk.pth")]) == 2
