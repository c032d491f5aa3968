"""Reports: their numbers are those of the stores, and foreign names stay text."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listener import Listener
from PIL import Image
from report_samples import FRAMES, HOSTILE, ODD, SIZE, Sample, label_of, make_sample, make_store, truth_of

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.pipeline.evaluate import evaluate
from vsscli.pipeline.export import export_labels
from vsscli.pipeline.report import Report, write_report
from vsscli.report.curves import training_charts
from vsscli.store.reader import open_store


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample"), hostile=True)


@pytest.fixture(scope="module")
def report(sample: Sample) -> Report:
    """Two predictions and pseudo-labels."""
    stores = (sample.flickering, sample.steady)
    return write_report(stores, pseudo=sample.pseudo, context=Context(sample.workspace))


def script(path: Path) -> list[Any]:
    """The arguments that a script calls the page with."""
    match = re.fullmatch(r"vssReport\.\w+\((.*)\);\n", path.read_text())
    assert match is not None
    return json.loads(f"[{match[1]}]")


class Page(HTMLParser):
    """Elements of a page, texts of its table cells, and their values."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_its_scores_are_those_of_eval(sample: Sample, report: Report) -> None:
    assert json.loads((report.folder / "summary.json").read_text()) == json.loads(json.dumps(report.summary))
    assert report.folder == sample.workspace / "report" / "flickering"
    for values, store in zip(report.summary["predictions"], (sample.flickering, sample.steady), strict=True):
        figures = evaluate(store).figures
        assert values["scores"] == figures.plain()
        assert [row["iou"] for row in values["per_class"][:3]] == [
            row["iou"] for row in list(figures.per_class.values())[:3]
        ]
        assert values["per_class"][3]["iou"] is None
        assert {row["name"]: row["vc8"] for row in values["per_video"]} == {
            video.name: video.values["vc8"] for video in figures.per_video
        }


def test_confused_pairs_are_counted_by_hand(report: Report) -> None:
    frames = [t for t in range(FRAMES) if t != 3]
    as_tree = sum((truth_of(t)[20:] == 1).sum() for t in frames if t in (6, 8))
    as_car = sum(((truth_of(t) == 1) & (label_of(t, flickers=True) == 2)).sum() for t in frames)
    road = sum((truth_of(t) == 1).sum() for t in frames)
    pairs = report.summary["predictions"][0]["confused"]
    assert [(pair["truth"], pair["predicted"], pair["pixels"]) for pair in pairs] == [
        (HOSTILE[0], HOSTILE[3], 2 * as_tree),
        (HOSTILE[0], HOSTILE[2], 2 * as_car),
    ]
    assert pairs[0]["share"] == as_tree / road


def test_flickering_stretches_are_found(report: Report) -> None:
    first, second = report.summary["predictions"]
    (stretch,) = first["stretches"]["alley"]
    assert (stretch["by"], stretch["first"], stretch["last"]) == ("vc8", "00004", "00015")
    assert second["stretches"] == {}
    (video, *_) = report.summary["videos"]
    assert video["stretches"] == {"a": [stretch], "b": []}
    facts = script(report.folder / "videos" / "0000.js")[1]
    wanted = np.zeros(FRAMES)
    for t in (6, 7, 8):  # the frame between the two odd ones differs from both, too
        wanted[t] = 4 / SIZE[0]
    assert facts["flicker"] == pytest.approx(wanted.tolist(), abs=0.02)


def test_pictures_are_those_of_the_store(sample: Sample, report: Report) -> None:
    folder = report.folder / "videos" / "0000"
    (_, _, frames) = script(report.folder / "videos" / "0000-0000.js")
    label, truth = label_of(8, flickers=True), truth_of(8)
    differ = np.asarray(Image.open(folder / "00008-differ.png")) > 0
    assert (differ == (label != label_of(8, flickers=False))).all()
    wrong = np.asarray(Image.open(folder / "00008-wrong-a.png")) > 0
    assert (wrong == ((truth != 0) & (label != truth - 1))).all()
    assert frames[8]["differ"] == pytest.approx(differ.mean(), abs=1e-6)
    assert frames[8]["wrong-a"] == pytest.approx(wrong.sum() / (truth > 0).sum(), abs=1e-6)
    shown = np.asarray(Image.open(folder / "00008-labels-a.png"))
    assert ((shown == label) | (shown == 254)).all()
    assert (shown == 254).mean() < 0.2
    assert Image.open(folder / "00008-frame.jpg").size == (SIZE[1], SIZE[0])
    assert script(report.folder / "videos" / "0000.js")[1]["lacking"] == {"truth": [3], "wrong-a": [3], "wrong-b": [3]}
    assert "truth" not in frames[3]["labels"]
    counts = np.bincount(label.ravel(), minlength=4)
    assert frames[8]["labels"]["labels-a"]["shares"] == [
        [int(index), round(float(counts[index] / label.size), 6)]
        for index in np.argsort(-counts, kind="stable")
        if counts[index]
    ]


def test_the_page_shows_the_numbers_of_its_summary(report: Report) -> None:
    page = Page(report.page.read_text())
    shown = [
        float(attrs["data-value"]) for _, attrs in page.tags if attrs.get("data-value") and attrs.get("data-metric")
    ]
    assert shown == [value for one in report.summary["predictions"] for value in one["scores"].values()]
    values = {attrs.get("data-value") for tag, attrs in page.tags if tag == "td"}
    for one in report.summary["predictions"]:
        assert {str(row["iou"]) for row in one["per_class"][:3]} <= values
        assert {str(row["vc8"]) for row in one["per_video"]} <= values
        assert {str(pair["pixels"]) for pair in one["confused"]} <= values
    pseudo = report.summary["reliability"]["pseudo"]
    assert f"{100 * pseudo['coverage']:.2f} %" in " ".join(page.words)
    assert pseudo["coverage"] >= 0.5
    assert pseudo["precision"] > 0.9


