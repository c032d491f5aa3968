"""Classes of a source by their names: which of the table's they are, never by number."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.errors import VssError

IGNORED = "ignore"
"""What a class is mapped to whose pixels are void."""

BACKGROUND = "background"
"""What formats call pixels that nobody labelled. Void, unless the table has such a class or it is mapped to one."""


class ClassNames:
    """The classes of a table by the names that a source has for them.

    A name is the table's own, one that a class had before, has the same letters and digits ("Traffic_Light" for
    "traffic light"), or is mapped.

    Parameters
    ----------
    table
        The classes that are wanted.
    changes
        Names of the source, each with the name of a class of the table or `IGNORED`.

    Raises
    ------
    VssError
        A class that something is mapped to is not in the table.
    """

    def __init__(self, table: ClassTable, changes: Mapping[str, str] | None = None) -> None:
        self.table = table
        self._exact = {name: index for index, name in enumerate(table.names)}
        alike: dict[str, list[int]] = {}
        for name, index in self._exact.items():
            alike.setdefault(_letters(name), []).append(index)
        self._alike = {letters: found[0] for letters, found in alike.items() if len(found) == 1 and letters}
        self._changes = dict(table.former)
        self._changes |= {name: self._target(name, target) for name, target in (changes or {}).items()}

    @property
    def uncovered(self) -> int:
        """The class of pixels that no shape covers: void unless `BACKGROUND` is mapped to one."""
        return self._changes.get(BACKGROUND, IGNORE)

    def index(self, name: str) -> int | None:
        """The class of a name, 255 for void; None for a name that is neither in the table nor mapped."""
        if name in self._changes:
            return self._changes[name]
        found = self._exact.get(name, self._alike.get(_letters(name)))
        return IGNORE if found is None and name.lower() == BACKGROUND else found

    def require(self, names: Iterable[str], where: str) -> dict[str, int]:
        """The class of every name.

        Raises
        ------
        VssError
            Some are neither in the table nor mapped; names them all, and the option that says what becomes of them.
        """
        found = {name: self.index(name) for name in dict.fromkeys(names)}
        unknown = [name for name, index in found.items() if index is None]
        if unknown:
            shown = ", ".join(map(repr, unknown[:8])) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
            near = difflib.get_close_matches(unknown[0], self.table.names, 1, 0.6) or ["CLASS"]
            raise VssError(
                f"{where} has {'classes' if len(unknown) > 1 else 'class'} {shown}, which {self.table.name} lacks",
                f"say which class {'each' if len(unknown) > 1 else 'it'} is, --map '{unknown[0]}={near[0]}', "
                f"or leave {'them' if len(unknown) > 1 else 'it'} void, --map '{unknown[0]}={IGNORED}'",
            )
        return {name: index for name, index in found.items() if index is not None}

    def _target(self, name: str, target: str) -> int:
        if target == IGNORED and target not in self._exact:
            return IGNORE
        found = self._exact.get(target, self._alike.get(_letters(target)))
        if found is None:
            near = difflib.get_close_matches(target, self.table.names, 3, 0.5)
            raise VssError(
                f"--map {name}={target}: {self.table.name} has no class {target!r}",
                f"did you mean {', '.join(near)}?" if near else f"name a class of the table, or {IGNORED}",
            )
        return found


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
