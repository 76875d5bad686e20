"""Windows' rules on another system: names, locks, open files, and what its Python lacks.

`pretend` has this process's operating system answer as Windows would, as far as promptlab asks it.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from promptlab.paths import is_portable

MISSING_MODULES = ("fcntl", "grp", "pwd", "resource")
MISSING_IN_OS = (
    "getuid",
    "killpg",
    "O_DIRECTORY",
    "pread",
    "pwrite",
    "sched_getaffinity",
    "sysconf",
)
MISSING_SIGNALS = ("SIGHUP", "SIGKILL")
_OPEN_FILE_LOCK = 37  # fcntl's F_OFD_SETLK, of a part of a file: what comes closest to Windows'
_READ_BY_OTHERS = 4096  # bytes at the beginning of a lock file


def pretend(patch: pytest.MonkeyPatch) -> None:
    """Follow Windows' rules until the patch is undone; import what is large before."""
    for name in MISSING_IN_OS:
        patch.delattr(os, name, raising=False)
    for name in MISSING_SIGNALS:
        patch.delattr(signal, name, raising=False)
    for name in MISSING_MODULES:
        patch.setitem(sys.modules, name, None)
    patch.setitem(sys.modules, "msvcrt", _make_msvcrt())
    patch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0, raising=False)
    patch.setattr(sys, "platform", "win32")
    patch.setattr(os, "kill", _kill)
    patch.setattr(os, "fsync", _fsync)
    patch.setattr(os, "mkdir", _checked(os.mkdir))
    patch.setattr(os, "replace", _checked(os.replace, place=1))
    for module in (builtins, io):
        patch.setattr(module, "open", _checked(open))
    patch.setattr(os, "open", _checked(os.open))


def _checked(call: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
    """Return a call that refuses a path as Windows does."""

    def checked(*arguments: Any, **options: Any) -> Any:
        path = arguments[place]
        if isinstance(path, str | os.PathLike) and os.fspath(path) != os.devnull:
            name = Path(path).name
            if str(path).startswith(("/proc/", "/dev/")):
                raise FileNotFoundError(errno.ENOENT, "no such file on Windows", str(path))
            if name and not is_portable(name):
                raise OSError(errno.EINVAL, "no name for a file on Windows", str(path))
        return call(*arguments, **options)

    return checked


def _fsync(descriptor: int) -> None:
    """Refuse a file that is open for reading alone, as Windows does."""
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "open for reading alone")


def _kill(pid: int, number: int) -> None:
    raise AssertionError(f"os.kill({pid}, {number}) ends a process on Windows, or sends it Ctrl-C")


def _make_msvcrt() -> ModuleType:
    module = ModuleType("msvcrt")

    def locking(descriptor: int, mode: int, num_bytes: int) -> None:
        begin = os.lseek(descriptor, 0, os.SEEK_CUR)
        assert begin >= _READ_BY_OTHERS, "nobody else can read a locked byte"
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, begin, num_bytes, 0)
        try:
            fcntl.fcntl(descriptor, _OPEN_FILE_LOCK, wanted)
        except OSError:
            raise PermissionError(errno.EACCES, "another process holds it") from None

    vars(module).update(LK_NBLCK=2, locking=locking)
    return module
