"""What keeping images costs while the embedded model draws them: `logging engine`, `logging turns`.

Takes a folder and numbers of images; prints a table and returns its figures. Whole sweeps against
whole sweeps tell what a user waits for; turns of seconds within one sweep tell a difference that is
smaller than what a shared machine's pace changes by within minutes.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.logging_sweeps import draw_in_turns, draw_with_pipeline, make_plan
from promptlab import engine
from promptlab.plan import Plan

if TYPE_CHECKING:
    from promptlab.models.dalle import DalleModel

WARM_UP = 128  # images: more than one batch


def behind_engine(folder: str, num_images: int, num_rounds: int) -> dict[str, Any]:
    """Time the embedded model alone and with everything kept, in turns."""
    uri, model, plan = _warm_up(folder, num_images)
    requests = [request for _, request in plan.requests(model.name)]
    import torch  # only now: how its threads wait is set when the model is loaded

    def alone() -> tuple[float, ...]:
        started_at = time.perf_counter()
        num_ok = sum(result.status == "ok" for result in engine.draw(model, requests))
        assert num_ok == num_images
        return (time.perf_counter() - started_at,)

    def kept() -> tuple[float, ...]:
        root = f"{folder}/engine"
        times = draw_with_pipeline(root, plan, uri)
        shutil.rmtree(root)
        return times.drawn_s, times.kept_s, times.tracked_s

    rounds: list[dict[str, tuple[float, ...]]] = []
    processor_s: list[dict[str, float]] = []
    busy_elsewhere: list[dict[str, float]] = []
    for number in range(num_rounds):
        order = (alone, kept) if number % 2 == 0 else (kept, alone)
        seconds: dict[str, tuple[float, ...]] = {}
        own_s: dict[str, float] = {}
        others: dict[str, float] = {}
        for step in order:
            started_at, own, everything = time.perf_counter(), _own_seconds(), _busy_seconds()
            seconds[step.__name__] = step()
            own_s[step.__name__] = _own_seconds() - own
            elsewhere_s = _busy_seconds() - everything - own_s[step.__name__]
            others[step.__name__] = elsewhere_s / (time.perf_counter() - started_at)
        rounds.append(seconds)
        processor_s.append(own_s)
        busy_elsewhere.append(others)
    names = ("alone", "drawn", "on disk", "in MLflow too")
    seconds_of = {
        name: [(round_["alone"] + round_["kept"])[column] for round_ in rounds]
        for column, name in enumerate(names)
    }
    share = {
        name: statistics.median(
            alone_s / value for alone_s, value in zip(seconds_of["alone"], values, strict=True)
        )
        for name, values in seconds_of.items()
    }
    title = f"{model.name}, {model.dtype}, {num_images} images, {num_rounds} rounds"
    print(f"{title:<44}{'images/s':>10}{'of alone':>10}{'lowest':>10}")
    for name, values in seconds_of.items():
        lowest = min(a / v for a, v in zip(seconds_of["alone"], values, strict=True))
        speed = num_images / statistics.median(values)
        print(f"{name:<44}{speed:>10.2f}{share[name]:>10.1%}{lowest:>10.1%}")
    most = max(max(round_.values()) for round_ in busy_elsewhere)
    print(f"{'cores busy with other programs, at most':<44}{most:>10.2f}")
    return {
        "benchmark": "logging.engine",
        "num_images": num_images,
        "num_threads": torch.get_num_threads(),
        "seconds": seconds_of,
        "processor_seconds": processor_s,
        "cores_busy_elsewhere": busy_elsewhere,
        "share": share,
    }


def in_turns(folder: str, num_images: int, turn_images: int) -> dict[str, Any]:
    """Time the embedded model alone and with everything kept, in short turns of one sweep."""
    num_turns = num_images // turn_images
    num_images = num_turns * turn_images
    uri, model, plan = _warm_up(folder, 2 * num_images)
    busy, own, started_at = _busy_seconds(), _own_seconds(), time.perf_counter()
    turns = draw_in_turns(f"{folder}/turns", plan, uri, turn_images)
    elsewhere_s = _busy_seconds() - busy - (_own_seconds() - own)
    elsewhere = elsewhere_s / (time.perf_counter() - started_at)
    shares = [a / k for a, k in zip(turns.alone_s, turns.kept_s, strict=True)]
    alone_s, kept_s = sum(turns.alone_s), sum(turns.kept_s)
    share, whole_share = alone_s / kept_s, alone_s / (kept_s + turns.end_s)
    print(f"{model.name}, {model.dtype}, {num_turns} turns of {turn_images} images each way")
    for label, value in (
        ("alone, images/s", f"{num_images / alone_s:.2f}"),
        ("with everything kept, images/s", f"{num_images / kept_s:.2f}"),
        ("of alone", f"{share:.1%}"),
        ("of alone, median turn", f"{statistics.median(shares):.1%}"),
        ("until MLflow holds the last image, of alone", f"{whole_share:.1%}"),
        ("cores busy with other programs", f"{elsewhere:.2f}"),
    ):
        print(f"{label:<48}{value:>10}")
    return {
        "benchmark": "logging.turns",
        "num_images": num_images,
        "turn_images": turn_images,
        "alone_s": turns.alone_s,
        "kept_s": turns.kept_s,
        "end_s": turns.end_s,
        "share": share,
        "whole_share": whole_share,
        "cores_busy_elsewhere": elsewhere,
    }


def _warm_up(folder: str, num_images: int) -> tuple[str, DalleModel, Plan]:
    """Return an MLflow that was set up, the embedded model after its first images, and a plan."""
    from mlflow import MlflowClient

    from promptlab.models.dalle import open_tiny
    from promptlab.models.protocol import normalize_params

    uri = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(tracking_uri=uri).search_experiments()
    model = open_tiny()
    plan = make_plan(num_images, model, normalize_params(model.name, model.parameters, {}))
    requests = [request for _, request in plan.requests(model.name)]
    list(engine.draw(model, requests[:WARM_UP]))
    return uri, model, plan


def _own_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _busy_seconds() -> float:
    """Return the processor time of the whole machine, what a hypervisor took included."""
    try:
        line = Path("/proc/stat").read_text().partition("\n")[0]
    except OSError:  # no /proc: then nothing is known of others
        return _own_seconds()
    user, nice, system, _, _, irq, softirq, steal, *_ = (int(word) for word in line.split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
