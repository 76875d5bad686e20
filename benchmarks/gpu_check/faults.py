"""Stage `faults`: what becomes of a sweep on a card that is small, full, broken or used before."""

from __future__ import annotations

import dataclasses

import torch

from benchmarks.gpu_check.common import Findings, Options, make_requests, make_runner
from promptlab.models.dalle.cuda import memory, sizes

RUNNER = "src/promptlab/models/dalle/cuda/runner.py"
OVERLAP = "src/promptlab/models/dalle/cuda/overlap.py"
SMALL_CARDS = (8, 12, 16)  # GiB


def check_faults(options: Options) -> Findings:
    """Draw with too little memory, with NaN, and after another model."""
    found = Findings()
    for name, config in options.configs().items():
        requests = make_requests(3 if options.is_test else 40)
        runner = make_runner(config, options)
        expected = {r.request.image_id: r.pixels for r in runner.draw(requests)}
        held, weights = memory.total_bytes(), sizes.weight_bytes(config, runner.dtype)

        for gib in () if options.is_test else SMALL_CARDS:
            share = gib * sizes.GIB / held
            if weights * 1.3 > gib * sizes.GIB or share >= 1:
                continue
            runner.shrink(2 * sizes.MOST_IMAGES)
            torch.cuda.set_per_process_memory_fraction(share)
            results = list(runner.draw(requests))
            torch.cuda.set_per_process_memory_fraction(1.0)
            num_failed = sum(result.error is not None for result in results)
            wrong = sum(
                result.pixels is not None
                and (result.pixels != expected[result.request.image_id]).any()
                for result in results
            )
            found.judge(
                f"{name}: {gib} GiB are enough, or said to be too few",
                f"{num_failed} failed, {wrong} wrong", "0 failed, 0 wrong",
                num_failed == wrong == 0, f"{OVERLAP}:draw_overlapped",
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
