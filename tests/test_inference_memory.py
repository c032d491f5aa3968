"""Large blocks that a network frees stay with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from vsscli.inference.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(16 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

told = keep_freed_memory()
faults()
print(told, faults())
"""


def run(**environment: str) -> tuple[str, int]:
    """Whether the allocator was configured, and the page faults of filling 16 MiB twenty times."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    told, faults = done.stdout.split()
    return told, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_blocks_are_used_again_without_a_page_fault() -> None:
    pages = 20 * 16 * 2**20 // 4096
    told, faults = run()
    assert told == "True"
    assert faults < pages / 10


def test_what_the_user_has_set_is_left_alone() -> None:
    assert run(MALLOC_TOP_PAD_="0")[0] == "False"
