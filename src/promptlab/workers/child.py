"""The main program of a spawned worker: orders come on stdin, messages leave on stdout.

Started by `local` as `python -m promptlab.workers.child`. The end of stdin means that the sweep has
died: then this process ends at once, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import queue
import signal
import sys
import threading
from typing import BinaryIO

from promptlab.workers.messages import Block, Message
from promptlab.workers.worker import work

PR_SET_PDEATHSIG = 1  # of Linux


def main() -> None:
    """Work for the process at the other end of the pipes."""
    _die_with_parent()
    orders, answers = _take_pipes()
    with contextlib.suppress(EOFError):
        sys.path[:] = pickle.load(orders)  # so that the same classes are found here
    lock = threading.Lock()
    blocks: queue.SimpleQueue[Block | None] = queue.SimpleQueue()

    def send(message: Message) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        try:
            with lock:
                answers.write(data)
                answers.flush()
        except OSError:  # nobody listens any more
            os._exit(1)

    def listen() -> None:
        try:
            while True:
                blocks.put(pickle.load(orders))
        except (EOFError, OSError, pickle.UnpicklingError):
            os._exit(1)

    threading.Thread(target=listen, name="promptlab-orders", daemon=True).start()
    work(iter(blocks.get, None), send)
    with lock:  # a heartbeat that has begun is written whole
        os._exit(0)


def _die_with_parent() -> None:
    """Have Linux kill this process with the thread that started it, even while it hangs in C."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout; what a model reads and prints goes elsewhere."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return orders, answers


if __name__ == "__main__":
    main()
