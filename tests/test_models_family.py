"""A family of networks is a folder and a line in the catalogue: `speck` is added that way, and works everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from small import small_recipe

from vsscli.models.checkpoints import load_checkpoint
from vsscli.models.network import Network
from vsscli.talk import SILENCE, Talk

WITH_SPECK = """
import sys
from speck.config import SpeckModel
from vsscli.models.catalogue import FAMILIES
FAMILIES.append(SpeckModel)
from vsscli.cli.app import run
for line in sys.stdin:
    assert run(line.split()) == 0, line
"""


def test_a_folder_and_a_line_make_a_family_that_trains_predicts_and_is_told(tmp_path: Path) -> None:
    values = small_recipe(tmp_path / "data", steps=4).model_dump(mode="json")
    values["model"] = {"family": "speck", "gain": 2.0}
    recipe, out = tmp_path / "speck.yaml", tmp_path / "run"
    recipe.write_text(json.dumps(values))
    commands = [
        "model ls",
        "model info speck --json",
        "recipe schema",
        f"recipe validate {recipe}",
        f"train --recipe {recipe} --out {out} --device cpu --quiet",
        f"predict --model {out / 'last.pt'} --split val --device cpu --workspace {tmp_path} --quiet",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITH_SPECK],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    assert "one convolution" in done.stdout
    assert '"SpeckModel"' in done.stdout
    checkpoint = load_checkpoint(out / "last.pt")
    assert checkpoint.network == {"family": "speck", "gain": 2.0}
    assert checkpoint.weights["heard"] == pytest.approx(3 / 4)  # before the last of its four steps
    assert list(tmp_path.glob("stores/*/*/*"))


def test_without_the_line_there_is_no_such_family(tmp_path: Path) -> None:
    from vsscli.errors import VssError
    from vsscli.models.build import read_config
    from vsscli.models.catalogue import FAMILIES, name_of

    with pytest.raises(VssError, match="network family 'speck'") as caught:
        read_config({"family": "speck"})
    assert caught.value.hint == f"families: {', '.join(sorted(map(name_of, FAMILIES)))}"


def test_a_family_that_leaves_something_unsaid_is_refused_with_its_name() -> None:
    from vsscli.models.catalogue import FAMILIES, require_whole
    from vsscli.models.config import NetworkConfig, TrainedModel

    class Unbuilt(NetworkConfig):
        family: Literal["unbuilt"]

    class Unread(TrainedModel):
        family: Literal["unread"]

        def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> Network:
            raise AssertionError

    require_whole(FAMILIES)
    for family, method in ((Unbuilt, "build"), (Unread, "read")):
        with pytest.raises(TypeError, match=f"{family.__name__} lacks {method}"):
            require_whole([*FAMILIES, family])
