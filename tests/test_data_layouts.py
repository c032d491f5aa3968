"""Finding videos and splits on disk, and reporting what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vsscli.data.config import Data
from vsscli.data.inputs import open_input
from vsscli.data.layouts import open_dataset, plain_data
from vsscli.data.trees import TREES, Tree
from vsscli.data.videos import FolderVideo
from vsscli.drawn.config import Scene
from vsscli.errors import VssError

PUBLISHER = "https://example.org/the-data"


def add_video(folder: Path, stems: str = "abc", mask: bool = True, suffix: str = ".png") -> None:
    """A video in VSPW's shape with one tiny frame per letter."""
    for part in ("origin", "mask") if mask else ("origin",):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for stem in stems:
        Image.new("RGB", (4, 3)).save(folder / "origin" / f"{stem}{suffix}")
        if mask:
            Image.new("L", (4, 3), 1).save(folder / "mask" / f"{stem}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of two training videos, one to validate on and one without labels."""
    root = tmp_path / "streets"
    for name in ("one", "two", "three"):
        add_video(root / "data" / name)
    add_video(root / "data" / "four", mask=False)
    for split, names in (("train", "two\none\n"), ("val", "three\n"), ("test", "four\n")):
        (root / f"{split}.txt").write_text(names)
    (root / "classes.json").write_text('["road", "sky"]')
    return root


def data_of(root: Path, **values: object) -> Data:
    return Data.model_validate({"name": "streets", "root": str(root), "classes": "classes.json", **values})


def names(videos: list[FolderVideo]) -> list[str]:
    return [video.name for video in videos]


def addresses(videos: list[FolderVideo]) -> list[str]:
    return [frame.address for video in videos for frame in video.frames]


def test_a_split_has_its_videos_as_listed_and_their_frames_in_name_order(root: Path) -> None:
    dataset = open_dataset(data_of(root))
    assert (dataset.name, dataset.root, dataset.table.names) == ("streets", root, ("road", "sky"))
    train = dataset.split("train")
    assert addresses(train) == ["two/a", "two/b", "two/c", "one/a", "one/b", "one/c"]
    assert train[0].frames[0].image == root / "data" / "two" / "origin" / "a.png"
    assert train[0].frames[0].mask == root / "data" / "two" / "mask" / "a.png"
    assert names(dataset.split("test")) == ["four"]
    assert dataset.split("test")[0].frames[0].mask is None


def test_the_recipe_tells_which_splits_train_and_val_are(root: Path) -> None:
    dataset = open_dataset(data_of(root, train="val", val="train"))
    assert names(dataset.split("train")) == ["three"]
    assert names(dataset.split("val")) == ["two", "one"]


def test_training_may_take_several_splits_one_after_the_other(root: Path) -> None:
    dataset = open_dataset(data_of(root, train=["train", "val"]))
    assert names(dataset.split("train")) == names(dataset.split("labelled")) == ["two", "one", "three"]
    assert names(dataset.split("val")) == ["three"]
    (root / "some.txt").write_text("two/a\nthree/b\n")
    listed = open_dataset(data_of(root, train=["train", "val"], labelled="some.txt", unlabelled=["test"]))
    assert addresses(listed.split("labelled")) == ["two/a", "three/b"]
    assert addresses(listed.split("unlabelled"))[-5:] == ["three/a", "three/c", "four/a", "four/b", "four/c"]
    (root / "val.txt").write_text("three\none\n")
    with pytest.raises(VssError, match="one would be training data twice, from the splits 'train' and 'val'"):
        open_dataset(data_of(root, train=["train", "val"])).split("train")


@pytest.mark.parametrize("content", [b"two\r\none\r\n", b"two\none", b"\n two \n\none\n\n", b"\xef\xbb\xbftwo\none\n"])
def test_lists_may_come_from_any_editor(root: Path, content: bytes) -> None:
    (root / "train.txt").write_bytes(content)
    assert names(open_dataset(data_of(root)).split("train")) == ["two", "one"]


def test_images_may_have_any_usual_suffix_and_dot_files_are_passed_over(root: Path) -> None:
    folder = root / "data" / "four" / "origin"
    Image.new("RGB", (4, 3)).save(folder / "d.JPG", format="JPEG")
    Image.new("RGB", (4, 3)).save(folder / "e.jpeg")
    (folder / "._a.png").write_bytes(b"junk of another system")
    (folder / ".DS_Store").write_bytes(b"junk")
    (folder / "Thumbs.db").write_bytes(b"junk")
    assert open_dataset(data_of(root)).split("test")[0].stems == ("a", "b", "c", "d", "e")


def test_a_mask_without_image_is_a_frame_all_the_same(root: Path) -> None:
    (root / "data" / "three" / "origin" / "b.png").unlink()
    frames = open_dataset(data_of(root)).split("val")[0].frames
    assert [(frame.stem, frame.image is None) for frame in frames] == [("a", False), ("b", True), ("c", False)]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("one\ntwo\none\n", "has one more than once"),
        ("one\nnine\nten\n", "lists nine, ten, which are not under"),
        ("../data/one\n", "can't be the name of a video's folder"),
        ("\n", "is empty"),
    ],
)
def test_a_list_that_can_not_be_meant_is_refused(root: Path, content: str, match: str) -> None:
    (root / "train.txt").write_text(content)
    with pytest.raises(VssError, match=match) as caught:
        open_dataset(data_of(root)).split("train")
    assert "train.txt" in caught.value.message


