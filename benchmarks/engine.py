"""The DALL·E engine against min-dalle: same random weights, same requests, one run.

    python -m benchmarks.engine                      mini, float32, CPU: about 6 minutes
    python -m benchmarks.engine --dtype bfloat16
    python -m benchmarks.engine --size mega --device cuda --dtype bfloat16

On a CPU the two take turns: the engine draws whole images, and at every 32nd of its steps its
clock stops while min-dalle runs a few steps of its own, so that other programs slow both alike.
On a GPU steps are only queued, so the engine draws all requests at once, blocks overlapping,
between two turns of min-dalle; every clock stops when the device has finished.
min-dalle's steps all cost the same, so they are timed and scaled to whole images; it is timed both
on a 3x3 grid and on single images, and the faster way is what the engine is compared with. What
each pays once is left out on both sides: a first step's allocations of min-dalle; of the engine,
whose caches stay, a first block of each size (`first_block_s` in the JSON).

Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import platform
import resource
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.engine_counts import count, measure_peak
from benchmarks.engine_min_dalle import MinDalleTimer
from benchmarks.made_up import MadeUpTokenizer, make_prompt
from promptlab.machine import cpu_name
from promptlab.models.dalle import upstream
from promptlab.models.dalle.config import CONFIG_FROM_SIZE
from promptlab.models.dalle.cpu_runner import CpuRunner
from promptlab.models.dalle.cuda.runner import CudaRunner
from promptlab.models.dalle.runner import Runner
from promptlab.records import Request

PARAMS = {"temperature": 1.0, "top_k": 256, "supercondition_factor": 16.0}
TURN_STEPS = 32  # engine steps between two turns of min-dalle


@dataclass(frozen=True, slots=True)
class Case:
    """A number of prompts, and a number of seeds of each."""

    num_prompts: int
    num_seeds: int

    @property
    def name(self) -> str:
        """As in the table."""
        return f"{self.num_prompts} prompts x {self.num_seeds}"

    def requests(self) -> list[Request]:
        """Return the requests: prompts of eight words each."""
        return [
            Request(f"{prompt}-{seed}", make_prompt(prompt), 1 + seed, PARAMS)
            for prompt in range(self.num_prompts)
            for seed in range(self.num_seeds)
        ]


@dataclass
class MinDalleSeconds:
    """What was seen of min-dalle, per grid size."""

    steps: dict[int, list[float]] = field(default_factory=dict)
    detokenizing: dict[int, list[float]] = field(default_factory=dict)

    def per_image(self, grid_size: int, num_steps: int) -> float:
        """Return seconds an image: medians, scaled to whole images."""
        whole = statistics.median(self.steps[grid_size]) * num_steps
        whole += statistics.median(self.detokenizing[grid_size])
        return whole / grid_size**2


def run_case(
    case: Case, runner: Runner, timer: MinDalleTimer, options: argparse.Namespace
) -> dict[str, object]:
    """Return one row of the table."""
    requests = case.requests()
    grids = (3, 1) if case.num_seeds >= 9 else (1,)
    seen = MinDalleSeconds({grid: [] for grid in grids}, {grid: [] for grid in grids})

    def turn_of_min_dalle(*, with_detokenizer: bool) -> float:
        started = time.perf_counter()
        for grid in grids:
            # The first step of a call allocates; it is left out of the median.
            steps = timer.step_seconds(make_prompt(0), grid, options.min_dalle_steps + 1)
            seen.steps[grid] += steps[1:]
            if with_detokenizer:
                seen.detokenizing[grid].append(timer.detokenize_seconds(grid**2))
        return time.perf_counter() - started

    away_s = 0.0

    def on_tokens(num_tokens: int, tokens: Tensor) -> None:
        nonlocal away_s
        if num_tokens % TURN_STEPS == 0:
            away_s += turn_of_min_dalle(with_detokenizer=False)

    most = runner.most()
    started = time.perf_counter()
    runner.draw_block(requests[:most])  # with what a size costs once
    first_block_s = time.perf_counter() - started
    if options.device == "cuda":
        list(runner.draw(requests[most:]))  # the last block may have a size of its own
    turn_of_min_dalle(with_detokenizer=True)
    engine_s = 0.0
    if options.device == "cuda":  # whole and overlapped; its results are on the host at the end
        started = time.perf_counter()
        assert all(result.error is None for result in runner.draw(requests))
        engine_s = time.perf_counter() - started
    for first in range(0, len(requests) if options.device == "cpu" else 0, most):
        started, away_s = time.perf_counter(), 0.0
        runner.draw_block(requests[first : first + most], on_tokens)
        engine_s += time.perf_counter() - started - away_s
    turn_of_min_dalle(with_detokenizer=True)

    engine_per_image = engine_s / len(requests)
    num_steps = runner.config.num_image_tokens
    by_grid = {grid: seen.per_image(grid, num_steps) for grid in grids}
    best_grid = min(by_grid, key=by_grid.__getitem__)
    return {
        "case": case.name,
        "dtype": options.dtype,
        "batch": min(most, len(requests)),
        "first_block_s": first_block_s,
        "engine_s_per_image": engine_per_image,
        "min_dalle_s_per_image": by_grid[best_grid],
        "min_dalle_grid": f"{best_grid}x{best_grid}",
        "min_dalle_s_per_image_by_grid": {f"{grid}x{grid}": s for grid, s in by_grid.items()},
        "min_dalle_steps_timed": {f"{grid}x{grid}": len(seen.steps[grid]) for grid in grids},
        "ratio": by_grid[best_grid] / engine_per_image,
        "ratio_by_grid": {f"{grid}x{grid}": s / engine_per_image for grid, s in by_grid.items()},
    }


def peak_memory_bytes() -> int:
    """Return the largest resident size since the last reset (or since the start)."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak_memory() -> None:
    """Start over with the largest resident size, where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def hardware() -> dict[str, object]:
    """Return what the figures depend on."""
    return {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def parse_case(text: str) -> Case:
    """Return the case that "3x9" names."""
    prompts, seeds = text.split("x")
    return Case(int(prompts), int(seeds))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=sorted(CONFIG_FROM_SIZE), default="mini")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--cases", type=parse_case, nargs="+", default=[Case(3, 9), Case(32, 1)])
    parser.add_argument("--batch-size", type=int, default=None, help="images drawn together")
    parser.add_argument("--min-dalle-steps", type=int, default=2, help="a turn")
    parser.add_argument("--min-dalle-dtype", default="float32", help="float16 is for a GPU alone")
    options = parser.parse_args()

    config = CONFIG_FROM_SIZE[options.size]
    modules = upstream.build_modules(config)
    tensors = upstream.named_tensors(*modules)
    tokenizer = MadeUpTokenizer()
    largest = options.batch_size or max(case.num_prompts * case.num_seeds for case in options.cases)
    before = peak_memory_bytes()
    runner_class = CudaRunner if options.device == "cuda" else CpuRunner
    runner = runner_class(config, tensors, tokenizer, options.dtype, largest)
    kind = getattr(torch, options.min_dalle_dtype)
    encoder, decoder, detokenizer = (module.to(options.device, kind) for module in modules)
    timer = MinDalleTimer(
        (encoder, decoder, detokenizer),
        _MinDalleTokenizer(tokenizer),
        options.device,
        options.min_dalle_dtype,
    )
    peak = measure_peak(getattr(torch, options.dtype), options.device)

    reset_peak_memory()
    held = peak_memory_bytes()
    rows = []
    for case in options.cases:
        row = run_case(case, runner, timer, options)
        cost = count(config, int(str(row["batch"])), torch.finfo(runner.dtype).bits // 8)
        seconds = float(str(row["engine_s_per_image"]))
        flops = cost.decode_flops + cost.detokenize_flops
        num_bytes = cost.decode_bytes + cost.detokenize_bytes
        roofline_s = max(
            cost.decode_flops / peak.flops_per_s, cost.decode_bytes / peak.bytes_per_s
        ) + max(cost.detokenize_flops / peak.flops_per_s, cost.detokenize_bytes / peak.bytes_per_s)
        row.update(
            gflop_per_image=flops / 1e9,
            gbyte_per_image=num_bytes / 1e9,
            share_of_peak_flops=flops / seconds / peak.flops_per_s,
            share_of_peak_bytes=num_bytes / seconds / peak.bytes_per_s,
            share_of_roofline=roofline_s / seconds,
        )
        rows.append(row)
        print(f"{case.name}: {seconds:.3f} s an image, {row['ratio']:.1f}x", flush=True)
    report = {
        "benchmark": "engine",
        "size": options.size,
        "device": options.device,
        "dtype": options.dtype,
        "hardware": hardware(),
        "peak": dataclasses.asdict(peak),
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_gpu_bytes": torch.cuda.max_memory_reserved() if options.device == "cuda" else None,
        "min_dalle_dtype": options.min_dalle_dtype,
        "resident_before_drawing_bytes": held,
        "resident_with_min_dalle_only_bytes": before,
        "rows": rows,
    }
    print_table(report, rows)
    print(json.dumps(report))


class _MinDalleTokenizer:
    """Our tokenizer with min-dalle's signature: both read the same ids."""

    def __init__(self, tokenizer: MadeUpTokenizer):
        self._tokenizer = tokenizer

    def tokenize(self, text: str, is_verbose: bool = False) -> list[int]:
        return list(self._tokenizer.tokenize(text).ids)


