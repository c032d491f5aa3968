"""`vss init`: what is in a folder, what is made of it, and what a second time adds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from listener import Listener
from PIL import Image
from video_samples import SIZE, write_clip

from vsscli.context import Context
from vsscli.data.classes import ClassTable, load_class_table
from vsscli.data.layouts import open_dataset
from vsscli.data.masks import to_classes, write_mask
from vsscli.data.videos import FolderVideo, Frame
from vsscli.data.walk import MADE
from vsscli.errors import VssError
from vsscli.exchange.sink import Sink
from vsscli.project import init
from vsscli.project.holdout import choose_held_out
from vsscli.project.init import Project, init_project
from vsscli.project.sizing import Size
from vsscli.project.survey import survey
from vsscli.recipes.load import load_pipeline, load_recipe

RED, BLUE = (255, 0, 0), (0, 0, 255)


def colour_mask(path: Path, *colours: tuple[int, int, int]) -> None:
    """A PNG in which colours stand one below the other, black above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*SIZE, 3), np.uint8)
    for number, colour in enumerate(colours, start=1):
        pixels[number * 8 :] = colour
    Image.fromarray(pixels).save(path)


def frames(folder: Path, count: int, *, alike: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (*SIZE, 3), np.uint8)
    for number in range(count):
        image = np.roll(base, number, 1) if alike else np.full((*SIZE, 3), 255 * (number % 2), np.uint8)
        Image.fromarray(image).save(folder / f"img_{number:03d}.jpg")


def started(folder: Path, **options: object) -> Project:
    options.setdefault("measure", False)
    return init_project(folder, **options)  # type: ignore[arg-type]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips, and colour masks of two classes beside them."""
    folder = tmp_path / "street"
    for seed, name in enumerate(("a", "b")):
        write_clip(folder / "clips" / f"{name}.mp4", frames=20, seed=seed)
        for number in range(0, 20, 4):
            colour_mask(folder / "masks" / name / f"{name}_{number:04d}.png", RED, BLUE)
    (folder / "labelmap.txt").write_text("background:0,0,0::\nroad:255,0,0::\nsky:0,0,255::\n")
    return folder


def test_what_vss_made_is_not_taken_for_clips_and_labels(clips: Path) -> None:
    for out in (clips / "handed out", clips / "out.zip"):
        with Sink(out, made=True) as sink:
            (mask,) = sorted((clips / "masks" / "a").glob("*_0000.png"))
            sink.write("a/a_0000.png", mask.read_bytes())
    found = survey(clips, ())
    assert found.labels == [("masks", "colour")]
    assert found.others == []
    (clips / "handed out" / MADE).unlink()
    assert ("handed out", "colour") in survey(clips, ()).labels


def test_a_folder_is_looked_through(clips: Path) -> None:
    frames(clips / "yard", 6)
    frames(clips / "photos", 6, alike=False)
    (clips / "read.me").write_text("x")
    (clips / "runs" / "x").mkdir(parents=True)
    colour_mask(clips / "runs" / "x" / "0.png", RED)
    found = survey(clips, ("runs",))
    assert found.videos == ["clips", "yard"]
    assert found.stills == ["photos"]
    assert found.labels == [("masks", "colour")]
    assert found.classes == "labelmap.txt"
    assert found.others == ["read.me"]


def test_clips_at_the_top_are_named_by_a_pattern(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=2)
    write_clip(tmp_path / "b.mp4", frames=2)
    assert survey(tmp_path, ()).videos == ["*.mp4"]


def test_a_project_is_made_and_reads_as_a_data_set(clips: Path) -> None:
    talk = Listener()
    done = started(clips, context=Context(talk=talk))
    assert (done.videos, done.frames, done.labelled, done.classes) == (2, 40, 10, ("road", "sky"))
    assert done.written == ["classes.yaml", "dataset.yaml", "student.yaml", "retrained.yaml", "vss.yaml"]
    data = load_recipe(clips / "student.yaml").data
    opened = open_dataset(data, clips)
    assert data.held_out == ("a/000014..000019", "b/000014..000019")
    assert [video.stems for video in opened.split("labelled")] == [("000000", "000004", "000008", "000012")] * 2
    assert [sum(f.mask is not None for f in video.frames) for video in opened.split("val")] == [1, 1]
    mask = opened.split("labelled")[0].frames[0].mask
    assert mask is not None
    assert np.unique(opened.ids.read(mask)).tolist() == [1, 2, 255]
    stages = load_pipeline(clips / "vss.yaml").stages
    assert [stage.do for stage in stages.values()][:4] == ["train", "predict", "pseudo", "train"]
    assert load_recipe(clips / "retrained.yaml").unlabelled is not None