def test_two_files_for_one_frame_are_refused(root: Path) -> None:
    Image.new("RGB", (4, 3)).save(root / "data" / "three" / "origin" / "b.jpg")
    with pytest.raises(VssError, match="two files for frame 'b'"):
        open_dataset(data_of(root)).split("val")


def test_a_video_without_frames_is_refused(root: Path) -> None:
    (root / "data" / "five" / "origin").mkdir(parents=True)
    (root / "val.txt").write_text("five\n")
    with pytest.raises(VssError, match="five has no frames"):
        open_dataset(data_of(root)).split("val")


class TestLabelled:
    """Which frames' labels count."""

    def test_without_a_list_all_of_train_counts_and_the_extra_splits_are_unlabelled(self, root: Path) -> None:
        dataset = open_dataset(data_of(root, unlabelled=["test"]))
        assert addresses(dataset.split("labelled")) == addresses(dataset.split("train"))
        assert addresses(dataset.split("unlabelled")) == ["four/a", "four/b", "four/c"]

    def test_a_list_parts_train_in_labelled_and_unlabelled(self, root: Path) -> None:
        (root / "labelled.txt").write_text("one/b\r\none/a\r\n")
        dataset = open_dataset(data_of(root, labelled="labelled.txt", unlabelled=["test"]))
        assert addresses(dataset.split("labelled")) == ["one/a", "one/b"]
        assert addresses(dataset.split("unlabelled")) == [
            "two/a",
            "two/b",
            "two/c",
            "one/c",
            "four/a",
            "four/b",
            "four/c",
        ]

    def test_masks_of_unlabelled_frames_are_out_of_sight(self, root: Path) -> None:
        (root / "labelled.txt").write_text("one/a\n")
        dataset = open_dataset(data_of(root, labelled="labelled.txt"))
        assert all(frame.mask for video in dataset.split("labelled") for frame in video.frames)
        assert not any(frame.mask for video in dataset.split("unlabelled") for frame in video.frames)

    def test_an_entry_outside_the_split_is_refused(self, root: Path) -> None:
        (root / "labelled.txt").write_text("one/a\nthree/a\none/z\n")
        with pytest.raises(VssError, match="lists three/a, one/z, which are not frames of split 'train'"):
            open_dataset(data_of(root, labelled="labelled.txt")).split("labelled")

    def test_a_list_that_is_not_there_is_named(self, root: Path) -> None:
        with pytest.raises(VssError, match=r"labelled\.txt does not exist"):
            open_dataset(data_of(root, labelled="labelled.txt")).split("unlabelled")

    def test_no_unlabelled_frame_at_all_is_an_error_that_says_so(self, root: Path) -> None:
        with pytest.raises(VssError, match="streets has no unlabelled frames"):
            open_dataset(data_of(root)).split("unlabelled")

    def test_a_video_is_not_taken_as_unlabelled_twice(self, root: Path) -> None:
        with pytest.raises(VssError, match="four would be unlabelled data twice"):
            open_dataset(data_of(root, unlabelled=["test", "test"])).split("unlabelled")


