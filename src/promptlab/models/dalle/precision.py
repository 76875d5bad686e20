"""torch's switches of numerical precision, read and set through one interface.

Takes and returns values of the process's global switches. torch has an old interface (`allow_tf32`)
and a new one (`fp32_precision`), and refuses to read the old one after the new one was set. Knows
nothing of models.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

EXACT, FASTER = "ieee", "tf32"


def get_tf32() -> tuple[str, str]:
    """Return the precision of float32 in CUDA's products and convolutions: "ieee" or "tf32"."""
    if not _has_new_interface():
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        products, convolutions = (FASTER if flag else EXACT for flag in flags)
        return products, convolutions
    return (
        torch.backends.cuda.matmul.fp32_precision,
        _convolutions().fp32_precision,
    )


def set_tf32(products: str, convolutions: str) -> None:
    """Set what get_tf32 returns."""
    if not _has_new_interface():
        torch.backends.cuda.matmul.allow_tf32 = products == FASTER
        torch.backends.cudnn.allow_tf32 = convolutions == FASTER
        return
    torch.backends.cuda.matmul.fp32_precision = products
    _convolutions().fp32_precision = convolutions


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Let CUDA's libraries compute as precisely and repeatably as they can, for a while.

    float32 is float32, half-precision products sum in float32 in one pass over their inputs, and
    convolutions use repeatable algorithms.
    """
    cudnn = torch.backends.cudnn
    tf32, is_deterministic, is_benchmarking = get_tf32(), cudnn.deterministic, cudnn.benchmark
    reductions = {name: _reduction(name) for name in ("bf16", "fp16")}
    set_tf32(EXACT, EXACT)
    cudnn.deterministic, cudnn.benchmark = True, False
    for name in reductions:
        _set_reduction(name, (False, False))
    try:
        yield
    finally:
        set_tf32(*tf32)
        cudnn.deterministic, cudnn.benchmark = is_deterministic, is_benchmarking
        for name, before in reductions.items():
            _set_reduction(name, before)


def _reduction(name: str) -> tuple[bool, bool]:
    """Return whether sums may use reduced precision, and whether they may be split."""
    matmul: Any = torch.backends.cuda.matmul
    setting = f"allow_{name}_reduced_precision_reduction"
    if not _can_split():
        return bool(getattr(matmul, setting)), True
    return bool(getattr(matmul, setting)), bool(getattr(matmul, f"{setting}_split_k"))


def _set_reduction(name: str, value: tuple[bool, bool]) -> None:
    matmul: Any = torch.backends.cuda.matmul
    setting = f"allow_{name}_reduced_precision_reduction"
    setattr(matmul, setting, value if _can_split() else value[0])


def _can_split() -> bool:
    return hasattr(torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction_split_k")


def _convolutions() -> Any:
    return torch.backends.cudnn.conv  # type: ignore[attr-defined]


def _has_new_interface() -> bool:
    return hasattr(torch.backends.cudnn, "conv")
