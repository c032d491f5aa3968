"""The mappings that come with vss: five data sets' classes in VSPW's."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from PIL import Image
from small import small_recipe

from vsscli.context import Context
from vsscli.data.classes import load_class_table, read_class_entries
from vsscli.data.mapping import SHIPPED, load_mapping
from vsscli.stages.job import open_job
from vsscli.stages.key import Frames, brought_up, differences, key_of

# Source, its class table, how many classes it has and how many of them are kept.
SOURCES = {
    "ade20k": ("ade20k150", 150, 127),
    "cocostuff": ("cocostuff171", 171, 144),
    "coco-panoptic": ("coco_panoptic133", 133, 113),
    "cityscapes": ("cityscapes19", 19, 16),
    "camvid": ("camvid11", 11, 9),
}
VSPW = load_class_table("vspw124")

# VSPW's classes that none of the five data sets feeds: theirs are other classes, or mixtures that VSPW tells apart.
UNFED = (
    "ladder Playground_slide goal crosswalk windmill well_or_well_lid ice pipeline roadblock "
    "wheeled_machine raft tyre backboard fishbowl gun blackboard tissue printer instrument"
)


def lines_of(source: str) -> dict[object, object]:
    """What the file says, line by line; a key that stands twice does not survive `load_mapping`."""
    values = yaml.safe_load((SHIPPED / f"{source}.yaml").read_text())
    assert values["source"] == SOURCES[source][0]
    return dict(values["map"])


def test_these_mappings_ship_and_no_others() -> None:
    assert {path.stem for path in SHIPPED.glob("*.yaml")} == set(SOURCES)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_class_is_named_once_and_every_target_exists(source: str) -> None:
    table, count, kept = SOURCES[source]
    names = [entry.name for entry in read_class_entries(table)[1]]
    text = (SHIPPED / f"{source}.yaml").read_text().split("\nmap:\n")[1]
    named = Counter(line.split(":")[0].strip() for line in text.splitlines())
    assert {name: named[name] for name in names} == dict.fromkeys(names, 1)
    assert len(names) == count
    lines = lines_of(source)
    assert [name for name in lines if isinstance(name, str)] == names  # in the table's order, to be read beside it
    assert set(lines.values()) <= {*VSPW.names, "ignore"}
    mapping = load_mapping(source)
    assert [name for name, _ in mapping.classes] == names
    assert mapping.kept == kept


@pytest.mark.parametrize("source", SOURCES)
def test_void_is_ignored_and_other_values_are_refused(source: str) -> None:
    void = [value for value in lines_of(source) if isinstance(value, int)]
    mapping = load_mapping(source)
    assert all(mapping.targets[value] == 255 for value in void)
    assert sum(target != 254 for target in mapping.targets) == SOURCES[source][1] + len(void)


def test_the_classes_that_nothing_feeds_are_known() -> None:
    fed = {target for source in SOURCES for target in lines_of(source).values()}
    unfed = [name for name in VSPW.names if name not in fed]
    print("no source feeds:", *unfed)
    assert " ".join(unfed) == UNFED


@pytest.mark.parametrize(
    ("source", "name", "target"),
    [
        ("ade20k", "armchair", "chair_or_seat"),
        ("ade20k", "windowpane", "window"),
        ("ade20k", "animal", None),
        ("cocostuff", "railroad", "rail"),
        ("cocostuff", "railing", "handrail_or_fence"),
        ("coco-panoptic", "cow", "cattle"),
        ("coco-panoptic", "tree-merged", "tree"),
        ("cityscapes", "rider", "person"),
        ("cityscapes", "vegetation", None),
        ("camvid", "Bicyclist", None),
    ],
)
def test_a_plain_kind_is_kept_and_a_mixture_is_not(source: str, name: str, target: str | None) -> None:
    told = load_mapping(source).to_dict()
    assert told["mapping"][name] == target
    assert (told["source"], told["target"]) == (source, "vspw124")


def test_data_sets_agree_on_classes_of_one_name() -> None:
    told: dict[str, set[object]] = {}
    for source in SOURCES:
        for name, target in load_mapping(source).to_dict()["mapping"].items():
            told.setdefault(name.lower().removesuffix("-merged").removesuffix("-other"), set()).add(target)
    assert {name: targets for name, targets in told.items() if len(targets) > 1} == {}


MERGED = {
    "tree-merged": "branch tree leaves bush",
    "fence-merged": "fence railing cage",
    "ceiling-merged": "ceiling-tile ceiling-other",
    "sky-other-merged": "clouds sky-other fog",
    "cabinet-merged": "cupboard cabinet",
    "table-merged": "desk-stuff table",
    "floor-other-merged": "floor-marble floor-other floor-tile",
    "pavement-merged": "pavement floor-stone",
    "mountain-merged": "hill mountain",
    "grass-merged": "moss grass straw",
    "dirt-merged": "mud dirt",
    "paper-merged": "napkin paper",
    "food-other-merged": "salad vegetable food-other",
    "building-other-merged": "skyscraper building-other",
    "rock-merged": "stone rock",
    "wall-other-merged": "wall-other wall-concrete wall-panel",
    "rug-merged": "mat rug carpet",
}
"""What COCO panoptic merges of COCO-Stuff (cocodataset.org, panoptic evaluation)."""

OWN = {"bush": "other_plant", "cage": "cage", "floor-stone": "floor"}
"""Those of them that VSPW has a class of just their meaning for."""


def test_both_coco_tables_tell_the_same_of_what_one_merges() -> None:
    panoptic, stuff = (load_mapping(source).to_dict()["mapping"] for source in ("coco-panoptic", "cocostuff"))
    for merged, parts in MERGED.items():
        assert {part: stuff[part] for part in parts.split()} == {
            part: OWN.get(part, panoptic[merged]) for part in parts.split()
        }
    assert sorted(name for name in panoptic if name.endswith("-merged")) == sorted(MERGED)
    for name in panoptic.keys() - MERGED.keys():
        assert panoptic[name] == stuff[name], name


SYNONYMS = {
    "windowpane": "window-other",
    "sidewalk": "pavement",
    "earth": "dirt",
    "plant": "plant-other",
    "sofa": "couch",
    "television": "tv",
    "ship": "boat",
    "minibike": "motorcycle",
    "blind": "window-blind",
    "signboard": "banner",
    "plaything": "teddy bear",
    "apparel": "clothes",
    "glass": "wine glass",
    "screen door": "door-stuff",
    "desk": "desk-stuff",
    "mirror": "mirror-stuff",
    "bag": "handbag",
    "floor": "floor-other",
    "wall": "wall-other",
    "water": "water-other",
    "food": "food-other",
    "building": "building-other",
    "sky": "sky-other",
    "ceiling": "ceiling-other",
    "land": "ground-other",
    "countertop": "counter",
}
"""Classes of ADE20K by other names of theirs in COCO-Stuff, as far as WordNet and the lists of labels say so."""


def test_synonyms_are_told_alike() -> None:
    ade, stuff = (load_mapping(source).to_dict()["mapping"] for source in ("ade20k", "cocostuff"))
    assert {name: ade[name] for name in SYNONYMS} == {name: stuff[other] for name, other in SYNONYMS.items()}


@pytest.mark.parametrize("source", ["ade20k", "cocostuff", "coco-panoptic"])
def test_whatever_is_left_out_has_a_word_that_says_why(source: str) -> None:
    text = (SHIPPED / f"{source}.yaml").read_text().split("\nmap:\n")[1]
    names = {entry.name for entry in read_class_entries(SOURCES[source][0])[1]}
    left_out = [line for line in text.splitlines() if line.split("#")[0].rstrip().endswith(": ignore")]
    bare = [line for line in left_out if "#" not in line and line.split(":")[0].strip() in names]
    assert not bare


def test_the_guide_lists_the_classes_that_nothing_feeds() -> None:
    guide = (SHIPPED.parents[2] / "docs" / "guide.md").read_text()
    listed = guide.split("<!-- classes without a source -->")[1].split("<!-- end -->")[0]
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(UNFED.split())


def test_the_ids_are_those_of_the_data_sets() -> None:
    # As the data sets' own lists have it: ADE20K's 150 is flag; COCO-Stuff's 182, 181 in its masks, is wood, and 11 in
    # them is unused; COCO panoptic's last, 200, is rug-merged.
    for source, value, name in [
        ("ade20k", 150, "flag"),
        ("ade20k", 3, "sky"),
        ("cocostuff", 181, "wood"),
        ("cocostuff", 156, "sky"),
        ("coco-panoptic", 200, "cushion_or_carpet"),
        ("coco-panoptic", 187, "sky"),
        ("cityscapes", 10, "sky"),
        ("camvid", 1, "sky"),
    ]:
        assert VSPW.names[load_mapping(source).targets[value]] == name
    assert load_mapping("cocostuff").targets[11] == 254


def test_a_mapping_that_changed_is_another_key_of_a_training(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split in ("train", "val"):
        for part, kind in (("images", "RGB"), ("masks", "L")):
            (root / part / split).mkdir(parents=True)
            Image.new(kind, (64, 64), 1 if kind == "L" else (9, 9, 9)).save(root / part / split / "a.png")
    data = {
        "name": "photos",
        "root": str(root),
        "layout": "images",
        "images": "images/{split}",
        "masks": "masks/{split}",
    }
    recipe = small_recipe(root).model_dump(mode="json") | {"data": {**data, "remap": "m.yaml", "classes": "vspw124"}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "chain.yaml").write_text("name: chain\nstages: {one: {do: train, recipe: one.yaml}}\n")
    keys = []
    for target in ("sea", "sky"):
        (root / "m.yaml").write_text(f"target: vspw124\nmap: {{1: {target}}}\n")
        job = open_job(tmp_path / "chain.yaml", (), context=Context(tmp_path / "runs"))
        keys.append(key_of(job.kind("one"), {}, Frames(job)))
    assert "frames of labelled changed" in differences(*keys)
    # Earlier versions noted names and sizes, and of a mapping its name.
    frames = Frames(job)
    noted = {one.called: frames.by_size(one.data, one.split, masks=one.masks) for one in job.kind("one").reads()}
    assert brought_up(keys[1] | {"frames": noted}, job.kind("one"), frames)["frames"] == noted
