"""A pipeline runs what is not done, and says why; whatever happens in between, it ends with the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from listener import Listener
from small import CHAIN, small_loop

from vsscli.context import Context
from vsscli.data.layouts import open_dataset
from vsscli.drawn.scene import MARKER
from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint
from vsscli.recipes.load import load_recipe
from vsscli.recipes.pipeline import Pipeline
from vsscli.recipes.schema import Recipe
from vsscli.recipes.training import Unlabelled
from vsscli.stages.job import Job, open_job
from vsscli.stages.key import Frames, read_out_digest
from vsscli.stages.record import read_stage_record, write_stage_record
from vsscli.stages.run import Ran, run_pipeline
from vsscli.store.lock import only_one
from vsscli.store.reader import open_store
from vsscli.store.work import WorkFolder, this_process

ALL = ["student", "unlabelled", "pseudo", "again", "first", "second", "fused", "scores", "zip"]


@dataclass(frozen=True)
class Place:
    """A pipeline that ran."""

    recipe: Path
    workspace: Path

    def run(self, *overrides: str, names: Sequence[str] = (), force: Sequence[str] = ()) -> Ran:
        return run_pipeline(open_job(self.recipe, overrides, context=Context(self.workspace)), names=names, force=force)

    @property
    def zip(self) -> Path:
        return self.workspace / "chain" / "zip" / "submission.zip"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("chain")
    place = Place(small_loop(folder, CHAIN, steps=4), folder / "runs")
    place.run()
    return place


@pytest.fixture
def place(finished: Place, tmp_path: Path) -> Place:
    """A copy of the workspace, to modify."""
    shutil.copytree(finished.workspace, tmp_path / "runs")
    return Place(finished.recipe, tmp_path / "runs")


def reasons(ran: Ran) -> dict[str, str]:
    return {outcome.name: outcome.reason for outcome in ran.outcomes if outcome.status == "done"}


def test_the_second_time_nothing_runs_and_the_table_is_the_same(place: Place) -> None:
    table = (place.workspace / "chain/table.md").read_bytes()
    listener = Listener()
    ran = run_pipeline(open_job(place.recipe, context=Context(place.workspace, talk=listener)))
    assert [line for line in listener.said if "cached" in line] == [f"{name}: cached, skipping" for name in ALL]
    assert reasons(ran) == {}
    assert ran.table is not None
    assert ran.table.read_bytes() == table


def test_the_table_has_the_papers_figures_beside_the_measured_ones(finished: Place) -> None:
    lines = (finished.workspace / "chain/table.md").read_text().splitlines()
    assert lines[0] == "| method | mIoU | VC8 | paper mIoU | paper VC8 | note |"
    assert lines[2].startswith("| student |")
    assert lines[2].endswith("| 61.50 | 92.10 | server |")
    assert lines[3].endswith("| - | - |  |")


def test_the_summary_says_what_made_it(finished: Place) -> None:
    summary = json.loads((finished.workspace / "chain/summary.json").read_text())
    assert [stage["name"] for stage in summary["stages"]] == ALL
    assert all(len(stage["key"]) == 64 and stage["seconds"] >= 0 for stage in summary["stages"])
    assert {"python", "vsscli", "torch", "numpy"} <= summary["versions"].keys()
    rows = summary["tables"]["scores"]
    assert [row["paper"] for row in rows] == [{"miou": 61.5, "vc8": 92.1}, {}]
    assert all(0 <= row["miou"] <= 1 for row in rows)
    assert (finished.workspace / summary["stages"][-1]["result"]) == finished.zip


def test_only_what_reads_mask_scores_is_of_another_version() -> None:
    masks, light = load_recipe("tiny/pvuw2024/student"), load_recipe("camvid/student")
    stages = {"train": {"do": "train", "recipe": "a"}, "predict": {"do": "predict", "model": "train"}}
    pipeline = Pipeline.model_validate({"name": "p", "stages": stages})

    def versions(recipe: Recipe) -> list[int]:
        job = Job(pipeline, {"train": recipe})
        return [job.kind(name).version() for name in stages]

    def learning(recipe: Recipe) -> Recipe:
        return recipe.model_copy(update={"unlabelled": Unlabelled(teacher="ema")})

    as_before = masks.model_copy(update={"predict": masks.predict.model_copy(update={"missing": "normalise"})})
    train, predict = plain = versions(light)
    assert versions(learning(light)) == plain
    assert versions(masks) == [train, predict + 1]
    assert versions(learning(masks)) == [train + 1, predict + 1]
    assert versions(as_before) == plain
    for teacher, more in (("store", 1), ("ema", 0)):  # which black rows were padding was guessed with a store alone
        weighs = light.model_copy(update={"unlabelled": Unlabelled(teacher=teacher, scale_weight=True)})
        assert versions(weighs) == [train + more, predict]
    assert read_out_digest(as_before) != read_out_digest(masks)


def test_another_threshold_runs_only_what_hangs_on_it(place: Place) -> None:
    ran = place.run("stages.pseudo.percentile=30")
    told = reasons(ran)
    assert list(told) == ["pseudo", "again", "second", "fused", "scores", "zip"]
    assert told["pseudo"] == "percentile: 80.0 → 30.0"
    assert told["again"] == "its input 'pseudo' changed"
    assert told["second"] == "its input 'again' changed"


def test_another_way_to_say_the_same_threshold_ends_at_the_pseudo_labels(place: Place) -> None:
    result = read_stage_record(place.workspace / "chain/pseudo").result  # type: ignore[union-attr]
    assert result is not None
    ran = place.run("stages.pseudo.percentile=null", f"stages.pseudo.threshold={result.facts['threshold']!r}")
    assert list(reasons(ran)) == ["pseudo"]


def test_another_step_count_says_so_and_trains_again(place: Place) -> None:
    ran = place.run("stages.student.set={train.steps: 5}", names=["first"])
    assert reasons(ran) == {"student": "train.steps: 4 → 5", "first": "its input 'student' changed"}
    assert ran.result("student").facts["steps"] == 5


def test_a_forced_stage_runs_and_what_hangs_on_it_is_kept_when_it_comes_out_the_same(place: Place) -> None:
    before = place.zip.stat().st_mtime_ns
    assert reasons(place.run(force=["student"])) == {"student": "forced"}
    assert reasons(place.run(force=["first"])) == {"first": "forced"}
    assert place.zip.stat().st_mtime_ns == before
    with pytest.raises(VssError, match="--force more: that stage is not among those to run"):
        place.run(force=["more"])


@pytest.mark.parametrize("name", ["student", "unlabelled", "pseudo", "fused", "zip"])
def test_a_result_that_is_gone_is_made_again_with_the_same_bytes(place: Place, name: str) -> None:
    zipped = place.zip.read_bytes()
    result = read_stage_record(place.workspace / "chain" / name).result  # type: ignore[union-attr]
    assert result is not None
    shutil.rmtree(result.path) if result.path.is_dir() else result.path.unlink()
    told = reasons(place.run())
    assert list(told) == [name]
    assert "is gone" in told[name]
    assert place.zip.read_bytes() == zipped


def test_a_zip_that_was_changed_is_packed_again(place: Place) -> None:
    zipped = place.zip.read_bytes()
    place.zip.write_bytes(zipped[:-1] + b"x")
    assert "not the one that was recorded" in reasons(place.run())["zip"]
    assert place.zip.read_bytes() == zipped


def test_other_frames_are_noticed(finished: Place, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(finished.recipe.parent, folder)
    place = Place(folder / "loop.yaml", folder / "runs")
    frame = next(place.workspace.glob("*/data/val-*/origin/*.jpg"))
    frame.write_bytes(frame.read_bytes() + b"\0")
    told = reasons(place.run())
    assert told["student"] == "frames of val changed"
    assert told["first"] == "frames of val changed"
    assert "unlabelled" not in told


@pytest.fixture
def elsewhere(finished: Place, tmp_path: Path) -> Place:
    """A copy of everything, including the data."""
    shutil.copytree(finished.recipe.parent, tmp_path / "elsewhere")
    return Place(tmp_path / "elsewhere/loop.yaml", tmp_path / "elsewhere/runs")


def test_a_mask_corrected_at_the_same_size_and_time_is_noticed(elsewhere: Place) -> None:
    assert reasons(elsewhere.run()) == {}  # another place, another time, the same content
    mask = next(elsewhere.workspace.glob("*/data/val-*/mask/*.png"))
    before, content = mask.stat(), bytearray(mask.read_bytes())
    palette = content.index(b"PLTE") + 4
    content[palette] ^= 1
    content[palette + 768 : palette + 772] = zlib.crc32(content[palette - 4 : palette + 768]).to_bytes(4, "big")
    mask.write_bytes(content)
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    student = elsewhere.workspace / "chain/student"
    weights = load_checkpoint(student / "last.pt").fingerprint
    listener = Listener()
    told = reasons(run_pipeline(open_job(elsewhere.recipe, context=Context(elsewhere.workspace, talk=listener))))
    assert told["student"] == "frames of val changed"
    assert told["scores"] == "frames of val changed"
    assert [line for line in listener.warned if "validated again" in line]  # no step is done again for it
    assert load_checkpoint(student / "last.pt").fingerprint == weights
    assert read_stage_record(student).seconds is None  # type: ignore[union-attr]
    assert "first" not in told  # the same network came out, and no frame changed
    assert reasons(elsewhere.run()) == {}


def test_only_the_videos_that_changed_are_predicted_again(elsewhere: Place) -> None:
    student = read_stage_record(elsewhere.workspace / "chain/student")
    assert student is not None
    first, second = sorted(elsewhere.workspace.glob("*/data/val-000/origin/*.jpg"))[:2]
    store = read_stage_record(elsewhere.workspace / "chain/first").result.path  # type: ignore[union-attr]
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])
    listener = Listener()
    run_pipeline(open_job(elsewhere.recipe, context=Context(elsewhere.workspace, talk=listener)))
    assert f"1 video has other frames than {store} was predicted from: val-000; predicted again" in listener.said
    assert not [line for line in listener.said if line.startswith("unlabelled: ") and "cached" not in line]


def test_a_video_that_left_the_split_leaves_the_store(elsewhere: Place) -> None:
    (data,) = {path.parent for path in elsewhere.workspace.glob("*/unlabelled.txt")}
    (data / "unlabelled.txt").write_text("unlabelled-001\n")
    told = reasons(elsewhere.run())
    assert told["unlabelled"].startswith("frames of unlabelled changed")
    store = read_stage_record(elsewhere.workspace / "chain/unlabelled").result.path  # type: ignore[union-attr]
    assert open_store(store).videos() == ("unlabelled-001",)
    assert reasons(elsewhere.run()) == {}


def test_what_an_earlier_version_did_is_kept_with_a_word(elsewhere: Place) -> None:
    job = open_job(elsewhere.recipe, context=Context(elsewhere.workspace))
    frames = Frames(job)
    for name in ("student", "unlabelled", "first"):
        record = read_stage_record(job.folder(name))
        assert record is not None
        reads = job.kind(name).reads()
        old = {one.called: frames.by_size(one.data, one.split, masks=one.masks) for one in reads}
        key = {**record.key, "frames": old}
        if "recipe" in key:  # nor could recipes say all they can now
            key["recipe"] = {**key["recipe"], "train": {**key["recipe"]["train"]}}
            assert key["recipe"]["train"].pop("void") == "negative"
        write_stage_record(job.folder(name), replace(record, key=key))
    listener = Listener()
    assert reasons(run_pipeline(replace(job, context=replace(job.context, talk=listener)))) == {}
    assert [line.split()[0] for line in listener.warned] == ["student", "unlabelled", "first"]
    assert all("names and sizes" in line for line in listener.warned)
    listener = Listener()
    assert reasons(run_pipeline(replace(job, context=replace(job.context, talk=listener)))) == {}
    assert listener.warned == []  # from now on the content decides


def test_an_optional_stage_runs_when_it_is_named(place: Place) -> None:
    ran = place.run(names=["more"])
    assert reasons(ran) == {"more": "no result yet"}
    assert all((ran.result("more").path / name).is_file() for name in ran.result("more").facts["pictures"])
    (ran.result("more").path / ran.result("more").facts["pictures"][0]).unlink()
    assert "is gone" in reasons(place.run(names=["more"]))["more"]


def test_a_report_is_a_stage_and_its_predictions_are_of_one_split(place: Place) -> None:
    result = place.run(names=["page"]).result("page")
    page, summary = result.path / "index.html", json.loads((result.path / "summary.json").read_text())
    assert result.path == place.workspace / "chain" / "page" / "report"
    scores = read_stage_record(place.workspace / "chain" / "scores")
    assert scores is not None
    assert scores.result is not None
    miou = {name: of["miou"] for name, of in scores.result.facts["scores"].items()}
    assert [one["scores"]["miou"] for one in summary["predictions"]] == [miou["first"], miou["fused"]]
    assert sorted(run["name"] for run in summary["networks"]) == ["again", "student"]
    assert reasons(place.run(names=["page"])) == {}
    page.unlink()
    assert "is gone" in reasons(place.run(names=["page"]))["page"]
    with pytest.raises(VssError, match="first and unlabelled are of val and unlabelled"):
        place.run("stages.page.of=[first, unlabelled]", names=["page"])


def test_summary_and_table_tell_of_all_that_is_done_whatever_was_run(place: Place) -> None:
    home = place.workspace / "chain"

    def told() -> list[str]:
        return [stage["name"] for stage in json.loads((home / "summary.json").read_text())["stages"]]

    table = (home / "table.md").read_bytes()
    assert [outcome.name for outcome in place.run(names=["first"]).outcomes] == ["student", "first"]
    assert told() == ALL
    assert (home / "table.md").read_bytes() == table
    # What hangs on the new pseudo-labels is not done any more, and no table is left of it.
    ran = place.run("stages.pseudo.percentile=30", names=["pseudo"])
    assert told() == ["student", "unlabelled", "pseudo", "first"]
    assert json.loads((home / "summary.json").read_text())["tables"] == {}
    assert ran.table is None
    assert not (home / "table.md").exists()
    place.run()
    assert told() == ALL
    assert (home / "table.md").read_bytes() == table


def test_a_living_process_is_respected_and_a_dead_one_is_not(place: Place) -> None:
    home = place.workspace / "chain"
    refused = pytest.raises(VssError, match=f"is being run by process {os.getpid()}")
    with only_one(home, "pipeline", "run", "wait"), refused:
        place.run()
    work = WorkFolder(home)
    lock = work.lock_path("pipeline")
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps(this_process() | {"started": 1}))
    assert reasons(place.run()) == {}
    assert not work.path.exists()


def test_all_that_is_missing_is_named_before_anything_runs(tmp_path: Path) -> None:
    recipe = small_loop(tmp_path, CHAIN)
    overrides = [
        "stages.student.set={data.scene: null, data.publisher: 'https://example.org/data', model.pretrained: w.pth}",
        "stages.again.set={data.scene: null, data.root: nowhere, model.pretrained: v.pth}",
    ]
    with pytest.raises(VssError) as caught:
        run_pipeline(open_job(recipe, overrides, context=Context(tmp_path / "runs")))
    told = caught.value.message
    assert "https://example.org/data" in told
    assert all(word in told for word in ("nowhere", "no such file w.pth", "no such file v.pth"))
    assert not (tmp_path / "runs" / "chain").exists()


def test_damaged_masks_that_a_later_stage_would_read_are_found_before_the_first_runs(tmp_path: Path) -> None:
    path = small_loop(tmp_path, CHAIN)
    job = open_job(path, context=Context(tmp_path / "runs"))
    open_dataset(job.recipe("student").data)
    root = tmp_path / "runs" / "data"
    name = (root / "val.txt").read_text().split()[0]
    mask = sorted((root / "data" / name / "mask").iterdir())[-1]
    whole = mask.read_bytes()
    (root / MARKER).unlink()  # else they are drawn anew
    mask.write_bytes(whole[:60])
    with pytest.raises(VssError, match=f"{mask.name}: mask is damaged"):
        run_pipeline(job, until="student")
    assert not list((tmp_path / "runs").rglob("journal.jsonl"))
    mask.write_bytes(whole)
    heard = Listener()
    run_pipeline(replace(job, context=replace(job.context, talk=heard)), until="student")
    # The labelled frames were found sound by the first run; the other files of the training are checked by this one.
    assert sum("not checked again" in text for text in heard.said) == 3
