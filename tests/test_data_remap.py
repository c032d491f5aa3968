"""Mappings between class tables, and rewriting folders of masks with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_process import environment, vss
from hypothesis import given, settings
from hypothesis import strategies as st
from listener import Listener
from PIL import Image
from png_samples import palette_file

from vsscli.data.classes import ClassTable, load_class_table
from vsscli.data.masks import read_mask, write_mask
from vsscli.data.remap import Mapping, load_mapping, remap_masks
from vsscli.errors import VssError

MAPPING = """
source: [Sky, Road, Sign]
target: vspw124
map:
  0: ignore
  Sky: sky
  Road: 18
  Sign: ignore
"""


def written(folder: Path, text: str = MAPPING) -> Path:
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


def with_line(line: str) -> str:
    return MAPPING + line + "\n"


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Masks of two videos with the values 0..3."""
    for name in ("one/mask/a.png", "one/mask/b.png", "two/a.png"):
        write_mask(tmp_path / "masks" / name, np.array([[0, 1, 2, 3], [1, 1, 2, 2]], np.uint8))
    (tmp_path / "masks" / "one" / ".hidden.png").write_bytes(b"junk")
    (tmp_path / "masks" / "notes.txt").write_text("not a mask")
    return tmp_path / "masks"


class TestMapping:
    """What a mapping may say."""

    def test_names_ids_and_ignore_are_understood(self, tmp_path: Path) -> None:
        mapping = load_mapping(written(tmp_path))
        # VSPW's sky is class 28, its road class 18.
        assert mapping.targets[:5] == (255, 28, 18, 255, 254)
        assert (mapping.name, mapping.target.name) == ("mine", "vspw124")

    def test_others_may_be_ignored(self, tmp_path: Path) -> None:
        assert load_mapping(written(tmp_path, "others: ignore\n" + MAPPING)).targets[4:] == (255,) * 252

    def test_a_mapping_tells_its_classes(self, tmp_path: Path) -> None:
        told = load_mapping(written(tmp_path)).to_dict()
        wanted = {"source": "mine", "target": "vspw124", "mapping": {"Sky": "sky", "Road": "road", "Sign": None}}
        assert told == wanted
        silent = load_mapping(written(tmp_path, MAPPING.replace("  Road: 18\n", "")))
        assert silent.to_dict()["mapping"] == {"Sky": "sky", "Sign": None}
        values = load_mapping(written(tmp_path, "target: vspw124\nmap: {9: road, 4: ignore}\n"))
        assert values.to_dict()["mapping"] == {"4": None, "9": "road"}
        assert values.kept == 1

    def test_the_source_may_start_elsewhere_or_be_a_file_with_ids_or_be_left_out(self, tmp_path: Path) -> None:
        assert load_mapping(written(tmp_path, "first_id: 7\n" + MAPPING)).targets[7:10] == (28, 18, 255)
        (tmp_path / "coco.json").write_text('[{"id": 0, "name": "person"}, {"id": 90, "name": "road"}]')
        text = "source: coco.json\nfirst_id: 0\ntarget: vspw124\nmap: {person: person, road: road}\n"
        targets = load_mapping(written(tmp_path, text)).targets
        assert (targets[0], targets[90], targets[1]) == (60, 18, 254)
        assert load_mapping(written(tmp_path, "target: vspw124\nmap: {9: road}\n")).targets[9] == 18

    def test_camvids_ships(self) -> None:
        mapping = load_mapping("camvid")
        vspw = load_class_table("vspw124")
        told = [vspw.names[k] if k < 124 else k for k in mapping.targets[:13]]
        assert told == [
            255, "sky", "building", "pole", "road", "path", "tree", 255, "handrail_or_fence", "car", "person", 255, 254,
        ]  # fmt: skip
        assert mapping.targets[255] == 255

    @pytest.mark.parametrize(
        ("text", "match", "hint"),
        [
            (with_line("  Sky: sky"), "`Sky`", ""),
            (with_line("  1: sky"), "'Sky' and 1 are the same mask value 1", ""),
            (with_line("  Skies: sky"), "the source has no class 'Skies'", "did you mean Sky"),
            (with_line("  9: ski"), "9 becomes 'ski', which vspw124 does not have", "did you mean sky"),
            (with_line("  9: 124"), "9 becomes 124", "0..123"),
            (with_line("  9: true"), "9 becomes True", ""),
            (with_line("  256: sky"), "256 is neither a mask value", ""),
            (with_line("  -1: sky"), "-1 is neither a mask value", ""),
            (with_line("  true: sky"), "True is neither a mask value", ""),
            ("target: vspw124\nmap: {Sky: sky}\n", "names need `source:`", ""),
            ("others: road\n" + MAPPING, "others is 'road'", ""),
            ("first_id: 254\n" + MAPPING, "'Sign' would have mask value 256", ""),
            ("first_id: one\n" + MAPPING, "first_id is 'one'", ""),
            ("vois: 3\n" + MAPPING, "unknown key 'vois'", "first_id"),
            ("source: [Sky, Sky]\ntarget: vspw124\nmap: {}\n", "'Sky' is listed twice", ""),
            ("target: nothing\nmap: {}\n", "class table 'nothing'", "vspw124"),
            ("target: [road]\nmap: {}\n", "target is", ""),
            ("files: pixels\n" + MAPPING, "files is 'pixels'", "coco-panoptic"),
            ("files: cityscapes\n" + MAPPING, "names 3 of its 19 classes", "cityscapes19"),
            ("target: vspw124\n", "lacks", ""),
            ("- 1\n", "lacks", ""),
            ("target: [", "flow node", ""),
        ],
    )
    def test_a_line_that_can_not_be_meant_is_refused(self, tmp_path: Path, text: str, match: str, hint: str) -> None:
        with pytest.raises(VssError, match=match) as caught:
            load_mapping(written(tmp_path, text))
        assert hint in caught.value.hint

    def test_a_mapping_that_is_nowhere_names_those_that_ship(self) -> None:
        with pytest.raises(VssError, match="neither shipped") as caught:
            load_mapping("camwid")
        assert "camvid" in caught.value.hint


