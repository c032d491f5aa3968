"""Validation: the part of a split that counts, and figures that do not depend on who predicts which frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from small import small_recipe, with_scene

from vsscli.data.layouts import open_dataset
from vsscli.data.videos import FolderVideo, Frame
from vsscli.models.build import build_network
from vsscli.recipes.schema import Recipe
from vsscli.talk import Talk
from vsscli.training import validation
from vsscli.training.validation import Peers, chosen, validate


def videos(*lengths: int, every: int = 1) -> list[FolderVideo]:
    """Videos in which the last of ``every`` frames has a mask."""

    def frame(video: str, t: int) -> Frame:
        return Frame(video, f"{t}", Path(f"{t}.jpg"), None if (t + 1) % every else Path(f"{t}.png"))

    return [
        FolderVideo(f"v{number}", tuple(frame(f"v{number}", t) for t in range(length)))
        for number, length in enumerate(lengths)
    ]


def lengths(split: Sequence[FolderVideo], most: int | None) -> dict[str, int]:
    return {video.name: len(video) for video in chosen(split, most)}


def test_a_part_of_a_split_is_of_videos_at_even_distances() -> None:
    split = videos(*[10] * 8)
    assert lengths(split, None) == lengths(split, 80) == {f"v{number}": 10 for number in range(8)}
    assert lengths(split, 40) == {"v0": 10, "v2": 10, "v4": 10, "v6": 10}
    assert lengths(split, 35) == {"v0": 10, "v2": 10, "v4": 10, "v6": 5}
    assert lengths(videos(101), 40) == {"v0": 40}  # of a single video its beginning
    assert lengths(videos(100, 1, 1), 40) == {"v0": 40}


def test_frames_without_masks_do_not_count_in_the_part_of_a_split() -> None:
    split = videos(3, 20, 3, 20, every=5)  # the short ones have no mask
    assert lengths(split, 8) == lengths(split, None) == {"v0": 3, "v1": 20, "v2": 3, "v3": 20}
    assert lengths(split, 4) == {"v1": 20}
    assert lengths(split, 1) == {"v1": 5}


def count(some: Sequence[str], threads: int, talk: Talk) -> Iterator[list[str]]:
    yield list(some)


def test_processes_get_neighbouring_videos_of_about_as_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[list[list[str]]] = []
    monkeypatch.setattr(validation.torch.distributed, "all_gather_object", lambda every, own: gathered.append(own))
    names, sizes = list("abcdefg"), [5, 30, 5, 10, 10, 10, 20]
    shares = []
    for rank in range(3):
        with pytest.raises(TypeError):  # the others' results are missing here
            list(Peers(1, rank=rank, world=3).map("score", count, names, sizes))
        shares.append([name for results in gathered.pop() for name in results])
    assert [name for share in shares for name in share] == names
    assert [sum(sizes[names.index(name)] for name in share) for share in shares] == [35, 25, 30]
    assert list(Peers(1).map("score", count, names, sizes)) == [names]
    assert list(Peers(1).map("score", count, ["a", "b", "c"], [0, 3, 0])) == [["a", "b", "c"]]  # 0: without masks


def test_videos_without_masks_may_be_anywhere_in_the_split(tmp_path: Path) -> None:
    recipe = with_scene(small_recipe(tmp_path / "data"), val_videos=2)
    dataset = open_dataset(recipe.data)
    torch.manual_seed(0)
    network = build_network(recipe.model, dataset.table.num_classes, load_pretrained=False).eval()
    _, last = dataset.split("val")
    for frame in last.frames:
        assert frame.mask is not None
        frame.mask.unlink()
    figures = validate(network, dataset, recipe, Fabric(accelerator="cpu", devices=1))
    assert figures["miou"] is not None


def test_figures_do_not_depend_on_the_number_of_frames_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(tmp_path / "data")
    dataset = open_dataset(recipe.data)
    torch.manual_seed(0)
    network = build_network(recipe.model, dataset.table.num_classes, load_pretrained=False).eval()
    fabric = Fabric(accelerator="cpu", devices=1)
    found = []
    for batch in (1, 4, 8):
        monkeypatch.setattr(validation, "BATCH", batch)
        found.append(validate(network, dataset, recipe, fabric))
    assert found[0] == found[1] == found[2]
    assert found[0]["miou"] is not None
    part = Recipe.model_validate(
        {**(values := recipe.model_dump()), "train": {**values["train"], "validate_frames": 3}}
    )
    assert validate(network, dataset, part, fabric) != found[0]
