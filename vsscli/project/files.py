"""The files of a project: what `vss init` writes into a folder, each line with what it does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.errors import VssError
from vsscli.project.sizing import Size
from vsscli.yamltext import parse_yaml

PIPELINE, DATASET, CLASSES = "vss.yaml", "dataset.yaml", "classes.yaml"
STUDENT, RETRAINED = "student.yaml", "retrained.yaml"
LABELS = "labels"
MASKS = f"{LABELS}/{{video}}/{{frame}}.png"

EXPORTED, NEXT = "exported", "next"
"""Where `vss export` and `vss next` write by default."""

WRITTEN = (PIPELINE, DATASET, CLASSES, STUDENT, RETRAINED)
"""Files that a project consists of, beside its labels and its workspace."""


@dataclass(frozen=True)
class Described:
    """A project's data: what ``data`` says, how many frames and labels that is, and which number masks that do not name
    their classes give the first one."""

    name: str
    videos: Sequence[str]
    stills: Sequence[str]
    held_out: Sequence[str]
    frames: int
    labelled: int
    first: int = 0


def class_table(table: ClassTable) -> str:
    """``classes.yaml``."""
    was: dict[int, list[str]] = {}
    for old, index in table.former:
        was.setdefault(index, []).append(old)
    rows = []
    for index, (name, colour) in enumerate(zip(table.names, table.colours, strict=True)):
        before = f", was: {_list(was[index])}" if index in was else ""
        rows.append((f"  - {{name: {_text(name)}, colour: {list(colour)}{before}}}", ""))
    return _file(
        "The classes, in the order of their indices. `vss classes` counts them in the labels, and renames, merges and\n"
        "drops them; masks name their classes, so that they stay as they are.",
        (f"name: {_text(table.name)}", ""),
        ("classes:", ""),
        *rows,
        *([(f"dropped: {_list(was[IGNORE])}", "void where labels have them")] if IGNORE in was else []),
    )


def dataset(data: Described) -> str:
    """``dataset.yaml``."""
    held = (f"  held_out: {_list(data.held_out)}", "scored as `val` and never trained on")
    return _file(
        "The data, shared by all recipes of this folder. `vss init` extends it, and keeps what you add.",
        ("name: dataset", ""),
        ("data:", ""),
        (f"  name: {_text(data.name)}", ""),
        ("  root: .", "this folder, wherever vss is called; the paths below are in it"),
        ("  layout: files", ""),
        (f"  videos: {_list(data.videos)}", "video files, folders of frames, folders of these, or patterns"),
        *([(f"  stills: {_list(data.stills)}", "folders of single images")] if data.stills else []),
        (f"  masks: {_text(MASKS)}", "frames without a mask are unlabelled data"),
        (f"  classes: {CLASSES}", ""),
        (f"  first_id: {data.first}", "number of the first class in masks that do not name theirs"),
        (f"  void_ids: {sorted({*range(data.first), IGNORE})}", "numbers in these that mean no class"),
        held if data.held_out else ("  val: train", "too few labels to hold some out: nothing is scored"),
    )


def extended(text: str, data: Described) -> str:
    """A ``dataset.yaml`` that may have been edited, brought up to date in the lists that `vss init` maintains.

    Raises
    ------
    VssError
        It is laid out otherwise than `vss init` writes it, and one of these lists has to change; says how.
    """
    lines = text.splitlines()
    wanted = {"videos": data.videos, "stills": data.stills, "held_out": data.held_out}
    for name in _differing(text, wanted):
        (line,) = (line for line in dataset(data).splitlines() if line.startswith(f"  {name}:"))
        at = next((n for n, there in enumerate(lines) if there.startswith(f"  {name}:")), None)
        if at is None:
            before = (n for n, there in enumerate(lines) if there in ("  layout: files", "  classes: classes.yaml"))
            lines.insert(max(before, default=len(lines) - 1) + 1, line)
            continue
        end = at + 1
        while end < len(lines) and lines[end].startswith(("   ", "  -", "  ]")):  # of a list over several lines
            end += 1
        lines[at:end] = [line]
    if data.held_out:
        lines = [line for line in lines if not line.startswith("  val: train ")]
    new = "\n".join([*lines, ""])
    for name in _differing(new, wanted):
        raise VssError(
            f"{DATASET} is not laid out as `vss init` writes it, and can't be brought up to date",
            f"set data.{name} in it to {_list(wanted[name])}, and run `vss init` again",
        )
    return new


def _differing(text: str, wanted: Mapping[str, Sequence[str]]) -> list[str]:
    """The lists in the data of a ``dataset.yaml`` that are others than they should be; empty ones may be anything."""
    try:
        said = parse_yaml(text, DATASET)["data"]
        return [name for name, values in wanted.items() if values and list(said.get(name) or ()) != list(values)]
    except (VssError, KeyError, TypeError, AttributeError):
        return [name for name, values in wanted.items() if values]


def student(start: str, size: Size) -> str:
    """``student.yaml``."""
    return _file(
        "The network, trained on the labels alone. `vss recipe show student.yaml` prints every setting.",
        (f"extends: [{start}, {DATASET}]", ""),
        ("name: student", ""),
        ("train:", ""),
        (f"  steps: {size.steps}", size.reason),
        (f"  validate_every: {size.validate_every}", "steps between scores on what is held out; 0: at the end"),
    )


def retrained(size: Size) -> str:
    """``retrained.yaml``."""
    return _file(
        "The student, trained further on the labels and on pseudo-labels of the other frames.",
        (f"extends: {STUDENT}", ""),
        ("name: retrained", ""),
        ("seed: 2", ""),
        ("train:", ""),
        (f"  steps: {max(1, size.steps // 2)}", "each takes about twice as long as a step of the student"),
        ("  lr: 5.0e-4", ""),
        ("unlabelled:", ""),
        ("  batch_size: 4", "unlabelled crops per step, in addition to the labelled ones"),
        ("  weight: 1.0", "of the loss on pseudo-labels"),
    )


def pipeline(name: str, *, scored: bool) -> str:
    """``vss.yaml``."""
    scores = [
        ("  student-val: {do: predict, model: student, split: val, tta: true}", ""),
        ("  retrained-val: {do: predict, model: retrained, split: val, tta: true}", ""),
        ("  scores:", "if the student scores better, name it as the model of `masks`"),
        ("    do: eval", ""),
        ("    metrics: [miou, wiou]", ""),
        ("    rows: [{name: student, of: student-val}, {name: retrained, of: retrained-val}]", ""),
    ]
    return _file(
        "The stages of this project. `vss run` runs those that are not done; `vss train`, `vss pseudo` and\n"
        "`vss predict` run as far as their own stages; `vss run --dry-run` lists what is left to do.",
        (f"name: {_text(name)}", ""),
        ("stages:", ""),
        ("  student: {do: train, recipe: student.yaml}", ""),
        ("  unlabelled: {do: predict, model: student, split: unlabelled, tta: true}", ""),
        (
            "  pseudo: {do: pseudo, of: unlabelled, percentile: 80, by_class: true}",
            "the surest 80 % of each class's pixels",
        ),
        ("  retrained: {do: train, recipe: retrained.yaml, init: student, pseudo: pseudo}", ""),
        *(scores if scored else []),
        (
            "  masks: {do: predict, model: retrained, split: all, tta: true}",
            "of every frame; `vss export` writes these",
        ),
    )


def written(folder: Path, texts: Mapping[str, str]) -> list[str]:
    """Which of some files are not yet in a folder as they should be."""
    return [name for name, text in texts.items() if not _is(folder / name, text)]


def _is(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _file(what: str, *lines: tuple[str, str]) -> str:
    """A YAML file of some lines, each with its comment, these below each other."""
    width = max((len(line) for line, comment in lines if comment), default=0) + 3
    head = [f"# {line}" for line in what.split("\n")]
    body = [f"{line:<{width}}# {comment}" if comment else line for line, comment in lines]
    return "\n".join([*head, *body, ""])


def _text(value: str) -> str:
    """A value of YAML; JSON's strings are YAML's."""
    return json.dumps(value, ensure_ascii=False)


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"
