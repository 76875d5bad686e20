"""The C library's allocator, set to keep freed memory.

Takes and returns nothing: a setting of the whole process, made once a model is loaded on the CPU.
Knows nothing of models.

Drawing an image takes and frees the same megabytes again and again. By default glibc returns them
to the system at once, which then provides them anew, page by page and cleared (benchmarks/LOG.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

MIB = 2**20
LARGEST_KEPT = 32 * MIB  # glibc's limit; larger blocks come from the system each time
MOST_KEPT = 128 * MIB  # freed memory at the end of an arena, of which a thread has one

# Names and numbers of malloc.h, with the variables by which a user sets the same.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_SET_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let the process keep up to MOST_KEPT freed bytes a thread; what the user has set is kept.

    Does nothing where the C library is another one.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _SET_BY_USER):
        return
    with contextlib.suppress(OSError, AttributeError):  # no mallopt: not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, MOST_KEPT)
