"""The names that a checkpoint's pickle may use, and what each makes.

Each entry answers a call in a pickle with plain values, tensors and arrays. None of them imports, opens or calls its
arguments; each checks their types, and that they claim no more than the bytes that came with them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsscli.models.official.machine import ALLOWANCE, BrokenPickle, Maker, Named, RefusedName, check_key

MOST_DIMENSIONS = 32
MOST = 2**62  # for any count
# Numbers and text of fixed width; no objects, and no fields that could contain some.
_DTYPE = re.compile(r"[<>|=]?(?:[?bhilqpBHILQPefdgFDG]|b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16)|[SU]\d{1,6})")
SETTINGS = "argparse.Namespace"
HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
STATISTICS = ("min", "max", "current", "mean")  # methods of it that its state lists
_LATIN = ("latin1", "latin-1", "iso-8859-1")


@dataclass
class Held:
    """The pickled state of an object, without its methods."""

    state: dict[str, Any] = field(default_factory=dict)


class HistoryBuffer(Held):
    """mmengine's history of a logged value."""


class Settings(Held):
    """The arguments of a training script (``argparse.Namespace``), which many published files contain."""


STORAGES: dict[str, torch.dtype] = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.storage.UntypedStorage": torch.uint8,
}
DTYPES: dict[str, torch.dtype] = {
    str(dtype): dtype
    for dtype in (*STORAGES.values(), torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)
}


# Tensors that are not plain: not code, but nothing that a network of vss could use.
OTHER_TENSORS = {
    "sparse_tensor": "a sparse tensor",
    "sparse_csr_tensor": "a sparse tensor",
    "meta_tensor_no_storage": "a tensor without numbers (of the meta device)",
    "qtensor": "a quantised tensor",
    "nested_tensor": "a nested tensor",
    "device_tensor_from_numpy": "a tensor of another device",
    "device_tensor_from_cpu_tensor": "a tensor of another device",
    "wrapper_subclass": "a tensor subclass",
}
OTHER_NUMBERS = ("ComplexFloat", "ComplexDouble", "QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")


def table_of(nested: Callable[[bytes], Any]) -> dict[str, Maker | None]:
    """All allowed names; ``nested`` reads a storage that is pickled as a file inside the pickle
    (``torch.storage._load_from_bytes``)."""
    return {
        "collections.OrderedDict": _dict,
        "collections.Counter": _dict,
        "collections.defaultdict": _defaultdict,
        "builtins.set": _set,
        "builtins.frozenset": lambda *values: frozenset(_set(*values)),
        "builtins.bytes": _bytes,
        "builtins.bytearray": _bytes,
        "_codecs.encode": _encode,  # how protocol 2 writes bytes
        **dict.fromkeys(f"builtins.{kind}" for kind in ("dict", "list", "tuple", "int", "float", "str", "bool")),
        "numpy.ndarray": None,
        "numpy.dtype": _dtype,
        "numpy.core.multiarray._reconstruct": _array,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy.core.numeric._frombuffer": _array_of,  # protocol 5
        **dict.fromkeys(STORAGES),
        **dict.fromkeys(DTYPES),
        "torch.Size": _size,
        "torch.device": _device,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
        "torch._utils._rebuild_parameter": _parameter,
        **{f"torch._utils._rebuild_{name}": _refusal(what) for name, what in OTHER_TENSORS.items()},
        "torch.serialization._get_layout": _refusal("a sparse tensor"),
        **dict.fromkeys(f"torch.{numbers}Storage" for numbers in OTHER_NUMBERS),
        "torch.storage._load_from_bytes": lambda content: _whole_storage(nested(_as_bytes(content))),
        SETTINGS: lambda: Settings(),
        # The only class beyond those of Python, NumPy and torch: mmengine's log, in checkpoints of mmsegmentation 1.x.
        HISTORY: lambda: HistoryBuffer(),
        **dict.fromkeys(f"{HISTORY}.{method}" for method in STATISTICS),
        "builtins.getattr": _statistic,  # how protocol 2 writes them
    }