def test_masks_stored_as_jpeg_are_no_clips(clips: Path) -> None:
    for path in (clips / "masks").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    frames(clips / "photos of labels", 20)
    frames(clips / "labelled" / "c" / "origin", 20)
    listener = Listener()
    assert started(clips, context=Context(clips / "runs", talk=listener)).videos == 4
    assert {name for name in ("masks/a", "masks/b") if any(name in line for line in listener.warned)} == {
        "masks/a",
        "masks/b",
    }


def test_a_first_call_that_fails_leaves_no_table_behind(clips: Path) -> None:
    green = clips / "masks" / "a" / "a_0001.png"
    colour_mask(green, RED, (0, 255, 0))
    with pytest.raises(VssError, match=r"\(0, 255, 0\)"):
        started(clips)
    assert not (clips / "classes.yaml").exists()
    with (clips / "labelmap.txt").open("a") as file:
        file.write("grass:0,255,0::\n")
    assert "grass" in started(clips).classes


def test_a_later_call_that_fails_leaves_all_as_it_was(clips: Path) -> None:
    started(clips)
    files = [clips / "classes.yaml", clips / "dataset.yaml"]
    before = [file.read_bytes() for file in files]
    write_clip(clips / "more" / "c.mp4", frames=5, seed=9)
    colour_mask(clips / "masks" / "a" / "a_0001.png", RED, (0, 255, 0))
    (clips / "other.txt").write_text("road\nsky\n")
    with pytest.raises(VssError, match=r"\(0, 255, 0\)"):
        started(clips, classes="other.txt")
    assert [file.read_bytes() for file in files] == before


def test_numbers_that_must_count_from_one_do(clips: Path) -> None:
    for path in sorted((clips / "masks").rglob("*.png"), reverse=True):  # 0, 4, … 16 become 4, 8, … 20
        path.rename(path.with_name(f"{path.parent.name}_{int(path.stem[-4:]) + 4:04d}.png"))
    listener = Listener()
    started(clips, context=Context(clips / "runs", talk=listener))
    assert any("a_0020" in line and "from 1" in line for line in listener.warned)
    masks = sorted(path.stem for path in (clips / "labels" / "a").glob("*.png"))
    assert masks == ["000003", "000007", "000011", "000015", "000019"]


def test_the_number_of_the_first_frame_may_be_given(clips: Path) -> None:
    for path in (clips / "masks").rglob("*.png"):
        path.rename(path.with_name(f"{path.parent.name}_{int(path.stem[-4:]) + 1:04d}.png"))
    started(clips, first_frame=1)
    assert sorted(path.stem for path in (clips / "labels" / "a").glob("*.png"))[:2] == ["000000", "000004"]


def test_a_second_time_adds_what_is_new_and_keeps_the_rest(clips: Path) -> None:
    started(clips)
    recipe = clips / "student.yaml"
    recipe.write_text(recipe.read_text() + "# mine\n")
    described = clips / "dataset.yaml"
    described.write_text(described.read_text() + "  unknown_ids: void   # mine\n")
    corrected = clips / "labels" / "a" / "000004.png"
    write_mask(corrected, np.zeros(SIZE, np.uint8), first=0)
    changed = corrected.read_bytes()
    assert started(clips).written == []
    write_clip(clips / "more" / "c.mp4", frames=5, seed=9)
    colour_mask(clips / "masks" / "b" / "b_0002.png", RED)
    again = started(clips)
    assert (again.videos, again.labelled, again.written) == (3, 11, ["dataset.yaml"])
    assert [one.new for one in again.imported] == [["b/000002"]]
    assert corrected.read_bytes() == changed
    assert recipe.read_text().endswith("# mine\n")
    assert described.read_text().endswith("  unknown_ids: void   # mine\n")
    assert load_recipe(recipe).data.videos == ("clips", "more")
    assert load_recipe(recipe).data.held_out == ("a/000014..000019", "b/000014..000019")


def test_labels_that_come_later_are_named_and_not_read(clips: Path) -> None:
    talk = Listener()
    started(clips)
    shutil.copytree(clips / "masks", clips / "drafts")
    assert started(clips, context=Context(talk=talk)).imported == []
    assert any("vss import drafts" in text for text in talk.said)


@pytest.mark.parametrize("damaged", ["", "[1]", '{"masks": 3}'])
def test_a_damaged_record_of_what_was_read_is_as_none(clips: Path, damaged: str) -> None:
    started(clips)
    (clips / "labels" / "imported.json").write_text(damaged)
    (again,) = started(clips).imported
    assert (again.new, len(again.unchanged)) == ([], 10)