class TestMissing:
    """Missing data: the error names it, its publisher, the option for its path, and what runs without it."""

    def check_hint(self, error: VssError) -> None:
        assert PUBLISHER in error.hint
        assert "STREETS_ROOT" in error.hint
        assert "--data" in error.hint
        assert "vss train --recipe recipes/small.yaml" in error.hint

    def data(self, root: Path) -> Data:
        return data_of(root, publisher=PUBLISHER, root_env="STREETS_ROOT", without="recipes/small.yaml")

    def test_the_folder(self, tmp_path: Path) -> None:
        with pytest.raises(VssError, match="nowhere") as caught:
            open_dataset(self.data(tmp_path / "nowhere"))
        self.check_hint(caught.value)

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(VssError, match="is not a folder") as caught:
            open_dataset(self.data(tmp_path / "file"))
        self.check_hint(caught.value)

    def test_the_folder_of_videos(self, tmp_path: Path) -> None:
        with pytest.raises(VssError, match="no folder `data`") as caught:
            open_dataset(self.data(tmp_path))
        self.check_hint(caught.value)

    def test_a_list(self, root: Path) -> None:
        (root / "train.txt").unlink()
        with pytest.raises(VssError, match=r"train\.txt, the list of split 'train', does not exist") as caught:
            open_dataset(self.data(root)).split("train")
        assert "test, val" in caught.value.message
        self.check_hint(caught.value)

    def test_a_video(self, root: Path) -> None:
        (root / "data" / "one").rename(root / "elsewhere")
        with pytest.raises(VssError, match="lists one, which is not under") as caught:
            open_dataset(self.data(root)).split("train")
        self.check_hint(caught.value)


def test_the_argument_goes_before_the_environment_and_that_before_the_recipe(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(root, root_env="STREETS_ROOT")
    monkeypatch.delenv("STREETS_ROOT", raising=False)
    assert open_dataset(data).root == root
    monkeypatch.setenv("STREETS_ROOT", str(tmp_path / "from-environment"))
    with pytest.raises(VssError, match=r"from-environment \(from STREETS_ROOT\) does not exist"):
        open_dataset(data)
    assert open_dataset(data, root).root == root


def test_class_ids_of_a_data_set_have_no_gaps(root: Path) -> None:
    (root / "classes.json").write_text('[{"id": 1, "name": "road"}, {"id": 3, "name": "sky"}]')
    with pytest.raises(VssError, match="from 1 to 3, not 0, 1, 2"):
        open_dataset(data_of(root))


def test_void_values_that_clash_with_classes_show_when_the_data_set_is_opened(root: Path) -> None:
    with pytest.raises(VssError, match="void and class 0"):
        open_dataset(data_of(root, first_id=0))


def test_a_scene_is_drawn_where_there_is_no_folder_and_left_alone_where_there_is_data(
    tmp_path: Path, root: Path
) -> None:
    scene = Scene(videos=1, unlabelled_videos=1, val_videos=1, frames=1, size=(24, 32))
    dataset = open_dataset(data_of(tmp_path / "drawn", scene=scene, unlabelled=["unlabelled"]))
    assert [len(video) for video in dataset.split("labelled")] == [1]
    assert len(dataset.split("unlabelled")) == 1
    assert names(open_dataset(data_of(root, scene=scene)).split("val")) == ["three"]


class TestPlainData:
    """Data that no recipe describes."""

    def test_the_folders_own_class_table_is_taken(self, root: Path) -> None:
        data = plain_data(root)
        assert (data.name, data.classes, data.unknown_ids) == ("streets", "classes.json", "error")
        assert open_dataset(data).table.num_classes == 2

    def test_else_vspws_with_stray_values_void_as_its_evaluation_has_them(self, root: Path) -> None:
        (root / "classes.json").unlink()
        dataset = open_dataset(plain_data(root))
        assert dataset.table.num_classes == 124
        assert dataset.ids.lookup(124)[252] == 255

    def test_a_table_may_be_named(self, root: Path) -> None:
        assert open_dataset(plain_data(root, classes="vspw124")).table.num_classes == 124


class TestFolders:
    """The layout of plain folders."""

    @staticmethod
    def add(folder: Path, mask: bool) -> None:
        folder.mkdir(parents=True)
        for stem in "ab":
            Image.new("RGB", (4, 3)).save(folder / f"{stem}.jpg")
        if mask:
            (folder / "mask").mkdir()
            Image.new("L", (4, 3), 1).save(folder / "mask" / "a.png")

    def data(self, root: Path) -> Data:
        return Data(name="plain", root=str(root), layout="folders")

    def test_splits_are_folders_of_folders(self, tmp_path: Path) -> None:
        self.add(tmp_path / "train" / "one", mask=True)
        self.add(tmp_path / "val" / "two", mask=False)
        dataset = open_dataset(self.data(tmp_path))
        assert addresses(dataset.split("train")) == ["one/a", "one/b"]
        assert [frame.mask is None for frame in dataset.split("train")[0].frames] == [False, True]
        assert addresses(dataset.split("val")) == ["two/a", "two/b"]

    def test_without_split_folders_every_split_is_the_whole_root(self, tmp_path: Path) -> None:
        self.add(tmp_path / "one", mask=False)
        (tmp_path / "notes").mkdir()
        assert addresses(open_dataset(self.data(tmp_path)).split("val")) == ["one/a", "one/b"]

    def test_an_empty_video_in_a_split_is_refused(self, tmp_path: Path) -> None:
        self.add(tmp_path / "val" / "one", mask=False)
        (tmp_path / "val" / "two").mkdir()
        with pytest.raises(VssError, match="two has no frames"):
            open_dataset(self.data(tmp_path)).split("val")

    def test_a_root_without_images_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(VssError, match="holds folders of images"):
            open_dataset(self.data(tmp_path)).split("val")


class TestEntry:
    """A layout is an entry."""

    @pytest.mark.parametrize("listed", ["sets/{split}.txt", ""])
    def test_frames_masks_and_lists_of_videos_may_lie_anywhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str
    ) -> None:
        below = "" if listed else "{split}/"
        tree = Tree(
            (f"frames/{below}{{video}}/480p",), (f"labels/{below}{{video}}",), listed, splits={"val": "held-out"}
        )
        monkeypatch.setitem(TREES, "folders", tree)
        below = "" if listed else "held-out/"
        for video, stem in (("two", "a"), ("one", "b"), ("one", "a")):
            for place in (f"frames/{below}{video}/480p/{stem}.jpg", f"labels/{below}{video}/{stem}.png"):
                (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (4, 3), 1).save(tmp_path / place)
        (tmp_path / "sets").mkdir()
        (tmp_path / "sets" / "val.txt").write_text("two\none\n")
        dataset = open_dataset(Data(name="plain", root=str(tmp_path), layout="folders"))
        videos = dataset.split("val")
        assert addresses(videos) == (["two/a", "one/a", "one/b"] if listed else ["one/a", "one/b", "two/a"])
        assert all(frame.image and frame.mask for video in videos for frame in video.frames)
        assert videos[-1].frames[0].mask.parent.parent == tmp_path / "labels" / below  # type: ignore[union-attr]
        assert dataset.has("val")
        assert not dataset.has("test")
        with pytest.raises(VssError, match="the list of split 'test'" if listed else "does not hold folders of images"):
            dataset.split("test")


