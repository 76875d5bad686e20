"""Workers of this machine: a spawned process each, its device and threads set before torch loads.

Takes how many, returns hosts. Knows no request.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence

from promptlab.machine import cpu_name, own_session, usable_cores
from promptlab.models.machine import visible_gpus
from promptlab.workers.host import Hear
from promptlab.workers.messages import Block, Gone

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def local_hosts(num: int | None, gpus: Sequence[str] | None = None) -> list[LocalHost]:
    """Return hosts for so many workers; None: one a GPU. GPUs, or else cores, are shared out.

    `gpus` as `visible_gpus` returns them; None: it is asked.
    """
    if gpus is None:
        gpus = visible_gpus()
    count = num or max(1, len(gpus))
    env = dict(os.environ)
    for name in _THREADS:
        own = os.environ.get(name, "")
        share = max(1, usable_cores() // count)
        env[name] = str(min(share, int(own)) if own.isdigit() else share)
    if not gpus:
        return [LocalHost(f"cpu {number}", env) for number in range(count)]
    hosts = []
    for number in range(count):
        gpu, turn = number % len(gpus), number // len(gpus)
        name = f"gpu {gpu}" if turn == 0 else f"gpu {gpu} ({turn + 1})"
        hosts.append(LocalHost(name, {**env, "CUDA_VISIBLE_DEVICES": gpus[gpu]}))
    return hosts


def local_kinds() -> list[str]:
    """Return the kinds of this machine's devices, each once."""
    gpus = visible_gpus()
    if not gpus:
        return [cpu_name()]
    import torch

    return list(dict.fromkeys(map(torch.cuda.get_device_name, range(len(gpus)))))


class LocalHost:
    """A spawned process at the other end of two pipes.

    The thread that starts it must outlive it: Linux kills the process with that thread.
    """

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self.name = name
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def start(self, hear: Hear) -> None:
        """Start the process; its messages come to `hear`, Gone last."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "promptlab.workers.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._env,
            **own_session(),  # Ctrl-C in a terminal is for the sweep, which ends its workers
        )
        self._orders = queue.SimpleQueue()
        self._orders.put(pickle.dumps(sys.path))
        for step, rest in ((_write, self._orders), (_listen, hear)):
            threading.Thread(target=step, args=(self._process, rest), daemon=True).start()

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def send(self, block: Block | None) -> None:
        """Give the worker a block, or None: it shall end."""
        self._orders.put(pickle.dumps(block, pickle.HIGHEST_PROTOCOL))

    def kill(self) -> None:
        """End the process now."""
        self._orders.put(None)
        if self._process is not None:
            self._process.kill()

    def wait(self, seconds: float) -> None:
        """Wait for the process to end; kill it after so many seconds."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()
        self._process.wait()


def _write(process: subprocess.Popen[bytes], orders: queue.SimpleQueue[bytes | None]) -> None:
    """Pass orders on, on a thread of its own: a worker that hangs must not stop the sweep."""
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin as stdin:
        while (order := orders.get()) is not None:
            stdin.write(order)
            stdin.flush()


def _listen(process: subprocess.Popen[bytes], hear: Hear) -> None:
    """Pass messages on until the pipe ends, with all that a dying worker had written whole."""
    assert process.stdout is not None
    with process.stdout as stdout, contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            hear(pickle.load(stdout))
    code = process.wait()
    hear(Gone(f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"))
