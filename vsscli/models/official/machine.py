"""A pickle machine that runs no code: Python's own, with names that stay names.

A pickle is a program for a stack machine. Python's imports what the program names and calls it, which is how a file
runs code. Here a name stays a name (`Named`); calling one looks it up in a table of makers (`official.makers`), and a
name that is not in the table stops the reading before anything else happens. So no object on the stack can be called.

The cost of reading is proportional to the size of the file. Every instruction adds at most one object, and their number
is limited. The arguments of makers, which these may copy, are counted, so that passing one value a million times does
not make a million values. Keys of dictionaries are plain, because hashing nested tuples that share their parts can take
forever.

It is built on Python's machine in Python, ``pickle._Unpickler``: the one in C, and torch's reader for weights only,
believe what a file says of the memory it needs (384 bytes, 16 GB).
"""

from __future__ import annotations

import pickle
import pickletools
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LARGEST_KEY = 2**60  # beyond 2**61 - 1 integers can be made to collide
MOST_INSTRUCTIONS = 5_000_000  # ONE-PEACE with the state of its optimiser takes two hundred thousand
ALLOWANCE = 64 * 2**20  # bytes or entries that makers may get, whatever the size of the file

Maker = Callable[..., Any]
SIZED = (str, bytes, bytearray, tuple, list, dict, set)


class RefusedName(Exception):
    """A pickle asks for a name that is not allowed; ``name`` includes the module."""

    def __init__(self, name: str) -> None:
        super().__init__(f"asks for {name}")
        self.name = name


class BrokenPickle(Exception):
    """A pickle is invalid, or makes impossible claims."""


@dataclass(frozen=True, slots=True)
class Named:
    """The name of something that a pickle asked for; never the object itself."""

    name: str


class Machine(pickle._Unpickler):
    """Reads (`load`) the pickle at the current position of a file, and leaves the file at the pickle's end.

    Raises `RefusedName` for names that are not in the table and `BrokenPickle` for violations of its rules; damaged
    bytes make it, and makers, raise errors of many types.

    Parameters
    ----------
    file
        Its ``read`` returns no more bytes than exist, however many are requested: a mapped file, or bytes in memory.
    makers
        For each allowed name, a function that answers a call with the pickle's arguments; None for names that may be
        mentioned but not called.
    finish
        Called with an object and the state that the pickle sets; changes the object in place.
    persistent
        Called with the identifier of an object outside the pickle.
    size
        Maximum bytes of the pickle.
    file_size
        Bytes of the file that contains it, which bounds the tensors made from storages.
    """

    stack: list[Any]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        file: Any,
        makers: Mapping[str, Maker | None],
        finish: Callable[[Any, Any], None],
        persistent: Callable[[Any], Any],
        size: int,
        file_size: int,
    ) -> None:
        super().__init__(file, encoding="latin1")
        self.makers, self.finish, self.persistent = makers, finish, persistent
        self.allowance = 4 * size + ALLOWANCE
        self.claims = 4 * file_size + ALLOWANCE
        self.dispatch = _Instructions()  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Named:
        """Return the name only."""
        # Pickles of protocol 2 and earlier have Python 2's names.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        # NumPy 2 renamed its core; its pickles have the new name, those of NumPy 1 the old one.
        full = full.replace("numpy._core.", "numpy.core.", 1) if full.startswith("numpy._core.") else full
        if full not in self.makers:
            raise RefusedName(full)
        return Named(full)

    def persistent_load(self, pid: Any) -> Any:
        """Return an object outside the pickle."""
        return self.persistent(pid)

    def _instantiate(self, called: Any, arguments: list[Any]) -> None:
        raise BrokenPickle("it makes an instance in the way of Python 1")

    def _reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Named) or not isinstance(arguments, tuple):
            raise BrokenPickle("it calls something that is not a name")
        make = self.makers[called.name]
        if make is None:
            raise RefusedName(f"a call of {called.name}")
        self._pay(arguments)
        made = make(*arguments)
        # Views cost nothing, but copying them does: one storage may be viewed a thousand times, or expanded.
        self.claims -= getattr(made, "nbytes", 0)
        if self.claims < 0:
            raise BrokenPickle("its tensors claim more than it holds")
        self.stack.append(made)

    def _build(self) -> None:
        state = self.stack.pop()
        self._pay(state if type(state) is tuple else (state,))
        self.finish(self.stack[-1], state)

    def _pay(self, given: tuple[Any, ...]) -> None:
        """Count the arguments of a maker, which it may copy."""
        self.allowance -= sum(len(part) for part in given if type(part) in SIZED)
        if self.allowance < 0:
            raise BrokenPickle("it makes more of its content than there is")

    def _bytearray(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        self.stack.append(bytearray(self.read(length)))  # Python's own allocates what is claimed

    # Instructions that fill a container; it must be exactly a list, dict or set, not something with such methods.

    def _top(self, kind: type) -> Any:
        top = self.stack[-1]
        if type(top) is not kind:
            raise BrokenPickle(f"a {type(top).__name__} is filled as if it were a {kind.__name__}")
        return top

    def _append(self) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def _appends(self) -> None:
        values = self.pop_mark()
        self._top(list).extend(values)

    def _dict(self) -> None:
        values = self.pop_mark()
        self.stack.append({})
        self._fill(values)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _setitems(self) -> None:
        self._fill(self.pop_mark())

    def _fill(self, values: list[Any]) -> None:
        entries = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            entries[check_key(key)] = value

    def _additems(self) -> None:
        values = self.pop_mark()
        self._top(set).update(map(check_key, values))

    def _frozenset(self) -> None:
        values = self.pop_mark()
        self.stack.append(frozenset(map(check_key, values)))


_OWN = {
    pickle.REDUCE: Machine._reduce,
    pickle.NEWOBJ: Machine._reduce,  # without a constructor: makers answer it like a call
    pickle.BUILD: Machine._build,
    pickle.BYTEARRAY8: Machine._bytearray,
    pickle.APPEND: Machine._append,
    pickle.APPENDS: Machine._appends,
    pickle.DICT: Machine._dict,
    pickle.SETITEM: Machine._setitem,
    pickle.SETITEMS: Machine._setitems,
    pickle.ADDITEMS: Machine._additems,
    pickle.FROZENSET: Machine._frozenset,
}
_FOREIGN = b"".join(
    (pickle.PERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEWOBJ_EX, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)
)


class _Instructions(dict[int, Callable[[Any], None]]):
    """The method of each instruction; every lookup is counted."""

    def __init__(self) -> None:
        super().__init__(pickle._Unpickler.dispatch)
        self.update({code[0]: method for code, method in _OWN.items()})
        for code in _FOREIGN:
            del self[code]
        self.count = 0

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self.count += 1
        if self.count > MOST_INSTRUCTIONS:
            raise BrokenPickle(f"it has more than {MOST_INSTRUCTIONS} instructions")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Callable[[Any], None]:
        name = next((known.name for known in pickletools.opcodes if ord(known.code) == code), str(code))
        raise BrokenPickle(f"instruction {name} is not one that checkpoints use")


def check_key(key: Any) -> Any:
    """Refuse keys that are not plain, small and quick to hash."""
    plain = key if type(key) is tuple else (key,)
    for part in plain:
        whole = type(part) is int and abs(part) < LARGEST_KEY
        if not (whole or part is None or type(part) in (str, bytes, bool)):
            raise BrokenPickle(f"a key is a {type(part).__name__}")
    return key
