"""YAML as vss reads it: plain values, within bounds, each with its line.

No tag names code, no key occurs twice, aliases can't multiply without end. Numbers are those that YAML 1.1 and 1.2
agree on: ``0b1``, ``010`` and ``1:59`` mean different things to different readers and stay text; ``1e-4`` is a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import yaml

from vsscli.errors import VssError
from vsscli.structured import MAX_DIGITS, WRITTEN, Limits

Key = tuple[str | int, ...]


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounded nesting, and numbers that can only mean one thing."""

    def __init__(self, text: str, limits: Limits = WRITTEN) -> None:
        super().__init__(text)
        self._limits = limits
        self._depth = self._count = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """As PyYAML does, which calls it recursively for children."""
        self._depth += 1
        self._count += 1
        if self._depth > self._limits.depth + 1:
            raise yaml.MarkedYAMLError(None, None, "nested too deeply", self.peek_event().start_mark)
        if self._count > self._limits.values:
            raise yaml.MarkedYAMLError(
                None, None, f"more than {self._limits.values} keys and values", self.peek_event().start_mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {TAG + name for name in ("str", "timestamp", "value")}
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]*[0-9a-fA-F])")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (f"{TAG}int", f"{TAG}float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in (("int", _WHOLE), ("float", _FLOAT)):
    Loader.add_implicit_resolver(TAG + _kind, re.compile(f"(?:{_pattern.pattern})$"), list("-+.0123456789"))


def parse_yaml(text: str, source: str, limits: Limits = WRITTEN) -> Any:
    """Parse YAML.

    Raises
    ------
    VssError
        The text is not YAML, has a duplicate key or a tag that is not YAML's own, or is out of bounds; names the line.
    """
    return YamlReader(source, limits).parse(text)