class TestMasks:
    """Rewriting a folder."""

    def test_masks_come_out_as_vspws_with_folders_kept(self, masks: Path, tmp_path: Path) -> None:
        report = remap_masks(masks, tmp_path / "out", load_mapping(written(tmp_path)), workers=1)
        names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
        assert names == ["one/mask/a.png", "one/mask/b.png", "two/a.png"]
        label = read_mask(tmp_path / "out" / "two" / "a.png")
        np.testing.assert_array_equal(label, [[255, 29, 19, 255], [29, 29, 19, 19]])
        with Image.open(tmp_path / "out" / "two" / "a.png") as image:
            assert image.convert("RGB").getpixel((1, 0)) == load_class_table("vspw124").colours[28]
        assert (report.masks, report.skipped, report.pixels, report.kept) == (3, 0, 24, 18)
        assert report.counts == {"road": 9, "sky": 9}
        assert (report.share, report.classes) == (0.75, 2)

    def test_processes_share_the_work_and_come_to_the_same(self, tmp_path: Path) -> None:
        for number in range(40):
            write_mask(tmp_path / "masks" / f"{number}.png", np.full((4, 5), number % 4, np.uint8))
        mapping = load_mapping(written(tmp_path))
        alone = remap_masks(tmp_path / "masks", tmp_path / "alone", mapping, workers=1)
        shared = remap_masks(tmp_path / "masks", tmp_path / "shared", mapping, workers=2)
        assert alone == shared
        for path in (tmp_path / "alone").glob("*.png"):
            assert path.read_bytes() == (tmp_path / "shared" / path.name).read_bytes()

    def test_killed_it_goes_on_to_the_same_masks(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(1).integers(0, 12, (200, 300), np.uint8)  # takes a while to deflate
        write_mask(tmp_path / "masks" / "0.png", noise)
        for number in range(1, 48):
            shutil.copy(tmp_path / "masks" / "0.png", tmp_path / "masks" / f"{number}.png")
        arguments = ["remap", "--source", "camvid", "--masks", tmp_path / "masks", "--out", "out", "--workers", "2"]
        command = [sys.executable, "-m", "vsscli", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
        while not list((tmp_path / "out").glob("*.png")) and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=60)  # ends when the last process that holds its stderr has ended
        done = vss(*arguments, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["masks"] == 48
        contents = {path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
        assert len(contents) == 1
        assert not list((tmp_path / "out").glob(".*"))

    def test_a_value_the_mapping_is_silent_on_is_an_error_with_the_file(self, masks: Path, tmp_path: Path) -> None:
        write_mask(masks / "two" / "b.png", np.array([[9, 1]], np.uint8))
        with pytest.raises(VssError, match=r"b\.png holds value 9") as caught:
            remap_masks(masks, tmp_path / "out", load_mapping(written(tmp_path)), workers=1)
        assert "others: ignore" in caught.value.hint
        assert not (tmp_path / "out" / "two" / "b.png").exists()

    def test_after_the_missing_line_is_added_it_goes_on(self, masks: Path, tmp_path: Path) -> None:
        write_mask(masks / "two" / "b.png", np.array([[9, 1]], np.uint8))
        with pytest.raises(VssError):
            remap_masks(masks, tmp_path / "out", load_mapping(written(tmp_path)), workers=1)
        report = remap_masks(
            masks, tmp_path / "out", load_mapping(written(tmp_path, with_line("  9: tree"))), workers=1
        )
        assert (report.masks, report.skipped) == (4, 3)
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / "two" / "b.png"), [[67, 29]])

    def test_a_damaged_mask_is_an_error_with_the_file(self, masks: Path, tmp_path: Path) -> None:
        (masks / "two" / "a.png").write_bytes(b"junk")
        with pytest.raises(VssError, match=r"two/a\.png is damaged"):
            remap_masks(masks, tmp_path / "out", load_mapping(written(tmp_path)), workers=1)

    def test_the_same_again_only_does_what_is_missing_changed_or_damaged(self, masks: Path, tmp_path: Path) -> None:
        mapping, out = load_mapping(written(tmp_path)), tmp_path / "out"
        first = remap_masks(masks, out, mapping, workers=1)
        (out / "two" / "a.png").unlink()
        (out / "one" / "mask" / "a.png").write_bytes(b"cut")
        listener = Listener()
        again = remap_masks(masks, out, mapping, workers=1, talk=listener)
        assert (again.skipped, again.counts, again.pixels) == (1, first.counts, first.pixels)
        assert listener.said == ["remap: 1 of 3 masks were kept from an earlier run"]
        write_mask(masks / "two" / "a.png", np.array([[3, 3]], np.uint8))
        os.utime(out / "two" / "a.png", ns=(1, 1))
        assert remap_masks(masks, out, mapping, workers=1).skipped == 2
        np.testing.assert_array_equal(read_mask(out / "two" / "a.png"), [[255, 255]])

    def test_a_source_that_an_older_file_replaced_is_written_again(self, masks: Path, tmp_path: Path) -> None:
        mapping, out = load_mapping(written(tmp_path)), tmp_path / "out"
        write_mask(tmp_path / "older.png", np.array([[3, 1]], np.uint8))
        os.utime(tmp_path / "older.png", ns=(1, 1))
        remap_masks(masks, out, mapping, workers=1)
        (masks / "two" / "a.png").touch()  # the content stays
        assert remap_masks(masks, out, mapping, workers=1).skipped == 3
        shutil.copy2(tmp_path / "older.png", masks / "two" / "a.png")
        listener = Listener()
        report = remap_masks(masks, out, mapping, workers=1, talk=listener)
        assert report.skipped == 2
        assert listener.said[0] == "remap: 1 of 3 masks were written again: their source has changed"
        shutil.copytree(masks, tmp_path / "copy")
        fresh = remap_masks(tmp_path / "copy", tmp_path / "fresh", mapping, workers=1)
        assert fresh.counts == report.counts
        assert (out / "two/a.png").read_bytes() == (tmp_path / "fresh/two/a.png").read_bytes()

    def test_a_mask_that_was_corrected_by_hand_stays(self, masks: Path, tmp_path: Path) -> None:
        mapping, out = load_mapping(written(tmp_path)), tmp_path / "out"
        remap_masks(masks, out, mapping, workers=1)
        write_mask(out / "two" / "a.png", np.array([[1, 1]], np.uint8))
        assert remap_masks(masks, out, mapping, workers=1).skipped == 3

    def test_masks_of_an_earlier_version_stay_unless_their_source_came_later(self, masks: Path, tmp_path: Path) -> None:
        mapping, out = load_mapping(written(tmp_path)), tmp_path / "out"
        write_mask(tmp_path / "older.png", np.array([[3, 1]], np.uint8))
        os.utime(tmp_path / "older.png", ns=(1, 1))
        remap_masks(masks, out, mapping, workers=1)
        (out / "remap.sources").unlink()
        time.sleep(0.02)
        (tmp_path / "older.png").rename(masks / "two" / "a.png")
        assert remap_masks(masks, out, mapping, workers=1).skipped == 2
        assert remap_masks(masks, out, mapping, workers=1).skipped == 3

    def test_masks_that_an_earlier_version_read_otherwise_are_written_again(self, masks: Path, tmp_path: Path) -> None:
        mapping, out = load_mapping(written(tmp_path)), tmp_path / "out"
        values = read_mask(masks / "two" / "a.png")
        used = np.unique(values)
        greys = [(int(value),) * 3 for value in used[::-1]]
        numbers = (len(used) - 1 - np.searchsorted(used, values)).astype(np.uint8)
        (masks / "two" / "a.png").write_bytes(palette_file(numbers, greys))  # the same picture, numbered anew
        remap_masks(masks, out, mapping, workers=1)
        right = (out / "two/a.png").read_bytes()
        # What a version left that took the numbers for values, and a mask that somebody corrected since.
        write_mask(out / "two" / "a.png", np.full_like(values, 29))
        write_mask(out / "one" / "mask" / "a.png", np.array([[1, 1]], np.uint8))
        told = json.loads((out / "remap.json").read_text())
        assert told.pop("rules") == 2
        (out / "remap.json").write_text(json.dumps(told))
        listener = Listener()
        assert remap_masks(masks, out, mapping, workers=1, talk=listener).skipped == 2
        assert [text for text in listener.warned if text.startswith("remap: 1 of 3 masks were written again")]
        assert (out / "two/a.png").read_bytes() == right
        assert read_mask(out / "one" / "mask" / "a.png").tolist() == [[1, 1]]
        listener = Listener()
        assert remap_masks(masks, out, mapping, workers=1, talk=listener).skipped == 3
        assert not listener.warned

    def test_another_mapping_into_the_same_folder_is_refused_until_forced(self, masks: Path, tmp_path: Path) -> None:
        remap_masks(masks, tmp_path / "out", load_mapping(written(tmp_path)), workers=1)
        other = load_mapping(written(tmp_path, MAPPING.replace("Road: 18", "Road: path")))
        with pytest.raises(VssError, match=r"written with another mapping \(mine\)") as caught:
            remap_masks(masks, tmp_path / "out", other, workers=1)
        assert "--force" in caught.value.hint
        report = remap_masks(masks, tmp_path / "out", other, force=True, workers=1)
        assert (report.skipped, report.counts) == (0, {"path": 9, "sky": 9})

    def test_a_forced_run_that_was_cut_short_leaves_no_mask_of_the_old_mapping(
        self, masks: Path, tmp_path: Path
    ) -> None:
        remap_masks(masks, tmp_path / "out", load_mapping(written(tmp_path)), workers=1)
        other = load_mapping(written(tmp_path, MAPPING.replace("Road: 18", "Road: path")))
        content = (masks / "one" / "mask" / "b.png").read_bytes()
        (masks / "one" / "mask" / "b.png").write_bytes(b"junk")
        with pytest.raises(VssError, match="damaged"):
            remap_masks(masks, tmp_path / "out", other, force=True, workers=1)
        (masks / "one" / "mask" / "b.png").write_bytes(content)
        report = remap_masks(masks, tmp_path / "out", other, workers=1)
        assert report.counts == {"path": 9, "sky": 9}

    def test_a_run_that_wrote_nothing_is_in_nobodys_way(self, masks: Path, tmp_path: Path) -> None:
        wrong = load_mapping(written(tmp_path, "target: vspw124\nmap: {200: sky}\n"))
        with pytest.raises(VssError, match="does not mention"):
            remap_masks(masks, tmp_path / "out", wrong, workers=1)
        assert remap_masks(masks, tmp_path / "out", load_mapping(written(tmp_path)), workers=1).skipped == 0

    def test_other_masks_into_the_same_folder_are_refused_until_forced(self, masks: Path, tmp_path: Path) -> None:
        mapping = load_mapping(written(tmp_path))
        remap_masks(masks, tmp_path / "out", mapping, workers=1)
        with pytest.raises(VssError, match="from other masks"):
            remap_masks(masks / "two", tmp_path / "out", mapping, workers=1)
        listener = Listener()
        remap_masks(masks / "two", tmp_path / "out", mapping, force=True, workers=1, talk=listener)
        assert "3 older PNG files" in listener.warned[0]

    def test_a_folder_with_other_things_in_it_is_not_written_to(self, masks: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.tex").write_text("")
        with pytest.raises(VssError, match="did not write"):
            remap_masks(masks, tmp_path / "out", load_mapping(written(tmp_path)))

    def test_masks_are_not_written_among_their_sources(self, masks: Path, tmp_path: Path) -> None:
        for out in (masks, masks / "one" / "new"):
            with pytest.raises(VssError, match="is in the folder of masks"):
                remap_masks(masks, out, load_mapping(written(tmp_path)))

    def test_no_masks_is_an_error(self, tmp_path: Path) -> None:
        mapping = load_mapping(written(tmp_path))
        with pytest.raises(VssError, match="does not exist"):
            remap_masks(tmp_path / "none", tmp_path / "out", mapping)
        (tmp_path / "empty").mkdir()
        with pytest.raises(VssError, match="no PNG masks"):
            remap_masks(tmp_path / "empty", tmp_path / "out", mapping)
        assert not (tmp_path / "out").exists()


TABLE = ClassTable("t", tuple(f"c{k}" for k in range(254)), ((0, 0, 0),) * 254)
told = st.one_of(st.just("ignore"), st.integers(0, 253), st.integers(0, 253).map(lambda k: f"c{k}"))


@settings(deadline=None)  # it reads and writes files, which takes as long as the disk likes
@given(lines=st.dictionaries(st.integers(0, 255), told), others=st.booleans())
def test_remap_is_total(tmp_path_factory: pytest.TempPathFactory, lines: dict[int, str | int], others: bool) -> None:
    """Whatever a mapping says, each of the 256 values becomes its class, is ignored, or is refused by name."""
    folder = tmp_path_factory.mktemp("total")
    (folder / "t.yaml").write_text("\n".join(f"- {name}" for name in TABLE.names))
    text = f"target: t.yaml\n{'others: ignore' if others else ''}\nmap: {lines}\n"
    mapping = load_mapping(written(folder, text))
    unmentioned = set() if others else set(range(256)) - set(lines)
    mentioned = sorted(set(range(256)) - unmentioned)
    if mentioned:
        out = remapped(folder / "a", mapping, mentioned)
        for value, result in zip(mentioned, out, strict=True):
            wanted = lines.get(value, "ignore")
            assert result == (255 if wanted == "ignore" else int(str(wanted).removeprefix("c")) + 1)
    if unmentioned:
        value = min(unmentioned)
        with pytest.raises(VssError, match=f"holds value {value},"):
            remapped(folder / "b", mapping, [value])


def remapped(folder: Path, mapping: Mapping, values: list[int]) -> list[int]:
    write_mask(folder / "in" / "m.png", np.array([values], np.uint8))
    remap_masks(folder / "in", folder / "out", mapping, workers=1)
    return read_mask(folder / "out" / "m.png")[0].tolist()
