"""Parts of a file that belong to frames but do not stand in their order, kept on the disk until their frame comes."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Hashable, Iterator
from types import TracebackType
from typing import Any


class Spool:
    """Plain values by key, in a file without a name; of each, memory keeps where it is, eight bytes."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the spool
        self._places: dict[Hashable, array[int]] = {}
        self._end = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, key: Hashable, value: Any) -> None:
        """Keep a value for a key."""
        data = json.dumps(value).encode() + b"\n"
        self._file.seek(self._end)
        self._file.write(data)
        self._places.setdefault(key, array("q")).append(self._end)
        self._end += len(data)

    def places(self) -> list[Hashable]:
        """The keys, in the order in which they came."""
        return list(self._places)

    def values(self, key: Hashable) -> Iterator[Any]:
        """The values of a key, in the order in which they came."""
        for place in self._places.get(key, ()):
            self._file.seek(place)
            yield json.loads(self._file.readline())
