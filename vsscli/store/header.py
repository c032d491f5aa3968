"""What it takes to trust a store: the header in the attributes of its root group.

Neither NumPy nor Zarr is imported here, so that a workspace full of stores is listed quickly.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.names import name_fault, shown_name
from vsscli.store.files import read_group, require_seal
from vsscli.structured import digest_of, leaves

FORMAT = 4
"""Version of the layout that is written. Raised when older programs could no longer read it."""

READABLE = (2, 3, 4)
"""Versions that can be read. They differ in `Header.differences`, and in what `_brought_up` says."""

MAX_LEVEL = 255
"""Largest stored integer, of probabilities and of entropies: it stands for 1."""

Kind = Literal["prediction", "fusion", "pseudo"]

Differences = Literal["none", "up", "down"]
"""What a file holds of entropies and probabilities: the values; each row less the row above, the first as it is (format
3, undone by vss alone); or `down`, which Zarr's codecs undo: `store.arrays` says how."""

FAMILY = "family"
"""Key of a prediction's source: the family of its network."""

WHEREABOUTS = ("root", "address")
"""Keys that say where something lies. They decide nothing and may change when folders move."""

DATA_SET = ("section", "learned", "chosen_on")
"""Keys of `Header.data` that decide what a prediction is scored against, and not what it is."""


@dataclass(frozen=True)
class Encoding:
    """How a distribution is kept.

    Parameters
    ----------
    grid
        Stride of the score grid: 1, 2 or 4.
    kept
        Classes kept per pixel; a table with fewer classes keeps them all.
    keep
        ``"top"``: the lists of the most likely classes; ``"all"``: every class, as float16.
    drop
        Classes behind the first with a probability under this are not listed. Most pixels are sure of one class, keep
        one entry and cost nothing.
    step, entropy_step
        Probabilities and entropies are kept as multiples of this, in 255ths.

    Notes
    -----
    The defaults are chosen by measurement on real predictions; the tables stand in docs/results.md.
    """

    grid: int = 1
    kept: int = 6
    keep: str = "top"
    drop: float = 0.008
    step: int = 1
    entropy_step: int = 1

    def __post_init__(self) -> None:
        if self.grid not in (1, 2, 4):
            raise VssError(f"score grid has stride {self.grid!r}", "use 1, 2 or 4")
        if not isinstance(self.kept, int) or not 1 <= self.kept <= 254:
            raise VssError(f"kept classes per pixel: {self.kept!r}", "use a whole number from 1 to 254")
        if self.keep not in ("top", "all"):
            raise VssError(f"keep is {self.keep!r}", "use `top` or `all`")
        if isinstance(self.drop, bool) or not isinstance(self.drop, int | float) or not 0 <= self.drop < 1:
            raise VssError(f"drop is {self.drop!r}", "use a probability under 1, such as 0.01")
        for name, step in (("step", self.step), ("entropy_step", self.entropy_step)):
            if not isinstance(step, int) or isinstance(step, bool) or not 1 <= step <= 64:
                raise VssError(f"{name} is {step!r}", "use a whole number from 1 to 64")

    def to_dict(self) -> dict[str, Any]:
        """The encoding with its constants, as plain JSON values."""
        return {**asdict(self), "levels": MAX_LEVEL + 1}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Encoding:
        """The encoding that `to_dict` wrote; refused where a field is missing or means what is not known."""
        try:
            encoding = cls(*(values[name] for name in cls.__dataclass_fields__))
        except KeyError as error:
            raise VssError(f"encoding of a store lacks {error}", "the store is damaged; make it again") from error
        for name, known in encoding.to_dict().items():
            if values.get(name) != known:
                raise VssError(
                    f"encoding of a store has {name} {values.get(name)!r}; this version knows {known!r}",
                    "use the version of vss that wrote it, or newer",
                )
        return encoding


COMPACT = Encoding(kept=3, drop=0.06, step=8, entropy_step=4)
"""A third of the default's size; docs/results.md says what it loses."""

FINE = Encoding(kept=8, drop=0.004)
"""For many classes and unsure networks: 1.26 times the default's size, and a fourth less of what changes."""


