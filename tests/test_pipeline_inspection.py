"""What `vss doctor` checks, what it finds besides faults, and what it reports as not checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from PIL import Image

from vsscli.cli.app import run
from vsscli.data.layouts import plain_data
from vsscli.data.masks import write_mask
from vsscli.errors import VssError
from vsscli.models.encoders import encoder_names, require_encoder
from vsscli.pipeline.inspection import Inspection, inspect_data, inspect_recipe
from vsscli.recipes.schema import Recipe
from vsscli.recipes.validate import validate_recipe

SIZE = (6, 9)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A video for train and one for val, of three classes that all occur."""
    root, rng = tmp_path / "street", np.random.default_rng(0)
    for video in ("v", "w"):
        for t in range(4):
            place = root / "data" / video / "origin"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)).save(place / f"{t}.png")
            write_mask(root / "data" / video / "mask" / f"{t}.png", np.resize(np.uint8([1, 2, 3]), SIZE))
    for name, video in (("train", "v"), ("val", "w")):
        (root / f"{name}.txt").write_text(f"{video}\n")
    (root / "classes.json").write_text('["road", "sky", "car"]')
    return root


def looked(root: Path) -> Inspection:
    return inspect_data(plain_data(root), None, described=False)


def recipe(root: Path, **values: Any) -> Recipe:
    data = {"name": "street", "root": str(root), "classes": "classes.json", **values.pop("data", {})}
    return Recipe.model_validate({"name": "r", "data": data, "model": {"pretrained": "none"}, **values})


def test_it_says_what_was_looked_at_and_what_not(root: Path) -> None:
    found = looked(root)
    assert (found.faults, found.warnings) == ([], [])
    assert found.looked == [
        "street: the 3 classes of classes.json",
        "street, split 'train': 1 videos, 4 frames, with masks",
        "street, split 'val': 1 videos, 4 frames, with masks",
    ]
    assert found.missed == [f"street: no split 'test' in {root}"]
    (root / "val.txt").unlink()
    assert f"street: no split 'val' in {root}" in looked(root).missed


def test_sparse_masks_are_one_line(root: Path) -> None:
    for path in list((root / "data" / "v" / "mask").iterdir())[1:]:
        path.unlink()
    found = looked(root)
    assert found.faults == []
    (said,) = found.warnings
    assert said.what == "split 'train': 1 of 4 frames have masks"
    assert said.remedy == "the others are unlabelled data"
    found = inspect_recipe(recipe(root), None)
    assert found.faults == []
    assert [said.what for said in found.warnings] == ["split 'labelled': 1 of 4 frames have masks"]
    assert "street, split 'unlabelled': 1 videos, 3 frames, without masks" in found.looked


def test_sparse_masks_of_what_is_scored_are_no_fault(root: Path) -> None:
    (root / "data" / "w" / "mask" / "2.png").unlink()
    found = inspect_recipe(recipe(root), None)
    assert (found.faults, [said.what for said in found.warnings]) == ([], ["split 'val': 3 of 4 frames have masks"])


def test_another_class_table_that_lies_there_is_said(root: Path) -> None:
    (root / "mine.json").write_text('["one", "two", "three"]')
    found = inspect_recipe(recipe(root, data={"classes": "mine.json"}), None)
    assert [said.path.name for said in found.warnings] == ["classes.json"]
    assert "not used: 3 classes of mine.json are" in found.warnings[0].what
    (root / "classes.json").unlink()
    (root / "mine.json").unlink()
    assert any("vspw124, as there is no classes.json in" in line for line in looked(root).looked)


def test_videos_in_both_splits_are_said(root: Path) -> None:
    shutil.copytree(root / "data" / "v", root / "data" / "again")
    (root / "val.txt").write_text("again\n")
    for found in (looked(root), inspect_recipe(recipe(root), None)):
        (said,) = found.warnings
        assert said.what == "1 of 1 videos of split 'val' are trained on as well: again (as v)"


def test_what_a_recipe_starts_from_is_looked_at(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.pt").write_bytes(b"")
    found = inspect_recipe(
        recipe(
            root,
            model={"encoder": "resnet5", "pretrained": str(tmp_path / "gone.pt")},
            train={"init": str(tmp_path / "empty.pt")},
            unlabelled={"pseudo_labels": str(tmp_path / "gone.zarr")},
            data={"unlabelled": ["test"]},
        ),
        None,
    )
    told = " ".join(f"{fault.path} {fault.what}" for fault in found.faults)
    for word in ("test.txt", "no encoder named 'resnet5'", "gone.pt does not exist", "empty.pt is empty", "gone.zarr"):
        assert word in told


def test_names_of_encoders_are_those_of_timm() -> None:
    assert encoder_names() == set(timm.list_models())
    require_encoder("resnet50.a1_in1k")
    with pytest.raises(VssError, match=r"no encoder named 'resnet50\.a1_in1") as caught:
        require_encoder("resnet50.a1_in1")
    assert "resnet50.a1_in1k" in caught.value.hint
    with pytest.raises(VssError, match=r"no encoder named 'resnet50\.'"):
        require_encoder("resnet50.")
    with pytest.raises(VssError, match="no encoder named 'hf-hub:a/b'"):
        require_encoder("hf-hub:a/b")


def test_names_of_encoders_need_no_torch() -> None:
    script = (
        "import sys\nfrom vsscli.models.encoders import require_encoder\n"
        "require_encoder('tf_efficientnet_lite0')\nrequire_encoder('convnext_tiny.fb_in22k_ft_in1k')\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("model", "place", "words"),
    [
        ("{encoder: resnet5}", "model.encoder", ("resnet5", "did you mean resnet5")),
        ("{family: mask2former, backbone: swin_xl}", "model.backbone", ("backbone 'swin_xl'", "swin_l")),
    ],
)
def test_validation_knows_networks_by_name(tmp_path: Path, model: str, place: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nmodel: {model}\n")
    (fault,) = validate_recipe(path, files=False)
    assert place in str(fault)
    assert all(word in str(fault) for word in words)
    assert run(["recipe", "validate", str(path), "--no-files"]) == 2


def test_the_last_line_promises_no_more_than_was_looked_at(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--data", str(root)]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("no fault found")
    assert f"not checked:\n  street: no split 'test' in {root}" in captured.out
    for path in (root / "data").glob("*/mask/*.png"):
        write_mask(path, np.resize(np.uint8([0, 1, 2]), SIZE))
    assert run(["doctor", "--data", str(root), "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["ok"] is True
    assert [said["remedy"] for said in told["warnings"]] == [
        "if masks count classes from 0, set data.first_id: 0 and data.void_ids: [255]"
    ] * 2
    assert captured.err.splitlines()[-1].startswith("no fault found, but 2 warnings are listed: masks of split")
    assert run(["doctor", "--json"]) == 0
    assert "data: name a folder" in capsys.readouterr().out
