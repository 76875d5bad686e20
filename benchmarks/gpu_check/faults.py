"""Stage `faults`: what becomes of a sweep on a card that is small, full, broken or used before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from benchmarks.gpu_check.common import Findings, Options, make_requests, make_runner
from promptlab.errors import ModelLostError
from promptlab.models.dalle.cuda import sizes
from promptlab.models.dalle.cuda.runner import CudaRunner
from promptlab.models.machine import device_memory
from promptlab.records import Request, Result

RUNNER = "src/promptlab/models/dalle/cuda/runner.py"
OVERLAP = "src/promptlab/models/dalle/cuda/overlap.py"
SMALL_CARDS = (8, 12, 16)  # GiB


def draw_within(
    runner: CudaRunner, requests: Sequence[Request], share: float
) -> tuple[list[Result], str]:
    """Return what is drawn in a share of the card's memory, and the first error."""
    results: list[Result] = []
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        results.extend(runner.draw(requests))
    except ModelLostError as error:
        return results, str(error)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    errors = [result.error for result in results if result.error]
    return [result for result in results if not result.error], next(iter(errors), "")


def check_faults(options: Options) -> Findings:
    """Draw with too little memory, with NaN, and after another model."""
    found = Findings()
    for name, config in options.configs().items():
        requests = make_requests(3 if options.is_test else 40)
        runner = make_runner(config, options)
        expected = {r.request.image_id: r.pixels for r in runner.draw(requests)}
        held, weights = device_memory(), sizes.weight_bytes(config, runner.dtype)

        for gib in () if options.is_test else SMALL_CARDS:
            share = gib * sizes.GIB / held
            if weights * 1.3 > gib * sizes.GIB or share >= 1:
                continue
            runner.shrink(2 * sizes.MOST_IMAGES)
            results, said = draw_within(runner, requests, share)
            wrong = sum(
                result.pixels is not None
                and bool((result.pixels != expected[result.request.image_id]).any())
                for result in results
            )
            found.judge(
                f"{name}: {gib} GiB are enough, or said to be too few",
                f"{len(results)} drawn, {wrong} wrong, {said or 'nothing said'}",
                f"{len(requests)} drawn or memory named, 0 wrong",
                wrong == 0 and (len(results) == len(requests) or "memory" in said),
                f"{OVERLAP}:draw_overlapped",
            )  # fmt: skip

        bad = dataclasses.replace(
            requests[1],
            image_id="bad",
            params={**requests[1].params, "supercondition_factor": float("nan")},
        )
        results = list(runner.draw([requests[0], bad, requests[2]]))
        failed = [result.request.image_id for result in results if result.error]
        again = next(iter(runner.draw(requests[:1]))).pixels
        is_same = again is not None and bool((again == expected["0"]).all())
        found.judge(
            f"{name}: NaN fails its image alone", f"{failed}, then the same image: {is_same}",
            "['bad'], True", failed == ["bad"] and is_same,
            "src/promptlab/models/dalle/sampling.py:sample",
        )  # fmt: skip

        runner.close()
        del runner
        left = torch.cuda.memory_allocated()
        found.judge(
            f"{name}: unloading frees its memory", f"{left / 2**20:.0f} MiB", "under 64 MiB",
            left < 64 * 2**20, f"{RUNNER}:close",
        )  # fmt: skip
    return found