def print_table(report: dict[str, object], rows: list[dict[str, object]]) -> None:
    """Print the figures for people."""
    print(f"\n{report['size']}, {report['dtype']}, {report['device']}: {report['hardware']}")
    heading = (
        f"{'requests':16} {'engine s/img':>12} {'min-dalle s/img':>22} {'ratio':>7} "
        f"{'GFLOP/img':>10} {'GB/img':>7} {'% FLOP/s':>9} {'% bytes/s':>9} {'% roofline':>10}"
    )
    print(heading)
    for row in rows:
        by_grid = row["min_dalle_s_per_image_by_grid"]
        assert isinstance(by_grid, dict)
        baseline = ", ".join(f"{seconds:.1f} ({grid})" for grid, seconds in by_grid.items())
        print(
            f"{row['case']:16} {row['engine_s_per_image']:12.3f} {baseline:>22} "
            f"{row['ratio']:6.1f}x {row['gflop_per_image']:10.0f} {row['gbyte_per_image']:7.1f} "
            f"{100 * float(str(row['share_of_peak_flops'])):9.0f} "
            f"{100 * float(str(row['share_of_peak_bytes'])):9.0f} "
            f"{100 * float(str(row['share_of_roofline'])):10.0f}"
        )
    peak = report["peak"]
    assert isinstance(peak, dict)
    print(
        f"measured peak: {peak['flops_per_s'] / 1e9:.0f} GFLOP/s, "
        f"{peak['bytes_per_s'] / 1e9:.0f} GB/s read; peak memory of the process "
        f"{float(str(report['peak_memory_bytes'])) / 2**30:.1f} GiB, of it before drawing "
        f"{float(str(report['resident_before_drawing_bytes'])) / 2**30:.1f} GiB "
        "(min-dalle's copy of the weights included)"
    )


if __name__ == "__main__":
    main()
