"""Stages `facts` and `products`: what the device does by itself, without promptlab's engine."""

from __future__ import annotations

import platform
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_check.common import Findings, Options, seconds_of
from promptlab.models.dalle.precision import exact_arithmetic
from promptlab.models.machine import device_memory

ROW_COUNTS = (8, 64, 128, 256, 512)
REFERENCE_ROWS = 256


def check_facts(options: Options) -> Findings:
    """Name the device, and measure the two rates that everything is set against."""
    found = Findings()
    side = 64 if options.is_test else 8192
    kind = getattr(torch, options.dtype)
    a = torch.ones(side, side, device="cuda", dtype=kind)
    with torch.inference_mode(), exact_arithmetic():
        product_s = seconds_of(lambda: torch.nn.functional.linear(a, a))
        copy_s = seconds_of(lambda: a.clone())
    num_bytes = 2 * side**2 * a.element_size()
    found.numbers = {
        "device": torch.cuda.get_device_name(),
        "capability": list(torch.cuda.get_device_capability()),
        "memory_gib": device_memory() / 2**30,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "dtype": options.dtype,
        "flops_per_s": 2 * side**3 / product_s,
        "bytes_per_s": num_bytes / copy_s,
    }
    return found


@torch.inference_mode()
def check_products(options: Options) -> Findings:
    """Time every product of the models, and see whether a row's bits depend on its place."""
    found, kind = Findings(), getattr(torch, options.dtype)
    table: list[dict[str, Any]] = []
    num_moved = num_other = 0
    with exact_arithmetic():
        for name, outputs, inputs in shapes_of(options):
            weight = torch.randn(outputs, inputs).to("cuda", kind)
            rows = torch.randn(max(ROW_COUNTS), inputs).to("cuda", kind)

            def product(x: torch.Tensor, weight: torch.Tensor = weight) -> torch.Tensor:
                return torch.nn.functional.linear(x, weight)

            expected = product(rows[:REFERENCE_ROWS])
            turned = product(rows[:REFERENCE_ROWS].flip(0)).flip(0)
            is_moved = not torch.equal(turned, expected)
            num_moved += is_moved
            for count in ROW_COUNTS:
                common = min(count, REFERENCE_ROWS)
                is_same = torch.equal(product(rows[:count])[:common], expected[:common])
                num_other += not is_same
                micros = seconds_of(partial(product, rows[:count]), 3) * 1e6
                table.append(
                    {"model": name, "n": outputs, "k": inputs, "m": count,
                     "us": round(micros, 1), "same_bits": is_same}
                )  # fmt: skip
    found.numbers = {"products": table, "other_bits_at_other_rows": num_other}
    found.judge(
        "a product's row has the same bits at any place", num_moved, "0 products",
        num_moved == 0, "src/promptlab/models/dalle/cuda/graphs.py:decode_step",
    )  # fmt: skip
    return found


def shapes_of(options: Options) -> list[tuple[str, int, int]]:
    """Return (model, outputs, inputs) of the decoder's products."""
    shapes = []
    for name, config in options.configs().items():
        width, glu = config.width, -(-config.glu_width // 16) * 16
        pairs = [(3 * width, width), (width, width), (2 * glu, width), (width, glu)]
        pairs.append((config.image_vocab_size, width))
        shapes += [(name, outputs, inputs) for outputs, inputs in pairs]
    return shapes
