"""Memory that was freed stays with the process, and with it the time to get it anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import torch
from promptlab.models.dalle.cpu.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
torch.set_num_threads(1)
def work():
    for _ in range(10):
        held = [torch.ones(3 * 2**18) for _ in range(6)]
        del held
def faults():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
def lane():
    work()
    before = faults()
    work()
    print(faults() - before)
thread = threading.Thread(target=lane)
thread.start()
thread.join()
"""


def pages_asked_for_again(word: str, **environment: str) -> int:
    """How many pages a thread takes from the system that frees and takes 18 MiB ten times."""
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, word],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


pytestmark = [
    pytest.mark.slow,  # each case imports torch in a process of its own
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator"),
]


def test_freed_megabytes_are_used_again() -> None:
    assert pages_asked_for_again("leave") > 1000
    assert pages_asked_for_again("keep") < 100


def test_what_the_user_has_set_stays() -> None:
    assert pages_asked_for_again("keep", MALLOC_MMAP_THRESHOLD_="1048576") > 1000
