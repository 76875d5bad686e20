"""Which device draws, and who computes on it.

Takes a config, a model folder and a device kind; returns the runner of that kind. The only module
that knows both the CPU's and CUDA's; imports torch when a runner is opened, not before.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.models.dalle.config import DalleConfig

if TYPE_CHECKING:
    from promptlab.models.dalle.runner import Runner


def open_runner(
    config: DalleConfig, folder: Path, dtype: str, device: str, batch_size: int | None
) -> Runner:
    """Return a model folder's model, its weights read straight to the device."""
    from promptlab.models.dalle.runner import Runner
    from promptlab.models.dalle.tokenizer import open_tokenizer
    from promptlab.models.dalle.weights import open_tensors

    runner_class = Runner
    if device == "cuda":
        from promptlab.models.dalle.cuda.runner import CudaRunner as runner_class  # noqa: N813
    tokenizer = open_tokenizer(folder, config.tokenizer, config.text_length)
    with open_tensors(folder) as tensors:
        return runner_class(config, tensors, tokenizer, dtype, device, batch_size)


def sleep_when_waiting() -> None:
    """Have torch's threads on a CPU wait for each other asleep, after a moment of spinning.

    By default they spin for milliseconds, which takes the core from whoever they wait for: a
    thread that shares it with the encoding of images, with MLflow or with another program. Falling
    asleep at once costs a seventh of the speed on a machine that is free. The number was chosen
    between the two (benchmarks/RESULTS.md), with a small model, which has now no threads that
    wait (lanes.py). Works only where torch is not loaded yet; what the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def find_device() -> str:
    """Return "cuda" where torch can use one, else "cpu"; imports torch only if there may be one."""
    if sys.platform == "linux" and not os.path.exists("/dev/nvidiactl"):
        return "cpu"
    if sys.platform == "darwin":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
