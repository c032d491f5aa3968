"""A checkpoint in shares is read as the whole file would be, at any moment, and refused if its shares do not fit."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_samples import refused, tiny
from network_samples import CLASSES, CONFIGS
from share_samples import Change, rename_shares, save_shared, write_shares
from store_crashes import dead_process, part_of
from store_samples import snapshot
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from vsscli.errors import VssError
from vsscli.models import checkpoints
from vsscli.models.build import build_network
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, make_whole, save_checkpoint
from vsscli.models.saved import over_leaves
from vsscli.models.shares import parted
from vsscli.pipeline.convert import convert_checkpoint

MOMENT = torch.arange(14.0).view(7, 2)
MORE = {**tiny().weights, "a": torch.ones(5)}


def learning(step: int = 12, **changes: Any) -> Checkpoint:
    """A checkpoint that training can continue from. Of 3 processes the last has 1 of 7 rows, and none of 2."""
    training = {"optimiser": {"state": {0: {"step": torch.tensor(3.0), "moment": MOMENT}}, "groups": [(1, 2)]}}
    return tiny(training={**training, "raw": None, "best": 0.5}, step=step, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "last.pt"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The same as one file."""
    save_checkpoint(tmp_path / "whole.pt", learning())
    return tmp_path / "whole.pt"


def assert_same(found: Any, expected: Any) -> None:
    def compare(leaf: Any, other: Any) -> None:
        assert type(leaf) is type(other)
        assert (
            torch.equal(leaf, other) and leaf.dtype == other.dtype if isinstance(leaf, torch.Tensor) else leaf == other
        )

    leaves: list[list[Any]] = [[], []]
    for value, into in zip((found, expected), leaves, strict=True):
        over_leaves(value, lambda leaf, place, into=into: into.append((place, leaf)))
    assert [place for place, _ in leaves[0]] == [place for place, _ in leaves[1]]
    for (_, leaf), (_, other) in zip(*leaves, strict=True):
        compare(leaf, other)


