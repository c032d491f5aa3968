"""Changed files before every reader, in a process with little memory; prints what went otherwise than it may, as JSON.

``python tests/fuzz_readers.py readers|commands|kept SEED COUNT FOLDER``; ``kept`` runs nothing and prints the arguments
of command lines for the inputs that it leaves.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz_mutations import mutated
from fuzz_samples import Sample, read_official, run_command, samples, words

from vsscli.cli.failure import REMEDIES
from vsscli.errors import VssError

ADDRESSES = 5 * 2**30
"""Bytes that the process may ask for: torch and its libraries take half of that."""

MORE = 400 * 2**20
"""Bytes that one input may add to what the process has taken at most."""

PATIENCE = 30
"""Seconds for one input, on a machine that does other things too."""


class Hung(BaseException):
    """An input took too long."""


# Running.


def changed(sample: Sample, place: Path, draw: random.Random) -> Path:
    """A copy of a sample under a new name, one of its files changed."""
    target = place / sample.path.name
    if not sample.path.is_dir():
        target.write_bytes(mutated(sample.path.read_bytes(), sample.path.suffix[1:], draw))
        return target
    shutil.copytree(sample.path, target)
    files = [path for path in sorted(target.rglob("*")) if path.is_file()]
    for path in draw.sample(files, draw.choice([1, 1, 2])):
        match draw.randrange(12):
            case 0:
                path.unlink()
            case 1:
                path.unlink()
                path.mkdir()
            case 2:
                path.write_bytes(b"")
            case _:
                path.write_bytes(mutated(path.read_bytes(), path.suffix[1:], draw))
    return target


def attempt(work: Callable[[], Any]) -> str:
    """Call something that may raise a `VssError`; return anything else that happened."""

    def hang(*_: Any) -> None:
        raise Hung

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
    except VssError as error:
        (error.message + error.hint).encode()
        if not error.message or "weights_only" in error.message + error.hint:
            return f"says: {error.message} {error.hint}"
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in REMEDIES:
            return ""  # the command line says what to do
        return "".join(traceback.format_exception(error))[-3000:]
    finally:
        signal.alarm(0)
    more = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    return f"took {more >> 20} MiB" if more > MORE else ""


def fuzz(what: str, seed: int, count: int, home: Path) -> dict[str, Any]:
    """Try a number of inputs; return the failures, each with its number, sample and the file kept."""
    made = [sample for sample in samples(home / "samples") if what == "readers" or sample.commands]
    kept: list[list[str]] = []
    for sample in made:
        copy = changed_nothing(sample, home)
        with contextlib.suppress(*[VssError] if sample.read is read_official else []):  # tensors of no network
            sample.read(copy)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    failures: list[dict[str, Any]] = []
    slowest, start = 0.0, time.perf_counter()
    for number in range(count):
        draw = random.Random(seed * 1_000_003 + number)
        sample = draw.choices(made, [sample.weight for sample in made])[0]
        place = home / "inputs" / str(number)
        place.mkdir(parents=True)
        path = changed(sample, place, draw)
        begun = time.perf_counter()
        if what == "kept":
            kept.append(words(draw.choice(sample.commands), path, place))
            continue
        if what == "readers":
            wrong = attempt(lambda sample=sample, path=path: sample.read(path))
        else:
            command = draw.choice(sample.commands)
            wrong = attempt(lambda command=command, path=path, place=place: run_command(command, path, place))
        slowest = max(slowest, time.perf_counter() - begun)
        if wrong:
            failures.append({"number": number, "sample": sample.path.name, "kept": str(path), "wrong": wrong})
        else:
            shutil.rmtree(place)
    took = time.perf_counter() - start
    return {
        "tried": count,
        "seconds": round(took, 1),
        "slowest": round(slowest, 1),
        "failures": failures,
        "arguments": kept,
    }


def changed_nothing(sample: Sample, home: Path) -> Path:
    """An unchanged copy of a sample, which must be readable."""
    target = home / "whole" / sample.path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if sample.path.is_dir():
        shutil.copytree(sample.path, target)
    else:
        shutil.copy(sample.path, target)
    return target


if __name__ == "__main__":
    print(json.dumps(fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