def finish(made: Any, state: Any) -> None:
    """Set an object's state from the pickle."""
    if isinstance(made, np.ndarray):
        _fill_array(made, state)
    elif isinstance(made, np.dtype):
        _fill_dtype(made, state)
    elif isinstance(made, Held):
        if type(state) is not dict:
            raise BrokenPickle(f"the state of a {type(made).__name__} is not a dict")
        made.state = state
    elif type(made) is not dict:  # of a state dict: the versions of modules, which are not needed
        raise BrokenPickle(f"a {type(made).__name__} is given a state")


def _refusal(what: str) -> Maker:
    """A maker that refuses the call."""

    def refuse(*_: Any) -> None:
        raise BrokenPickle(f"it holds {what}")

    return refuse


def _statistic(owner: Any, method: Any) -> Named:
    """The name of a method of mmengine's history, which can't be called; no attribute is ever looked up."""
    if not isinstance(owner, Named) or owner.name != HISTORY or method not in STATISTICS:
        raise RefusedName("builtins.getattr")
    return Named(f"{HISTORY}.{method}")


def storage_type(kind: Any) -> torch.dtype:
    """The number type of a storage in a pickle."""
    if not isinstance(kind, Named) or kind.name not in STORAGES:
        raise BrokenPickle("a storage has an unknown type")
    return STORAGES[kind.name]


def whole(value: Any, what: str) -> int:
    """An integer that is a valid count."""
    if type(value) is not int or not 0 <= value < MOST:
        raise BrokenPickle(f"{what} is not a possible number")
    return value


# Containers. All kinds of dict become plain ones: only the entries matter.


def _dict(entries: Any = ()) -> dict[Any, Any]:
    if type(entries) not in (dict, list, tuple):
        raise BrokenPickle(f"a dict is made of a {type(entries).__name__}")
    pairs = entries.items() if type(entries) is dict else entries
    return {check_key(key): value for key, value in pairs}


def _defaultdict(factory: Any = None, entries: Any = ()) -> dict[Any, Any]:
    if factory is not None and not isinstance(factory, Named):
        raise BrokenPickle("the default of a defaultdict is not plain")
    return _dict(entries)


def _set(values: Any = ()) -> set[Any]:
    if type(values) not in (list, tuple):
        raise BrokenPickle("a set is not made of a list")
    return set(map(check_key, values))


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding not in _LATIN:
        raise BrokenPickle(f"bytes are encoded as {encoding if type(encoding) is str else type(encoding).__name__}")
    return text.encode("latin-1")


def _bytes(content: Any = b"", encoding: Any = "latin1") -> bytes:
    # Never a number: bytes(10**12) would be a terabyte of zeros.
    return _encode(content, encoding) if type(content) is str else _as_bytes(content)


def _as_bytes(content: Any) -> bytes:
    if type(content) is str:  # Python 2 had one type for both
        return content.encode("latin-1")
    if type(content) not in (bytes, bytearray):
        raise BrokenPickle(f"bytes are a {type(content).__name__}")
    return content


# NumPy. Arrays are made empty and filled by NumPy's own __setstate__, which takes the bytes as they are, after their
# number is checked against type and shape. Types with objects are refused, so there is nothing to call.


def _dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    if type(code) is not str or not _DTYPE.fullmatch(code):
        raise BrokenPickle(f"an array has type {code if type(code) is str else type(code).__name__}")
    return np.dtype(code, copy=True)  # a copy, because its byte order may be set


def _fill_dtype(dtype: np.dtype[Any], state: Any) -> None:
    if type(state) is not tuple or len(state) < 7 or state[1] not in tuple("<>|="):
        raise BrokenPickle("the state of an array's type is not plain")
    if any(part is not None for part in state[2:5]):
        raise BrokenPickle("an array has fields")
    if dtype.kind not in "SU":
        dtype.__setstate__((3, state[1], None, None, None, -1, -1, 0))  # type: ignore[attr-defined]


def _array(kind: Any, shape: Any = (0,), code: Any = b"b") -> np.ndarray[Any, Any]:
    if not isinstance(kind, Named) or kind.name != "numpy.ndarray":
        raise BrokenPickle("an array is of a subclass")
    return np.empty(0, np.int8)