def test_foreign_names_stay_text(report: Report) -> None:
    text = report.page.read_text()
    page = Page(text)
    words = "".join(page.words)
    for name in (HOSTILE[0], HOSTILE[1], "\\u202eevil \\x1b[31m", HOSTILE[3], ODD):
        assert name in words
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "vss-data"},
        {"src": "report.js"},
    ]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "img" not in {tag for tag, _ in page.tags}
    assert not set(text) & {"\x1b", "\u202e"}
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", text)  # no server is asked
    names = {path.name for path in report.folder.rglob("*")}
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)


def test_the_second_prediction_may_hold_other_videos_than_the_first(sample: Sample) -> None:
    table = open_store(sample.flickering).header.table
    train = make_store(sample.root, table, ["alley"], sample.workspace / "train" / "steady.zarr", split="train")
    done = write_report([train, sample.flickering], context=Context(sample.workspace))
    assert [video["name"] for video in done.summary["videos"]] == ["alley"]
    assert {*done.summary["predictions"][1]["stretches"]} == {*sample.videos}
    (stretch,) = done.summary["videos"][0]["stretches"]["b"]
    assert (stretch["by"], stretch["first"], stretch["last"]) == ("vc8", "00004", "00015")


def test_frames_that_moved_away_are_said_to_be_missing(tmp_path: Path) -> None:
    sample = make_sample(tmp_path)
    shutil.rmtree(sample.root)
    done = write_report([sample.flickering], context=Context(sample.workspace))
    assert "does not exist" in done.summary["data"]["missing"]
    assert done.summary["predictions"][0]["unscored"] == done.summary["data"]["missing"]
    assert "Labels are shown alone" in done.page.read_text()
    assert done.summary["videos"][0]["layers"] == ["entropy-a", "labels-a"]
    (stretch,) = done.summary["videos"][0]["stretches"]["a"]
    assert (stretch["by"], stretch["first"], stretch["last"]) == ("flicker", "00006", "00008")
    with pytest.raises(VssError, match="does not exist"):
        write_report([sample.flickering], context=Context(sample.workspace, sample.root))


def test_without_masks_there_are_no_scores_and_the_page_says_so(tmp_path: Path) -> None:
    sample = make_sample(tmp_path, masks=False)
    done = write_report(context=Context(sample.workspace), every=4)
    assert "no frame of split 'val' has a mask" in "".join(Page(done.page.read_text()).words)
    assert done.summary["drawn"]["frames"] == 2 * FRAMES / 4
    assert set(done.summary["videos"][0]["layers"]) == {"frame", "entropy-a", "labels-a"}
    run = tmp_path / "run"
    run.mkdir()
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 3, "loss": 0.5, "miou": 0.4}]
    (run / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')
    done = write_report([sample.steady], runs=[run], frames=3, context=Context(sample.workspace), out=tmp_path / "out")
    assert done.summary["networks"][0]["curves"] == {"loss": [(1, 2.0), (3, 0.5)], "miou": [(3, 0.4)]}
    assert "<figure" in done.page.read_text()
    assert done.summary["videos"][0]["drawn"] == 3


def test_a_store_that_lacks_a_video_is_shown_and_handed_out_with_a_word(tmp_path: Path) -> None:
    sample, heard = make_sample(tmp_path, frames=8), Listener()
    shutil.rmtree(sample.steady / "street")
    context = Context(sample.workspace, talk=heard)
    write_report([sample.steady], context=context, every=8)
    export_labels("png", tmp_path / "png", prediction=sample.steady, context=context)
    assert sum("holds 1 of the 2 videos of split 'val', not street" in word for word in heard.warned) == 2


def test_stores_that_do_not_fit_are_refused(sample: Sample, tmp_path: Path) -> None:
    context = Context(sample.workspace)
    for predictions, pseudo, match in (
        ([sample.pseudo], None, "--pseudo"),
        ([], sample.steady, "--pred"),
        ([sample.steady] * 3, None, "not 3"),
        ([tmp_path / "none.zarr"], None, "none"),
    ):
        with pytest.raises(VssError) as error:
            write_report(predictions, pseudo=pseudo, context=context)
        assert re.search(match, f"{error.value.message} {error.value.hint}")
    with pytest.raises(VssError, match="does not exist"):
        write_report([sample.steady], runs=[tmp_path / "none"], context=context, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_reports_on_the_newest_store(
    sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["report", "--workspace", str(sample.workspace), "--out", str(tmp_path / "out"), "--every", "10"]
    assert run([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'index.html'}\n"
    assert run([*arguments, "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["scores"]["miou"] > 0.5


def test_charts_of_trainings_have_a_line_for_each_run() -> None:
    runs = [
        ("a", {"loss": [[1, 1.0], [2, 0.5]], "miou": [[2, 0.4]]}),
        ("b", {"loss": [[1, float("nan")], [2, 3.0], [3, 2.0]]}),
    ]
    charts = training_charts(runs)
    assert list(charts) == ["loss"]
    assert charts["loss"].count("stroke-width") == 4
