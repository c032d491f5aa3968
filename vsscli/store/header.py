"""What it takes to trust a store: the header in the attributes of its root group.

Neither NumPy nor Zarr is imported here, so that a workspace full of stores is listed quickly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.names import name_fault, shown_name
from vsscli.store.files import digest_of, read_json

FORMAT = 3
"""Version of the layout that is written. Raised when older programs could no longer read it."""

READABLE = (2, 3)
"""Versions that can be read. Of format 2 all arrays hold values, none differences."""

ATTRIBUTE = "vss"
"""The one attribute of a group that holds everything of ours."""

MAX_LEVEL = 255
"""Largest stored integer, of probabilities and of entropies: it stands for 1."""

Kind = Literal["prediction", "fusion", "pseudo"]

FAMILY = "family"
"""Key of a prediction's source: the family of its network, which stores before this key had for `Header.scores`."""

WHEREABOUTS = ("root", "address")
"""Keys that say where something lies. They decide nothing and may change when folders move."""


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
    predictor
        What probabilities and entropies are told from: ``"up"``, each row as its difference to the one above (PNG's
        filter of that name), which compresses by a fifth better; or ``"none"``.

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
    predictor: str = "up"

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
        if self.predictor not in ("up", "none"):
            raise VssError(f"predictor is {self.predictor!r}", "use `up` or `none`")

    def to_dict(self) -> dict[str, Any]:
        """The encoding with its constants, as plain JSON values."""
        return {
            "grid": self.grid,
            "kept": self.kept,
            "keep": self.keep,
            "drop": self.drop,
            "step": self.step,
            "entropy_step": self.entropy_step,
            "predictor": self.predictor,
            "levels": MAX_LEVEL + 1,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Encoding:
        """The encoding that `to_dict` wrote.

        Raises
        ------
        VssError
            A field is missing or means something this version does not know.
        """
        try:
            fields = ("grid", "kept", "keep", "drop", "step", "entropy_step", "predictor")
            encoding = cls(*(values[name] for name in fields))
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
        Kind of the network's scores (``logits``, ``probabilities``, ``mask_scores``); ``""`` where none ran. Stores of
        earlier versions have the family of the network here.
    source
        Plain JSON values that say what made it. Of a prediction: digest of weights and normalisation, scales, flips,
        windows, ``numerics``. Of a fusion: ``method`` and ``stores``. Of pseudo-labels: the threshold and ``store``.
    encoding
        `Encoding.to_dict`; empty for pseudo-labels.
    data
        Which videos: ``name``, ``split``; ``root`` is noted and decides nothing.
    summary
        Anything a list of stores may show (recipe, checkpoint, figures). Decides nothing.
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

    def parsed_encoding(self) -> Encoding:
        """What `encoding` says.

        Raises
        ------
        VssError
            It lacks a field, or says what this version does not know.
        """
        told = self.encoding if self.format > 2 else {"predictor": "none", **self.encoding}  # format 2 knew no other
        return Encoding.from_dict(told)

    def to_dict(self) -> dict[str, Any]:
        """The header as plain JSON values."""
        values: dict[str, Any] = {
            "format": self.format,
            "kind": self.kind,
            "table": self.table.to_dict(),
            "scores": self.scores,
            "source": self.source,
            "encoding": self.encoding,
            "data": self.data,
            "summary": self.summary,
        }
        # Through JSON and back, so that a tuple equals the list it will be read back as.
        plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
        return plain

    @classmethod
    def from_dict(cls, values: Any, where: str = "header") -> Header:
        """The header that `to_dict` wrote; ``where`` names it in errors.

        Raises
        ------
        VssError
            The values are no header, or that of a later format.
        """
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise VssError(f"{where} is no store of vss", "name a folder that vss predict, pseudo or ensemble wrote")
        if values["format"] not in READABLE:
            raise VssError(
                f"{where} has format {values['format']}; this version reads formats {READABLE[0]} to {FORMAT}",
                "install a newer vss" if values["format"] > FORMAT else "remove it and run the command that made it",
            )
        types = {"kind": str, "table": dict, "scores": str, "source": dict, "encoding": dict, "data": dict}
        for name, kind in types.items():
            if not isinstance(values.get(name), kind):
                raise VssError(f"{where}: header lacks `{name}`", "the store is damaged; make it again")
        if values["kind"] not in get_args(Kind):
            raise VssError(f"{where}: kind {values['kind']!r} is unknown", f"known: {', '.join(get_args(Kind))}")
        if not isinstance(values.get("summary", {}), dict):
            raise VssError(f"{where}: header lacks `summary`", "the store is damaged; make it again")
        _check_data(values["data"], where)
        header = cls(
            values["kind"],
            ClassTable.from_dict(values["table"]),
            values["scores"],
            values["source"],
            values["encoding"],
            values["data"],
            values.get("summary", {}),
            values["format"],
        )
        if header.kind != "pseudo":
            header.parsed_encoding()
        return header

    def split(self, where: Path | str) -> str:
        """The split that the store is of; ``where`` names the store in the error.

        Raises
        ------
        VssError
            The header does not say.
        """
        if "split" not in self.data:
            raise VssError(f"{where} does not say of which split it is", "make it again with this version of vss")
        return str(self.data["split"])

    def deciding(self) -> dict[str, Any]:
        """The part of `to_dict` that decides values: no places, no summary, and of the classes only the names."""
        values = self.to_dict()
        del values["summary"]
        values["table"] = {"classes": [entry["name"] for entry in values["table"]["classes"]]}
        values["source"] = _without_places(values["source"])
        # By the family, as it was before kinds were noted: a store keeps its fingerprint, and goes on.
        values["scores"] = values["source"].pop(FAMILY, values["scores"])
        values["data"] = _without_places(values["data"])
        return values


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
    values = read_json(path / "zarr.json")
    attributes = values.get("attributes") if isinstance(values, dict) else None
    return Header.from_dict(attributes.get(ATTRIBUTE) if isinstance(attributes, dict) else None, str(path))


def first_difference(there: Header, wanted: Header) -> tuple[str, str, str] | None:
    """The first field in which two headers decide different values.

    Returns
    -------
    tuple or None
        Dotted name of the field, the value there and the value wanted, as short text; None when all agree.
    """
    return next(_differences("", there.deciding(), wanted.deciding()), None)


def group_json(attributes: dict[str, Any]) -> dict[str, Any]:
    """The ``zarr.json`` of a Zarr v3 group with our attribute."""
    return {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTE: attributes}}


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


def _without_places(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _without_places(value) for name, value in values.items() if name not in WHEREABOUTS}
    if isinstance(values, list):
        return [_without_places(value) for value in values]
    return values


def _differences(name: str, there: Any, wanted: Any) -> Iterator[tuple[str, str, str]]:
    pairs: list[tuple[str, Any, Any]] | None = None
    if isinstance(there, dict) and isinstance(wanted, dict):
        absent = _Absent()
        pairs = [(key, there.get(key, absent), wanted.get(key, absent)) for key in sorted({*there, *wanted})]
    elif isinstance(there, list) and isinstance(wanted, list) and len(there) == len(wanted):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(there, wanted, strict=True))]
    if pairs is None:
        if there != wanted:
            yield name, _short(there), _short(wanted)
        return
    for key, a, b in pairs:
        yield from _differences(f"{name}.{key}" if name else key, a, b)


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."