def _fill_array(array: np.ndarray[Any, Any], state: Any) -> None:
    if type(state) is not tuple or len(state) not in (4, 5):
        raise BrokenPickle("the state of an array is not plain")
    shape, dtype, fortran, content = state[-4:]
    content = _checked(content, dtype, shape)
    in_columns = type(fortran) in (bool, int) and bool(fortran)
    array.__setstate__((1, shape, dtype, in_columns, bytes(content)))  # type: ignore[arg-type]


def _array_of(content: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray[Any, Any]:
    content = _checked(content, dtype, shape)
    if order not in ("C", "F"):
        raise BrokenPickle("an array has no valid order")
    return np.frombuffer(content, dtype).reshape(shape, order=order) if content else np.empty(shape, dtype)


def _scalar(dtype: Any, content: Any = b"") -> Any:
    return np.frombuffer(_checked(content, dtype, ()), dtype)[0]


def _checked(content: Any, dtype: Any, shape: Any) -> bytes:
    """The bytes of an array, whose number must match its type and shape."""
    if not isinstance(dtype, np.dtype) or type(shape) is not tuple or len(shape) > MOST_DIMENSIONS:
        raise BrokenPickle("the type or shape of an array is not plain")
    count = math.prod(whole(side, "a side of an array") for side in shape)
    if dtype.hasobject:
        raise BrokenPickle("an array can't be of this type and shape")
    content = _as_bytes(content)
    if len(content) != count * dtype.itemsize:
        raise BrokenPickle(f"an array of {count} numbers of {dtype.itemsize} bytes comes with {len(content)} bytes")
    return content


# torch. A storage is a flat tensor over bytes of the file; a tensor is a view into it.


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage; the arguments for gradients and hooks are ignored."""
    storage = _whole_storage(storage)
    if type(size) is not tuple or type(stride) is not tuple or not len(size) == len(stride) <= MOST_DIMENSIONS:
        raise BrokenPickle("the size or stride of a tensor is not plain")
    sides = [whole(side, "a side of a tensor") for side in size]
    steps = [whole(step, "a stride of a tensor") for step in stride]
    start, count = whole(offset, "the start of a tensor"), math.prod(sides)
    last = start + sum((side - 1) * step for side, step in zip(sides, steps, strict=True)) if count else 0
    stretched = (
        count * storage.itemsize > ALLOWANCE and count > storage.numel()
    )  # a stride of 0: few numbers, viewed often
    if stretched or last >= max(storage.numel(), 1):
        raise BrokenPickle(f"a tensor of {count} numbers does not fit a storage of {storage.numel()}")
    return storage.as_strided(sides, steps, start) if count else storage.new_empty(sides)


def _tensor_of_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    if not isinstance(dtype, Named) or dtype.name not in DTYPES:
        raise BrokenPickle("a tensor has an unknown type")
    return _tensor(_whole_storage(storage).view(DTYPES[dtype.name]), offset, size, stride)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise BrokenPickle("a parameter is not a tensor")
    return data


def _size(sides: Any = ()) -> tuple[int, ...]:
    if type(sides) not in (tuple, list):
        raise BrokenPickle("a size is not a list")
    return tuple(whole(side, "a side of a size") for side in sides)


def _device(*place: Any) -> str:
    if not all(type(part) in (str, int) for part in place):
        raise BrokenPickle("a device has no name")
    return ":".join(map(str, place))


def _whole_storage(storage: Any) -> Tensor:
    if not isinstance(storage, Tensor) or storage.ndim != 1:
        raise BrokenPickle("a tensor has no storage")
    return storage


def view_bytes(content: Any, dtype: torch.dtype, count: int, offset: int) -> Tensor:
    """A flat tensor over bytes that are known to exist; a copy if they are not aligned.

    It is never written to: tensors of a checkpoint are copied into a network or another file.
    """
    if count == 0:
        return torch.empty(0, dtype=dtype)
    flat = torch.frombuffer(content, dtype=torch.uint8, count=count * dtype.itemsize, offset=offset)
    return (flat.clone() if flat.data_ptr() % dtype.itemsize else flat).view(dtype)
