"""What it costs to keep images: the pipeline against the loop that everybody writes first.

    python -m benchmarks.logging compare     pipeline and naive loop, with and without MLflow
    python -m benchmarks.logging engine      the embedded model alone and with the pipeline behind
    python -m benchmarks.logging memory      100,000 images: memory, speed and disk over time
    python -m benchmarks.logging resume      a finished sweep of 10,000 images, started again
    python -m benchmarks.logging             compare, engine and resume: about 12 minutes

The null model hands out ready pictures of 256 px, so that what is measured is everything but
drawing. The naive loop saves a PNG with Pillow, appends a line of JSON, and calls `log_image` per
image, with one MLflow run per cell. `engine` times whole sweeps, in two programs that take turns of
seconds, and needs Linux for that. Each benchmark prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.logging_engine import behind_engine
from benchmarks.logging_sweeps import (
    NUM_SEEDS,
    STYLES,
    NullModel,
    draw_naively,
    draw_with_pipeline,
    make_plan,
)
from promptlab import engine
from promptlab.store import read_run

EARLY = 1000  # images after which memory must not grow by much


def compare(folder: str, num_images: int, num_naive: int, num_rounds: int) -> dict[str, Any]:
    """Time pipeline and naive loop, with and without MLflow, in turns."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(tracking_uri=uri).search_experiments()  # its first set-up is nobody's fault
    model = NullModel()
    ms: dict[str, list[float]] = {
        name: [] for name in ("naive", "naive+mlflow", "ours", "ours+mlflow")
    }
    for number in range(num_rounds):
        for name, with_mlflow in (("", None), ("+mlflow", uri)):
            root = f"{folder}/naive{name}{number}"
            seconds = draw_naively(root, make_plan(num_naive, model), with_mlflow)
            ms["naive" + name].append(seconds / num_naive * 1000)
            shutil.rmtree(root)
            root = f"{folder}/ours{name}{number}"
            times = draw_with_pipeline(root, make_plan(num_images, model), with_mlflow)
            ms["ours" + name].append(times.tracked_s / num_images * 1000)
            shutil.rmtree(root)
    best = {name: min(values) for name, values in ms.items()}
    naive_share = best["naive+mlflow"] - best["naive"]
    our_share = best["ours+mlflow"] - best["ours"]
    print(f"{f'ms an image (best of {num_rounds})':<34}{'naive':>10}{'promptlab':>12}{'ratio':>9}")
    for label, naive, ours in (
        ("PNG and rows", best["naive"], best["ours"]),
        ("PNG, rows and MLflow", best["naive+mlflow"], best["ours+mlflow"]),
        ("MLflow's share", naive_share, our_share),
    ):
        ratio = naive / ours if ours > 0 else float("inf")
        print(f"{label:<34}{naive:>10.2f}{ours:>12.2f}{ratio:>8.1f}x")
    return {
        "benchmark": "logging.compare",
        "num_images": num_images,
        "num_naive": num_naive,
        "ms_per_image": ms,
        "images_per_second": 1000 / best["ours+mlflow"],
        "speedup": best["naive+mlflow"] / best["ours+mlflow"],
        "mlflow_share_speedup": naive_share / our_share if our_share > 0 else None,
    }