def test_names_of_colours_are_asked_for(clips: Path) -> None:
    (clips / "labelmap.txt").unlink()
    asked = []

    def answer(question: str, suggestion: str) -> str:
        asked.append((question, suggestion))
        return {"class_0000ff": "sky"}.get(suggestion, suggestion)

    done = started(clips, ask=answer)
    assert done.classes == ("sky", "class_ff0000")
    assert "#0000ff" in asked[0][0]
    assert started(clips).classes == ("sky", "class_ff0000")


@pytest.mark.parametrize("named", [True, False])
def test_colour_masks_in_a_zip_give_the_classes_as_those_in_a_folder_do(clips: Path, named: bool) -> None:
    labelmap = clips / "labelmap.txt"
    labelmap.rename(clips / "masks" / labelmap.name) if named else labelmap.unlink()
    shutil.make_archive(str(clips / "exported"), "zip", clips / "masks")
    shutil.rmtree(clips / "masks")
    done = started(clips)
    assert done.classes == (("road", "sky") if named else ("class_0000ff", "class_ff0000"))
    assert load_class_table("classes.yaml", clips).colours == ((RED, BLUE) if named else (BLUE, RED))
    assert done.labelled == 10


@pytest.mark.parametrize(
    ("file", "text", "numbers", "wanted"),
    [
        ("classes.txt", "road\nsky\ncar\n", (0, 2, 255), [0, 2, 255]),
        ("classes.txt", "road\nsky\ncar\n", (0, 1, 3), [255, 0, 2]),  # 3 would be no class if 0 were one
        ("labelmap.txt", "background:0,0,0::\nroad:9,9,9::\nsky:8,8,8::\ncar:7,7,7::\n", (0, 1, 2), [255, 0, 1]),
    ],
)
def test_masks_of_numbers_count_from_0_or_from_1_where_0_is_void(
    tmp_path: Path, file: str, text: str, numbers: tuple[int, ...], wanted: list[int]
) -> None:
    frames(tmp_path / "day", 3)
    (tmp_path / "masks").mkdir()
    for frame, number in enumerate(numbers):
        write_mask(tmp_path / "masks" / f"img_{frame:03d}.png", np.full(SIZE, number, np.uint8))
    (tmp_path / file).write_text(text)
    for said in (1, 0):
        talk = Listener()
        started(tmp_path, context=Context(tmp_path / "runs", talk=talk))
        told = f"values count them from {int(wanted[0] == 255)}"
        assert sum(told in text for text in talk.warned) == said
        data = open_dataset(load_recipe(tmp_path / "dataset.yaml").data, tmp_path)
        masks = [frame.mask for video in data.split("all") for frame in video.frames if frame.mask is not None]
        assert [int(to_classes(data.ids.read(mask), data.ids, 3, mask)[0, 0]) for mask in masks] == wanted
        assert data.table.names == ("road", "sky", "car")


def test_masks_are_found_whatever_the_case_of_their_suffix(clips: Path) -> None:
    (clips / "labelmap.txt").unlink()
    for path in sorted((clips / "masks").rglob("*.png")):
        path.rename(path.with_suffix(".PNG"))
    assert started(clips).classes == ("class_0000ff", "class_ff0000")


