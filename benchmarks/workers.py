"""What workers cost and how far they scale, with models that draw nothing or sleep.

    python -m benchmarks.workers overhead    a ready picture through 2 workers, against this process
    python -m benchmarks.workers scaling     8 sleeping devices against 1; 4 fast and 4 slow ones
    python -m benchmarks.workers start       from the command to the first image: this, local, Ray
    python -m benchmarks.workers memory      50,000 images: the driver's memory
    python -m benchmarks.workers             all of them: about six minutes

A sleeping model stands for a device of its own: it takes no processor time, so that any number of
them can be busy on a small machine. Each benchmark prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.logging_sweeps import NUM_PICTURES, NullModel, make_plan
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan
from promptlab.records import Drawn, Request, Result
from promptlab.store import StoreOptions, open_store
from promptlab.workers.blocks import Blocks, Work
from promptlab.workers.dispatch import Dispatcher
from promptlab.workers.host import Host
from promptlab.workers.local import LocalHost, local_hosts
from promptlab.workers.opening import ThisProcess
from promptlab.workers.options import WorkerOptions

DELAY = "PROMPTLAB_BENCH_DELAY_S"  # of one worker's device


class SleepingModel(NullModel):
    """Hands out ready pictures, one after the other, after a sleep."""

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield a picture for each request."""
        delay_s = float(os.environ.get(DELAY, "0"))
        start = time.monotonic()
        for number, request in enumerate(requests, start=1):
            time.sleep(max(0.0, start + number * delay_s - time.monotonic()))
            picture = self._pictures[number % NUM_PICTURES]
            yield Result(request, pixels=picture, seconds=delay_s)


class LargeModel(NullModel):
    """Hands out ready pictures of 1024 px."""

    def __init__(self) -> None:
        super().__init__()
        self._pictures = [picture.repeat(4, 0).repeat(4, 1) for picture in self._pictures]


class SmallModel(NullModel):
    """Hands out ready pictures of 64 px."""

    def __init__(self) -> None:
        super().__init__()
        self._pictures = [picture[::4, ::4] for picture in self._pictures]


def plan_of(model: type[NullModel], num_images: int) -> Plan:
    """Return a plan whose model a worker can open."""
    plan = make_plan(num_images, model())
    node = {"_target_": f"benchmarks.workers.{model.__name__}"}
    models = {key: dataclasses.replace(planned, node=node) for key, planned in plan.models.items()}
    return dataclasses.replace(plan, models=models)


def works_of(plan: Plan) -> list[Work]:
    """Return what a plan's models have to draw."""
    return [
        Work(planned, [request for _, request in plan.requests(key)])
        for key, planned in plan.models.items()
    ]


