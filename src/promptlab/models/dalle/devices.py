"""The device that a model runs on, its number format, and who computes there.

Takes a config, a model folder and a device kind; returns the runner of that kind. The only module
that knows both the CPU's runner and CUDA's. It imports torch when it has to ask a device.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.errors import ModelError
from promptlab.models.dalle.config import DalleConfig

if TYPE_CHECKING:
    from promptlab.models.dalle.runner import Runner

BFLOAT16_CAPABILITY = (8, 0)  # earlier cards emulate it, many times slower than float16


def open_runner(
    config: DalleConfig, folder: Path, dtype: str, device: str, batch_size: int | None
) -> Runner:
    """Return a model folder's model, its weights read straight to the device."""
    from promptlab.models.dalle.tokenizer import open_tokenizer
    from promptlab.models.dalle.weights import open_tensors

    tokenizer = open_tokenizer(folder, config.tokenizer, config.text_length)
    with open_tensors(folder) as tensors:
        if device == "cuda":
            from promptlab.models.dalle.cuda.runner import CudaRunner

            return CudaRunner(config, tensors, tokenizer, dtype, batch_size)
        from promptlab.models.dalle.cpu_runner import CpuRunner

        return CpuRunner(config, tensors, tokenizer, dtype, batch_size)


def sleep_when_waiting() -> None:
    """Let torch's CPU threads wait for each other asleep, after a moment of spinning.

    By default they spin for milliseconds, which takes the core from other threads: the encoding of
    images, MLflow, other programs. Sleeping at once slows a model whose threads share products.
    The number is a compromise (benchmarks/LOG.md). It has an effect only before torch is loaded;
    what the user has set is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def choose_dtype(device: str) -> str:
    """Return the number format of dtype=auto: half precision that the card has units for."""
    if device != "cuda":
        return "float32"
    import torch

    if not torch.cuda.is_available():
        return "bfloat16"  # for a plan made on another machine
    is_native = torch.cuda.get_device_capability() >= BFLOAT16_CAPABILITY
    return "bfloat16" if is_native else "float16"


def padded_batch(config: DalleConfig, dtype: str, device: str) -> int | None:
    """Return the padded number of images that a CUDA card's bits depend on; None on a CPU.

    None, too, where no card answers. Raises ModelError if the card is too small.
    """
    if device != "cuda":
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    from promptlab.models.dalle.cuda import memory, sizes

    return sizes.padded_images(config, getattr(torch, dtype), memory.total_bytes())


def check_device(config: DalleConfig, dtype: str, device: str) -> None:
    """Raise ModelError if the CUDA device is missing or too small; asks for no weights."""
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise ModelError("device=cuda: torch finds no CUDA device; use device=cpu.")
    padded_batch(config, dtype, "cuda")
