"""A pickle machine that runs nothing: Python's own, whose names stay names.

A pickle is a program for a stack machine. Python's imports what the program names and calls it; that is how a file runs
code. Here a name stays a name (`Named`), calling one looks it up in a table of makers (`official.makers`), and what is
not in the table stops the reading before anything else happens. So there is no object on the stack that could be
called, whatever the program does with it.

What a file can cost is in proportion to what it weighs. Every instruction adds one object at most, and there are only
so many. What makers are given, and may copy, is counted, so that one value handed over a million times is not a million
values. Keys of dictionaries are plain: hashing tuples of tuples that share their parts takes time without end.

It is built on Python's machine in Python, ``pickle._Unpickler``: that in C, and torch's reader of weights only, take a
file's word for how much memory it needs (384 bytes, 16 GB).
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
ALLOWANCE = 64 * 2**20  # bytes or entries that makers may be given, whatever the size of the file

Maker = Callable[..., Any]
SIZED = (str, bytes, bytearray, tuple, list, dict, set)


class RefusedName(Exception):
    """A pickle asks for something that is not admitted: ``name``, module and all."""

    def __init__(self, name: str) -> None:
        super().__init__(f"asks for {name}")
        self.name = name


class BrokenPickle(Exception):
    """A pickle that makes no sense, or claims what can't be."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a pickle asked for, by name; never the thing itself."""

    name: str


class Machine(pickle._Unpickler):
    """One run (`load`) over the pickle that starts where a file stands; it leaves the file at the pickle's end.

    It raises `RefusedName` for what is not in the table and `BrokenPickle` for what breaks its rules; damaged bytes
    lead it, and makers, to errors of many kinds.

    Parameters
    ----------
    file
        Its ``read`` gives no more bytes than there are, however many are asked for: a mapped file, or bytes in memory.
    makers
        What a name makes when it is called, from the arguments that the pickle gives; None for names that may be
        mentioned but not called.
    finish
        Called with an object and the state that the pickle gives it afterwards; changes the object in place.
    persistent
        Called with the identifier of an object that lies outside the pickle.
    size
        Bytes that the pickle can have at most.
    file_size
        Bytes of the file that it is in, which what it makes of storages must be in proportion to.
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
        """The name alone."""
        # Pickles of protocol 2 and before say things as Python 2 did.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        # NumPy 2 moved its core; its pickles say the new place, those of NumPy 1 the old one.
        full = full.replace("numpy._core.", "numpy.core.", 1) if full.startswith("numpy._core.") else full
        if full not in self.makers:
            raise RefusedName(full)
        return Named(full)

    def persistent_load(self, pid: Any) -> Any:
        """What lies outside the pickle."""
        return self.persistent(pid)

    def _instantiate(self, called: Any, arguments: list[Any]) -> None:
        raise BrokenPickle("it makes an instance as Python 1 did")

    def _reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Named) or not isinstance(arguments, tuple):
            raise BrokenPickle("it calls something that is no name")
        make = self.makers[called.name]
        if make is None:
            raise RefusedName(f"a call of {called.name}")
        self._pay(arguments)
        made = make(*arguments)
        # Views cost nothing, but whoever copies them pays for each: one storage seen a thousand times, or stretched.
        self.claims -= getattr(made, "nbytes", 0)
        if self.claims < 0:
            raise BrokenPickle("its tensors claim more than it holds")
        self.stack.append(made)

    def _build(self) -> None:
        state = self.stack.pop()
        self._pay(state if type(state) is tuple else (state,))
        self.finish(self.stack[-1], state)

    def _pay(self, given: tuple[Any, ...]) -> None:
        """Count what a maker is given and may copy."""
        self.allowance -= sum(len(part) for part in given if type(part) in SIZED)
        if self.allowance < 0:
            raise BrokenPickle("it makes more of its content than there is")

    def _bytearray(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        self.stack.append(bytearray(self.read(length)))  # Python's own makes room for what is claimed

    # What fills a container, which is one of Python's own and nothing else with methods of that name.

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
    pickle.NEWOBJ: Machine._reduce,  # made without its constructor's help: makers decide, as of a call
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
    """What each instruction of a run does; every one that is asked for is counted."""

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