@dataclass(frozen=True)
class Header:
    """What a store holds and where it comes from.

    Parameters
    ----------
    kind
        ``"prediction"`` of one source, ``"fusion"`` of several, or ``"pseudo"`` labels.
    table
        The classes.
    scores
        Kind of the network's scores (``logits``, ``probabilities``, ``mask_scores``); ``""`` where none ran, or where
        that was not noted.
    source
        Plain JSON values that say what made it. Of a prediction: digest of weights and normalisation, scales, flips,
        windows, ``numerics``. Of a fusion: ``method`` and ``stores``. Of pseudo-labels: the threshold and ``store``.
    encoding
        `Encoding.to_dict`; empty for pseudo-labels.
    data
        Which videos: ``name``, ``split``, and ``root``; what they are scored against: ``section``, the data section of
        the recipe; ``learned``, those that the networks learned labels from; ``chosen_on``, ``data`` and ``split`` that
        weights of a fusion were fitted on.
    summary
        Anything a list of stores may show (names of recipe and plan). Decides nothing.
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

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the values, as 64 hexadecimal digits."""
        return digest_of(self.deciding())

    @property
    def differences(self) -> Differences:
        """What the files of entropies and probabilities hold. Where format 3 does not say, it may be either."""
        if self.kind == "pseudo":
            return "none"
        told: dict[int, Any] = {2: "none", 3: self.encoding.get("predictor"), 4: "down"}
        if told[self.format] not in get_args(Differences):
            raise VssError("encoding of a store lacks 'predictor'", "the store is damaged; make it again")
        differences: Differences = told[self.format]
        return differences

    def parsed_encoding(self) -> Encoding:
        """What `encoding` says; errors as of `Encoding.from_dict`."""
        return Encoding.from_dict(self.encoding)

    def to_dict(self) -> dict[str, Any]:
        """The header as plain JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__} | {"table": self.table.to_dict()}
        # Through JSON and back, so that a tuple equals the list it will be read back as.
        plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
        return plain

    @classmethod
    def from_dict(cls, values: Any, where: str = "header") -> Header:
        """The header that `to_dict` wrote; ``where`` names it in errors.

        Raises
        ------
        VssError
            The values are no header, that of a later format, or not those that were written.
        """
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise VssError(f"{where} is no store of vss", "name a folder that vss predict, pseudo or ensemble wrote")
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
            values = _brought_up(values)
        _check_data(values["data"], where)
        known = {name: values[name] for name in cls.__dataclass_fields__}
        header = cls(**{**known, "table": ClassTable.from_dict(values["table"])})
        if header.kind != "pseudo":
            header.parsed_encoding()
            _ = header.differences
        return header

    def split(self, where: Path | str) -> str:
        """The split that the store is of; ``where`` names the store in the error if the header does not say."""
        if "split" not in self.data:
            raise VssError(f"{where} does not say of which split it is", "make it again with this version of vss")
        return str(self.data["split"])

    def deciding(self) -> dict[str, Any]:
        """The part of `to_dict` that decides values: no places, no summary, and of the classes only the names."""
        values = self.to_dict()
        del values["summary"]
        values["table"] = {"classes": [entry["name"] for entry in values["table"]["classes"]]}
        values["source"] = _without(WHEREABOUTS, values["source"])
        values["data"] = _without((*WHEREABOUTS, *DATA_SET), values["data"])
        if self.format < 4:  # as those formats had it
            values["scores"] = values["source"].pop(FAMILY, values["scores"])
        return values

    def noted(self) -> dict[str, Any]:
        """What decides nothing of the values and something of their scores: the keys `DATA_SET` of `data`."""
        return {name: value for name, value in self.to_dict()["data"].items() if name in DATA_SET}


def read_header(path: str | Path) -> Header:
    """The header of a store, read as plain JSON.

    Raises
    ------
    VssError
        There is no store, or it is damaged.
    """
    from vsscli.store.remote import place_of

    path = place_of(path)
    if not (path / "zarr.json").is_file():
        what = "is not a store" if path.exists() else "does not exist"
        raise VssError(f"{path} {what}", "name a .zarr folder that vss predict, pseudo or ensemble wrote")
    return Header.from_dict(read_group(path), str(path))


def first_difference(there: Header, wanted: Header) -> tuple[str, str, str] | None:
    """The first field in which two headers decide different values: its dotted name, value there, value wanted."""
    found = sorted(leaves(there.deciding(), wanted.deciding(), lists=True), key=itemgetter(0))
    return next(((".".join(path), _short(one), _short(other)) for path, one, other in found), None)


def _brought_up(values: dict[str, Any]) -> dict[str, Any]:
    """A header of format 2 or 3 as format 4 would have it: the data sets had been in the summary, and for the kind of
    scores the family of the network had been written, at first it alone."""
    source, summary = values["source"], dict(values["summary"])
    data, section, learned = dict(values["data"]), summary.pop("data", None), summary.pop("learned", None)
    if isinstance(section, dict):
        data["section"] = section
        if learned is None and values["kind"] == "prediction":
            learned = [section]  # at first the main data set alone was noted
    if isinstance(learned, list):
        data["learned"] = learned
    if values["kind"] == "prediction" and FAMILY not in source:
        values = {**values, "scores": "", "source": {**source, FAMILY: values["scores"]}}
    return {**values, "data": data, "summary": summary}


def _check_data(data: dict[str, Any], where: str) -> None:
    """Refuse a data set or a split whose name would lead out of the folders that are called after it."""
    remedy = "the store is damaged, or somebody meant harm; make it again"
    for key in ("name", "split", "root"):
        value = data.get(key, "none")
        if not isinstance(value, str):
            raise VssError(f"{where}: header has data.{key} {_short(value)}, which should be text", remedy)
        fault = name_fault(value) if key != "root" else ""
        if fault:
            raise VssError(f"{where}: header has data.{key} {shown_name(value)}, which {fault}", remedy)
    seen = (data.get("learned", []), data.get("chosen_on", []))
    if not isinstance(data.get("section", {}), dict) or not all(isinstance(one, list) for one in seen):
        raise VssError(f"{where}: header has data sets that are none", remedy)


def _without(names: tuple[str, ...], values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _without(names, value) for name, value in values.items() if name not in names}
    if isinstance(values, list):
        return [_without(names, value) for value in values]
    return values


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."
