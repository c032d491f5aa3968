"""A pickle machine that runs nothing.

A pickle is a program for a stack machine. Python's own machine imports what the program names and calls it; that is how
a file runs code. This one never imports: a name stays a name (`Named`), calling one looks it up in a table of makers
(`vsscli.models.official.makers`), and what is not in the table stops the reading before anything else happens. So there
is no object on the stack that could be called, whatever the program does with it.

It also keeps what a file can cost in proportion to what it weighs. The machine is a loop, so nesting can't overflow the
stack. Every instruction adds one object at most, and there are only so many. What makers are given, and may copy, is
counted, so that one value handed over a million times is not a million values. Keys of dictionaries are plain, because
hashing tuples of tuples that share their parts takes time without end.

The instructions are those of Python's ``pickletools``, which decodes them without obeying.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

LARGEST_KEY = 2**60  # beyond 2**61 - 1 integers can be made to collide
MOST_INSTRUCTIONS = 5_000_000  # ONE-PEACE with the state of its optimiser takes two hundred thousand
ALLOWANCE = 64 * 2**20  # bytes or entries that makers may be given, whatever the size of the file

Maker = Callable[..., Any]


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


class Mark:
    """The place on the stack that a group of values starts at."""


MARK = Mark()
PLAIN = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
SIZED = (str, bytes, bytearray, tuple, list, dict, set)
# Instructions whose argument is the value to push.
VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


class Machine:
    """One run over one pickle.

    Parameters
    ----------
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

    def __init__(
        self,
        makers: Mapping[str, Maker | None],
        finish: Callable[[Any, Any], None],
        persistent: Callable[[Any], Any],
        size: int,
        file_size: int,
    ) -> None:
        self.makers = makers
        self.finish = finish
        self.persistent = persistent
        self.allowance = 4 * size + ALLOWANCE
        self.claims = 4 * file_size + ALLOWANCE
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        """Read the pickle that starts where a file stands, and leave the file at its end.

        Raises
        ------
        RefusedName
            It asks for what is not in the table.
        BrokenPickle
            It breaks the rules of pickles or of this machine.
        Exception
            Damaged bytes lead the decoder, and makers, to errors of many kinds.
        """
        for count, (code, argument, _) in enumerate(pickletools.genops(file)):
            name = code.name
            if count > MOST_INSTRUCTIONS:
                raise BrokenPickle(f"it has more than {MOST_INSTRUCTIONS} instructions")
            if name == "STOP":
                return self.stack.pop()
            if name in VALUES:
                self.stack.append(argument)
            elif name in PLAIN:
                self.stack.append(PLAIN[name])
            else:
                instruction = getattr(self, f"_{name.lower()}", None)
                if instruction is None:
                    raise BrokenPickle(f"instruction {name} is not one that checkpoints use")
                instruction(argument)
        raise BrokenPickle("it has no end")

    def _group(self) -> list[Any]:
        """Take the values since the last mark off the stack."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is MARK:
                values = self.stack[place + 1 :]
                del self.stack[place:]
                return values
        raise BrokenPickle("a group has no start")

    def _top(self, kind: type) -> Any:
        top = self.stack[-1]
        if type(top) is not kind:
            raise BrokenPickle(f"a {type(top).__name__} is filled as if it were a {kind.__name__}")
        return top

    # Names. ``genops`` hands module and name joined by a space.

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._ask(module, name)

    def _stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise BrokenPickle("a name is no text")
        self._ask(module, name)

    def _inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._ask(module, name)
        raise BrokenPickle("it makes an instance as Python 1 did")

    def _ask(self, module: str, name: str) -> None:
        # Pickles of protocol 2 and before say things as Python 2 did.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        # NumPy 2 moved its core; its pickles say the new place, those of NumPy 1 the old one.
        full = full.replace("numpy._core.", "numpy.core.", 1) if full.startswith("numpy._core.") else full
        if full not in self.makers:
            raise RefusedName(full)
        self.stack.append(Named(full))

    def _reduce(self, _: None) -> None:
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

    # An object made without its constructor's help is made as by a call here: makers decide.
    _newobj = _reduce

    def _build(self, _: None) -> None:
        state = self.stack.pop()
        self._pay(state if type(state) is tuple else (state,))
        self.finish(self.stack[-1], state)

    def _pay(self, given: tuple[Any, ...]) -> None:
        """Count what a maker is given and may copy."""
        self.allowance -= sum(len(part) for part in given if type(part) in SIZED)
        if self.allowance < 0:
            raise BrokenPickle("it makes more of its content than there is")

    def _binpersid(self, _: None) -> None:
        self.stack.append(self.persistent(self.stack.pop()))

    # Containers.

    def _mark(self, _: None) -> None:
        self.stack.append(MARK)

    def _empty_tuple(self, _: None) -> None:
        self.stack.append(())

    def _tuple1(self, _: None) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def _tuple2(self, _: None) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def _tuple3(self, _: None) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def _tuple(self, _: None) -> None:
        self.stack.append(tuple(self._group()))

    def _empty_list(self, _: None) -> None:
        self.stack.append([])

    def _list(self, _: None) -> None:
        self.stack.append(self._group())

    def _append(self, _: None) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def _appends(self, _: None) -> None:
        values = self._group()
        self._top(list).extend(values)

    def _empty_dict(self, _: None) -> None:
        self.stack.append({})

    def _dict(self, _: None) -> None:
        values = self._group()
        self.stack.append({})
        self._fill(values)

    def _setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _setitems(self, _: None) -> None:
        self._fill(self._group())

    def _fill(self, values: list[Any]) -> None:
        entries = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            entries[check_key(key)] = value

    def _empty_set(self, _: None) -> None:
        self.stack.append(set())

    def _additems(self, _: None) -> None:
        values = self._group()
        self._top(set).update(map(check_key, values))

    def _frozenset(self, _: None) -> None:
        self.stack.append(frozenset(map(check_key, self._group())))

    # The stack itself, and the memo.

    def _pop(self, _: None) -> None:
        self.stack.pop()

    def _pop_mark(self, _: None) -> None:
        self._group()

    def _dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _binget = _long_binget = _get

    def _proto(self, _: int) -> None:
        """The protocol: instructions say themselves which they are."""

    def _frame(self, _: int) -> None:
        """A hint to readers of streams."""


def check_key(key: Any) -> Any:
    """Refuse keys that are not plain, small and quick to hash."""
    plain = key if type(key) is tuple else (key,)
    for part in plain:
        whole = type(part) is int and abs(part) < LARGEST_KEY
        if not (whole or part is None or type(part) in (str, bytes, bool)):
            raise BrokenPickle(f"a key is a {type(part).__name__}")
    return key
