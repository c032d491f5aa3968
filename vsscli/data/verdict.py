"""Judging a census: signs that masks mean something else than the data set's description says.

Only one thing is certain: a split without a labelled pixel is useless for training and scoring. Values beyond the
table, masks that seem to count from another number, a class that is alone or never occurs: each is reported with a
remedy, usually a mapping of values to classes (`data.mapping`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import yaml

from vsscli.data.census import Census
from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.mapping import Mapping
from vsscli.data.masks import UNKNOWN, MaskIds, describe_values

Weight = Literal["fault", "warning", "note"]

MUCH = 0.01
"""If a recipe makes unknown values void, they are worth a warning above this share of the pixels."""

SHOWN = 8
"""Most names or lines that are shown."""

SMOOTH = 24
"""More unknown values than this are not classes: edges were smoothed, or the file was compressed with loss."""


@dataclass(frozen=True)
class Remark:
    """A finding in a census, and its remedy. A ``fault`` stops a run; a ``warning`` does not; a ``note`` is for
    information."""

    weight: Weight
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} ({self.remedy})" if self.remedy else self.what


@dataclass(frozen=True)
class Meaning:
    """What the values of a data set's masks are declared to mean: the classes, their values, and the file or name of
    the class table, the ``target`` of a mapping."""

    table: ClassTable
    ids: MaskIds
    classes: str = ""

    @property
    def lookup(self) -> np.ndarray:
        """(256,) uint8: class, 255 for void, 254 for an unknown value, even if it counts as void."""
        return replace(self.ids, unknown="error").lookup(self.table.num_classes)

    @property
    def last(self) -> int:
        """The value of the last class."""
        return self.ids.first + self.table.num_classes - 1

    def labelled(self, census: Census) -> int:
        """Number of pixels with a class."""
        return int(census.pixels[self.lookup < UNKNOWN].sum())

    def unknown(self, census: Census) -> list[int]:
        """The unknown values that occur, ascending."""
        return [value for value in census.values if self.lookup[value] == UNKNOWN]

    def absent(self, census: Census) -> list[int]:
        """The classes that never occur, ascending."""
        occurring = {int(self.lookup[value]) for value in census.values}
        return [number for number in range(self.table.num_classes) if number not in occurring]


def judge(census: Census, meaning: Meaning, what: str = "the split") -> list[Remark]:
    """Remarks on the census of a split, except on classes that never occur (`judge_absent`)."""
    remarks = list(_remarks(census, meaning, what)) if census.masks else []
    if census.by_colours:
        said = f"{census.by_colours} of {census.masks} masks of {what} were read by their colours"
        remarks.append(Remark("note", f"{said}: an optimiser of PNGs has renumbered their palettes", ""))
    return remarks


def judge_absent(census: Census, meaning: Meaning, what: str, weight: Weight = "warning") -> list[Remark]:
    """Remarks of a given weight on classes that never occur, in a split or in all training data."""
    absent = meaning.absent(census)
    if not census.masks or not absent or not meaning.labelled(census) or len(absent) == meaning.table.num_classes - 1:
        return []  # `judge` remarks on a lone class
    names = meaning.table.names
    listed = ", ".join(names[number] for number in absent[:SHOWN])
    more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
    said = f"{len(absent)} of {len(names)} classes never occur in {what}: {listed}{more}"
    remedy = _other_start(census, meaning) if not _is_shifted(census, meaning) else ""
    return [Remark(weight, said, remedy)]


def translated(census: Census, meaning: Meaning, goal: Meaning) -> Census:
    """A census in the values of another data set with the same classes; pixels without a class become 255."""
    result = Census(census.frames, census.masks)
    for value in census.values:
        number = int(meaning.lookup[value])
        place = goal.ids.first + number if number < UNKNOWN else IGNORE
        result.pixels[place] += census.pixels[value]
        result.within[place] = max(result.within[place], census.within[value])
    return result


def unknown_remedy(census: Census, meaning: Meaning) -> str:
    """What to do about unknown values; never to discard what may be the labels."""
    unknown, ids = meaning.unknown(census), meaning.ids
    if isinstance(ids.reader, Mapping):
        return f"`vss remap --source {ids.reader.name} --show` shows the target of each class"
    if ids.first == 0 and unknown == [meaning.last + 1]:
        return "masks that count classes from 1 look like this: set data.first_id: 1 and data.void_ids: [0, 255]"
    if len(unknown) > max(SMOOTH, 2 * meaning.table.num_classes):
        return (
            "so many values can't be classes: save the masks without smoothed edges and without lossy compression, and "
            "resize them with nearest neighbour"
        )
    means = _mapping_advice(census, meaning)
    if meaning.labelled(census) > census.pixels[unknown].sum():
        return f"if they are not classes, set data.unknown_ids: void; if they are, {means}"
    return means


def counted_remedy(first: int, meaning: Meaning) -> str:
    """What to do about masks whose first class has another value, such as predictions used as labels."""
    void = [255] if first == 0 else [0, 255]
    names = meaning.table.names
    lines = {first + number: name for number, name in enumerate(names[:SHOWN])}
    more = " and so on" if len(names) > SHOWN else ""
    line = _flow({"target": meaning.classes or meaning.table.name, "map": lines})
    return (
        f"if all masks do, set data.first_id: {first} and data.void_ids: {void}; otherwise rewrite these: write "
        f"{line}{more} to ids.yaml, and run vss remap --source ids.yaml"
    )


def _remarks(census: Census, meaning: Meaning, what: str) -> Iterator[Remark]:
    table, ids = meaning.table, meaning.ids
    labelled, unknown = meaning.labelled(census), meaning.unknown(census)
    if unknown:
        share = census.share(*unknown)
        masks = int(census.within[unknown].max())  # 0 where only pixels were counted
        within = f", in {masks} or more of {census.masks} masks" if masks else ""
        said = (
            f"masks of {what} hold {describe_values(unknown)} ({share:.1%} of the pixels{within}), outside of the "
            f"{table.num_classes} classes of {table.name} "
            f"({ids.first}..{meaning.last})"
        )
        if ids.unknown == "error":
            yield Remark("fault", said, unknown_remedy(census, meaning))
            return
        if labelled:
            weight: Weight = "warning" if share >= MUCH else "note"
            yield Remark(weight, f"{said}; they count as void", unknown_remedy(census, meaning))
    if not labelled:
        yield Remark("fault", _nothing_labelled(census, meaning, what), _nothing_remedy(census, meaning))
        return
    names = [table.names[number] for number in range(table.num_classes) if number not in meaning.absent(census)]
    alone = f"all labelled pixels of {what} are {names[0]}" if len(names) == 1 < table.num_classes else ""
    if table.num_classes == 1:
        yield Remark(
            "warning",
            f"{table.names[0]} is the only class of {table.name}, so it is predicted everywhere",
            "make a class of all other pixels too; where they are void in other programs' labels: "
            "vss import --map background=NAME",
        )
    elif _is_shifted(census, meaning):
        yield Remark(
            "warning",
            f"masks of {what} hold 0, which is void, in {census.share(0):.1%} of the pixels, and never "
            f"{meaning.last}, the last class {table.names[-1]!r}{': ' + alone if alone else ''}",
            _other_start(census, meaning),
        )
    elif alone:
        remedy = "label other pixels as another class"
        if census.share(*_void(census, meaning)):
            remedy += f"; if void values are classes, {_mapping_advice(census, meaning)}"
        yield Remark("warning", f"{alone}, of {table.num_classes} classes: no other can be learned or scored", remedy)


def _is_shifted(census: Census, meaning: Meaning) -> bool:
    """Whether masks seem to count from 0 although classes begin at 1: only the last class is missing."""
    if meaning.ids.reader is not None or meaning.ids.first != 1 or not census.pixels[0]:
        return False
    return meaning.absent(census) == [meaning.table.num_classes - 1] and bool(meaning.labelled(census))


def _other_start(census: Census, meaning: Meaning) -> str:
    """The setting for masks that count from another number, if that is possible."""
    absent, ids, count = meaning.absent(census), meaning.ids, meaning.table.num_classes
    if ids.reader is not None:
        return ""
    if ids.first == 1 and count - 1 in absent and census.pixels[0]:
        return "if masks count classes from 0, set data.first_id: 0 and data.void_ids: [255]"
    if ids.first == 0 and absent[:1] == [0]:
        return "if masks count classes from 1, set data.first_id: 1 and data.void_ids: [0, 255]"
    return ""


def _nothing_labelled(census: Census, meaning: Meaning, what: str) -> str:
    shown = [f"{value} ({census.share(value):.1%})" for value in census.values[:SHOWN]]
    more = f" and {len(census.values) - SHOWN} more" if len(census.values) > SHOWN else ""
    return (
        f"no pixel of {what} has a class: its {census.masks} masks hold "
        f"{', '.join(shown)}{more}, and none of these is one of the {meaning.table.num_classes} classes of "
        f"{meaning.table.name} ({meaning.ids.first}..{meaning.last})"
    )


def _nothing_remedy(census: Census, meaning: Meaning) -> str:
    if isinstance(meaning.ids.reader, Mapping):
        return (
            f"mapping {meaning.ids.reader.name} leaves no labels in these masks: `vss remap --source "
            f"{meaning.ids.reader.name} --show` shows the target of each class"
        )
    if len(census.values) == 1 and not meaning.unknown(census):
        return f"label them; or, if value {census.values[0]} is a class, {_mapping_advice(census, meaning)}"
    return _mapping_advice(census, meaning)


def _void(census: Census, meaning: Meaning) -> list[int]:
    return [value for value in census.values if meaning.lookup[value] == IGNORE]


def _mapping_advice(census: Census, meaning: Meaning) -> str:
    """Advice to write a mapping for these masks, as a line of YAML, and where to put it."""
    return (
        f"say which value is which class: write {_mapping_line(census, meaning)}, corrected, to ids.yaml in the data "
        "set's folder, and set data.remap: ids.yaml (or rewrite the masks: vss remap --source ids.yaml)"
    )


def _mapping_line(census: Census, meaning: Meaning) -> str:
    """A guess of a mapping in one line: unknown values are the classes that do not occur, in ascending order."""
    lookup, names = meaning.lookup, meaning.table.names
    known = {value: int(lookup[value]) for value in census.values if lookup[value] < UNKNOWN}
    free = [number for number in range(len(names)) if number not in known.values()]
    rest, void = meaning.unknown(census), _void(census, meaning)
    # Void values are classes only if classes are left: together with unknown values 0 first, often the background;
    # alone 255 first, the foreground of binary masks.
    left = max(len(free) - len(rest), 0)
    rest = sorted([*rest, *((void if rest else void[::-1])[:left])])
    guess = known | dict(zip(rest, free, strict=False))
    lines = {value: names[guess[value]] if value in guess else "ignore" for value in census.values}
    values: dict[str, object] = {"target": meaning.classes or meaning.table.name, "map": lines}
    if len(lines) <= 2 * SHOWN:
        return _flow(values)
    return f"{_flow({**values, 'map': dict(list(lines.items())[: 2 * SHOWN])})} and so on"


def _flow(values: dict[str, object]) -> str:
    text: str = yaml.safe_dump(values, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.strip()