class TestReading:
    @pytest.mark.parametrize("processes", [1, 2, 3, 9])
    def test_shares_are_read_as_the_whole_file(self, path: Path, whole: Path, processes: int) -> None:
        files = save_shared(path, learning(), processes)
        assert sorted(files) == sorted(path.with_name("last.pt.shares").iterdir())
        read, expected = load_checkpoint(path), load_checkpoint(whole)
        assert_same(read.weights, expected.weights)
        assert_same(read.training, expected.training)
        assert replace(read, weights={}, training=None, path=None) == replace(
            expected, weights={}, training=None, path=None
        )

    def test_the_description_needs_no_share_and_has_the_fingerprint_of_the_whole(self, path: Path, whole: Path) -> None:
        for file in save_shared(path, learning()):
            file.unlink()
        read = load_checkpoint(path, weights=False)
        assert (read.step, read.weights, read.training) == (12, {}, None)
        assert read.fingerprint == load_checkpoint(whole).fingerprint

    def test_versions_before_say_to_upgrade(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_shared(path, learning())
        monkeypatch.setattr(checkpoints, "FORMAT", 2)
        with pytest.raises(VssError, match="has format 3") as refused:
            load_checkpoint(path)
        assert "upgrade" in refused.value.hint

    def test_through_a_link_to_the_file(self, path: Path, tmp_path: Path) -> None:
        save_shared(path, learning())
        (tmp_path / "newest.pt").symlink_to(path)
        assert load_checkpoint(tmp_path / "newest.pt").step == 12

    def test_while_the_run_goes_on_and_removes_what_was_named(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_shared(path, learning())
        earlier = [checkpoints.read_torch(path)]
        save_shared(path, learning(step=13))
        real = checkpoints.read_torch
        monkeypatch.setattr(checkpoints, "read_torch", lambda *of: earlier.pop() if earlier else real(*of))
        assert load_checkpoint(path).step == 13

    def test_as_the_weights_that_a_recipe_starts_from(self, path: Path) -> None:
        for name in ("eomt", "vit-adapter"):
            config = CONFIGS[name].config
            network = build_network(config, CLASSES, load_pretrained=False)
            weights = {key: tensor + 0 for key, tensor in network.state_dict().items()}
            save_shared(path, tiny(network=dict(config), weights=weights))
            begun = build_network({**config, "pretrained": str(path)}, CLASSES, load_pretrained=True)
            assert_same(dict(begun.state_dict()), weights)


class TestWriting:
    def test_the_next_one_removes_the_shares_of_the_one_before_and_nothing_else(self, path: Path) -> None:
        before = save_shared(path, learning())
        part_of(before[0], dead_process()).touch()
        (before[0].parent / "notes.txt").touch()
        after = save_shared(path, learning(step=14), 2)
        assert sorted(before[0].parent.iterdir()) == sorted([*after, before[0].parent / "notes.txt"])
        assert load_checkpoint(path).step == 14

    def test_of_a_step_that_is_saved_again_only_what_differs_is_written(self, path: Path) -> None:
        before = {file: file.stat().st_ino for file in save_shared(path, learning())}
        scored = learning(figures={"miou": 0.25})
        assert {file: file.stat().st_ino for file in save_shared(path, scored)} == before
        assert load_checkpoint(path).figures == {"miou": 0.25}
        assert scored.training is not None
        better = replace(scored, training={**scored.training, "best": 0.75})
        first, *others = save_shared(path, better)
        assert first not in before
        assert all(before[file] == file.stat().st_ino for file in others)
        assert_same(load_checkpoint(path).training, better.training)

    def test_the_whole_file_leaves_no_share(self, path: Path) -> None:
        save_shared(path, learning())
        save_checkpoint(path, learning())
        assert os.listdir(path.parent) == ["last.pt"]

    @pytest.mark.parametrize("step", [12, 14])
    def test_a_kill_between_any_two_files_leaves_a_checkpoint_that_can_be_read(
        self, path: Path, step: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when the figures of a step have come, and all is written again."""
        save_shared(path, learning())
        later = learning(step, weights=MORE)
        shares = write_shares(path, later)
        assert_same(load_checkpoint(path).weights, learning().weights)
        monkeypatch.setattr(checkpoints, "remove_shares", lambda *of, **kept: None)
        save_checkpoint(path, replace(later, weights={}, training=None), shares)
        assert len(os.listdir(path.with_name("last.pt.shares"))) == 6
        assert_same(load_checkpoint(path).weights, later.weights)

    def test_nothing_is_written_or_removed_behind_a_link(self, path: Path, others: Path) -> None:
        before = snapshot(others)
        path.parent.mkdir()
        path.with_name("last.pt.shares").symlink_to(others)
        with pytest.raises(VssError, match="is a link"):
            save_shared(path, learning())
        save_checkpoint(path, learning())
        assert snapshot(others) == before

    def test_processes_hold_rows_as_torch_deals_them_out(self) -> None:
        whole, found = torch.arange(10.0).view(5, 2), []
        for rank in range(4):
            torch.distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=4)
            try:
                mesh = init_device_mesh("cpu", (4,))
                shared = distribute_tensor(whole, mesh, [Shard(0)], src_data_rank=None)
                rest, parts = parted({"a": [shared, 1], "b": whole})
            finally:
                torch.distributed.destroy_process_group()
            assert rest["a"] == [None, 1]
            assert rest["b"] is whole
            shape, start, rows = parts["/'a'/0"]
            assert shape == (5, 2)
            assert torch.equal(rows, whole[start : start + len(rows)])
            found.append((start, len(rows)))
        assert found == [(0, 2), (2, 2), (4, 1), (5, 0)]


class TestOneFile:
    def test_in_place_has_the_bytes_of_the_whole_file(self, path: Path, whole: Path) -> None:
        save_shared(path, learning())
        for _ in range(2):
            make_whole(path)
            assert path.read_bytes() == whole.read_bytes()
            assert os.listdir(path.parent) == ["last.pt"]

    def test_elsewhere_too_and_options_of_published_files_are_refused(self, path: Path, whole: Path) -> None:
        files = save_shared(path, learning())
        with pytest.raises(VssError, match="--crop says nothing"):
            convert_checkpoint(path, path.with_name("one.pt"), crop=64)
        done = convert_checkpoint(path, path.with_name("one.pt"))
        assert done.path.read_bytes() == whole.read_bytes()
        assert (done.fingerprint, done.classes, done.loaded) == (load_checkpoint(whole).fingerprint, 3, 5)
        assert all(file.exists() for file in files)
        with pytest.raises(VssError, match="already exists"):
            convert_checkpoint(path, done.path)
        with pytest.raises(VssError, match="nothing to convert"):
            convert_checkpoint(done.path, path.with_name("two.pt"))


PLACE = "/'training'/'optimiser'/'state'/0/'moment'"


def shift(parts: dict[str, Any], this: bool, by: int) -> None:
    shape, start, rows = parts[PLACE]
    parts[PLACE] = (shape, start + by * this, rows)


def cut(parts: dict[str, Any], this: bool) -> None:
    shape, start, rows = parts[PLACE]
    parts[PLACE] = (shape, start, rows[: len(rows) - this])


def claim(parts: dict[str, Any], this: bool, shape: tuple[int, ...]) -> None:
    parts[PLACE] = (shape if this else parts[PLACE][0], *parts[PLACE][1:])


def retype(parts: dict[str, Any], this: bool) -> None:
    shape, start, rows = parts[PLACE]
    parts[PLACE] = (shape, start, rows.double() if this else rows)


FOREIGN = r"share .*-0-of-3-.*\.pt is not one that vss wrote"
BROKEN: dict[str, tuple[str, Change]] = {
    "overlap": ("from row 2", lambda rank, parts: shift(parts, rank == 1, -1)),
    "hole": ("from row 4", lambda rank, parts: shift(parts, rank == 1, 1)),
    "too few": ("up to row 6 of 7", lambda rank, parts: cut(parts, rank == 2)),
    "claim": ("of \\(9, 2\\)", lambda rank, parts: claim(parts, rank == 2, (9, 2))),
    "all claim": ("up to row 7 of 9", lambda rank, parts: claim(parts, True, (9, 2))),
    "wide": ("of \\(7, 3\\)", lambda rank, parts: claim(parts, True, (7, 3))),
    "type": ("float64", lambda rank, parts: retype(parts, rank == 1)),
    "lacking": ("parts of other tensors", lambda rank, parts: parts.pop(PLACE) if rank == 1 else None),
    "surplus": ("which it lacks", lambda rank, parts: parts.update(x=((1,), 0, torch.ones(int(rank == 0))))),
    "no rows": (FOREIGN, lambda rank, parts: parts.update({PLACE: ((7, 2), 0, None)})),
    "no number": (FOREIGN, lambda rank, parts: parts.update({PLACE: ((7, 2), "0", MOMENT)})),
    "no part": (FOREIGN, lambda rank, parts: parts.update({PLACE: 1})),
    "no shape": ("damaged", lambda rank, parts: claim(parts, True, ())),
}


class TestRefusals:
    def test_a_folder_that_was_not_copied_along(self, path: Path, tmp_path: Path) -> None:
        files = save_shared(path, learning())
        (tmp_path / "copy.pt").write_bytes(path.read_bytes())
        error = refused(tmp_path / "copy.pt", r"copy\.pt\.shares.*is missing")
        assert "vss convert" in error.hint
        files[1].unlink()
        assert files[1].name in refused(path, "is missing").message

    @pytest.mark.parametrize("number", [0, 2])
    def test_a_damaged_share_and_one_of_another_step(self, path: Path, number: int) -> None:
        files = save_shared(path, learning())
        others = save_shared(path.with_name("other.pt"), tiny(weights=MORE))
        files[number].write_bytes(others[number].read_bytes())
        assert files[number].name in refused(path, "damaged, or another").message
        files[number].write_bytes(files[number].read_bytes()[:-100])
        with pytest.raises(VssError, match=re.escape(files[number].name)):
            load_checkpoint(path)

    @pytest.mark.parametrize("name", ["../one.pt", "a/b.pt", "", "..", "a\x00b"])
    def test_a_name_that_leads_elsewhere(self, path: Path, name: str) -> None:
        (file, *_) = save_shared(path, learning())
        (path.parent / "one.pt").write_bytes(file.read_bytes())
        rename_shares(path, [(name, "0" * 64)])
        refused(path, "its share .* (slash|folder|empty|control)")

    def test_a_share_that_is_a_link(self, path: Path, tmp_path: Path) -> None:
        (_, file, _) = save_shared(path, learning())
        file.rename(tmp_path / "moved")
        file.symlink_to(tmp_path / "moved")
        with pytest.raises(VssError, match="is a link"):
            load_checkpoint(path)

    def test_names_that_are_none(self, path: Path) -> None:
        save_shared(path, learning())
        for shares in ("x", [1], [("a", 1)], [("a",)], {"a": "b"}, [["a", "b"]], torch.zeros(1)):
            rename_shares(path, shares)
            refused(path, "not pairs")
        rename_shares(path, [("a", "b"), ("a", "c")])
        refused(path, "twice")

    @pytest.mark.parametrize("fault", BROKEN)
    def test_shares_that_do_not_fit_together(self, path: Path, fault: str) -> None:
        message, change = BROKEN[fault]
        save_shared(path, learning())
        rename_shares(path, write_shares(path, learning(), change=change))
        refused(path, message)
