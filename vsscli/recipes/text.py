"""YAML with the place of every value, and nothing of YAML that a recipe has no use for.

No tags that name code, no key twice, no bombs of aliases; a number like ``1e-4`` is a number.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vsscli.errors import VssError

MAX_BYTES = 1_000_000
MAX_ALIASES = 8
MAX_DEPTH = 16

Key = tuple[str | int, ...]

_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null")}
_TEXT_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "value")}


@dataclass
class Document:
    """Values of a YAML text, and where each of them stands.

    Parameters
    ----------
    values
        Mappings, lists, text, numbers, true, false and null.
    places
        For each key, as a path from the top: the place to name in a message, ``file:line``.
    texts
        For each single value without quotes: how it was written.
    resets
        Keys whose null takes back the value of a recipe that this one extends.
    """

    values: Any = None
    places: dict[Key, str] = field(default_factory=dict)
    texts: dict[Key, str] = field(default_factory=dict)
    resets: set[Key] = field(default_factory=set)

    def forget(self, key: Key) -> None:
        """Drop what is known of the value of a key and of all that is in it."""
        for known in (self.places, self.texts):
            for old in [place for place in known if place[: len(key)] == key]:
                del known[old]
        self.resets -= {place for place in self.resets if place[: len(key)] == key}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which takes 1e-4 for text, with the numbers of YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_text(path: Path) -> str:
    """The text of a recipe.

    Raises
    ------
    VssError
        The file can't be read, is no UTF-8 text, or is far too large to be a recipe.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except IsADirectoryError as cause:
        raise VssError(f"recipe {path} is a folder", "name the YAML file in it") from cause
    except OSError as cause:
        raise VssError(
            f"recipe {path} can't be read: {cause.strerror}", "check the path and its permissions"
        ) from cause
    if len(raw) > MAX_BYTES:
        raise VssError(f"recipe {path} is larger than {MAX_BYTES // 1_000_000} MB", "is it a recipe? they are short")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = raw.count(b"\n", 0, cause.start) + 1
        raise VssError(f"{path}:{line}: not UTF-8 text", "is it a recipe? save it as UTF-8") from cause


def parse_yaml(text: str, source: str, prefix: Key = (), *, lines: bool = True) -> Document:
    """Parse YAML.

    Parameters
    ----------
    text
        What to parse.
    source
        File or option that it comes from.
    prefix
        Path of the value in the whole.
    lines
        Whether places name lines.

    Raises
    ------
    VssError
        The text is no YAML, or uses what is refused here; names file, line and column.
    """
    try:
        _refuse_bombs(text, source)
        node = yaml.compose(text, Loader=_Loader)
        document = Document()
        reader = _Reader(source, document, lines=lines)
        document.values = None if node is None else reader.read(node, prefix)
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark or cause.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark and lines else source
        problem = " ".join(part for part in (cause.context, cause.problem) if part)
        raise VssError(f"{place}: {_without_marks(problem)}", _syntax_hint(problem)) from cause
    except yaml.reader.ReaderError as cause:
        line = text.count("\n", 0, cause.position) + 1
        raise VssError(f"{source}:{line}: a character that YAML forbids", "is it a recipe? remove it") from cause
    return document


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which writes lists of single values in one line."""


def _dump_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flow = not any(isinstance(item, dict | list) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flow)


_Dumper.add_representer(list, _dump_list)


def dump_yaml(values: dict[str, Any]) -> str:
    """Values as YAML that `parse_yaml` reads back to the same."""
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def _refuse_bombs(text: str, source: str) -> None:
    """Stop at the first sign of a text that is short to write and long to read."""
    aliases = depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > MAX_ALIASES:
            raise VssError(f"{source}: more than {MAX_ALIASES} aliases (*name)", "write the values out")
        if depth > MAX_DEPTH:
            raise VssError(f"{source}: nested too deeply", "a recipe has sections of keys and no more")


class _Reader:
    """Turns nodes into values and remembers where they stood."""

    def __init__(self, source: str, document: Document, *, lines: bool) -> None:
        self._source = source
        self._document = document
        self._lines = lines
        self._open: list[yaml.Node] = []
        self._constructor = _Loader("")

    def read(self, node: yaml.Node, key: Key) -> Any:
        self._document.places.setdefault(key, self._place(node))
        if any(node is outer for outer in self._open):
            raise self._refused(node, "a value that contains itself", "write the values out")
        if isinstance(node, yaml.ScalarNode):
            return self._single(node, key)
        wanted = "map" if isinstance(node, yaml.MappingNode) else "seq"
        if node.tag != f"tag:yaml.org,2002:{wanted}":
            raise self._refused(node, f"the tag {node.tag}", "recipes hold plain values; remove the tag")
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, key)
            return [self.read(item, (*key, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                raise self._refused(name_node, "a key that is not a word", "keys are words, written `key: value`")
            if name_node.tag == "tag:yaml.org,2002:merge":
                raise self._refused(name_node, "the merge key <<", "write the keys out")
            name = name_node.value
            if name in values:
                first = self._document.places[(*key, name)]
                raise self._refused(name_node, f"`{name}`, which stands at {first} already", "keep one of them")
            self._document.places[(*key, name)] = self._place(name_node)
            values[name] = self.read(value_node, (*key, name))
        return values

    def _single(self, node: yaml.ScalarNode, key: Key) -> Any:
        if node.style is None:
            self._document.texts[key] = node.value
        if node.tag in _TEXT_TAGS:
            return node.value
        if node.tag not in _PLAIN_TAGS:
            raise self._refused(node, f"the tag {node.tag}", "recipes hold plain values; remove the tag")
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, KeyError) as cause:  # `!!int ten`, `!!bool maybe`, a number of thousands of digits
            raise self._refused(node, f"{node.value[:40]!r} for a number", "write the value plainly") from cause
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refused(node, f"{node.value!r} as a number", "numbers in a recipe are finite")
        return value

    def _place(self, node: yaml.Node) -> str:
        return f"{self._source}:{node.start_mark.line + 1}" if self._lines else self._source

    def _refused(self, node: yaml.Node, what: str, remedy: str) -> VssError:
        return VssError(f"{self._place(node)}: can't take {what}", remedy)


def _without_marks(problem: str) -> str:
    """PyYAML writes `found character '\\t' that cannot start any token`; say which one it is in words."""
    return problem.replace("found character '\\t' that cannot start any token", "a tab where a value should begin")


def _syntax_hint(problem: str) -> str:
    if "'\\t'" in problem:
        return "YAML indents with blanks, never with tabs"
    if "mapping values are not allowed" in problem:
        return "a blank too many before the key, or text with `: ` in it that needs quotes"
    if "expected <block end>" in problem or "could not find expected ':'" in problem:
        return "keys of one section start in one column, each written `key: value`"
    return "mend the YAML there, or just before it"