class TestInput:
    """One's own frames."""

    def test_a_folder_of_images_is_one_video_named_after_it(self, root: Path) -> None:
        (video,) = open_input(root / "data" / "four" / "origin")
        assert (video.name, video.stems) == ("four", ("a", "b", "c"))
        plain = root / "data" / "four" / "origin"
        plain.rename(root / "holiday")
        assert [video.name for video in open_input(root / "holiday")] == ["holiday"]

    @pytest.mark.parametrize("below", ["", "data"])
    def test_a_data_set_gives_all_its_videos(self, root: Path, below: str) -> None:
        assert [video.name for video in open_input(root / below)] == ["four", "one", "three", "two"]

    def test_one_video_of_a_data_set_may_be_given(self, root: Path) -> None:
        assert [video.name for video in open_input(root / "data" / "one")] == ["one"]

    def test_nothing_and_nothing_useful_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(VssError, match="does not exist"):
            open_input(tmp_path / "none")
        (tmp_path / "notes.txt").write_text("no frames")
        (tmp_path / "empty").mkdir()
        with pytest.raises(VssError, match="holds neither images"):
            open_input(tmp_path)
        Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
        with pytest.raises(VssError, match="single image"):
            open_input(tmp_path / "a.png")

    def test_a_video_file_is_opened_with_pyav(self, tmp_path: Path) -> None:
        (tmp_path / "clip.mp4").write_bytes(b"junk")
        for path in (tmp_path / "clip.mp4", tmp_path):
            with pytest.raises(VssError, match=r"clip\.mp4 is damaged"):
                open_input(path)
