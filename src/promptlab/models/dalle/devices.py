"""The device that a model runs on, its number format, and who computes there.

Takes a config, a model folder and a device kind; returns the runner of that kind. The only module
that knows both the CPU's runner and CUDA's. It imports torch when it has to ask a device.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.errors import ModelError
from promptlab.models.batching import describe_error, is_out_of_memory
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.machine import device_memory

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
    from promptlab.models.dalle.cuda import sizes

    return sizes.padded_images(config, getattr(torch, dtype), device_memory())


def check_device(config: DalleConfig, dtype: str, device: str) -> None:
    """Raise ModelError if the CUDA device cannot draw this model; asks for no weights."""
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise ModelError("device=cuda: torch finds no CUDA device; use device=cpu.")
    try:  # a driver may list a card that is reserved, or that this build has no kernels for
        torch.zeros(1, device="cuda").add_(1).item()
    except RuntimeError as error:
        remedy = "close other programs that use it"
        if not is_out_of_memory(error):
            remedy += ", or install a build of torch for this card and its driver"
        raise ModelError(
            f"device=cuda: {torch.cuda.get_device_name()} does not compute: "
            f"{describe_error(error)}: {remedy}, or use device=cpu."
        ) from error
    if dtype == "bfloat16" and torch.cuda.get_device_capability() < BFLOAT16_CAPABILITY:
        raise ModelError(
            f"dtype=bfloat16: {torch.cuda.get_device_name()} has no units for it; use "
            "dtype=float16, dtype=float32 or dtype=auto."
        )
    padded_batch(config, dtype, "cuda")
