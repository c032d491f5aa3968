"""Valid files, changed so that most of them stay nearly valid: the inputs of the fuzzer."""

from __future__ import annotations

import io
import json
import pickletools
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import torch

NASTY: list[Any] = [
    None, True, False, -1, 0, 1, 255, 256, 2**31, 2**53, 2**63, 2**64, 10**39, 10**45, 0.5, -0.0, 1e308, 1e-320,
    float("inf"), float("nan"), "", " ", "a" * 300, "../x", "/dev/null", "a/b", "\0", "\x1b[2J", "\ud800", "Straße",
    "1:59", "0b1", "010", "1e5", "NaN", [], {}, [[]], [{}], {"": {}}, [0] * 300, {"a": [None, {"b": -1}]}, "val", "*",
]  # fmt: skip
TOKENS = [
    "!!int ''", "!!float x", "!!bool 3", "!!binary aGk=", "!!set {a, b}", "!!python/object:os.system x", "&a [*a]",
    "*a", "&x 1", "<<", "<<: 3", "? [a]", "0b1" + "1" * 200, "1:59", "010", "0x" + "f" * 60, "9" * 400, "1e999", ".nan",
    "-.inf", '"\\ud800"', '"\\UFFFFFFFF"', '"\\0"', "~", "[", "]", "{", "}", "- -", "\t", "'", '"', "|", ">",
    "%YAML 9", "---", "...", "[" * 60, "{a: " * 40, "2001-01-01", "\x85", "\ufeff", "#", ":", ",", "a" * 300,
    "../../x", "-1", "",
]  # fmt: skip
NUMBER = b"\x8a\x09" + b"\xff" * 8 + b"\x00"
PICKLED = [
    b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R", b"cos\nsystem\n", b"cbuiltins\ngetattr\n", b"]", b"}", b"(", b")",
    b"N", b"K\x00", b"K\xff", b"J\xff\xff\xff\xff", NUMBER, b"\x85", b"\x86", b"\x87", b"t", b"R", b"b", b"0", b"2",
    b"q\x00", b"h\x00", b"h\x07", b"Q", b"X\x01\x00\x00\x00a", b"X\x03\x00\x00\x00\xed\xa0\x80", b"C\x02ab",
    b"\x88", b"G\x7f\xf8\x00\x00\x00\x00\x00\x00", b"ctorch\nFloatStorage\n", b"\x94",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"\x8f", b"e",
    b"u", b"a", b"s",
]  # fmt: skip


def mutated(data: bytes, kind: str, draw: random.Random) -> bytes:
    """A file's bytes, changed in a way specific to its kind, or in any way."""
    ways = WAYS.get(kind, [])
    # Several times over as often as not; and one in four in a way that nothing knows.
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        way = changed_bytes if not ways or draw.random() < 0.25 else draw.choice(ways)
        try:
            data = way(data, draw)
        except Exception:  # what was changed before is no longer of its kind
            data = changed_bytes(data, draw)
    return data


def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    """Bytes turned, put in, taken out, doubled or cut off."""
    changed, size = bytearray(data), len(data)
    start = draw.randrange(size + 1)
    length = draw.choice([1, 1, 2, 4, 8, 64])
    match draw.randrange(6):
        case 0:
            for _ in range(draw.choice([1, 3, 20])):
                if changed:
                    changed[draw.randrange(size)] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        case 1:
            changed[start:start] = draw.choice([bytes(length), b"\xff" * length, draw.randbytes(length)])
        case 2:
            del changed[start : start + length]
        case 3:
            changed[start:start] = changed[start : start + length * 8]
        case 4:
            del changed[start:]
        case 5:
            number = draw.choice([0, 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1])
            changed[start : start + 4] = struct.pack(draw.choice("<>") + "I", number)
    return bytes(changed)


def changed_tree(values: Any, draw: random.Random) -> Any:
    """Values of JSON with one of them replaced, removed, doubled, renamed or nested; in place."""
    places = [(None, None)]
    waiting = [values]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else []
        places += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    inside, key = draw.choice(places[1:] or places)
    if inside is None:
        return draw.choice(NASTY)
    other = draw.choice(NASTY)
    match draw.randrange(7):
        case 0 | 1 | 2:
            inside[key] = other
        case 3:
            del inside[key]
        case 4:
            inside[key] = draw.choice([[inside[key]], {"a": inside[key]}, [inside[key]] * 3])
        case 5 if isinstance(inside, dict):
            inside[draw.choice(["", "x", "name", "classes", "format", "\ud800", "../x", 7])] = inside.pop(key)
        case 6:
            deep: Any = other
            for _ in range(draw.choice([3, 70, 500])):
                deep = [deep]
            inside[key] = deep
        case _:
            inside[key] = draw.choice(places[1:])[1]
    return values


def changed_json(data: bytes, draw: random.Random) -> bytes:
    """JSON, or YAML's part that is JSON, with other values in it."""
    values = changed_tree(json.loads(data), draw)
    return json.dumps(values, indent=draw.choice([None, 1]), ensure_ascii=draw.random() < 0.8).encode(
        "utf-8", "surrogatepass"
    )


def changed_words(data: bytes, draw: random.Random) -> bytes:
    """Text with a word, or a place between words, taken by something else."""
    text = data.decode()
    words = list(re.finditer(r"[\w.+-]+|\S", text))
    word = draw.choice(words)
    token = draw.choice([*TOKENS, draw.choice(words)[0]])
    if draw.random() < 0.3:
        return (text[: word.start()] + token + " " + text[word.start() :]).encode()
    return (text[: word.start()] + token + text[word.end() :]).encode()


