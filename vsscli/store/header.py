"""What a store holds and how it was made: the header in the attributes of its root group.

Neither NumPy nor Zarr is imported here, so that a workspace full of stores is listed quickly.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.names import name_fault, shown_name
from vsscli.store.files import read_group, require_seal
from vsscli.structured import digest_of, leaves

FORMAT = 4
"""Version of the layout that is written; raised when older programs can no longer read it."""

READABLE = (2, 3, 4)
"""Versions that can be read. They differ in `Header.differences` and in what `_upgraded` changes."""

MAX_LEVEL = 255
"""Largest stored integer of probabilities and entropies; it stands for 1."""

Kind = Literal["prediction", "fusion", "pseudo"]

Differences = Literal["none", "up", "down"]
"""What a file of entropies or probabilities holds: the values; ``up``, each row less the row above (format 3; only vss
undoes it); or ``down``, which Zarr's codecs undo, see `store.arrays`."""

FAMILY = "family"
"""Key in the source of a prediction: the family of its network."""

WHEREABOUTS = ("root", "address")
"""Keys that hold locations. They do not affect the values and may change when folders move."""

DATA_SET = ("section", "learned", "chosen_on")
"""Keys of `Header.data` that decide what a prediction is scored against, not what it is."""


@dataclass(frozen=True)
class Encoding:
    """How a distribution is kept.

    Parameters
    ----------
    grid
        Stride of the score grid: 1, 2 or 4.
    kept
        Classes kept per pixel; if there are fewer, all are kept.
    keep
        ``"top"``: lists of the most likely classes; ``"all"``: every class, as float16.
    drop
        Classes after the first with a smaller probability are not listed. Most pixels are sure of one class, so their
        lists have one entry and compress to almost nothing.
    step, entropy_step
        Probabilities and entropies are kept as multiples of this, in 255ths.

    Notes
    -----
    The defaults were chosen by measurement on real predictions; docs/results.md has the tables.
    """

    grid: int = 1
    kept: int = 6
    keep: str = "top"
    drop: float = 0.008
    step: int = 1
    entropy_step: int = 1

    def __post_init__(self) -> None:
        drop = self.drop if type(self.drop) in (int, float) else -1
        for name, sound, remedy in (
            ("grid", self.grid in (1, 2, 4), "1, 2 or 4"),
            ("kept", type(self.kept) is int and 1 <= self.kept <= 254, "a whole number from 1 to 254"),
            ("keep", self.keep in ("top", "all"), "`top` or `all`"),
            ("drop", 0 <= drop < 1, "a probability under 1, such as 0.01"),
            ("step", type(self.step) is int and 1 <= self.step <= 64, "a whole number from 1 to 64"),
            (
                "entropy_step",
                type(self.entropy_step) is int and 1 <= self.entropy_step <= 64,
                "a whole number up to 64",
            ),
        ):
            if not sound:
                raise VssError(f"the encoding has {name} {getattr(self, name)!r}", f"use {remedy}")

    def to_dict(self) -> dict[str, Any]:
        """The encoding with its constants, as plain JSON values."""
        return {**asdict(self), "levels": MAX_LEVEL + 1}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Encoding:
        """The encoding that `to_dict` wrote; refused if a field is missing or not known to this version."""
        try:
            encoding = cls(*(values[name] for name in cls.__dataclass_fields__))
        except KeyError as error:
            raise VssError(f"a store's encoding lacks {error}", "the store is damaged; make it again") from error
        for name, known in encoding.to_dict().items():
            if values.get(name) != known:
                raise VssError(
                    f"a store's encoding has {name} {values.get(name)!r}; this version knows {known!r}",
                    "use the version of vss that wrote it, or newer",
                )
        return encoding


COMPACT = Encoding(kept=3, drop=0.06, step=8, entropy_step=4)
"""A third of the default's size; docs/results.md has what it loses."""

FINE = Encoding(kept=8, drop=0.004)
"""For many classes and unsure networks: 1.26 times the default's size, and a quarter fewer changed labels."""


