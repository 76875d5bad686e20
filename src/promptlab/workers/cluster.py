"""Workers of a Ray cluster: an actor each, around the same worker as everywhere.

Takes options, returns hosts and what their devices compute with. Ray is imported and joined, or
started on this machine, when it is needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from promptlab.errors import ConfigError, ModelError
from promptlab.records import Numerics
from promptlab.workers.host import Hear
from promptlab.workers.local import local_kinds
from promptlab.workers.messages import Block, Gone, Message
from promptlab.workers.options import WorkerOptions
from promptlab.workers.orphans import watch
from promptlab.workers.worker import describe, find_modules, work

log = logging.getLogger(__name__)

MAX_WAITING = 16  # messages of an actor that nobody has fetched
MAX_SENT = 32  # messages sent at once


class Actor:
    """A worker inside a Ray actor: orders come as calls, messages leave as a stream."""

    def __init__(self, sys_path: Sequence[str]) -> None:
        find_modules(sys_path)
        self._blocks: queue.SimpleQueue[Block | None] = queue.SimpleQueue()
        self._messages: queue.Queue[Message] = queue.Queue(MAX_WAITING)
        threading.Thread(
            target=work, args=(iter(self._blocks.get, None), self._messages.put), daemon=True
        ).start()

    def take(self, block: Block | None) -> None:
        """Take an order."""
        self._blocks.put(block)

    def tell(self) -> Iterator[list[Message]]:
        """Yield messages as they come, until Gone."""
        while True:
            messages = [self._messages.get()]
            while len(messages) < MAX_SENT and not self._messages.empty():
                messages.append(self._messages.get())
            yield messages
            if isinstance(messages[-1], Gone):
                return


class RayHost:
    """A place for an actor somewhere in the cluster."""

    def __init__(self, name: str, num_cpus: float, num_gpus: float) -> None:
        self.name = name
        self._resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self._actor: Any = None  # a handle of Ray
        self._listener: threading.Thread | None = None

    def start(self, hear: Hear) -> None:
        """Have the cluster make an actor; its messages come to `hear`, Gone last."""
        import ray

        # One thread takes orders while another sends messages. Restarts are the dispatcher's.
        remote = ray.remote(Actor).options(max_concurrency=2, max_restarts=0, **self._resources)
        self._actor = remote.remote(list(sys.path))
        self._listener = threading.Thread(target=_listen, args=(self._actor, hear), daemon=True)
        self._listener.start()

    def send(self, block: Block | None) -> None:
        """Give the worker a block, or None: it shall end."""
        self._actor.take.remote(block)

    def kill(self) -> None:
        """End the actor now."""
        import ray

        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)

    def wait(self, seconds: float) -> None:
        """Wait for the actor to end; kill it after so many seconds."""
        if self._listener is not None:
            self._listener.join(seconds)
        self.kill()


def _listen(actor: Any, hear: Hear) -> None:
    """Pass an actor's messages on until there are no more."""
    import ray

    try:
        for answer in actor.tell.options(num_returns="streaming").remote():
            for message in ray.get(answer):
                hear(message)
    except Exception as error:  # of Ray, whose kinds are many
        hear(Gone(next(iter(str(error).splitlines()), type(error).__name__)))


class Cluster:
    """A Ray cluster: one that runs already, or one that lives as long as this object."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._is_joined = self._is_started = False
        self._watcher: subprocess.Popen[bytes] | None = None

    def describe(self, node: Mapping[str, Any] | None, may_download: bool) -> Numerics:
        """Return the numerics that a worker of the cluster draws with.

        Without a running cluster the workers will be this machine's: it is asked, none is started.
        """
        if not self._join():
            return describe(node, may_download)
        import ray

        num_cpus, num_gpus = self._needs()
        ask = ray.remote(_describe).options(num_cpus=num_cpus, num_gpus=num_gpus)
        return ray.get(ask.remote(list(sys.path), node, may_download))

    def kinds(self) -> list[str]:
        """Return the kinds of a running cluster's devices, each once."""
        if not self._join():
            return local_kinds()
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        found, asked = [], []
        for node in ray.nodes():
            resources = node["Resources"] if node["Alive"] else {}
            if "GPU" in resources:
                mark = "accelerator_type:"
                found += [name.removeprefix(mark) for name in resources if name.startswith(mark)]
            elif resources:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ask = ray.remote(local_kinds).options(num_cpus=0, scheduling_strategy=there)
                asked.append(ask.remote())
        return list(dict.fromkeys([*found, *(kind for kinds in ray.get(asked) for kind in kinds)]))

    def hosts(self) -> list[RayHost]:
        """Return the hosts of as many workers as asked for, or as the cluster has room for."""
        import ray

        if not self._join():
            log.info("Starting Ray on this machine.")
            ray.init(address="local", include_dashboard=False, **_QUIET)
            self._is_started = True
            self._watch_over_ray()
        num_cpus, num_gpus = self._needs()
        has = ray.cluster_resources()
        room = has.get("GPU", 0) / num_gpus if num_gpus else has.get("CPU", 0) / (num_cpus or 1)
        count = self._options.num or int(room)
        if count < 1:
            raise ConfigError(
                f"The Ray cluster has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs, "
                f"one worker wants {num_cpus:g} and {num_gpus:g}. Set workers.num_cpus and "
                "workers.num_gpus to less, or workers.num to wait for more nodes."
            )
        return [RayHost(f"ray {number}", num_cpus, num_gpus) for number in range(count)]

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._is_joined or self._is_started:
            import ray

            ray.shutdown()
        if self._watcher is not None:
            self._watcher.communicate()

    def _watch_over_ray(self) -> None:
        """Have all that Ray started here ended if this process is killed."""
        import psutil

        children = psutil.Process().children(recursive=True)
        self._watcher = watch([child.pid for child in children])

    def _needs(self) -> tuple[float, float]:
        """Return the CPUs and GPUs of one worker."""
        import ray

        num_gpus = self._options.num_gpus
        if num_gpus is None:
            num_gpus = 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0
        return self._options.num_cpus, num_gpus

    def _join(self) -> bool:
        """Join a running cluster; tell whether there is one."""
        try:
            import ray
        except ImportError as error:
            raise ModelError("workers=ray needs Ray: pip install 'promptlab[ray]'.") from error
        if ray.is_initialized():
            return True
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = find_cluster(self._options.address)
        if address is None:
            return False
        try:
            ray.init(address=address, **_QUIET)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"No Ray cluster answers at {address}: {error}. {_ADVICE}") from error
        self._is_joined = True
        return True


def find_cluster(address: str) -> str | None:
    """Return the address of a running cluster, None if `auto` finds none.

    Ray itself would wait for minutes for one that has died and left its address behind.
    """
    found = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    is_named = bool(found)
    if not is_named:
        with contextlib.suppress(OSError):
            found = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray/ray_current_cluster").read_text(
                encoding="utf-8"
            )
    host, _, port = found.strip().rpartition(":")
    with contextlib.suppress(OSError, ValueError), socket.create_connection((host, int(port)), 5):
        return found.strip()
    if is_named:
        raise ConfigError(f"No Ray cluster answers at {found}. {_ADVICE}")
    return None


_ADVICE = "Expected workers.address=HOST:PORT as `ray start --head` prints it, or auto."
_QUIET: Mapping[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


def _describe(
    sys_path: Sequence[str], node: Mapping[str, Any] | None, may_download: bool
) -> Numerics:
    find_modules(sys_path)
    return describe(node, may_download)
