"""Recipes as YAML, with the place of every value, and without YAML features that a recipe has no use for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vsscli.structured import Limits
from vsscli.structured import read_text as read_file
from vsscli.yamltext import Key, Loader, YamlReader

LIMITS = Limits(bytes=1_000_000, values=20_000, depth=16)


@dataclass
class Document:
    """Values of a YAML text, and the place of each.

    Parameters
    ----------
    values
        Mappings, lists, text, numbers, true, false and null.
    places
        For each key, as a path from the top: its place for messages, ``file:line``.
    texts
        For each scalar without quotes: how it was written.
    resets
        Keys whose null undoes the value of a recipe that this one extends.
    """

    values: Any = None
    places: dict[Key, str] = field(default_factory=dict)
    texts: dict[Key, str] = field(default_factory=dict)
    resets: set[Key] = field(default_factory=set)

    def forget(self, keys: Collection[Key]) -> None:
        """Drop places and texts of keys and of everything below them."""
        for known in (self.places, self.texts):
            for old in [key for key in known if is_within(key, keys)]:
                del known[old]
        self.resets = {key for key in self.resets if not is_within(key, keys)}


def is_within(key: Key, others: Collection[Key]) -> bool:
    """Whether a key is one of others, which can be looked up fast, or below one of them."""
    return any(key[:size] in others for size in range(len(key) + 1))


def read_recipe_text(path: Path) -> str:
    """The text of a recipe.

    Raises
    ------
    VssError
        The file can't be read, is not UTF-8, or is far too large to be a recipe.
    """
    return read_file(path, "recipe", LIMITS)


def parse_recipe(text: str, source: str, prefix: Key = (), *, lines: bool = True) -> Document:
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
        The text is not YAML, or uses features that are refused here; names file, line and column.
    """
    document = Document()
    document.values = _Reader(source, document, lines=lines).parse(text, prefix)
    return document


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which writes lists of scalars in one line."""


def _dump_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flow = not any(isinstance(item, dict | list) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flow)


_Dumper.add_representer(list, _dump_list)
for _first, _resolvers in Loader.yaml_implicit_resolvers.items():
    # Text that we or other readers would read as a number is quoted.
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


def dump_yaml(values: dict[str, Any]) -> str:
    """Values as YAML that `parse_recipe` reads back to the same."""
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


class _Reader(YamlReader):
    """Records places and spelling of values; keys are text, even if they look like numbers."""

    def __init__(self, source: str, document: Document, *, lines: bool) -> None:
        super().__init__(source, LIMITS, lines=lines)
        self._document = document

    def read(self, node: yaml.Node, key: Key) -> Any:
        self._document.places.setdefault(key, self.place(node))
        return super().read(node, key)

    def note(self, node: yaml.Node, key: Key) -> None:
        self._document.places[key] = self.place(node)

    def name(self, node: yaml.ScalarNode) -> str:
        return self.text(node)

    def merged(self, name_node: yaml.Node, value_node: yaml.Node, key: Key) -> list[dict[Any, Any]]:
        raise self.refused(name_node, "the merge key <<", "write the keys out")

    def single(self, node: yaml.ScalarNode, key: Key) -> Any:
        if node.style is None:
            self._document.texts[key] = node.value
        return super().single(node, key)