def memory(folder: str, num_images: int, with_mlflow: bool) -> dict[str, Any]:
    """Draw a long sweep; report memory and speed along the way, then scan its metadata."""
    import duckdb

    plan = make_plan(num_images, NullModel())
    marks: list[tuple[int, float, float]] = []  # (images, time, highest memory so far)
    every = max(1, num_images // 100)

    def note(number: int) -> None:
        if number % every == 0:
            marks.append((number, time.perf_counter(), _peak_mb(resource.RUSAGE_SELF)))

    uri = f"sqlite:///{folder}/mlflow.db" if with_mlflow else None
    root = f"{folder}/memory"
    started_at = time.perf_counter()
    times = draw_with_pipeline(root, plan, uri, note)
    peak_mb, follower_mb = _peak_mb(resource.RUSAGE_SELF), _peak_mb(resource.RUSAGE_CHILDREN)
    plan_s = _time(lambda: plan_by_command(folder, num_images))
    early, early_mb = next((m[0], m[2]) for m in marks if m[0] >= min(EARLY, num_images))
    first, last = _tenth_rates(marks)
    parts = [path.stat().st_size for path in Path(root, "images.parquet").glob("*.parquet")]
    query = f"select style, count(*) from '{root}/images.parquet/*.parquet' group by style"
    scans = [_time(lambda: duckdb.connect().execute(query).fetchall()) for _ in range(3)]
    table_s = _time(lambda: read_run(root).table())
    resume_s = _time(lambda: draw_with_pipeline(root, plan, None))
    disk_gb = sum(p.stat().st_size for p in Path(root).rglob("*") if p.is_file()) / 1e9
    shutil.rmtree(root)
    for label, value in (
        ("plan by command, ms an image", f"{plan_s / num_images * 1000:.2f}"),
        (f"images/s, first tenth of {num_images}", f"{first:.0f}"),
        ("images/s, last tenth", f"{last:.0f} ({last / first:.0%})"),
        ("images/s, start to all kept", f"{num_images / times.tracked_s:.0f}"),
        (f"memory until {early} images, highest", f"{early_mb:.0f} MB"),
        ("memory until the end, highest", f"{peak_mb:.0f} MB (+{peak_mb - early_mb:.0f})"),
        ("memory of MLflow's process, highest", f"{follower_mb:.0f} MB"),
        ("disk", f"{disk_gb:.1f} GB in {len(parts)} parts"),
        ("DuckDB: count(*) group by style", f"{min(scans) * 1000:.0f} ms"),
        ("all metadata as one table", f"{table_s:.2f} s"),
        ("resume: nothing to do", f"{resume_s:.2f} s"),
    ):
        print(f"{label:<40}{value:>24}")
    return {
        "benchmark": "logging.memory",
        "num_images": num_images,
        "with_mlflow": with_mlflow,
        "kept_s": times.kept_s,
        "tracked_s": times.tracked_s,
        "images_per_second_first": first,
        "images_per_second_last": last,
        "memory_early_mb": early_mb,
        "memory_peak_mb": peak_mb,
        "memory_mlflow_mb": follower_mb,
        "marks": [(number, moment - started_at, mb) for number, moment, mb in marks[::10]],
        "num_parts": len(parts),
        "largest_part_mb": max(parts) / 1e6,
        "disk_gb": disk_gb,
        "duckdb_scan_s": scans,
        "table_s": table_s,
        "resume_s": resume_s,
        "plan_s": plan_s,
    }


def _tenth_rates(marks: Sequence[tuple[int, float, float]]) -> list[float]:
    """Return images/s over the first and over the last tenth."""
    tenth = max(1, len(marks) // 10)
    return [
        (window[-1][0] - window[0][0]) / (window[-1][1] - window[0][1])
        for window in (marks[: tenth + 1], marks[-tenth - 1 :])
    ]


def plan_by_command(folder: str, num_images: int) -> None:
    """Have `promptlab sweep --plan` count a grid of `num_images`; nothing is drawn."""
    num_subjects = -(-num_images // (len(STYLES) * NUM_SEEDS))
    subjects = ",".join(f"subject {number}" for number in range(num_subjects))
    sweeps = Path(folder, "plan", "sweeps")
    sweeps.mkdir(parents=True)
    (sweeps / "long.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        f"      subject: {subjects}\n      style: noto,openmoji,twemoji,fxemoji,emojione,none\n"
    )
    command = [sys.executable, "-m", "promptlab.cli", "sweep", "+sweeps=long", "--plan"]
    command += [f"seeds={NUM_SEEDS}", f"limit={2 * num_images}"]
    environment = os.environ | {"PYTHONPATH": str(Path(engine.__file__).parents[1])}
    done = subprocess.run(
        command, cwd=sweeps.parent, env=environment, check=True, capture_output=True, text=True
    )
    assert f"{num_subjects * len(STYLES) * NUM_SEEDS:,} images" in done.stdout, done.stdout


def resume(folder: str, num_images: int) -> dict[str, Any]:
    """Start a finished sweep again: the time until it is known that nothing is left to do."""
    plan = make_plan(num_images, NullModel())
    root = f"{folder}/resume"
    draw_with_pipeline(root, plan, None)
    seconds = [_time(lambda: draw_with_pipeline(root, plan, None)) for _ in range(3)]
    shutil.rmtree(root)
    print(f"{'resume of ' + str(num_images) + ' images, nothing to do':<44}{min(seconds):>8.2f} s")
    return {"benchmark": "logging.resume", "num_images": num_images, "seconds": seconds}


def _time(step: Callable[[], Any]) -> float:
    started_at = time.perf_counter()
    step()
    return time.perf_counter() - started_at


def _peak_mb(who: int) -> float:
    """Return the most memory that this process, or the largest of its ended children, has held."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(who).ru_maxrss / unit


def describe_machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    packages = ("mlflow", "pyarrow", "pillow", "numpy", "duckdb")
    return {
        "machine": platform.machine(),
        "num_cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.logging",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ("compare", "engine", "memory", "resume")
    parser.add_argument("benchmark", nargs="?", choices=names, help="default: three of them")
    parser.add_argument("--images", type=int, help="images a measurement")
    parser.add_argument("--naive-images", type=int, default=300, help="of the naive loop")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, in turns")
    parser.add_argument("--control", action="store_true", help="engine: alone both times")
    parser.add_argument("--mlflow", action="store_true", help="memory: with MLflow")
    parser.add_argument("--folder", help="where data go while it runs (default: a temporary one)")
    args = parser.parse_args()
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    chosen = [args.benchmark] if args.benchmark else ["compare", "engine", "resume"]
    for name in chosen:
        folder = tempfile.mkdtemp(prefix="promptlab-benchmark-", dir=args.folder)
        try:
            if name == "compare":
                figures = compare(folder, args.images or 4000, args.naive_images, args.rounds)
            elif name == "engine":
                figures = behind_engine(
                    folder, args.images or 1440, args.rounds, is_control=args.control
                )
            elif name == "memory":
                figures = memory(folder, args.images or 100_000, args.mlflow)
            else:
                figures = resume(folder, args.images or 10_000)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps({**figures, "machine": machine}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