class Stopwatch:
    """Notes when images come, and what processor time the driver takes for them."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self.times: list[float] = []
        self.all_since: int | None = None  # images delivered when every worker had delivered one
        self._seen: Counter[str] = Counter()
        self._num_workers = 0
        self._cpu = 0.0

    def draw(self, works: Sequence[Work], hosts: Sequence[Host] | None) -> Stopwatch:
        """Draw with some hosts, or in this process."""
        self._num_workers = len(hosts or [None])
        self._cpu = time.process_time()
        if hosts is None:
            ThisProcess().draw(works, self.deliver)
        else:
            Dispatcher(hosts, Blocks(works), self.deliver, WorkerOptions()).run()
        self._cpu = time.process_time() - self._cpu
        return self

    def deliver(self, drawn: Drawn, worker: str) -> None:
        """Take an image."""
        self.times.append(time.monotonic())
        self.num_bytes += len(drawn.body or b"")
        self._seen[worker] += 1
        if self.all_since is None and len(self._seen) == self._num_workers:
            self.all_since = len(self.times)

    @property
    def images_per_s(self) -> float:
        """Speed from the moment on that all workers draw."""
        first = self.all_since or 1
        return (len(self.times) - first) / (self.times[-1] - self.times[first - 1])

    @property
    def driver_ms(self) -> float:
        """Processor time of this process an image."""
        return 1000 * self._cpu / len(self.times)

    @property
    def mb(self) -> float:
        """Size of an image in MB."""
        return self.num_bytes / len(self.times) / 1e6


def overhead() -> dict[str, Any]:
    """Time ready pictures through two workers and in this process, in two sizes."""
    found: dict[str, Any] = {}
    for name, model, num_images in (("256 px", NullModel, 3000), ("1024 px", LargeModel, 160)):
        before = _cpu_of_children()
        works = works_of(plan_of(model, num_images))
        here = Stopwatch().draw(works, None)
        two = Stopwatch().draw(works, local_hosts(2))
        workers_ms = 1000 * (_cpu_of_children() - before) / num_images
        print(
            f"{name}: this process {here.images_per_s:.0f} images/s, {here.driver_ms:.2f} ms of "
            f"processor time an image; 2 workers {two.images_per_s:.0f} images/s, driver "
            f"{two.driver_ms:.2f} ms, workers {workers_ms:.2f} ms (start included); "
            f"{two.mb:.3f} MB an image"
        )
        found[name] = {
            "this_images_per_s": round(here.images_per_s, 1),
            "two_images_per_s": round(two.images_per_s, 1),
            "this_ms": round(here.driver_ms, 3),
            "driver_ms": round(two.driver_ms, 3),
            "workers_ms": round(workers_ms, 3),
            "mb": round(two.mb, 4),
            "driver_images_per_s": round(1000 / two.driver_ms),
            "driver_mb_per_s": round(1000 / two.driver_ms * two.mb),
        }
    return found


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def sleeping_hosts(delays_s: Sequence[float]) -> list[LocalHost]:
    """Return one host a device that takes so long for an image."""
    return [
        LocalHost(f"device {n}", {**os.environ, "OMP_NUM_THREADS": "1", DELAY: str(delay)})
        for n, delay in enumerate(delays_s)
    ]


def scaling() -> dict[str, Any]:
    """Compare eight devices of 50 ms with one, and unequal ones with the sum of their speeds."""
    one = Stopwatch().draw(works_of(plan_of(SleepingModel, 200)), sleeping_hosts([0.05]))
    eight = Stopwatch().draw(works_of(plan_of(SleepingModel, 2400)), sleeping_hosts([0.05] * 8))
    delays = [0.025] * 4 + [0.1] * 4
    mixed = Stopwatch().draw(works_of(plan_of(SleepingModel, 3000)), sleeping_hosts(delays))
    speeds = sum(1 / delay for delay in delays)
    found = {
        "one": round(one.images_per_s, 2),
        "eight": round(eight.images_per_s, 2),
        "ratio": round(eight.images_per_s / one.images_per_s, 2),
        "mixed": round(mixed.images_per_s, 2),
        "share_of_sum": round(mixed.images_per_s / speeds, 4),
    }
    print(f"1 device of 50 ms: {found['one']} images/s; 8: {found['eight']} ({found['ratio']}x)")
    print(f"4 of 25 ms and 4 of 100 ms: {found['mixed']} of {speeds:g} ({found['share_of_sum']})")
    return found


def start() -> dict[str, Any]:
    """Time the embedded model's first image from the command on, by who draws it."""
    found = {}
    for kind, further in (("this", ()), ("local", ("workers.num=2",)), ("ray", ("workers.num=2",))):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "promptlab", "sweep", "subject=a fox", "seeds=8"),
                    *("tracking=null", "store.part_rows=1", f"workers={kind}", *further),
                ],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            while not any(Path(folder).glob("runs/*/images/*.png")):
                if process.poll() is not None:
                    raise SystemExit(f"workers={kind} drew nothing")
                time.sleep(0.01)
            found[kind] = round(time.monotonic() - began, 2)
            process.wait()
        print(f"workers={kind}: first image on disk after {found[kind]:.1f} s")
    return found


def memory(num_images: int = 50_000) -> dict[str, Any]:
    """Draw many images of 64 px with two workers into a run folder; watch the driver."""
    plan = plan_of(SmallModel, num_images)
    rss: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with open_store(RunPaths(f"{folder}/run"), plan, StoreOptions()) as store:
            count = 0

            def deliver(drawn: Drawn, worker: str) -> None:
                nonlocal count
                store.add(drawn)
                count += 1
                if count % 1000 == 0:
                    rss[count] = _rss_mb()

            Dispatcher(local_hosts(2), Blocks(works_of(plan)), deliver, WorkerOptions()).run()
        seconds = time.monotonic() - began
    early, late = rss[2000], max(rss.values())
    print(f"driver: {early:.0f} MB at 2,000 images, {late:.0f} MB at most up to {num_images:,}")
    print(f"{num_images / seconds:.0f} images/s into the run folder")
    return {
        "early_mb": round(early),
        "most_mb": round(late),
        "end_mb": round(rss[max(rss)]),
        "images_per_s": round(num_images / seconds, 1),
    }


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


BENCHMARKS = {"overhead": overhead, "scaling": scaling, "start": start, "memory": memory}


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    for name in parser.parse_args().names or BENCHMARKS:
        print(f"\n{name} on {platform.machine()}, {os.cpu_count()} cores")
        print(json.dumps({name: BENCHMARKS[name]()}))


if __name__ == "__main__":
    main()