@dataclass(frozen=True)
class Header:
    """What a store holds and how it was made.

    Parameters
    ----------
    kind
        ``"prediction"`` of one source, ``"fusion"`` of several, or ``"pseudo"`` labels.
    table
        The classes.
    scores
        Kind of the network's scores (``logits``, ``probabilities``, ``mask_scores``); ``""`` if no network ran or the
        kind was not recorded.
    source
        Plain JSON values that say what made it. For a prediction: digest of weights and normalisation, scales, flips,
        windows, ``numerics``. For a fusion: ``method`` and ``stores``. For pseudo-labels: the threshold and ``store``.
    encoding
        `Encoding.to_dict`; empty for pseudo-labels.
    data
        The videos: ``name``, ``split``, ``root`` of the data set. What they are scored against: ``section``, the data
        section of the recipe; ``learned``, the sections the networks learned labels from; ``chosen_on``, the ``data``
        and ``split`` that weights of a fusion were fitted on.
    summary
        Anything that a list of stores may show (names of recipe and plan). It does not affect the values.
    """

    kind: Kind
    table: ClassTable
    scores: str
    source: dict[str, Any]
    encoding: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def num_classes(self) -> int:
        """C."""
        return self.table.num_classes

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the values, as 64 hexadecimal digits."""
        return digest_of(self.deciding())

    @property
    def differences(self) -> Differences:
        """What the files of entropies and probabilities hold. A header of format 3 has to say which."""
        if self.kind == "pseudo":
            return "none"
        by_format: dict[int, Any] = {2: "none", 3: self.encoding.get("predictor"), 4: "down"}
        differences: Differences = by_format[self.format]
        if differences not in get_args(Differences):
            raise VssError("a store's encoding lacks 'predictor'", "the store is damaged; make it again")
        return differences

    def parsed_encoding(self) -> Encoding:
        """`encoding` as an object; errors as for `Encoding.from_dict`."""
        return Encoding.from_dict(self.encoding)

    def to_dict(self) -> dict[str, Any]:
        """The header as plain JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__} | {"table": self.table.to_dict()}
        # Through JSON and back, so that a tuple equals the list that will be read back.
        plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
        return plain

    @classmethod
    def from_dict(cls, values: Any, where: str = "header") -> Header:
        """The header that `to_dict` wrote; ``where`` names it in errors.

        Raises
        ------
        VssError
            The values are not a header, have an unknown format, or were changed since they were written.
        """
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise VssError(f"{where} is not a store of vss", "name a folder that vss predict, pseudo or ensemble wrote")
        if values["format"] not in READABLE:
            raise VssError(
                f"{where} has format {values['format']}; this version reads formats {READABLE[0]} to {FORMAT}",
                "install a newer vss" if values["format"] > FORMAT else "remove it and run the command that made it",
            )
        if values["format"] >= 4:
            require_seal(values, where)
        values = {"summary": {}, **values}
        types = {"kind": str, "table": dict, "scores": str, "source": dict, "encoding": dict, "data": dict}
        for name, kind in {**types, "summary": dict}.items():
            if not isinstance(values.get(name), kind):
                raise VssError(f"{where}: header lacks `{name}`", "the store is damaged; make it again")
        if values["kind"] not in get_args(Kind):
            raise VssError(f"{where}: kind {values['kind']!r} is unknown", f"known: {', '.join(get_args(Kind))}")
        if values["format"] < 4:
            values = _upgraded(values)
        _check_data(values["data"], where)
        known = {name: values[name] for name in cls.__dataclass_fields__}
        header = cls(**{**known, "table": ClassTable.from_dict(values["table"])})
        if header.kind != "pseudo":
            header.parsed_encoding()
            _ = header.differences
        return header

    def split(self, where: Path | str) -> str:
        """The split that the store holds; ``where`` names the store in the error if the header does not say."""
        if "split" not in self.data:
            raise VssError(f"{where} does not say which split it holds", "make it again with this version of vss")
        return str(self.data["split"])

    def deciding(self) -> dict[str, Any]:
        """The part of `to_dict` that determines the values: no locations, no summary, of the classes only names."""
        values = self.to_dict()
        del values["summary"]
        values["table"] = {"classes": [entry["name"] for entry in values["table"]["classes"]]}
        values["source"] = _without(WHEREABOUTS, values["source"])
        values["data"] = _without((*WHEREABOUTS, *DATA_SET), values["data"])
        if self.format < 4:  # as in those formats
            values["scores"] = values["source"].pop(FAMILY, values["scores"])
        return values

    def noted(self) -> dict[str, Any]:
        """What affects how the values are scored but not the values: the keys `DATA_SET` of `data`."""
        return {name: value for name, value in self.to_dict()["data"].items() if name in DATA_SET}


def read_header(path: str | Path) -> Header:
    """The header of a store, read as plain JSON.

    Raises
    ------
    VssError
        There is no store, or its header is damaged.
    """
    from vsscli.store.remote import place_of

    path = place_of(path)
    if not (path / "zarr.json").is_file():
        what = "is not a store" if path.exists() else "does not exist"
        raise VssError(f"{path} {what}", "name a .zarr folder that vss predict, pseudo or ensemble wrote")
    return Header.from_dict(read_group(path), str(path))


def first_difference(there: Header, wanted: Header) -> tuple[str, str, str] | None:
    """The first deciding field in which two headers differ: its dotted name, the value there and the value wanted."""
    found = sorted(leaves(there.deciding(), wanted.deciding(), lists=True), key=itemgetter(0))
    return next(((".".join(path), _short(one), _short(other)) for path, one, other in found), None)


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """A header of format 2 or 3 in the form of format 4: the data sets were in the summary, and ``scores`` held the
    family of the network."""
    source, summary = values["source"], dict(values["summary"])
    data, section, learned = dict(values["data"]), summary.pop("data", None), summary.pop("learned", None)
    if isinstance(section, dict):
        data["section"] = section
        if learned is None and values["kind"] == "prediction":
            learned = [section]  # at first only the main data set was recorded
    if isinstance(learned, list):
        data["learned"] = learned
    if values["kind"] == "prediction" and FAMILY not in source:
        values = {**values, "scores": "", "source": {**source, FAMILY: values["scores"]}}
    return {**values, "data": data, "summary": summary}


def _check_data(data: dict[str, Any], where: str) -> None:
    """Refuse names of data set and split that would lead out of the folders named after them."""
    remedy = "the store is damaged or was tampered with; make it again"
    for key in ("name", "split", "root"):
        value = data.get(key, "none")  # any sound name: the keys may be missing
        if not isinstance(value, str):
            raise VssError(f"{where}: header has data.{key} {_short(value)}, which is not text", remedy)
        fault = name_fault(value) if key != "root" else ""
        if fault:
            raise VssError(f"{where}: header has data.{key} {shown_name(value)}, which {fault}", remedy)
    seen = (data.get("learned", []), data.get("chosen_on", []))
    if not isinstance(data.get("section", {}), dict) or not all(isinstance(one, list) for one in seen):
        raise VssError(f"{where}: header has invalid data sets", remedy)


def _without(names: tuple[str, ...], values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _without(names, value) for name, value in values.items() if name not in names}
    if isinstance(values, list):
        return [_without(names, value) for value in values]
    return values


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."
