"""Networks of mmsegmentation, as far as they can be tested without it: files, settings, and its absence."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from cli_process import vss
from small import small_recipe, train

from vsscli.data.classes import ClassTable
from vsscli.data.layouts import Dataset
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.checkpoints import Checkpoint
from vsscli.models.cost import outline
from vsscli.models.mmseg import openmmlab
from vsscli.models.mmseg.config import MmsegModel
from vsscli.models.mmseg.files import find_config, read_mmseg_checkpoint, read_mmseg_config
from vsscli.models.mmseg.mmcv_ext import NAME, StandIn, stand_in_for_compiled
from vsscli.models.mmseg.network import centred, number_of_classes, read_preprocessor
from vsscli.models.network import Normalisation
from vsscli.pipeline.source import open_model, take_classes

MODEL = {
    "type": "EncoderDecoder",
    "data_preprocessor": {"type": "SegDataPreProcessor", "mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]},
    "backbone": {
        "type": "ResNet",
        "strides": (1, 2),
        "norm_cfg": {"type": "SyncBN"},
        "init_cfg": {"type": "Pretrained"},
    },
    "decode_head": {"type": "mmseg.models.FCNHead", "num_classes": 3},
    "auxiliary_head": {"type": "FCNHead", "num_classes": 3},
}


class TestTheExtra:
    def test_is_asked_for_by_its_command_where_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(openmmlab, "_version", lambda name: None)
        with pytest.raises(VssError, match="need an extra that is not installed") as caught:
            build_network({"family": "mmseg", "model": MODEL}, 3, load_pretrained=False)
        assert caught.value.hint == 'pip install "vsscli[mmseg]"'

    def test_says_which_versions_do_not_fit_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(name: str) -> ModuleType:
            raise AssertionError("MMCV==2.2.0 is used but incompatible.")

        versions = {"mmsegmentation": "1.2.2", "mmcv": "2.2.0"}
        monkeypatch.setattr(openmmlab, "_version", versions.get)
        monkeypatch.setattr(openmmlab, "stand_in_for_compiled", lambda: True)
        monkeypatch.setattr(openmmlab.importlib, "import_module", refuse)
        with pytest.raises(VssError, match=r"MMCV==2\.2\.0 is used.*mmsegmentation 1\.2\.2, mmcv 2\.2\.0") as caught:
            openmmlab.import_mmseg()
        assert "mmcv-lite 2.1.0" in caught.value.hint

    def test_missing_it_is_two_lines_on_the_command_line(self, tmp_path: Path) -> None:
        try:
            metadata.version("mmsegmentation")
        except metadata.PackageNotFoundError:
            pass
        else:
            pytest.skip("it is installed")
        recipe = tmp_path / "foreign.yaml"
        recipe.write_text("name: foreign\nmodel: {family: mmseg, config: a.py, checkpoint: a.pth}\n")
        for command, option in (("predict", "--model"), ("pseudo", "--models")):
            done = vss(command, option, recipe, cwd=tmp_path)
            assert done.returncode == 2
            assert done.stderr.splitlines()[-1] == 'hint: pip install "vsscli[mmseg]"'


class TestTheStandIn:
    def test_has_every_operator_and_names_the_one_that_is_called(self) -> None:
        module = StandIn()
        assert hasattr(module, "psamask_forward")
        with pytest.raises(VssError, match="this network needs psamask_forward"):
            module.psamask_forward(1, out=2)

    def test_looks_like_a_module_to_those_who_inspect_it(self) -> None:
        assert StandIn().__spec__.name == NAME
        with pytest.raises(AttributeError):
            StandIn().__path__  # noqa: B018

    @pytest.mark.parametrize("compiled", [False, True])
    def test_is_put_in_place_only_where_there_is_no_compiled_one(
        self, compiled: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, NAME, raising=False)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if compiled else None)
        try:
            assert stand_in_for_compiled() is not compiled
            assert (NAME in sys.modules) is not compiled
            assert stand_in_for_compiled() is not compiled
        finally:
            sys.modules.pop(NAME, None)


class TestConfigs:
    def write(self, folder: Path, text: str, name: str = "config.yaml") -> Path:
        path = folder / name
        path.write_text(text)
        return path

    def test_a_dumped_one_is_read_with_its_tuples_and_without_what_only_training_asks_for(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, yaml.dump({"model": MODEL, "train_dataloader": {"batch_size": 2}}))
        assert "!!python/tuple" in path.read_text()
        model = read_mmseg_config(path)["model"]
        assert model["backbone"] == {"type": "ResNet", "strides": (1, 2), "norm_cfg": {"type": "BN"}, "init_cfg": None}
        assert (
            model["decode_head"]["type"] == "mmseg.FCNHead"
        )  # as it is registered; the path is of the pure Python kind
        assert model["auxiliary_head"] is None

    def test_a_dumped_one_runs_nothing(self, tmp_path: Path) -> None:
        sprung = tmp_path / "sprung"
        path = self.write(tmp_path, f"model: !!python/object/apply:os.mkdir ['{sprung}']\n")
        with pytest.raises(VssError, match=r"config\.yaml:1: can't take the tag"):
            read_mmseg_config(path)
        assert not sprung.exists()

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.yaml", "- 1\n", "no keys"),
            ("a.json", "{", "a.json"),
            ("a.json", '{"_base_": "b.py"}', r"builds on b\.py"),
            ("a.yaml", "model: {type: EncoderDecoder}\n", "no model with a data_preprocessor"),
            ("a.txt", "x", r"not a \.py, \.yaml or \.json file"),
        ],
    )
    def test_what_is_none_is_refused(self, name: str, text: str, message: str, tmp_path: Path) -> None:
        with pytest.raises(VssError, match=message) as caught:
            read_mmseg_config(self.write(tmp_path, text, name))
        assert str(tmp_path / name) in caught.value.message
        assert caught.value.hint

    def test_a_missing_one_is_named(self) -> None:
        with pytest.raises(VssError, match=r"config nowhere/a\.py does not exist"):
            find_config("nowhere/a.py")

    def test_the_head_that_counts_says_how_many_classes(self) -> None:
        assert number_of_classes(MODEL) == 3
        assert number_of_classes({"decode_head": [{"num_classes": 2}, {"num_classes": 5}]}) == 5
        assert number_of_classes({"decode_head": {"kernel_generate_head": {"num_classes": 7}}}) == 7
        with pytest.raises(VssError, match="num_classes None"):
            number_of_classes({"decode_head": {}})

    def test_colours_are_normalised_in_our_order(self) -> None:
        values = {"mean": [1, 2, 3], "std": [4, 5, 6]}
        assert read_preprocessor({**values, "bgr_to_rgb": True}) == (Normalisation((1, 2, 3), (4, 5, 6)), True)
        assert read_preprocessor(values) == (Normalisation((3, 2, 1), (6, 5, 4)), False)
        assert read_preprocessor({"mean": [7], "std": [8]})[0] == Normalisation((7, 7, 7), (8, 8, 8))
        assert read_preprocessor({})[0] == Normalisation((0, 0, 0), (1, 1, 1))
        with pytest.raises(VssError, match=r"data_preprocessor\.mean .*three colours"):
            read_preprocessor({"mean": [1, 2, 3, 4], "std": [1, 1, 1, 1]})


class TestCheckpoints:
    @pytest.fixture
    def history(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """mmengine's history of a loss, as a class of the same name and structure."""

        class HistoryBuffer:
            def __init__(self) -> None:
                self.log = np.array([1.0, 2.0])

            def mean(self) -> float:
                return float(self.log.mean())

            def __getstate__(self) -> dict[str, Any]:
                return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}

        module = ModuleType("mmengine.logging.history_buffer")
        HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
        HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = module.__name__, "HistoryBuffer.mean"
        module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
        for name in ("mmengine", "mmengine.logging"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return HistoryBuffer()

    def test_the_history_is_passed_over_and_mmengine_not_imported(
        self, history: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        weights = OrderedDict({"module.backbone.w": torch.ones(2), "module.auxiliary_head.w": torch.ones(1)})
        best = np.float64(0.5)
        content = {
            "meta": {"dataset_meta": {"classes": ("a", "b")}, "seed": 3},
            "state_dict": weights,
            "message_hub": {"log_scalars": {"loss": history}, "runtime_info": {"best": best}},
        }
        torch.save(content, tmp_path / "iter.pth")
        monkeypatch.undo()  # nothing of that name is left to import
        read, meta = read_mmseg_checkpoint(tmp_path / "iter.pth")
        assert list(read) == ["backbone.w"]
        assert torch.equal(read["backbone.w"], torch.ones(2))
        assert meta["dataset_meta"]["classes"] == ("a", "b")

    def test_one_that_would_run_code_is_refused_by_name(self, history: Any, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, tuple[str]]:
                return os.mkdir, (str(tmp_path / "sprung"),)

        torch.save({"state_dict": {"w": torch.ones(1)}, "hub": [history, Trap()]}, tmp_path / "trap.pth")
        with pytest.raises(VssError, match=r"would run code when loaded: it asks for posix\.mkdir"):
            read_mmseg_checkpoint(tmp_path / "trap.pth")
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("content", [{"state_dict": {}}, {"state_dict": {"w": 1}}, [1], {"meta": {}}])
    def test_one_without_weights_is_refused(self, content: Any, tmp_path: Path) -> None:
        torch.save(content, tmp_path / "empty.pth")
        with pytest.raises(VssError, match="no state_dict"):
            read_mmseg_checkpoint(tmp_path / "empty.pth")


class TestAlignedCorners:
    def test_cells_move_from_the_outermost_pixels_to_the_middle_of_theirs(self) -> None:
        # Each cell says which row it lies on: of 3 cells over 24 pixels, rows 0, 11.5 and 23.
        rows = torch.tensor([0.0, 11.5, 23.0]).view(1, 1, 3, 1).expand(1, 1, 3, 4)
        moved = centred(rows, 4, (24, 32))
        assert moved.shape == (1, 1, 6, 8)
        torch.testing.assert_close(moved[0, 0, :, 0], torch.tensor([1.5, 5.5, 9.5, 13.5, 17.5, 21.5]))

    def test_at_stride_1_it_is_the_resize_of_mmsegmentation(self) -> None:
        values = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
        resized = F.interpolate(values, (40, 56), mode="bilinear", align_corners=True)
        torch.testing.assert_close(centred(values, 1, (40, 56)), resized, atol=1e-5, rtol=1e-5)


class TestRecipes:
    def test_one_that_is_yet_to_be_trained_is_no_model(self, tmp_path: Path) -> None:
        path = tmp_path / "student.yaml"
        path.write_text(yaml.safe_dump(small_recipe(tmp_path / "data", "student").model_dump(mode="json")))
        with pytest.raises(VssError, match="not trained yet") as caught:
            open_model(path)
        assert caught.value.hint == f"vss train --recipe {path}, then name its checkpoint, runs/student/last.pt"

    def test_one_of_a_trained_network_is_not_trained(self, tmp_path: Path) -> None:
        model = MmsegModel(family="mmseg", config="a.py", checkpoint="a.pth")
        recipe = small_recipe(tmp_path / "data").model_copy(update={"model": model})
        with pytest.raises(VssError, match="mmseg"):
            train(recipe, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_what_it_costs_is_not_known_before_its_files_are_read(self) -> None:
        with pytest.raises(VssError, match=r"the network of config a\.py"):
            outline(MmsegModel(family="mmseg", config="a.py", checkpoint="a.pth"), 3)

    def test_classes_agree_up_to_spelling_and_are_then_called_as_the_data_set_does(self) -> None:
        ours, theirs = table("street", "traffic light", "sky"), table("ADE20K", "Traffic_Light", "sky")
        checkpoint = Checkpoint({}, {}, theirs, Normalisation((0, 0, 0), (1, 1, 1)), {}, {}, 0)
        take_classes(checkpoint, dataset(ours))
        assert checkpoint.table == ours

    def test_other_classes_are_refused_with_the_first_that_differs(self) -> None:
        checkpoint = Checkpoint({}, {}, table("ADE20K", "wall", "sky"), Normalisation((0, 0, 0), (1, 1, 1)), {}, {}, 0)
        with pytest.raises(VssError, match=r"2 classes of 'ADE20K'.*class 0 is 'wall' there, 'road' here"):
            take_classes(checkpoint, dataset(table("street", "road", "sky")))
        with pytest.raises(VssError, match="has 2 classes of 'ADE20K', root has 1 of 'street'"):
            take_classes(checkpoint, dataset(table("street", "wall")))


def table(name: str, *names: str) -> ClassTable:
    return ClassTable(name, names, tuple((index, 0, 0) for index in range(len(names))))


def dataset(classes: ClassTable) -> Dataset:
    return Dataset("street", Path("root"), classes, None, None)  # type: ignore[arg-type]