class YamlReader:
    """Turns YAML into mappings, lists, text, finite numbers, true, false and null.

    Parameters
    ----------
    source
        What to call the text in errors.
    limits
        The most that it may contain.
    lines
        Whether errors name lines.
    """

    def __init__(self, source: str, limits: Limits = WRITTEN, *, lines: bool = True) -> None:
        self.source = source
        self._limits = limits
        self._lines = lines
        self._open: list[yaml.Node] = []
        self._count = 0

    def parse(self, text: str, key: Key = ()) -> Any:
        """The values of a text; ``key`` is the path of the outermost."""
        try:
            node = Loader(text, self._limits).get_single_node()
        except yaml.MarkedYAMLError as cause:
            mark = cause.problem_mark or cause.context_mark
            place = f"{self.source}:{mark.line + 1}:{mark.column + 1}" if mark and self._lines else self.source
            problem = " ".join(part for part in (cause.context, cause.problem) if part)
            raise VssError(f"{place}: {_without_marks(problem)}", _syntax_hint(problem)) from cause
        except yaml.reader.ReaderError as cause:
            line = text.count("\n", 0, cause.position) + 1
            raise VssError(f"{self.source}:{line}: a character that YAML forbids", "remove it") from cause
        except (ValueError, OverflowError) as cause:  # the escape of a character that does not exist
            raise VssError(f"{self.source}: an escape (\\U…) of no character", "write the text plainly") from cause
        return None if node is None else self.read(node, key)

    def read(self, node: yaml.Node, key: Key) -> Any:
        """The value of a node."""
        self._count += 1
        if self._count > self._limits.values:
            raise self.refused(node, f"more than {self._limits.values} values, aliases followed", "write less")
        if any(node is outer for outer in self._open):
            raise self.refused(node, "a value that contains itself", "write the values out")
        if isinstance(node, yaml.ScalarNode):
            return self.single(node, key)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, key)
            return self.sequence(node, key)
        finally:
            self._open.pop()

    def sequence(self, node: yaml.Node, key: Key) -> Any:
        """The value of a list."""
        self._require_tag(node, "seq")
        return [self.read(item, (*key, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, key: Key) -> dict[Any, Any]:
        """The value of a mapping."""
        self._require_tag(node, "map")
        values: dict[Any, Any] = {}
        lines: dict[Any, str] = {}
        merged: list[dict[Any, Any]] = []
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                raise self.refused(name_node, "a key that is not a word", "keys are words, written `key: value`")
            if name_node.tag == f"{TAG}merge":
                merged += self.merged(name_node, value_node, key)
                continue
            name = self.name(name_node)
            if name in values:
                raise self.refused(name_node, f"`{name}`, which occurs at {lines[name]} already", "keep one of them")
            lines[name] = self.place(name_node)
            self.note(name_node, (*key, name))
            values[name] = self.read(value_node, (*key, name))
        for others in merged:
            values = {**others, **values}
        return values

    def merged(self, name_node: yaml.Node, value_node: yaml.Node, key: Key) -> list[dict[Any, Any]]:
        """The mappings that the merge key ``<<`` merges, in order of precedence."""
        found = self.read(value_node, key)
        others = found if isinstance(found, list) else [found]
        if not all(isinstance(other, dict) for other in others):
            raise self.refused(name_node, "`<<` with something that is not a mapping", "write the keys out")
        return others

    def name(self, node: yaml.ScalarNode) -> Any:
        """The key that a node stands for."""
        return self.single(node, ())

    def note(self, node: yaml.Node, key: Key) -> None:
        """Called for every key; a subclass may record its place."""

    def single(self, node: yaml.ScalarNode, key: Key) -> Any:
        """The value of a scalar."""
        if node.tag in _TEXT_TAGS:
            return self.text(node)
        make = _SINGLE.get(node.tag)
        if make is None:
            raise self.refused(node, f"the tag {node.tag}", "only plain values are read here; remove the tag")
        try:
            value = make(node.value)
        except (ValueError, KeyError) as cause:  # `!!int ten`, `!!bool maybe`, a number of thousands of digits
            raise self.refused(node, f"{node.value[:40]!r} for a number", "write the value plainly") from cause
        if isinstance(value, float) and not math.isfinite(value):
            raise self.refused(node, f"{node.value[:40]!r} as a number", "numbers are finite here")
        return value

    def place(self, node: yaml.Node) -> str:
        """Where a node is, for messages."""
        return f"{self.source}:{node.start_mark.line + 1}" if self._lines else self.source

    def refused(self, node: yaml.Node, what: str, remedy: str) -> VssError:
        """The error about a node."""
        return VssError(f"{self.place(node)}: can't take {what}", remedy)

    def text(self, node: yaml.ScalarNode) -> str:
        """The text that a node holds."""
        text = str(node.value)
        try:
            # Two escapes may be the halves of one character, as in JSON; PyYAML does not join them.
            return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as cause:
            raise self.refused(node, "half of a character (\\ud800 to \\udfff)", "write the text plainly") from cause

    def _require_tag(self, node: yaml.Node, wanted: str) -> None:
        if node.tag != TAG + wanted:
            raise self.refused(node, f"the tag {node.tag}", "only plain values are read here; remove the tag")


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text) or len(text) > MAX_DIGITS:
        raise ValueError(text[:MAX_DIGITS])
    digits = text.replace("_", "")
    return int(digits, 16 if "x" in digits else 10)


def _float(text: str) -> float:
    return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


_SINGLE: dict[str, Callable[[str], Any]] = {
    f"{TAG}null": lambda _: None,
    f"{TAG}bool": lambda text: yaml.SafeLoader.bool_values[text.lower()],
    f"{TAG}int": _whole,
    f"{TAG}float": lambda text: _float(text.lower()),
}


def _without_marks(problem: str) -> str:
    """PyYAML writes `found character '\\t' that cannot start any token`; say it in words."""
    return problem.replace("found character '\\t' that cannot start any token", "a tab where a value should begin")


def _syntax_hint(problem: str) -> str:
    if "'\\t'" in problem:
        return "YAML indents with spaces, never with tabs"
    if "nested too deeply" in problem:
        return "nest it less deeply"
    if "mapping values are not allowed" in problem:
        return "there is a space too many before the key, or the text contains `: ` and needs quotes"
    if "expected <block end>" in problem or "could not find expected ':'" in problem:
        return "the keys of a section start in the same column, each written `key: value`"
    return "fix the YAML there, or just before"