def test_folders_may_be_called_like_a_pattern_or_a_comment(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    for count, name in enumerate(("day [1]", "day #1", "day #2"), start=1):
        frames(tmp_path / name, 6)
        assert started(tmp_path).videos == count
    assert load_recipe(tmp_path / "dataset.yaml").data.videos == ("day [1]", "day #1", "day #2")


@pytest.mark.parametrize("below", [".", "day [1]"])
def test_masks_in_a_folder_of_frames_are_no_video(tmp_path: Path, below: str) -> None:
    frames(tmp_path / "street" / below, 8)
    for number in range(6):
        colour_mask(tmp_path / "street" / below / "masks" / f"img_{number:03d}.png", RED, BLUE)
    for _ in range(2):
        done = started(tmp_path / "street")
        assert (done.videos, done.frames, done.labelled) == (1, 8, 6)
    described = tmp_path / "street" / "dataset.yaml"
    videos = load_recipe(described).data.videos
    assert videos == (("*.jpg",) if below == "." else ("day [[]1]/*.jpg",))
    described.write_text(described.read_text().replace("*.jpg", "."))  # as versions before wrote it
    if below == ".":
        assert started(tmp_path / "street").videos == 1
        assert load_recipe(described).data.videos == videos


def test_a_list_that_was_written_over_several_lines_is_brought_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    frames(tmp_path / "one", 6)
    started(tmp_path)
    described = tmp_path / "dataset.yaml"
    (line,) = (line for line in described.read_text().splitlines() if line.startswith("  videos:"))
    for block in ('  videos:\n    - "one"   # mine', "  videos:\n  - one", '  videos: [\n    "one"\n  ]'):
        edited = described.read_text().replace(line, block)
        described.write_text(edited)
        assert started(tmp_path).written == []
        assert described.read_text() == edited
    frames(tmp_path / "two", 6)
    assert started(tmp_path).videos == 2
    assert load_recipe(described).data.videos == ("one", "two")


def test_a_description_in_another_layout_is_not_harmed(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    frames(tmp_path / "one", 6)
    started(tmp_path)
    described = tmp_path / "dataset.yaml"
    described.write_text(described.read_text().replace("\n  ", "\n    "))
    before = described.read_text()
    assert started(tmp_path).written == []
    frames(tmp_path / "two", 6)
    with pytest.raises(VssError, match="not laid out") as caught:
        started(tmp_path)
    assert '["one", "two"]' in caught.value.hint
    assert described.read_text() == before


def test_names_in_labels_become_the_classes(clips: Path) -> None:
    (clips / "labelmap.txt").unlink()
    shutil.rmtree(clips / "masks")
    shape = {"label": "car", "points": [[4, 4], [20, 4], [20, 20]], "shape_type": "polygon"}
    labels = {"imagePath": "a_000003.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": [shape]}
    (clips / "notes").mkdir()
    for number in (3, 5):
        (clips / "notes" / f"a_{number:06d}.json").write_text(
            json.dumps({**labels, "imagePath": f"a_{number:06d}.jpg"})
        )
    assert survey(clips, ()).labels == [("notes", "labelme")]
    done = started(clips)
    assert done.classes == ("car",)
    assert done.labelled == 2
    assert done.held_out == 0
    assert load_recipe(clips / "student.yaml").data.val == "train"


def test_the_steps_fit_the_time(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "measured_size", lambda *given, **options: Size(420, 140, "measured"))
    done = started(clips, measure=True)
    assert done.size == Size(420, 140, "measured")
    assert load_recipe(clips / "student.yaml").train.steps == 420
    assert load_recipe(clips / "retrained.yaml").train.steps == 210
    assert started(clips, measure=True).size is None  # the recipe is the user's by now


def test_what_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="holds no video"):
        started(tmp_path)
    with pytest.raises(VssError, match="no folder"):
        started(tmp_path / "none")
    write_clip(tmp_path / "a.mp4", frames=2)
    with pytest.raises(VssError, match="neither labels nor a class table"):
        started(tmp_path)
    (tmp_path / "masks").mkdir()
    write_mask(tmp_path / "masks" / "a_0.png", np.ones(SIZE, np.uint8))
    with pytest.raises(VssError, match="masks of numbers") as caught:
        started(tmp_path)
    assert "classes.txt" in caught.value.hint


def test_without_labels_the_recipes_wait_for_them(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=10)
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    talk = Listener()
    done = started(tmp_path, context=Context(talk=talk))
    assert (done.labelled, done.size) == (0, None)
    assert any("no labels yet" in text for text in talk.said)
    table = ClassTable("t", ("road", "sky"), ((1, 1, 1), (2, 2, 2)))
    for number in range(5):
        write_mask(tmp_path / "masks" / f"a_{number}.png", np.zeros(SIZE, np.uint8), table)
    done = started(tmp_path)
    assert done.size is not None
    assert {"vss.yaml", "student.yaml"} <= set(done.written)  # as vss left them, so brought up to date
    assert load_recipe(tmp_path / "student.yaml").train.validate_every > 0
    assert "scores" in load_pipeline(str(tmp_path / "vss.yaml")).stages
    (tmp_path / "student.yaml").write_text((tmp_path / "student.yaml").read_text() + "# mine\n")
    assert started(tmp_path).size is None


def videos(**labelled: list[int]) -> list[FolderVideo]:
    def frame(name: str, number: int, has: bool) -> Frame:
        return Frame(name, f"{number:06d}", Path(f"{name}.mp4"), Path("m.png") if has else None, number)

    return [
        FolderVideo(name, tuple(frame(name, n, n in numbers) for n in range(100))) for name, numbers in labelled.items()
    ]


def test_a_fifth_is_held_out_by_video_where_there_are_enough() -> None:
    many = videos(a=[1, 2, 3], b=[1, 2], c=[1, 2, 3, 4], d=[5], e=[])
    assert choose_held_out(many) == ("b",) or choose_held_out(many) == ("d",)
    assert choose_held_out(videos(a=list(range(0, 100, 10)))) == ("a/000075..000099",)
    assert choose_held_out(videos(a=[1, 2], b=[3])) == ()
    assert choose_held_out(videos(a=[1, 2, 3, 4, 90], b=[3])) == ("a/000047..000099",)