def changed_lines(data: bytes, draw: random.Random) -> bytes:
    """Lines doubled, left out, moved or indented."""
    lines = data.decode().splitlines(keepends=True)
    place = draw.randrange(len(lines))
    match draw.randrange(4):
        case 0:
            lines.insert(draw.randrange(len(lines)), lines[place])
        case 1:
            del lines[place]
        case 2:
            lines[place] = " " * draw.choice([1, 2, 8]) + lines[place]
        case 3:
            lines *= draw.choice([2, 40])
    return "".join(lines).encode()


def changed_pickle(data: bytes, draw: random.Random) -> bytes:
    """A pickle, or the first of several, with instructions removed, doubled, moved or inserted."""
    places = [place for _, _, place in pickletools.genops(io.BytesIO(data)) if place is not None]
    start = draw.randrange(len(places))
    end = min(len(places) - 1, start + draw.choice([1, 1, 2, 5]))
    one, other = places[start], places[end]
    match draw.randrange(4):
        case 0:
            return data[:one] + data[other:]
        case 1:
            return data[:other] + data[one:other] * draw.choice([1, 2, 200]) + data[other:]
        case 2:
            return data[:one] + draw.choice(PICKLED) + data[other:]
        case _:
            return data[:one] + draw.choice(PICKLED) + data[one:]


def changed_zip(data: bytes, draw: random.Random) -> bytes:
    """A zip with an entry added, removed, renamed, compressed differently or changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = draw.randrange(len(entries))
    name, content = entries[place]
    method = zipfile.ZIP_STORED
    match draw.randrange(6):
        case 0:
            del entries[place]
        case 1:
            entries.insert(place, (name, content))
        case 2:
            entries[place] = (
                draw.choice(["../x", "/x", "", "a/data.pkl", "x" * 300, name.upper(), "é/1.png"]),
                content,
            )
        case 3:
            method = zipfile.ZIP_DEFLATED
        case _:
            kind = "pickle" if name.endswith(".pkl") else name.rpartition(".")[2]
            entries[place] = (name, mutated(content, kind, draw))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return written.getvalue()


def changed_description(data: bytes, draw: random.Random) -> bytes:
    """A vss checkpoint with another description."""
    content = torch.load(io.BytesIO(data), weights_only=True)
    content["vss"] = changed_json(content["vss"].encode(), draw).decode("utf-8", "surrogatepass")
    written = io.BytesIO()
    torch.save(content, written)
    return written.getvalue()


def changed_tensors(data: bytes, draw: random.Random) -> bytes:
    """A file of torch in which a tensor is another one, or none."""
    content = torch.load(io.BytesIO(data), weights_only=True)
    inside = next((value for value in content.values() if isinstance(value, dict) and value), content)
    name = draw.choice(list(inside))
    old = inside[name]
    others: list[Callable[[], Any]] = [
        lambda: torch.empty(2**40, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.ones(1).expand(2**33),
        lambda: torch.full(old.shape, float("nan")),
        lambda: torch.zeros(0),
        lambda: torch.zeros(()),
        lambda: torch.zeros(1, 1, 1, 1, 1, 1),
        lambda: torch.zeros(3, dtype=torch.complex64),
        lambda: torch.zeros(old.shape, dtype=torch.int8),
        lambda: old[..., :1],
        lambda: draw.choice(NASTY),
    ]
    if draw.random() < 0.2:
        inside[draw.choice(["x", 3, (1, 2), "a" * 300])] = inside.pop(name)
    else:
        inside[name] = draw.choice(others)()
    written = io.BytesIO()
    torch.save(content, written, _use_new_zipfile_serialization=data[:2] == b"PK")
    return written.getvalue()


def changed_header(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file with another header."""
    (length,) = struct.unpack("<Q", data[:8])
    header = changed_json(data[8 : 8 + length], draw)
    told = draw.choice([len(header)] * 6 + [0, 2**40, 2**63])
    return struct.pack("<Q", told) + header + data[8 + length :]


def changed_png(data: bytes, draw: random.Random) -> bytes:
    """A PNG with a chunk left out, doubled, or changed under a checksum that is right."""
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    one = draw.randrange(len(chunks))
    name, content = chunks[one]
    match draw.randrange(4):
        case 0:
            del chunks[one]
        case 1:
            chunks.insert(one, chunks[one])
        case 2:
            chunks.insert(
                one, (draw.choice([b"tRNS", b"eXIf", b"iCCP", b"acTL", b"PLTE", b"gAMA"]), draw.randbytes(12))
            )
        case 3 if name == b"IDAT" and draw.random() < 0.7:
            chunks[one] = (name, zlib.compress(changed_bytes(zlib.decompress(content), draw)))
        case _:
            chunks[one] = (name, changed_bytes(content, draw))
    written = data[:8]
    for name, content in chunks:
        written += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return written


WAYS: dict[str, list[Callable[[bytes, random.Random], bytes]]] = {
    "yaml": [changed_words, changed_words, changed_lines, changed_json],
    "json": [changed_json, changed_json, changed_json, changed_words],
    "jsonl": [changed_words, changed_lines],
    "txt": [changed_words, changed_lines],
    "pt": [changed_zip, changed_description, changed_description, changed_tensors],
    "pth": [changed_zip, changed_tensors, changed_zip],
    "pkl": [changed_pickle],
    "pickle": [changed_pickle],
    "safetensors": [changed_header],
    "png": [changed_png, changed_png],
    "zip": [changed_zip],
}
