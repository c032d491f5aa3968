"""The cost of spinning threads: training with OpenMP's waiting threads asleep, spinning a little, or always.

    python tests/benchmarks/waiting.py --seconds 40

With each way of waiting the student of recipes/demo is trained for some seconds, alone and beside another program that
keeps every core busy, alternating; prints steps per second. A number is how often a thread spins before it sleeps
(`GOMP_SPINCOUNT`).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BUSY = "while True: pass"


def waiting(way: str) -> dict[str, str]:
    """The variables that make OpenMP's threads wait so."""
    return {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": way} if way.isdigit() else {"OMP_WAIT_POLICY": way}


def steps_a_second(way: str, seconds: float, busy: int) -> float:
    """Train for so long beside so many busy processes; the first steps, in which memory is found, do not count."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vsscli", "train", "--recipe", "demo/student", "--workspace", folder, "-q"]
        changes = ["train.steps=100000", "train.log_every=1", "train.checkpoint_every=100000", "train.warmup=10"]
        environment = {**os.environ, **waiting(way)}
        process = subprocess.Popen(
            [*command, *(word for change in changes for word in ("--set", change))],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        journal = Path(folder) / "demo-student" / "journal.jsonl"
        try:
            while not journal.exists() or len(journal.read_text().splitlines()) < 3:
                time.sleep(0.2)
                if process.poll() is not None:
                    raise SystemExit(f"training ended with {process.returncode}")
            before, since = len(journal.read_text().splitlines()), time.perf_counter()
            time.sleep(seconds)
            after = len(journal.read_text().splitlines())
            return (after - before) / (time.perf_counter() - since)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            for other in others:
                other.kill()
                other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=["passive", "1000", "10000", "100000", "active"])
    arguments = parser.parse_args()
    for busy, what in ((0, "alone"), (os.cpu_count() or 1, "beside busy cores")):
        rates: dict[str, list[float]] = {way: [] for way in arguments.ways}
        for _ in range(arguments.rounds):
            for way, found in rates.items():
                found.append(steps_a_second(way, arguments.seconds, busy))
        medians = {way: round(statistics.median(found), 2) for way, found in rates.items()}
        print(json.dumps({"where": what, "steps a second": medians}), flush=True)


if __name__ == "__main__":
    main()
