"""What keeping images costs while the embedded model draws them: `logging engine`.

Takes a folder and numbers of images; prints a table and returns its figures. Both sides are whole
sweeps in programs of their own, from the import of torch and the loading of the model on, which
take turns of seconds (`slices`). Clocks continue while a program is stopped, half of the time, so
the intervals of writing (rows every 5 s, MLflow every 15 s) are doubled: per image, both are
written as often as in a sweep by itself.

    python -m benchmarks.logging_engine alone|kept FOLDER IMAGES     one side, started by the other
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.logging_sweeps import draw_with_pipeline, make_plan
from benchmarks.slices import Program, run_in_slices
from promptlab import engine

PROGRAM = (sys.executable, "-m", "benchmarks.logging_engine")
SLICE_S = 5.0
NUM_PROGRAMS = 2
NAMES = ("drawn", "on disk", "in MLflow too")


def behind_engine(
    folder: str, num_images: int, num_rounds: int, *, is_control: bool = False
) -> dict[str, Any]:
    """Time the embedded model alone and with everything kept, or alone both times as a control."""
    sides = ("alone", "alone" if is_control else "kept")
    alone_s: list[float] = []
    kept_s: dict[str, list[float]] = {name: [] for name in NAMES}
    busy, own, started_at = _busy_seconds(), _own_seconds(), time.perf_counter()
    for number in range(num_rounds):
        first = number % 2
        programs: list[Program] = run_in_slices(
            [
                [*PROGRAM, side, f"{folder}/{number}-{place}", str(num_images)]
                for place, side in enumerate(sides[::-1] if first else sides)
            ],
            SLICE_S,
        )
        alone, kept = programs[::-1] if first else programs
        alone_s.append(alone.ran_s("drawn"))
        for name in NAMES:
            kept_s[name].append(kept.ran_s("drawn" if is_control else name))
    elsewhere_s = _busy_seconds() - busy - (_own_seconds() - own)
    elsewhere = elsewhere_s / (time.perf_counter() - started_at)
    shares = {
        name: [a / k for a, k in zip(alone_s, values, strict=True)]
        for name, values in kept_s.items()
    }
    title = f"tiny, {num_images} images, {num_rounds} rounds"
    print(f"{title:<44}{'images/s':>10}{'of alone':>10}{'lowest':>10}{'highest':>10}")
    print(f"{'alone':<44}{num_images / statistics.mean(alone_s):>10.2f}")
    for name, values in kept_s.items():
        whole = sum(alone_s) / sum(values)
        print(
            f"{name:<44}{num_images / statistics.mean(values):>10.2f}{whole:>10.1%}"
            f"{min(shares[name]):>10.1%}{max(shares[name]):>10.1%}"
        )
    print(f"{'cores busy with other programs':<44}{elsewhere:>10.2f}")
    return {
        "benchmark": "logging.engine",
        "num_images": num_images,
        "is_control": is_control,
        "alone_s": alone_s,
        "kept_s": kept_s,
        "shares": shares,
        "share": sum(alone_s) / sum(kept_s[NAMES[-1]]),
        "cores_busy_elsewhere": elsewhere,
    }


def draw_alone_or_kept(side: str, folder: str, num_images: int) -> dict[str, float]:
    """Be one of the two programs: get ready, wait for a line, draw; return the moments."""
    from mlflow import MlflowClient

    from promptlab.models.dalle import open_tiny
    from promptlab.models.protocol import normalize_params

    Path(folder).mkdir(parents=True)
    uri = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(tracking_uri=uri).search_experiments()  # its first set-up is nobody's fault
    model = open_tiny()
    plan = make_plan(num_images, model, normalize_params(model.name, model.parameters, {}))
    requests = [request for _, request in plan.requests(model.name)]
    assert "torch" not in sys.modules, "its import is a part of drawing"
    print("ready", flush=True)
    sys.stdin.readline()
    started_at = time.perf_counter()
    if side == "kept":
        times = draw_with_pipeline(f"{folder}/run", plan, uri, pace=NUM_PROGRAMS)
        seconds = (times.drawn_s, times.kept_s, times.tracked_s)
        moments = {name: started_at + s for name, s in zip(NAMES, seconds, strict=True)}
    else:
        num_ok = sum(result.status == "ok" for result in engine.draw_all(model, requests))
        assert num_ok == num_images
        moments = {"drawn": time.perf_counter()}
    return {"started": started_at, **moments}


def _own_seconds() -> float:
    """Return the processor time of this process and of its descendants that have ended."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _busy_seconds() -> float:
    """Return the processor time of the whole machine, what a hypervisor took included."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _, _, irq, softirq, steal, *_ = (int(word) for word in line.split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    print(json.dumps(draw_alone_or_kept(sys.argv[1], sys.argv[2], int(sys.argv[3]))), flush=True)
