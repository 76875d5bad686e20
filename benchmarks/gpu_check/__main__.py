"""Run every stage in a process of its own, within a budget, and write the report.

    python -m benchmarks.gpu_check --out check --budget 460
    python -m benchmarks.gpu_check --out check --stage invariance
    python -m benchmarks.gpu_check --out check --device cpu --size test     (on the stand-in)

A stage that hangs, crashes or takes the device with it ends alone. All of them are forks of a
process that has imported torch and has not touched the device. After each, OUT/check.json is
replaced by one with its findings; at the end OUT/report.txt is written and printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.report import write_report

# Most important first; the seconds that each may take.
STAGES = {
    "facts": 40, "smoke": 90, "exactness": 90, "invariance": 90, "speed": 150, "faults": 90,
    "profile": 60, "whatifs": 60, "products": 60,
}  # fmt: skip


def find_stages() -> Mapping[str, Callable[..., Any]]:
    """Return the stages' functions; imports torch."""
    from benchmarks.gpu_check import exactness, facts, faults, speed

    return {
        "facts": facts.check_facts, "products": facts.check_products,
        "smoke": exactness.check_smoke, "exactness": exactness.check_exactness,
        "invariance": exactness.check_invariance, "faults": faults.check_faults,
        "speed": speed.check_speed, "profile": speed.check_profile,
        "whatifs": speed.check_whatifs,
    }  # fmt: skip


def run_stage(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one stage in this process; its error is a finding, too."""
    import torch

    from benchmarks.gpu_check.common import Options, device_of

    started = time.perf_counter()
    found: dict[str, Any] = {}
    try:
        chosen = Options(options.device, options.size, options.dtype)
        with torch.inference_mode(), device_of(chosen):
            found = dataclasses.asdict(find_stages()[name](chosen))
    except Exception:
        found["error"] = traceback.format_exc().strip().splitlines()[-1][:300]
        traceback.print_exc()
    return {**found, "seconds": time.perf_counter() - started}


def run_in_process(name: str, options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """Run one stage in a process of its own."""
    path, log = options.out / f"{name}.json", options.out / f"{name}.log"
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    process = multiprocessing.get_context("fork").Process(
        target=write_stage, args=(name, options, path, log)
    )
    process.start()
    process.join(limit_s)
    if process.is_alive():
        process.kill()
        process.join()
        error = f"over {limit_s:.0f} s"
    else:
        written = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        error = f"exit code {process.exitcode}: {written[-300:]}"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"error": error, "seconds": time.perf_counter() - started}


def write_stage(name: str, options: argparse.Namespace, path: Path, log: Path) -> None:
    """Run one stage, write its findings, and whatever it prints into a log."""
    with open(log, "w", encoding="utf-8", buffering=1) as file:
        sys.stdout = sys.stderr = file
        os.dup2(file.fileno(), 1)  # for what libraries print
        os.dup2(file.fileno(), 2)
        write_json(path, run_stage(name, options))


def describe(options: argparse.Namespace) -> list[str]:
    """Return the command line of the same options."""
    return [
        "--out", str(options.out), "--device", options.device, "--size", options.size,
        "--dtype", options.dtype,
    ]  # fmt: skip


def write_json(path: Path, content: object) -> None:
    """Replace a file by one with this content."""
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
    os.replace(aside, path)


def main() -> int:
    """Run the check; the exit code is 1 if anything fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of check.json, report.txt")
    parser.add_argument("--budget", type=float, default=460, help="seconds")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=("full", "test"), default="full")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--stage", choices=tuple(STAGES), action="append", help="only this stage")
    options = parser.parse_args()
    ends_at = time.perf_counter() + options.budget
    options.out.mkdir(parents=True, exist_ok=True)
    find_stages()  # imported once, for all forks
    if options.device == "cpu":
        importlib.import_module("torch._dynamo")  # two seconds; the stand-in's first call needs it
    stages: dict[str, dict[str, Any]] = {}
    for name in options.stage or STAGES:
        left_s = ends_at - time.perf_counter()
        if left_s < 5:
            stages[name] = {"error": "no time left in the budget", "seconds": 0.0}
        else:
            stages[name] = run_in_process(name, options, min(STAGES[name], left_s))
        write_json(options.out / "check.json", {"options": vars(options), "stages": stages})
        print(
            f"{name}: {stages[name]['seconds']:.0f} s {stages[name].get('error', '')}", flush=True
        )
    command = " ".join(["python -m benchmarks.gpu_check", *describe(options)])
    report = write_report(stages, command)
    (options.out / "report.txt").write_text(report + "\n", encoding="utf-8")
    print("\n" + report)
    statuses = [v["status"] for stage in stages.values() for v in stage.get("verdicts", [])]
    return int("FAIL" in statuses or any(stage.get("error") for stage in stages.values()))


if __name__ == "__main__":
    sys.exit(main())
