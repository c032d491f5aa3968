"""Scoring PNG files gives the figures of VSPW's official scripts and of other published ones."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_samples import Small, table_of, write_labels, write_video

from vsscli.data.masks import MaskIds
from vsscli.engine.engine import Engine
from vsscli.evaluation.score import FolderLabels, score

FIXTURES = Path(__file__).parent / "fixtures"
OFFICIAL = json.loads((FIXTURES / "vspw_metrics.json").read_text())
EXACT = OFFICIAL["exact_from_official_functions"]
SCRIPTS = OFFICIAL["official_script_outputs"]["raw"]
PALETTE = bytes(range(256)) * 3


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The fixture's videos as files: grey ground truth, palette predictions in every other video."""
    root = tmp_path_factory.mktemp("vspw")
    videos = []
    with np.load(FIXTURES / "vspw_metrics.npz") as arrays:
        for number, name in enumerate(OFFICIAL["video_order"]):
            videos.append(write_video(root, name, arrays[f"gtraw_{name}"]))
            write_labels(root, name, arrays[f"pred_{name}"], PALETTE if number % 2 else b"")
    return videos, root / "labels"


def test_protocol_vspw_gives_the_official_figures(official: Small) -> None:
    videos, labels = official
    metrics = ["miou", "wiou", "acc", "class_acc", "vc8", "vc16"]
    figures = score(videos, FolderLabels(labels), table_of(124), MaskIds(), metrics=metrics)
    names = ["mIoU", "weighted_IoU", "Acc", "Acc_class", "VC8_raw", "VC16_raw"]
    for metric, name in zip(metrics, names, strict=True):
        assert figures.values[metric] == pytest.approx(EXACT[name], abs=1e-12), name
    assert figures.notes["windows"] == {f"vc{n}": EXACT[f"VC{n}_raw_n_windows"] for n in (8, 16)}
    assert (figures.videos, figures.left_out) == (10, 0)
    assert figures.frames == sum(len(video) for video in videos)


def test_protocol_mapped_changes_consistency_alone(official: Small) -> None:
    videos, labels = official
    figures = score(videos, FolderLabels(labels), table_of(124), MaskIds(), protocol="mapped")
    assert figures.values["miou"] == pytest.approx(EXACT["mIoU"], abs=1e-12)
    assert [figures.values[f"vc{n}"] for n in (8, 16)] == pytest.approx(
        [EXACT["VC8_mapped"], EXACT["VC16_mapped"]], abs=1e-12
    )


def test_protocol_pooled_gives_what_dvis_plus_prints(official: Small) -> None:
    videos, labels = official
    figures = score(videos, FolderLabels(labels), table_of(124), MaskIds(), protocol="pooled")
    printed = SCRIPTS["DVIS_Plus.eval_vc_vspw(VC8,VC16 with the reset bug)"]
    assert [figures.values["vc8"], figures.values["vc16"]] == pytest.approx(printed, abs=1e-12)


class NoLabelsOfShortVideos:
    """A folder's labels that must not be asked for videos of 16 or fewer frames."""

    def __init__(self, labels: FolderLabels, allowed: set[str]) -> None:
        self.labels, self.allowed = labels, allowed

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        assert video in self.allowed
        return self.labels.label(video, index, stem)

    def place(self, video: str, stem: str) -> str:
        return self.labels.place(video, stem)


@pytest.mark.parametrize(
    "metrics", [["acc", "class_acc", "miou", "wiou", "vc8", "vc16"], ["acc", "class_acc", "miou", "wiou"]]
)
def test_protocol_cffm_gives_what_cffm_prints_and_never_opens_short_videos(official: Small, metrics: list[str]) -> None:
    videos, labels = official
    source = NoLabelsOfShortVideos(FolderLabels(labels), {video.name for video in videos if len(video) > 16})
    figures = score(videos, source, table_of(124), MaskIds(), metrics=metrics, protocol="cffm")
    lines = SCRIPTS["VSS-CFFM.VC_perclip(VC16,VC8; +mIoU on videos>16 only)"]
    line = next(line for line in lines if line.startswith("Acc, Acc_class"))
    printed = ast.literal_eval(line.split(":", 1)[1].strip().replace("np.float64", ""))
    assert [figures.values[metric] for metric in metrics[:4]] == pytest.approx(printed, abs=1e-12)
    if "vc8" in metrics:
        for n in (8, 16):
            printed_vc = next(float(x.split()[2]) for x in lines if x.startswith(f"VC{n} "))
            assert figures.values[f"vc{n}"] == pytest.approx(printed_vc, abs=1e-12)
    assert figures.left_out == 4


def test_any_number_of_processes_gives_the_same_figures(official: Small) -> None:
    videos, labels = official
    one, two = (
        score(videos, FolderLabels(labels), table_of(124), MaskIds(), engine=Engine(workers)).to_json(per_class=True)
        for workers in (1, 2)
    )
    assert one == two
