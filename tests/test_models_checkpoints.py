"""A checkpoint is complete, describes itself, runs no code, and is refused if it has changed."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_samples import CONFIG, HALF, refused, tiny
from network_samples import CONFIGS

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models import checkpoints
from vsscli.models.build import build_network
from vsscli.models.checkpoints import (
    Checkpoint,
    fingerprint_of,
    load_checkpoint,
    restore_network,
    save_checkpoint,
)
from vsscli.models.network import Normalisation


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "last.pt"


def test_everything_comes_back(path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    optimiser = torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.full((2, 2), 0.5)
    optimiser.step()
    written = tiny(training={"optimiser": optimiser.state_dict(), "best": 0.25, "raw": None, "pair": (1, "x")})
    save_checkpoint(path, written)
    read = load_checkpoint(path)
    for field in ("network", "table", "normalisation", "recipe", "figures", "step", "fingerprint"):
        assert getattr(read, field) == getattr(written, field)
    assert len(read.fingerprint) == 64
    assert read.path == path
    assert list(read.weights) == list(written.weights)
    for name, tensor in written.weights.items():
        assert read.weights[name].dtype == tensor.dtype
        assert torch.equal(read.weights[name], tensor)
    assert read.training is not None
    assert (read.training["best"], read.training["raw"], read.training["pair"]) == (0.25, None, (1, "x"))
    other = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2, 2))])
    other.load_state_dict(read.training["optimiser"])
    assert torch.equal(other.state_dict()["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])


def test_the_file_is_a_torch_zip_of_tensors_and_one_json_text(path: Path) -> None:
    save_checkpoint(path, tiny())
    content = torch.load(path, weights_only=True)
    assert set(content) == {"weights", "vss"}
    about = json.loads(content["vss"])
    assert about["format"] == 1
    assert about["normalisation"] == {"mean": [127.5] * 3, "std": [127.5] * 3}
    assert [row["name"] for row in about["classes"]["classes"]] == ["road", "sky", "Straße"]


def test_the_description_can_be_had_without_the_weights(path: Path) -> None:
    save_checkpoint(path, tiny(training={"best": 1.0}))
    read = load_checkpoint(path, weights=False)
    assert (read.weights, read.training, read.step, read.figures) == ({}, None, 12, {"miou": 0.5})
    assert read.fingerprint == load_checkpoint(path).fingerprint


def test_equal_content_makes_equal_bytes_under_any_name(path: Path, tmp_path: Path) -> None:
    save_checkpoint(path, tiny(training={"moment": torch.ones(3)}))
    save_checkpoint(tmp_path / "other-name.pt", tiny(training={"moment": torch.ones(3)}))
    assert path.read_bytes() == (tmp_path / "other-name.pt").read_bytes()


def test_a_view_of_something_large_is_saved_alone(path: Path) -> None:
    save_checkpoint(path, tiny(weights={"slice": torch.zeros(1_000_000)[:2]}))
    assert path.stat().st_size < 10_000


def test_the_layout_of_training_state_is_kept(path: Path) -> None:
    # A fused optimiser walks parameters and moments through memory side by side.
    moment = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    save_checkpoint(path, tiny(training={"moment": moment}))
    read = load_checkpoint(path).training
    assert read is not None
    assert read["moment"].stride() == moment.stride()
    assert torch.equal(read["moment"], moment)


def test_training_state_that_could_not_be_loaded_again_is_refused(path: Path) -> None:
    with pytest.raises(TypeError, match=r"training/'rng'/0 of a checkpoint is a \w*Path"):
        save_checkpoint(path, tiny(training={"rng": [Path("x")]}))
    assert not path.exists()


class TestFingerprint:
    def of(self, **changes: Any) -> str:
        checkpoint = tiny(**changes)
        return fingerprint_of(checkpoint.weights, checkpoint.network, checkpoint.normalisation)

    def test_does_not_depend_on_order_layout_or_where_the_first_weights_came_from(self) -> None:
        weights = tiny().weights
        turned = dict(reversed(weights.items()))
        turned["image"] = turned["image"].to(memory_format=torch.channels_last)
        assert self.of(weights=turned) == self.of()
        assert self.of(network={**CONFIG, "pretrained": "elsewhere.pth"}) == self.of()

    def test_does_not_depend_on_recipe_figures_and_step(self) -> None:
        assert self.of(recipe={}, figures={"miou": 0.9}, step=99) == self.of()

    @pytest.mark.parametrize(
        "weights",
        [
            {"b": torch.arange(4.0).view(4, 1)},  # another shape
            {"b": torch.arange(4).view(2, 2)},  # another type
            {"b": torch.tensor([[0.0, 1.0], [2.0, 3.0000002]])},  # the last bit
            {"c": torch.arange(4.0).view(2, 2)},  # another name
        ],
    )
    def test_changes_with_name_type_shape_and_every_bit(self, weights: dict[str, torch.Tensor]) -> None:
        assert self.of(weights=weights) != self.of(weights={"b": torch.arange(4.0).view(2, 2)})

    def test_changes_with_configuration_and_normalisation(self) -> None:
        assert self.of(network={**CONFIG, "channels": 32}) != self.of()
        assert self.of(normalisation=replace(HALF, mean=(0.0, 0.0, 0.0))) != self.of()

    def test_is_the_same_on_every_machine(self) -> None:
        # sha256 of the text {"network":{},"normalisation":{"mean":[0.0,0.0,0.0],"std":[1.0,1.0,1.0]}}, then
        # "w torch.float32 (2,)\n", then the bytes 0000803f 00000040 (1.0 and 2.0, little end first); by coreutils.
        unit = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        expected = "f8b96ede7b280ec9487c02f563a10e7bbcf23c72cfa822fb26ac3d773ae08c35"
        assert fingerprint_of({"w": torch.tensor([1.0, 2.0])}, {}, unit) == expected


class TestWhatIsNotACheckpoint:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        refused(tmp_path / "no.pt", "does not exist")

    def test_a_folder(self, tmp_path: Path) -> None:
        refused(tmp_path, "is a folder")

    @pytest.mark.parametrize(
        ("content", "message"), [(b"", "is empty"), (b"hello", "of another kind"), (b"PK\x03\x04oh", "read")]
    )
    def test_junk(self, content: bytes, message: str, tmp_path: Path) -> None:
        (tmp_path / "junk.pt").write_bytes(content)
        refused(tmp_path / "junk.pt", message)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_a_truncated_file(self, share: float, path: Path) -> None:
        save_checkpoint(path, tiny())
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, "truncated")

    def test_any_damaged_byte_is_an_error_or_harmless(self, path: Path) -> None:
        weights = {"w": torch.full((50,), 7.0), "v": torch.tensor([1, 2])}
        written = tiny(weights=weights, training={"moment": torch.full((50,), 3.0), "best": 0.5})
        save_checkpoint(path, written)
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[place] ^= 0x10
            path.write_bytes(damaged)
            try:
                read = load_checkpoint(path)
            except VssError:
                continue
            assert all(torch.equal(read.weights[name], tensor) for name, tensor in weights.items())
            assert (read.recipe, read.figures, read.step) == (written.recipe, written.figures, written.step)
            assert read.training is not None
            assert torch.equal(read.training["moment"], torch.full((50,), 3.0))

    @pytest.mark.parametrize("zipped", [True, False], ids=["torch", "pickle"])
    def test_one_that_would_run_code(self, zipped: bool, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, tuple[str]]:
                return os.mkdir, (str(tmp_path / "sprung"),)

        path = tmp_path / "trap.pt"
        if zipped:
            torch.save({"vss": "{}", "weights": Trap()}, path)
        else:
            path.write_bytes(pickle.dumps({"vss": "{}", "weights": Trap()}))
        refused(path, r"would run code when loaded: it asks for posix\.mkdir")
        assert not (tmp_path / "sprung").exists()

    def test_a_whole_pickled_module(self, tmp_path: Path) -> None:
        torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
        refused(tmp_path / "module.pt", r"it asks for torch\.nn\.modules\.linear\.Linear")

    @pytest.mark.parametrize("zipped", [True, False])
    def test_one_of_another_program(self, zipped: bool, tmp_path: Path) -> None:
        path = tmp_path / "other.pth"
        torch.save({"meta": {}, "state_dict": {"w": torch.zeros(2)}}, path, _use_new_zipfile_serialization=zipped)
        error = refused(path, r"not a vss checkpoint: it holds 2 entries \(meta, state_dict\)")
        assert "only checkpoints that vss wrote" in error.hint

    def test_one_of_a_newer_format(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoints, "TRUNKLESS", 4)
        save_checkpoint(path, replace(tiny(), trunk="0" * 64))
        assert "upgrade" in refused(path, "has format 4, of vss .*; this vss reads up to 3").hint

    @pytest.mark.parametrize(
        "about",
        [
            "not json",
            "[]",
            '{"format": 1}',
            '{"format": "x"}',
            '{"format": Infinity}',
            '{"format": 1e400}',
            '{"format": ' + "9" * 5000 + "}",
            '{"format": 1, "network": ' + "[" * 500 + "]" * 500 + "}",
            '{"format": 1, "format": 1}',
            '{"format": 1, "network": "\\ud800"}',
        ],
        ids=range(10),
    )
    def test_one_whose_description_is_broken(self, about: str, path: Path) -> None:
        path.parent.mkdir()
        torch.save({"vss": about, "weights": {}}, path)
        refused(path, "is damaged")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("step", math.inf),
            ("step", -1),
            ("step", True),
            ("network", {"family": "light", "dropout": math.nan}),
            ("normalisation", {"mean": [0, 0, math.nan], "std": [1, 1, 1]}),
            ("normalisation", {"mean": [0, 0, 0], "std": [1, 1, math.inf]}),
            ("inputs", 3),
        ],
    )
    def test_one_whose_description_says_what_can_not_be(self, name: str, value: object, path: Path) -> None:
        save_checkpoint(path, tiny())
        content = torch.load(path, weights_only=True)
        torch.save({**content, "vss": json.dumps({**json.loads(content["vss"]), name: value})}, path)
        refused(path, "is damaged")

    def test_figures_may_be_no_numbers(self, path: Path) -> None:
        save_checkpoint(path, tiny(figures={"iou": [0.5, math.nan]}))
        assert math.isnan(load_checkpoint(path).figures["iou"][1])

    @pytest.mark.parametrize(
        ("kind", "tensor"),
        [
            ("it holds a sparse tensor", torch.eye(3).to_sparse()),
            ("it holds a tensor without numbers", torch.empty(10**9, device="meta")),
            ("a storage has an unknown type", torch.ones(2, dtype=torch.complex64)),
        ],
    )
    def test_one_of_tensors_that_no_network_has(self, kind: str, tensor: torch.Tensor, path: Path) -> None:
        path.parent.mkdir()
        torch.save({"vss": "{}", "weights": {"w": tensor}}, path)
        error = refused(path, kind)
        assert "would run code" not in error.message

    @pytest.mark.parametrize("names", [[3], ["a", 3], [("a", "b")]])
    def test_one_of_tensors_without_names(self, names: list[Any], path: Path) -> None:
        save_checkpoint(path, tiny())
        content = torch.load(path, weights_only=True)
        torch.save({**content, "weights": {name: torch.zeros(1) for name in names}}, path)
        refused(path, "its weights are not tensors")

    def test_one_whose_weights_were_exchanged(self, path: Path) -> None:
        save_checkpoint(path, tiny())
        content = torch.load(path, weights_only=True)
        content["weights"]["b"] += 1
        torch.save(content, path)
        refused(path, "its weights have fingerprint")

    def test_one_whose_training_state_was_exchanged_or_lost(self, path: Path) -> None:
        save_checkpoint(path, tiny(training={"best": 0.5}))
        content = torch.load(path, weights_only=True)
        content["training"]["best"] = 0.6
        torch.save(content, path)
        refused(path, "its training state differs")
        del content["training"]
        torch.save(content, path)
        refused(path, "its training state differs")


class TestWriting:
    def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_checkpoint(path, tiny())
        before = path.read_bytes()

        def interrupted(content: Any, file: Any) -> None:
            file.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(checkpoints.torch, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, tiny(step=13))
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == ["last.pt"]

    def test_an_interruption_inside_of_torchs_writer_stays_one(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save = torch.save

        class Interrupted:
            def write(self, data: bytes) -> int:
                raise KeyboardInterrupt

        monkeypatch.setattr(checkpoints.torch, "save", lambda content, file: save(content, Interrupted()))
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, tiny())
        assert os.listdir(path.parent) == []

    @pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="the system has no file size limit")
    def test_a_full_disk_is_named(self, path: Path) -> None:
        import resource

        save_checkpoint(path, tiny())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            with pytest.raises(VssError, match=r"last\.pt can't be written: File too large"):
                save_checkpoint(path, tiny(weights={"w": torch.zeros(100_000)}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert load_checkpoint(path).step == 12
        assert os.listdir(path.parent) == ["last.pt"]


class TestRestoring:
    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        network = build_network(CONFIG, 3, load_pretrained=False)
        return tiny(weights=network.state_dict())

    def test_takes_no_random_numbers(self, checkpoint: Checkpoint) -> None:
        torch.manual_seed(4)
        restore_network(checkpoint)
        after = torch.rand(3)
        torch.manual_seed(4)
        assert torch.equal(torch.rand(3), after)

    def test_normalises_as_the_checkpoint_says(self, checkpoint: Checkpoint) -> None:
        other = replace(HALF, mean=(1.0, 2.0, 3.0))
        assert restore_network(replace(checkpoint, normalisation=other)).normalisation == other

    def test_names_missing_and_surplus_tensors(self, checkpoint: Checkpoint) -> None:
        checkpoint.weights = {**checkpoint.weights, "teacher.weight": torch.zeros(1)}
        del checkpoint.weights["decoder.classify.bias"]
        with pytest.raises(VssError) as caught:
            restore_network(checkpoint)
        assert "1 tensors are missing (decoder.classify.bias)" in caught.value.message
        assert "1 tensors are surplus (teacher.weight)" in caught.value.message

    def test_names_tensors_of_another_number_of_classes(self, checkpoint: Checkpoint) -> None:
        two = ClassTable("two", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
        with pytest.raises(VssError, match=r"decoder.classify.weight is \(3, 16, 1, 1\), not \(2, 16, 1, 1\)"):
            restore_network(replace(checkpoint, table=two))


@pytest.mark.parametrize("name", ["eomt", "vit-adapter"])
def test_weights_that_a_recipe_starts_from_are_checked_like_any_checkpoint(name: str, path: Path) -> None:
    config = CONFIGS[name].config
    network = build_network(config, 3, load_pretrained=False)
    save_checkpoint(path, tiny(network=dict(config), weights=network.state_dict()))
    content = torch.load(path, weights_only=True)
    content["weights"][next(iter(content["weights"]))].view(-1)[0] += 1
    torch.save(content, path)
    with pytest.raises(VssError, match=r"last\.pt has changed since it was written"):
        build_network({**config, "pretrained": str(path)}, 3, load_pretrained=True)


@pytest.mark.parametrize("name", ["light-resnet", "eomt", "swin"])
def test_a_home_folder_that_nobody_has_holds_no_weights(name: str) -> None:
    with pytest.raises(VssError, match=r"weights ~nobody-here/w\.pth does not exist"):
        build_network({**CONFIGS[name].config, "pretrained": "~nobody-here/w.pth"}, 3, load_pretrained=True)
